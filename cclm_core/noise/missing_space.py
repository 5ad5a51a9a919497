"""Two words run together: `their house` → `theirhouse`."""

from typing import ClassVar

from cclm_core.noise.tables import SPACE
from cclm_core.noise.template import Template, When


class MissingSpace(Template):
    """Removes a space between two words or numbers."""

    acts_on: ClassVar[int] = SPACE
    when: ClassVar[When] = When.BETWEEN
