"""The module of cclm 0.1.2 with Augmentor, for old imports; see docs/migrating.md."""

from cclm_core.noise.augmentor import Augmentor as Augmentor
from cclm_core.noise.augmentor import lower as lower
from cclm_core.noise.augmentor import title_first as title_first
from cclm_core.noise.augmentor import upper as upper
from cclm_core.runtime.migration import old_names

__getattr__ = old_names(__name__)
