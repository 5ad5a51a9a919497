"""Static vectors of tokens as a teacher: the mean of the vectors of a text's tokens."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from tokenizers import Tokenizer

from cclm_core.encoders.weights import read_header, read_weights
from cclm_core.objectives.teachers.base import Teacher, TeacherConfig, Vectors, single, unit
from cclm_core.runtime.errors import ArtifactError


class VectorsTeacherConfig(TeacherConfig):
    """A folder with one matrix in a safetensors file and a tokenizer, as in the packages wordllama and model2vec."""

    needs: ClassVar[tuple[str, ...]] = ("one *.safetensors", "one *tokenizer*.json")
    knows_words: ClassVar[bool] = True

    kind: Literal["vectors"] = "vectors"

    def open(self) -> Teacher:
        """See `TeacherConfig.open`."""
        return VectorsTeacher(self)


class VectorsTeacher(Teacher):
    """Mean of the vectors of the tokens of a text, of length 1."""

    def __init__(self, config: VectorsTeacherConfig) -> None:
        folder = config.folder()
        weights, tokenizer = single(folder, "*.safetensors"), single(folder, "*tokenizer*.json")
        try:
            self._tokenizer = Tokenizer.from_file(str(tokenizer))
        except Exception as error:  # tokenizers raises nothing more specific
            raise ArtifactError(f"{tokenizer} is not a tokenizer: {error}. Download it again.") from error
        shapes = {name: header.shape for name, header in read_header(weights).items()}
        num_tokens = self._tokenizer.get_vocab_size()
        if len(shapes) != 1 or any(len(shape) != 2 or shape[0] < num_tokens for shape in shapes.values()):
            raise ArtifactError(
                f"{weights} must have one matrix with at least {num_tokens} rows, one per token of {tokenizer.name}, "
                f"got {shapes}. Use the files of one model."
            )
        expected = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
        (matrix,) = read_weights(weights, expected, "the teacher").values()
        self._matrix = matrix.float().numpy()
        self.width = self._matrix.shape[1]
        config.check([weights, tokenizer], self.width)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def vectors(self, texts: Sequence[str]) -> Vectors:
        """See `Teacher.vectors`."""
        rows = np.zeros((len(texts), self.width), dtype=np.float32)
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        for row, encoding in zip(rows, encodings, strict=True):
            if encoding.ids:
                row[:] = self._matrix[encoding.ids].mean(axis=0)
        return unit(rows)
