"""Pretraining by masked words."""

from typing import Any, Unpack

from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.encoders.embedder import Base
from cclm_core.objectives.base import Surroundings
from cclm_core.objectives.masked_words import MaskedWordsConfig
from cclm_core.pretraining.pretrainer import Pretrainer, Settings
from cclm_core.pretraining.texts import Division
from cclm_core.text.vocabulary import TargetsConfig
from cclm_core.text.word_targets import WordTargets
from cclm_core.training.config import TrainingConfig


class MaskedLanguagePretrainer(Pretrainer):
    """Hides words of text, and trains a component to say which stood there.

    The words that it can be asked for are found in the texts of the first call of `fit`, in those that it trains on.

    Args:
        embedder: the common base of all components.
        task: how many words are hidden, and with which loss they are told apart; see `MaskedWordsConfig`.
        words: which words can be asked for; if None, as the preprocessor was configured, or as `TargetsConfig` is.
        settings: see `Pretrainer`.
    """

    def __init__(
        self,
        embedder: Base,
        task: MaskedWordsConfig | None = None,
        words: TargetsConfig | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        super().__init__(embedder, task or MaskedWordsConfig(), **settings)
        self.words = words or embedder.preprocessor.config.words or TargetsConfig()

    def _surroundings(self, width: int, division: Division) -> Surroundings:
        targets = WordTargets.fit(division.training(), self.words, self.embedder.preprocessor)
        return super()._surroundings(width, division)._replace(words=targets.counted(division.training()))

    def _identity(self, corpus: EncodedCorpus, config: TrainingConfig) -> dict[str, Any]:
        return super()._identity(corpus, config) | {"words": self.words.canonical()}
