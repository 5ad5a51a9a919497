"""A key beside the right one: `their` → `tjeir`."""

from typing import ClassVar

from cclm_core.noise.template import Put, Template, What


class Keyboard(Template):
    """Replaces a letter by one from a neighbouring key of the recipe's keyboard, in its own case."""

    choices: ClassVar[str | None] = "keys"
    puts: ClassVar[tuple[Put, ...]] = (Put(What.CHOICE, 0),)
