"""A word torn in two: `their` → `the ir`."""

from typing import ClassVar

from cclm_core.noise.kind import INSERTED
from cclm_core.noise.template import Put, Template, What, When


class ExtraSpace(Template):
    """Puts a space between two letters of a word."""

    when: ClassVar[When] = When.INSIDE
    puts: ClassVar[tuple[Put, ...]] = (Put(What.HERE, 0), Put(What.SPACE, INSERTED))
