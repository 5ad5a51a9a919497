"""Reads the files of a transformers checkpoint: never pickles, never code of the checkpoint, never the network."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn

from cclm_core.encoders.pretrained.base import joined_digest, locate, single
from cclm_core.runtime.artifacts import file_digest
from cclm_core.runtime.errors import ArtifactError
from cclm_core.runtime.readers import parse_json, read_bytes

CONFIG, TOKENIZER, WEIGHTS = "config.json", "tokenizer.json", "model.safetensors"
_REMEDY = "Save the checkpoint again with `save_pretrained` of transformers."
_MAX_BYTES = 64 << 20
# Whatever transformers raises for a checkpoint that it cannot read.
_RAISED = (AssertionError, AttributeError, ImportError, LookupError, OSError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class Checkpoint:
    """A folder with config.json and tokenizer.json, in a source also with model.safetensors."""

    folder: Path

    @classmethod
    def open(cls, source: str) -> "Checkpoint":
        """Finds the checkpoint in a source: the folder itself, or the only folder in a package that has one.

        Raises:
            ConfigError: the source does not exist.
            ArtifactError: it has no checkpoint, several, or one without safetensors or tokenizer.json.
        """
        folder = locate(source)
        if not folder.is_dir():
            raise ArtifactError(f"source {source!r:.200} must be a folder with {CONFIG}, {TOKENIZER} and {WEIGHTS}.")
        if not (folder / CONFIG).is_file():
            configs = [path for path in folder.rglob(CONFIG) if path.with_name(TOKENIZER).is_file()]
            folder = single(configs, f"a checkpoint with {CONFIG} and {TOKENIZER}", folder).parent
        if missing := [name for name in (CONFIG, TOKENIZER, WEIGHTS) if not (folder / name).is_file()]:
            raise ArtifactError(f"{missing[0]} not found in {folder}. {_hint(folder, missing[0])}")
        return cls(folder)

    def digest(self) -> str:
        """SHA-256 of the names and bytes of the three files."""
        return joined_digest({name: file_digest(self.folder / name) for name in (CONFIG, TOKENIZER, WEIGHTS)})

    def contents(self) -> dict[str, bytes]:
        """The bytes of config.json and tokenizer.json."""
        return {
            name: read_bytes(self.folder / name, remedy=_REMEDY, max_bytes=_MAX_BYTES) for name in (CONFIG, TOKENIZER)
        }

    def values(self) -> dict[str, Any]:
        """The content of config.json.

        Raises:
            ArtifactError: it is damaged, or the model has no encoder of texts.
        """
        path = self.folder / CONFIG
        values = parse_json(self.contents()[CONFIG], path, remedy=_REMEDY, allow_nan=True)
        if not isinstance(values, dict) or not isinstance(values.get("model_type"), str):
            raise ArtifactError(f"{path} must be the configuration of a model, with `model_type`. {_REMEDY}")
        if values.get("is_encoder_decoder"):
            raise ArtifactError(
                f"{path}: a model of type {values['model_type']} has an encoder and a decoder. Use an encoder."
            )
        return values

    def tokenizer(self) -> Tokenizer:
        """The tokenizer, without truncation and padding; special tokens in a text are read as text.

        Raises:
            ArtifactError: tokenizer.json is damaged.
        """
        try:
            tokenizer = Tokenizer.from_buffer(self.contents()[TOKENIZER])
        except Exception as error:  # noqa: BLE001  the library raises nothing more specific
            raise ArtifactError(f"{self.folder / TOKENIZER} is damaged: {error!s:.200}. {_REMEDY}") from None
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        return tokenizer

    @property
    def configuration(self) -> Any:
        """The configuration as an object of transformers.

        Raises:
            ArtifactError: transformers does not know the model, or a value is invalid.
        """
        from transformers import AutoConfig

        values = copy.deepcopy(self.values())
        with _reading(self.folder / CONFIG):
            return AutoConfig.for_model(values.pop("model_type"), **values)

    @property
    def width(self) -> int:
        """Features per token.

        Raises:
            ArtifactError: the configuration has no `hidden_size`.
        """
        width = getattr(self.configuration, "hidden_size", None)
        if not isinstance(width, int):
            raise ArtifactError(f"{self.folder / CONFIG} has no `hidden_size`. Use an encoder of texts.")
        return width

    @property
    def padding(self) -> int:
        """The id of padding."""
        return int(self.configuration.pad_token_id or 0)

    def read_model(self) -> nn.Module:
        """The model with its weights, float32, on the CPU.

        Raises:
            ArtifactError: the weights are damaged or do not fit the configuration or the tokenizer.
        """
        from transformers import AutoModel

        configuration, path = self.configuration, self.folder / WEIGHTS
        with _reading(path), torch.device("cpu"):
            model, report = AutoModel.from_pretrained(
                self.folder,
                config=configuration,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
            )
        missing = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))
        if missing:
            raise ArtifactError(f"{path} has no weights for {', '.join(missing[:5])}. {_REMEDY}")
        problems = [name for name, tensor in model.state_dict().items() if not tensor.isfinite().all()]
        if problems:
            raise ArtifactError(f"weights must be finite, but {path} has NaN or infinity in {', '.join(problems[:5])}.")
        return self._checked(model)

    def _checked(self, model: Any) -> nn.Module:
        if model.main_input_name != "input_ids":
            raise ArtifactError(
                f"{self.folder}: a model of type {model.config.model_type} reads {model.main_input_name}. Use an "
                "encoder of texts."
            )
        rows, num_tokens = model.get_input_embeddings().num_embeddings, self.tokenizer().get_vocab_size()
        if num_tokens > rows:
            raise ArtifactError(
                f"{self.folder}: {TOKENIZER} has {num_tokens} tokens, but the model has vectors for {rows}. Use files "
                "of the same checkpoint."
            )
        if foreign := [name for name, tensor in model.state_dict().items() if not tensor.is_floating_point()]:
            raise ArtifactError(f"{self.folder}: weights must be floats, but {foreign[0]} is not. Use another model.")
        names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
        if len(names) != len(list(model.parameters())):
            raise ArtifactError(f"{self.folder}: a model whose layers share weights is not supported. Use another one.")
        return _without_pooler(model)


def build_model(checkpoint: Checkpoint) -> nn.Module:
    """The architecture of a checkpoint, with any weights, on the CPU. Buffers that are not saved have their values."""
    from transformers import AutoModel

    configuration = checkpoint.configuration
    with _reading(checkpoint.folder / CONFIG), torch.device("cpu"):
        model: Any = AutoModel.from_config(configuration, trust_remote_code=False, dtype=torch.float32)
    return _without_pooler(model)


def max_tokens(model: nn.Module) -> int | None:
    """The number of tokens that a model can read at once; None if there is no limit."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            # Models in the style of RoBERTa number positions from the padding on.
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    limit = getattr(model.config, "max_position_embeddings", None)
    return limit if isinstance(limit, int) and limit > 0 else None


def num_layers(model: nn.Module) -> int:
    """The number of layers."""
    configuration: Any = model.config
    return int(configuration.num_hidden_layers)


def _without_pooler(model: Any) -> nn.Module:
    """Removes the layer that makes one vector of a text, which is not used."""
    if isinstance(getattr(model, "pooler", None), nn.Module):
        model.pooler = None
    module: nn.Module = model
    return module


def _hint(folder: Path, missing: str) -> str:
    if missing == WEIGHTS and [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")]:
        return (
            "Its weights are pickles, which can run code and are not read. Convert them where you trust them: "
            "`AutoModel.from_pretrained(FOLDER).save_pretrained(NEW)`."
        )
    if missing == WEIGHTS and [*folder.glob("*.index.json")]:
        return 'Its weights are in several files. Save it again with `save_pretrained(FOLDER, max_shard_size="100GB")`.'
    if missing == TOKENIZER:
        return "Save a fast tokenizer: `AutoTokenizer.from_pretrained(FOLDER).save_pretrained(NEW)`."
    return _REMEDY


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns what transformers raises into an `ArtifactError`, and silences its progress bars and reports."""
    from safetensors import SafetensorError
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    except (*_RAISED, SafetensorError) as error:
        raise ArtifactError(f"{path} cannot be read as a checkpoint: {error!s:.300} {_REMEDY}") from None
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
