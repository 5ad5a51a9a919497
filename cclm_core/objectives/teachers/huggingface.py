"""A local checkpoint of transformers as a teacher: the mean of its token features."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from tokenizers import Tokenizer

from cclm_core.objectives.teachers.base import Teacher, TeacherConfig, Vectors, single, unit
from cclm_core.runtime.errors import ArtifactError
from cclm_core.runtime.extras import require

_FILES = ("config.json", "tokenizer.json", "model.safetensors")
_MAX_TOKENS = 512  # of models that have no limit of their own


class HuggingfaceTeacherConfig(TeacherConfig):
    """A folder with a checkpoint of an encoder, such as one of sentence-transformers. Needs the extra `huggingface`."""

    needs: ClassVar[tuple[str, ...]] = _FILES
    knows_words: ClassVar[bool] = False

    kind: Literal["huggingface"] = "huggingface"

    def open(self) -> Teacher:
        """See `TeacherConfig.open`."""
        return HuggingfaceTeacher(self)


class HuggingfaceTeacher(Teacher):
    """Mean of the token features of the last layer, of length 1. Long texts are truncated to what the model can read.

    Texts are read one by one, because padding would change the last bits of a vector.
    """

    def __init__(self, config: HuggingfaceTeacherConfig) -> None:
        require("transformers", "huggingface")
        folder = config.folder()
        if not (folder / _FILES[0]).is_file():
            folder = single(folder, _FILES[2]).parent
        if missing := [name for name in _FILES if not (folder / name).is_file()]:
            raise ArtifactError(f"{missing[0]} not found in {folder}. Use a folder written by `save_pretrained`.")
        self._model, self._tokenizer = _read(folder)
        self.width = int(self._model.config.hidden_size)
        config.check([folder / name for name in _FILES], self.width)

    def vectors(self, texts: Sequence[str]) -> Vectors:
        """See `Teacher.vectors`."""
        rows = np.zeros((len(texts), self.width), dtype=np.float32)
        with torch.inference_mode(), torch.autocast("cpu", enabled=False):
            for row, text in zip(rows, texts, strict=True):
                tokens = torch.tensor([self._tokenizer.encode(text).ids])
                if tokens.shape[1]:
                    row[:] = self._model(tokens).last_hidden_state[0].mean(0).numpy()
        return unit(rows)


def _read(folder: Path) -> tuple[Any, Tokenizer]:
    from transformers import AutoModel

    try:
        model = AutoModel.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
        )
        tokenizer = Tokenizer.from_file(str(folder / _FILES[1]))
    except Exception as error:  # tokenizers raises nothing more specific
        raise ArtifactError(f"cannot read the checkpoint in {folder}: {error}. Save it again.") from error
    if not hasattr(model.config, "hidden_size"):
        raise ArtifactError(f"the model in {folder} has no hidden_size, so it is not an encoder of texts. Use another.")
    tokenizer.no_padding()
    tokenizer.enable_truncation(getattr(model.config, "max_position_embeddings", _MAX_TOKENS))
    return model.eval().requires_grad_(False), tokenizer
