"""A key that was held too long: `their` → `theeir`."""

from typing import ClassVar

from cclm_core.noise.kind import INSERTED
from cclm_core.noise.template import Put, Template, What


class Duplicate(Template):
    """Writes a letter twice."""

    puts: ClassVar[tuple[Put, ...]] = (Put(What.HERE, 0), Put(What.HERE, INSERTED))
