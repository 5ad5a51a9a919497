"""Pretraining from Python: `fit` a component on a list of strings, a dataset or labeled texts."""

from cclm_core.pretraining.call import Callback as Callback
from cclm_core.pretraining.entities import EntityPretrainer as EntityPretrainer
from cclm_core.pretraining.language import CausalLanguagePretrainer as CausalLanguagePretrainer
from cclm_core.pretraining.language import CharacterMaskPretrainer as CharacterMaskPretrainer
from cclm_core.pretraining.language import MaskedLanguagePretrainer as MaskedLanguagePretrainer
from cclm_core.pretraining.language import PredictedWord as PredictedWord
from cclm_core.pretraining.pretrainer import Pretrainer as Pretrainer
from cclm_core.runtime.migration import old_names

__getattr__ = old_names(__name__)
