"""A letter too many: `their` → `thepir`."""

from typing import ClassVar

from cclm_core.noise.kind import INSERTED
from cclm_core.noise.template import Put, Template, What


class Insert(Template):
    """Puts a random letter of the same script and case behind a letter."""

    choices: ClassVar[str | None] = "letters"
    puts: ClassVar[tuple[Put, ...]] = (Put(What.HERE, 0), Put(What.CHOICE, INSERTED))
