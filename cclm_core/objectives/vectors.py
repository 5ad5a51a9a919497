"""spaCy's `vectors` objective: predict the static vector of masked and misspelled words."""

import threading
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from cclm_core.encoders.pretrained.lookups import Lookup
from cclm_core.encoders.pretrained.vector_files import find_files, read_vectors
from cclm_core.objectives.base import Example, ObjectiveContext, Sums
from cclm_core.objectives.read_words import mean_features, number_words, read_words
from cclm_core.objectives.windowed import Noised, Targets, WindowObjective
from cclm_core.runtime.config import Config
from cclm_core.runtime.device import full_precision
from cclm_core.runtime.errors import ArtifactError, ConfigError, IntegrityError
from cclm_core.text.vocabulary import FIRST_CHARACTER, Preprocessor
from cclm_core.text.words import APOSTROPHES, letters

_LEAST_BASELINE = 0.05
"""Lower limit of the loss of the mean vector, so that a batch of nearly one word has no huge loss."""

_Ids = npt.NDArray[np.int64]
_Table = npt.NDArray[np.float32]


class VectorsConfig(Config):
    """The vectors to predict, the loss, and how many words to select. Only training needs the file of vectors."""

    objective: Literal["vectors"] = "vectors"
    source: str | None = Field(
        default=None,
        description="a file or folder of word vectors, in a pipeline in input/; or package:NAME, package:NAME/PATH",
    )
    sha256: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{64}$",
        description="digest of the source, checked before use; if it is missing, the error gives it",
    )
    width: int | None = Field(
        default=None, ge=1, description="numbers per vector; if it is missing, the error gives it"
    )
    max_words: int | None = Field(
        default=None,
        ge=1,
        description="words to keep, the first ones of the file; null: all. Only for one row per word",
    )
    loss: Literal["cosine", "l2"] = Field(
        default="cosine", description="1 - cosine, or the squared distance; both relative to the mean vector"
    )
    rate: float = Field(default=0.3, gt=0, lt=1, description="share of words to select")
    mask_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="share of selected words that are masked; 0: none, in evaluation neither",
    )

    def build(self, context: ObjectiveContext) -> "VectorsObjective":
        """Builds the objective with a new head. The source is read for the first example."""
        return VectorsObjective(self, context)

    def require_digest(self, where: str) -> None:
        """Checks that `sha256` and `width` are given, so that another file is another configuration.

        Args:
            where: the key of this configuration in messages, such as `params.yaml: components.words.task`.

        Raises:
            ConfigError: one is missing (the message has the keys to add), or the source does not exist.
            ArtifactError: the source is damaged.
        """
        if self.sha256 is None or self.width is None:
            files = find_files(self._source())
            width = read_vectors(files, self.max_words).table.shape[1]
            raise ConfigError(
                f"{where} needs sha256, so that a changed file is noticed, and width. Add "
                f"`sha256: {files.digest()}, width: {width}`."
            )

    def open(self) -> "WordVectors":
        """Reads the source.

        Raises:
            ConfigError: the source does not exist, or its vectors have another width.
            IntegrityError: the source has another digest.
            ArtifactError: the source is damaged, or all of its vectors are zero.
        """
        files = find_files(self._source())
        if (digest := files.digest()) != self.sha256:
            raise IntegrityError(
                f"{self.source} has the SHA-256 {digest}, but the configuration expects {self.sha256}. Restore the "
                "file, or change `sha256`."
            )
        lookup, table = read_vectors(files, self.max_words)
        if table.shape[1] != self.width:
            raise ConfigError(f"width must be {table.shape[1]}, the width of {self.source}, got {self.width}.")
        if not table.any():
            raise ArtifactError(f"all vectors of {self.source} are zero. Use other vectors.")
        return WordVectors(lookup, table)

    def _source(self) -> str:
        if self.source is None:
            raise ConfigError("the objective vectors needs a source. Name a file or folder of word vectors.")
        return self.source


class WordVectors:
    """Word vectors, scaled so that the mean squared length of the rows of their table that are not zero is 1."""

    def __init__(self, lookup: Lookup, table: _Table) -> None:
        self._lookup = lookup
        squares = np.square(table, dtype=np.float64).sum(axis=1)
        self._table = torch.from_numpy(table / np.float32(np.sqrt(squares[squares > 0].mean())))

    def __call__(self, words: Sequence[str]) -> _Table:
        """The vectors (N, D) float32 of words; zeros for a word without a vector."""
        with torch.no_grad():
            vectors, _ = self._lookup.vectors(words, self._table)
        return vectors.numpy()


class LazyVectors:
    """Reads word vectors for the first words. Threads and copies of an objective share it."""

    def __init__(self, config: VectorsConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._vectors: WordVectors | None = None

    def __call__(self, words: Sequence[str]) -> _Table:
        """See `WordVectors`. Raises like `VectorsConfig.open`."""
        with self._lock:
            self._vectors = self._vectors or self._config.open()
            return self._vectors(words)

    def __deepcopy__(self, memo: object) -> "LazyVectors":
        """This object."""
        return self


class VectorsObjective(WindowObjective):
    """Cosine or squared distance of predicted and static vectors of selected words, relative to the mean vector.

    The mean features of the characters of a word predict its vector. A word is a run of letters and digits, with single
    apostrophes inside. Words without a vector, and words that the edge of the window may have cut, are no targets.
    `mask_share` of the selected words are masked in training, all of them in evaluation. The others are visible, with
    typing noise. With `mask_share: 0`, all are visible, in evaluation without noise.

    The loss is that of the prediction divided by that of the best constant prediction, the mean vector (for cosine, the
    mean of unit vectors) of the words of the batch: 1 is no better than the mean, 0 is perfect. So the losses of both
    kinds and of different files are comparable. Held-out metrics: `relative_loss`, `cosine_similarity` of predicted and
    true vectors, `cosine_of_mean`, the one of the mean vector, and `share_with_vector` of the words.

    Source: `PretrainVectors` of spaCy 3, https://spacy.io/api/architectures#pretrain_vectors

    Raises:
        ConfigError: `sha256` or `width` is missing; see `VectorsConfig.require_digest`.
    """

    selection_metric = "relative_loss"

    def __init__(self, config: VectorsConfig, context: ObjectiveContext) -> None:
        super().__init__(context)
        config.require_digest("the objective vectors")
        assert config.width is not None
        self.config, self.preprocessor = config, context.preprocessor
        self._vectors = LazyVectors(config)
        self._letters = letters(context.preprocessor)
        self._apostrophes = _apostrophes(context.preprocessor)
        self.head = nn.Linear(context.width, config.width)

    @property
    def input_kind(self) -> str:
        """See `Objective.input_kind`."""
        return "masked windows" if self.config.mask_share else "windows"

    @property
    def reads_clean_windows(self) -> bool:
        """See `Objective.reads_clean_windows`."""
        return not self.config.mask_share and self._noiser.noise.rate == 0

    def after_noise(self, batch: Noised, generator: np.random.Generator) -> Targets:
        """Chooses words and makes the targets.

        Targets: `positions` (P,) of characters of selected words, the word at each (`words`), `word_vectors` (W, D),
        `baseline` (1,), the loss of the mean vector, `mean_cosine` (1,), the mean cosine of a word and the mean vector,
        and `counts` (2,), the complete words with a vector and all complete words.
        """
        ids, lengths = batch.clean.ids, batch.clean.lengths
        clean = number_words(self._inside(ids))
        texts = self._complete_words(ids, clean.word_ids, lengths)
        vectors = np.zeros((clean.num_words, self.config.width or 0), dtype=np.float32)
        vectors[list(texts)] = self._vectors(list(texts.values()))
        is_known = vectors.any(axis=1)
        # Words without a vector are masked, too: otherwise, a mask would tell that its word has one.
        selected = generator.random(clean.num_words) < self.config.rate
        share = self.config.mask_share if batch.training or not self.config.mask_share else 1.0
        masked = selected & (generator.random(clean.num_words) < share)
        read = read_words(clean, batch.noised, selected & is_known, masked)
        baseline, mean_cosine = loss_of_mean(vectors[is_known], self.config.loss)
        targets: dict[str, npt.NDArray[np.generic]] = {
            "positions": read.positions,
            "words": read.word_of,
            "word_vectors": vectors[read.words],
            "baseline": np.array([baseline], dtype=np.float32),
            "mean_cosine": np.array([mean_cosine], dtype=np.float32),
            "counts": np.array([is_known.sum(), len(texts)], dtype=np.int64),
        }
        return Targets(targets, read.masked)

    def loss(self, features: Tensor, example: Example) -> tuple[Tensor, dict[str, Sums]]:
        """The mean loss of the selected words, relative to that of the mean vector."""
        positions, words, vectors = (example.targets[name] for name in ("positions", "words", "word_vectors"))
        predicted = self.head(mean_features(features, positions, words, len(vectors))).float()
        with full_precision(features.device):
            cosines = nn.functional.cosine_similarity(predicted, vectors, dim=1)
            losses = 1 - cosines if self.config.loss == "cosine" else (predicted - vectors).square().sum(1)
            total = losses.sum() / example.targets["baseline"][0]
        number = len(vectors)
        num_known, num_words = example.targets["counts"].tolist()
        return total / max(1, number), {
            self.selection_metric: Sums(total.item(), number),
            "cosine_similarity": Sums(cosines.detach().sum().item(), number),
            "cosine_of_mean": Sums(example.targets["mean_cosine"].item() * number, number),
            "share_with_vector": Sums(num_known, num_words),
        }

    def _inside(self, ids: _Ids) -> npt.NDArray[np.bool_]:
        """Whether each id (B, L) is part of a word: a letter, digit or byte, or an apostrophe between two of them."""
        is_apostrophe = self._apostrophes[ids]
        inside = self._letters[ids] & ~is_apostrophe
        edges = np.pad(inside, ((0, 0), (1, 1)))
        joined: npt.NDArray[np.bool_] = inside | (is_apostrophe & edges[:, :-2] & edges[:, 2:])
        return joined

    def _complete_words(self, ids: _Ids, word_ids: _Ids, lengths: _Ids) -> dict[int, str]:
        """Index -> text of the words that the edge of the window cannot have cut, also not at an apostrophe."""
        inside = word_ids >= 0
        edges = np.pad(inside, ((0, 0), (1, 1)))
        rows, starts = np.nonzero(inside & ~edges[:, :-2])
        stops = np.nonzero(inside & ~edges[:, 2:])[1] + 1
        ends = np.minimum(lengths[rows], ids.shape[1])
        marks = np.pad(self._apostrophes[ids], ((0, 0), (0, 1)))
        is_cut = (starts == 0) | (stops == ends) | ((stops == ends - 1) & marks[rows, stops])
        is_cut |= (starts == 1) & marks[rows, 0]
        return {
            number: self.preprocessor.decode(ids[rows[number], starts[number] : stops[number]].tolist())
            for number in np.flatnonzero(~is_cut).tolist()
        }


def loss_of_mean(vectors: _Table, loss: Literal["cosine", "l2"]) -> tuple[float, float]:
    """The mean loss of the best constant prediction for `vectors` (N, D), and the mean cosine with the mean of units.

    Both are estimates for all words: those of the N words themselves would be too good, because a mean contains its
    words. So squared lengths of means are corrected, as in the variance with N - 1. Fewer than two vectors tell
    nothing: the loss is 1, the cosine 0. The loss is at least 0.05.

    >>> loss_of_mean(np.float32([[1, 0], [-1, 0]]), "l2")
    (2.0, 0.0)
    """
    number = len(vectors)
    if number < 2:
        return 1.0, 0.0
    exact = vectors.astype(np.float64)
    unit = exact / np.linalg.norm(exact, axis=1, keepdims=True)
    square = float((number * np.square(unit.mean(axis=0)).sum() - 1) / (number - 1))
    mean_cosine = float(np.sqrt(min(1.0, max(0.0, square))))
    baseline = 1 - mean_cosine if loss == "cosine" else float(exact.var(axis=0, ddof=1).sum())
    return max(_LEAST_BASELINE, baseline), mean_cosine


def _apostrophes(preprocessor: Preprocessor) -> npt.NDArray[np.bool_]:
    """Whether each id is an apostrophe, (num_ids,) bool."""
    marks = np.zeros(preprocessor.num_ids, dtype=bool)
    marks[FIRST_CHARACTER:] = [character in APOSTROPHES for character in preprocessor.alphabet]
    return marks
