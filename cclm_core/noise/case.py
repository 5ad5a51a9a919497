"""The wrong case: `their` → `thEir`."""

from typing import ClassVar

from cclm_core.noise.template import Put, Template, What


class Case(Template):
    """Turns a small letter into a capital and a capital into a small letter."""

    choices: ClassVar[str | None] = "case"
    puts: ClassVar[tuple[Put, ...]] = (Put(What.CHOICE, 0),)
