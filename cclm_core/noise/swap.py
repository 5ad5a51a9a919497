"""Two neighbouring letters change places: `their` → `thier`."""

from typing import ClassVar

from cclm_core.noise.template import Put, Template, What, When


class Swap(Template):
    """Swaps a letter with the letter behind it, where the two differ."""

    reach: ClassVar[int] = 2
    when: ClassVar[When] = When.BEFORE_ANOTHER
    consumes: ClassVar[int] = 2
    puts: ClassVar[tuple[Put, ...]] = (Put(What.AFTER, 1), Put(What.HERE, 0))
