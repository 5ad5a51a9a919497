"""Distillation: learn the vectors that a larger model, the teacher, gives to texts and words."""

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from cclm_core.corpus.windows import WindowBatch
from cclm_core.encoders.pooling import PoolingKind
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.objectives.base import Example, Objective, ObjectiveContext, Sums
from cclm_core.objectives.contrastive import Projection
from cclm_core.objectives.noising import NoisedBatch, Noiser, clean
from cclm_core.objectives.read_words import carry_forward
from cclm_core.objectives.spans import Positions, Span, complete_texts, rows_of
from cclm_core.objectives.teachers import AnyTeacherConfig, TeacherOutputs
from cclm_core.objectives.teachers.base import Vectors
from cclm_core.runtime.config import Config
from cclm_core.runtime.device import full_precision
from cclm_core.runtime.errors import ConfigError
from cclm_core.text.vocabulary import PAD
from cclm_core.text.words import letters


class DistillConfig(Config):
    """The teacher, what it teaches, and the weights of the losses.

    Attributes:
        teacher: the model or the word vectors to learn from, selected by its key `kind`.
    """

    objective: Literal["distill"] = "distill"
    teacher: AnyTeacherConfig
    targets: Literal["texts", "words", "texts_and_words"] = Field(
        default="texts", description="vectors of whole texts, of single words (only of the teacher `vectors`), or both"
    )
    unit: Literal["sentences", "documents"] = Field(
        default="sentences", description="a text is a sentence, or a whole document that fits into a window"
    )
    min_characters: int = Field(default=10, ge=1, description="minimum number of ids of a text")
    noise: NoiseRecipe | None = Field(
        default=None, description="noise on the student's input in training; null: training_noise"
    )
    pooling: PoolingKind = Field(default="mean_max", description="how the student pools the characters of a text")
    cosine_weight: float = Field(default=1.0, ge=0, description="weight of 1 - cosine of student and teacher")
    similarity_weight: float = Field(
        default=1.0, ge=0, description="weight of the squared differences of the similarities between texts"
    )

    def build(self, context: ObjectiveContext) -> "Distill":
        """Builds the objective with a new head. The teacher is opened for the first example."""
        return Distill(self, context)


class Distill(Objective):
    """Cosine distance between vectors of the student and of a teacher, and between their similarity matrices.

    The texts are the complete sentences or documents of each window, so that a text is the same in every epoch and the
    teacher reads it once; its vectors are kept on disk. In training, the student reads texts with noise, and the
    teacher reads clean ones: the student learns to ignore typing errors. With `targets: words`, the mean features of
    each word predict the vector of the word.

    Held-out metrics: `cosine_distance` of texts (of words if there are no others), `similarity_error`, the mean squared
    difference of two similarities, and `word_cosine_distance`.

    Source: sentence embeddings by distillation, Reimers and Gurevych 2020 (arXiv 2004.09813); similarity matrices, Tung
    and Mori 2019 (arXiv 1907.09682).

    Raises:
        ConfigError: the teacher cannot teach words, or both weights are 0; also see `TeacherConfig.open`.
    """

    selection_metric = "cosine_distance"

    def __init__(self, config: DistillConfig, context: ObjectiveContext) -> None:
        super().__init__(context)
        self.config, self.preprocessor = config, context.preprocessor
        if config.cosine_weight == config.similarity_weight == 0:
            raise ConfigError("distill needs cosine_weight or similarity_weight above 0, got 0 for both. Raise one.")
        if config.teacher.sha256 is None or config.teacher.width is None:
            config.teacher.open()  # raises, with the keys to add
        if self.has_words and not config.teacher.knows_words:
            raise ConfigError(
                f"targets: {config.targets} needs a teacher with vectors of words, but the teacher "
                f"{config.teacher.kind} reads sentences. Use `teacher: {{kind: vectors}}`, or targets: texts."
            )
        width = config.teacher.width
        assert width is not None
        self._outputs = TeacherOutputs(config.teacher, context.teacher_outputs)
        self._letters = letters(context.preprocessor)
        if config.noise is not None:
            self._noiser = Noiser(config.noise, context.preprocessor, context.misspellings)
        if self.has_texts:
            self.head = Projection(config.pooling, context.width, width)
        if self.has_words:
            self.word_head = nn.Linear(context.width, width)

    @property
    def has_texts(self) -> bool:
        """Whether vectors of texts are targets."""
        return self.config.targets != "words"

    @property
    def has_words(self) -> bool:
        """Whether vectors of words are targets."""
        return self.config.targets != "texts"

    def example(self, batch: WindowBatch, generator: np.random.Generator, training: bool) -> Example:
        """Ids (N, L) of texts. Targets: `vectors` (N, D); for words `positions` (P,), the word at each, `word_vectors`.

        The texts of a batch are chosen at random and have at most as many ids as its windows, padding included.
        """
        texts = complete_texts(batch.ids, self.preprocessor, self.config.unit == "documents")
        texts = [span for span in texts if span.stop - span.start >= self.config.min_characters]
        order = generator.permutation(len(texts)).tolist()
        longest = np.maximum.accumulate([texts[number].stop - texts[number].start for number in order] or [0])
        num_texts = int((longest * np.arange(1, len(longest) + 1) <= batch.ids.size).sum()) if order else 0
        rows = rows_of(batch.ids, [texts[number] for number in sorted(order[:num_texts])])
        noised = self._noiser(rows, generator) if training else clean(rows)
        targets: dict[str, Any] = {}
        if self.has_texts:
            targets["vectors"] = self._teach([row[row > PAD] for row in rows.ids])
        if self.has_words:
            targets |= self._word_targets(rows.ids, noised)._asdict()
        return Example(torch.from_numpy(noised.ids), {name: torch.from_numpy(part) for name, part in targets.items()})

    def loss(self, features: Tensor, example: Example) -> tuple[Tensor, dict[str, Sums]]:
        """The weighted sum of the losses; texts and words that the teacher cannot read are ignored."""
        total, metrics = features.new_zeros((), dtype=torch.float32), dict[str, Sums]()
        if self.has_texts:
            total, metrics = self._compare(self.head(features, example.ids != PAD), example.targets["vectors"])
        if self.has_words:
            positions, words = example.targets["positions"], example.targets["words"]
            vectors = example.targets["word_vectors"]
            selected = features.flatten(0, 1)[positions].float()
            sums = selected.new_zeros(len(vectors), selected.shape[1]).index_add(0, words, selected)
            means = sums / torch.bincount(words, minlength=len(vectors)).clamp(min=1)[:, None]
            word_loss, word_metrics = self._compare(nn.functional.normalize(self.word_head(means).float()), vectors)
            total = total + word_loss
            names = {name: f"word_{name}" if self.has_texts else name for name in word_metrics}
            metrics |= {names[name]: value for name, value in word_metrics.items()}
        return total, metrics

    def _compare(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, dict[str, Sums]]:
        """Loss and metrics of unit vectors (N, D) of the student against those of the teacher; zeros are unknown."""
        known = teacher.any(1)
        student, teacher = student[known], teacher[known].to(student.dtype)
        number, num_pairs = len(student), len(student) * (len(student) - 1)
        with full_precision(student.device):
            distances = 1 - (student * teacher).sum(1)
            errors = (student @ student.T - teacher @ teacher.T).square()
        errors = errors.sum() - errors.diagonal().sum()
        loss = self.config.cosine_weight * distances.sum() / max(1, number)
        loss = loss + self.config.similarity_weight * errors / max(1, num_pairs)
        return loss, {
            self.selection_metric: Sums(distances.detach().sum().item(), number),
            "similarity_error": Sums(errors.detach().item(), num_pairs),
        }

    def _teach(self, texts: list[Positions]) -> Vectors:
        """The teacher's vectors (N, D) of texts as ids."""
        return self._outputs([self.preprocessor.decode(ids) for ids in texts])

    def _word_targets(self, ids: Positions, noised: NoisedBatch) -> "WordVectors":
        inside = np.pad(self._letters[ids] & (ids > PAD), ((0, 0), (1, 1)))
        rows, starts = np.nonzero(inside[:, 1:] & ~inside[:, :-1])
        stops = np.nonzero(inside[:, :-1] & ~inside[:, 1:])[1]
        word = np.full(ids.shape, -1)
        for number, span in enumerate(map(Span, rows.tolist(), starts.tolist(), stops.tolist())):
            word[span.row, span.start : span.stop] = number
        source = carry_forward(noised.source) if ids.size else noised.source
        origin = np.take_along_axis(word, np.maximum(source, 0), axis=1)
        is_read = (origin >= 0) & (source >= 0) & (noised.ids > PAD)
        read, index = np.unique(origin[is_read], return_inverse=True)
        texts = [ids[rows[number], starts[number] : stops[number]] for number in read.tolist()]
        return WordVectors(np.flatnonzero(is_read), index.astype(np.int64), self._teach(texts))


class WordVectors(NamedTuple):
    """Targets of words: positions (P,) of their characters, the word at each, and the vectors (W, D) of the words."""

    positions: Positions
    words: Positions
    word_vectors: Vectors
