"""The module of cclm 0.1.2 with the models, for old imports; see docs/migrating.md."""

from cclm_core.composition.composed import ComposedModel as ComposedModel
from cclm_core.encoders.embedder import Embedder as Embedder
from cclm_core.runtime.migration import old_names

__getattr__ = old_names(__name__)
