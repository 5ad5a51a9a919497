"""The module of cclm 0.1.2 with Preprocessor, for old imports; see docs/migrating.md."""

from cclm_core.runtime.migration import old_names
from cclm_core.text.vocabulary import Preprocessor as Preprocessor

__getattr__ = old_names(__name__)
