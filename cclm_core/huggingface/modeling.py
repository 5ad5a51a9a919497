"""The encoder of CCLM in Hugging Face's format, and what models with a head share."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from cclm_core.composition.composed import ComposedModel
from cclm_core.encoders.convolution import ConvolutionBlock
from cclm_core.encoders.embedder import Base, Embedder
from cclm_core.encoders.hourglass import MixingConvolution
from cclm_core.encoders.transformer import TransformerLayer
from cclm_core.heads.similarity import PairSimilarity, lower_case
from cclm_core.huggingface.architecture import build, preprocessor_of
from cclm_core.huggingface.batches import CharacterBatch, in_windows
from cclm_core.huggingface.configuration import CclmConfig
from cclm_core.runtime.errors import ConfigError
from cclm_core.runtime.initialization import without_storage
from cclm_core.text.words import letters

_NO_LABEL = -100
_LAYERS = (TransformerLayer, ConvolutionBlock, MixingConvolution)
"""The layers that gradient checkpointing computes twice."""


class CclmPreTrainedModel(PreTrainedModel):
    """What all CCLM models share: initial weights, gradient checkpointing, and clear errors."""

    config_class = CclmConfig
    base_model_prefix = "cclm"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _no_split_modules = ("Embedder", "Component")

    def init_weights(self) -> None:
        """Keeps the initial weights: unlike in transformers, the constructors of our modules draw them."""

    def save_pretrained(self, save_directory: Any, **options: Any) -> None:
        """Writes configuration and weights. The code of a model that was loaded from a folder with code comes along."""
        self.config.__dict__.pop("auto_map", None)  # its code may be elsewhere; transformers adds it if it copies code
        super().save_pretrained(save_directory, **options)

    def _initialize_missing_keys(self, is_quantized: bool) -> None:  # noqa: ARG002
        """Gives each weight that a checkpoint lacks its value in a new model, and rebuilds what is never saved.

        transformers builds a model without storage; afterwards, such weights and buffers hold arbitrary memory.
        """
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, Embedder):
                    inside = module.get_buffer("_letters")
                    inside.copy_(torch.from_numpy(letters(module.preprocessor)))
                elif isinstance(module, PairSimilarity):
                    alphabet = self.base_model.encoder.preprocessor.alphabet
                    module.fold.copy_(torch.from_numpy(lower_case(alphabet)))
            missing = [name for name, tensor in _weights(self) if not getattr(tensor, "_is_hf_initialized", False)]
            if missing:
                with torch.device("cpu"):
                    new = dict(_weights(type(self)(self.config)))
                for name, tensor in _weights(self):
                    if name in missing:
                        tensor.copy_(new[name])

    def _set_gradient_checkpointing(
        self,
        enable: bool = True,
        gradient_checkpointing_func: Callable[..., Any] = checkpoint,
        every_n_layers: int = 1,
    ) -> None:
        """Computes every n-th layer of the encoders again in the backward pass instead of storing its results."""
        layers = [module for module in self.modules() if isinstance(module, _LAYERS)]
        for index, layer in enumerate(layers):
            layer.__dict__.pop("forward", None)
            if enable and index % every_n_layers == 0:
                layer.__dict__["forward"] = _Checkpointed(layer, gradient_checkpointing_func)
        for module in self.modules():
            if isinstance(module, CclmPreTrainedModel):
                module.gradient_checkpointing = enable

    def get_input_embeddings(self) -> nn.Module:
        """The vectors of the ids."""
        encoder: Base = self.base_model.encoder
        # Models with pretrained embeddings are not exported, so the table exists.
        return encoder.embedder.embedding.get_submodule("characters")

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Raises ConfigError: other ids need another vocabulary."""
        raise ConfigError(f"cannot replace the embeddings by {type(value).__name__}. {_CLOSED}")

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *_: Any, **__: Any) -> nn.Module:
        """Returns the embeddings if the size stays the same.

        Raises:
            ConfigError: the size would change.
        """
        if new_num_tokens not in (None, self.config.vocab_size):
            raise ConfigError(
                f"the vocabulary must keep its {self.config.vocab_size} ids, got {new_num_tokens}. {_CLOSED}"
            )
        return self.get_input_embeddings()


_CLOSED = (
    "The vocabulary is closed: characters outside the alphabet are encoded as bytes, so that no text needs a new id. "
    "For a larger alphabet, train a new base."
)


class CclmModel(CclmPreTrainedModel):
    """The encoder: one feature vector per character.

    Attributes:
        encoder: an `Embedder` or a `ComposedModel`.
    """

    def __init__(self, config: CclmConfig) -> None:
        super().__init__(config)
        if config.encoder is None or config.vocabulary is None:
            raise ConfigError("CclmConfig has no `encoder` or no `vocabulary`. Create it with `config_of(model)`.")
        preprocessor = preprocessor_of(config.vocabulary)
        self.gradient_checkpointing = False
        if torch.get_default_device().type == "meta":
            with without_storage():
                self.encoder = build(config.encoder, preprocessor)
        else:
            self.encoder = build(config.encoder, preprocessor)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,  # noqa: ARG002  output of the tokenizer, read by heads only
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        **_: Any,
    ) -> Any:
        """Embeds characters as features (B, L, W).

        Args:
            input_ids: (B, L) int64.
            attention_mask: (B, L), 0 at padding.
            token_type_ids: (B, L), ignored.
            output_hidden_states: also returns the vectors of the characters and, for a composition, the features of
                the base and of each part, as a tuple; their widths differ.
            output_attentions: must not be true.
            return_dict: whether to return an output object instead of a tuple.

        Raises:
            ConfigError: `input_ids` is missing, the shapes differ, or attentions are requested.
            DataError: an id is not in the vocabulary.
        """
        if output_attentions:
            raise ConfigError("`output_attentions` must not be set: the encoders do not return attention weights.")
        batch = CharacterBatch(input_ids, attention_mask)
        features = in_windows(self.encoder, batch.ids, self.config.window, self.encoder.causal)
        features = batch.restored(features)
        states = None
        if self.config.output_hidden_states if output_hidden_states is None else output_hidden_states:
            states = (*(batch.restored(part) for part in self._inner(batch.ids)), features)
        output = BaseModelOutput(last_hidden_state=features, hidden_states=states)
        return output if returns_dict(self, return_dict) else output.to_tuple()

    def part_features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> dict[str, Tensor]:
        """The features (B, L, W) of each part of a composition, by name; empty for an embedder."""
        batch = CharacterBatch(input_ids, attention_mask)
        outputs = self.encoder.features(batch.ids) if isinstance(self.encoder, ComposedModel) else {}
        return {name: batch.restored(features) for name, features in outputs.items()}

    def _inner(self, ids: Tensor) -> Iterable[Tensor]:
        yield self.encoder.embedder.embedding(ids) * (ids != 0)[..., None]
        if isinstance(self.encoder, ComposedModel):
            yield self.encoder.base(ids)
            yield from self.encoder.features(ids).values()


class ModelWithHead(CclmPreTrainedModel):
    """An encoder, `cclm`, with a head."""

    def __init__(self, config: CclmConfig) -> None:
        super().__init__(config)
        self.cclm = CclmModel(config)

    def encode(self, input_ids: Tensor | None, attention_mask: Tensor | None, options: dict[str, Any]) -> Any:
        """The output of the encoder; `options` are those of `forward`."""
        known = {name: options.get(name) for name in ("output_hidden_states", "output_attentions")}
        return self.cclm(input_ids, attention_mask, return_dict=True, **known)


def label_loss(logits: Tensor, labels: Tensor, num_labels: Tensor | int | None) -> Tensor:
    """Cross-entropy () of logits (B, L, K) and labels (B, L): the mean, or the sum divided by `num_labels`."""
    flat, classes = logits.float().reshape(-1, logits.shape[-1]), labels.reshape(-1).to(logits.device)
    total = nn.functional.cross_entropy(flat, classes, ignore_index=_NO_LABEL, reduction="sum")
    number = (classes != _NO_LABEL).sum().clamp(min=1) if num_labels is None else num_labels
    return total / (number.to(total.device) if isinstance(number, Tensor) else number)


def returns_dict(model: CclmPreTrainedModel, return_dict: bool | None) -> bool:
    """Whether a model returns an output object; the argument of `forward` wins over the configuration."""
    return bool(model.config.return_dict if return_dict is None else return_dict)


class _Checkpointed:
    """The forward pass of a layer that stores its inputs only, in training."""

    def __init__(self, layer: nn.Module, function: Callable[..., Any]) -> None:
        self._layer, self._function = layer, function

    def __call__(self, *inputs: Any) -> Any:
        forward = type(self._layer).forward
        if not self._layer.training or not torch.is_grad_enabled():
            return forward(self._layer, *inputs)
        return self._function(forward, self._layer, *inputs)


def _weights(module: nn.Module) -> Iterable[tuple[str, Tensor]]:
    """Parameters and saved buffers by name."""
    yield from module.named_parameters()
    saved = module.state_dict(keep_vars=True)
    yield from ((name, buffer) for name, buffer in module.named_buffers() if name in saved)
