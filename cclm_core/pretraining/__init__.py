"""Pretraining from Python: `fit` a component on a list of strings or a dataset."""

from cclm_core.pretraining.pretrainer import CausalLanguagePretrainer as CausalLanguagePretrainer
from cclm_core.pretraining.pretrainer import CharacterMaskPretrainer as CharacterMaskPretrainer
from cclm_core.pretraining.pretrainer import MaskedLanguagePretrainer as MaskedLanguagePretrainer
from cclm_core.pretraining.pretrainer import Pretrainer as Pretrainer
