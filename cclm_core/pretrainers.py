"""The module of cclm 0.1.2 with the pretrainers, for old imports; see docs/migrating.md."""

from cclm_core.pretraining import *  # noqa: F403
from cclm_core.runtime.migration import old_names

__getattr__ = old_names(__name__)
