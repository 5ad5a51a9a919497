"""A letter is left out: `their` → `thir`."""

from cclm_core.noise.template import Template


class Drop(Template):
    """Removes a letter."""
