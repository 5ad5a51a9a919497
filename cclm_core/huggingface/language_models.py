"""Masked and causal language models of characters in Hugging Face's format."""

from typing import Any

from torch import Tensor, nn
from transformers import GenerationMixin
from transformers.modeling_outputs import CausalLMOutput, MaskedLMOutput

from cclm_core.huggingface.configuration import CclmConfig
from cclm_core.huggingface.modeling import ModelWithHead, label_loss, returns_dict
from cclm_core.runtime.errors import CompositionError
from cclm_core.text.alphabet import CLS, END, MASK, PAD


class CclmForMaskedLM(ModelWithHead):
    """Predicts the characters at masked positions: logits (B, L, V)."""

    def __init__(self, config: CclmConfig) -> None:
        super().__init__(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        """The output layer."""
        return self.lm_head

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,  # noqa: ARG002
        labels: Tensor | None = None,
        return_dict: bool | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **options: Any,
    ) -> Any:
        """Logits (B, L, V), and with `labels` (B, L), -100 for none, the cross-entropy in nats per label.

        `num_items_in_batch` is the number of labels in all batches of an accumulated gradient; `Trainer` passes it.
        """
        encoded = self.encode(input_ids, attention_mask, options)
        logits = self.lm_head(encoded.last_hidden_state.to(self.lm_head.weight.dtype))
        loss = None if labels is None else label_loss(logits, labels, num_items_in_batch)
        output = MaskedLMOutput(loss=loss, logits=logits, hidden_states=encoded.hidden_states)
        return output if returns_dict(self, return_dict) else output.to_tuple()


class CclmForCausalLM(ModelWithHead, GenerationMixin):
    """Predicts the character after each position: logits (B, L, V). `generate` reads the whole prefix for each one.

    Raises:
        CompositionError: the encoder is not causal.
    """

    loss_type = "ForCausalLM"

    def __init__(self, config: CclmConfig) -> None:
        super().__init__(config)
        if not self.cclm.encoder.causal:
            raise CompositionError(
                f"CclmForCausalLM needs a causal encoder, got {self.cclm.encoder.described}. Use a causal base and "
                "causal components, or another class."
            )
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size)
        self.generation_config.update(
            bos_token_id=END, eos_token_id=END, pad_token_id=PAD, suppress_tokens=[PAD, MASK, CLS], use_cache=False
        )
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        """The output layer."""
        return self.lm_head

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """The last `context_length` ids, as many as the model read in training."""
        del kwargs  # its name lets `generate` pass the other outputs of the tokenizer
        context = self.config.context_length or input_ids.shape[1]
        return {
            "input_ids": input_ids[:, -context:],
            "attention_mask": None if attention_mask is None else attention_mask[:, -context:],
        }

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,  # noqa: ARG002
        labels: Tensor | None = None,
        return_dict: bool | None = None,
        num_items_in_batch: Tensor | int | None = None,
        logits_to_keep: int = 0,
        **options: Any,
    ) -> Any:
        """Logits (B, L, V), and with `labels` (B, L), -100 for none, the cross-entropy in nats per label.

        The labels are the ids themselves: the label of a position is compared with the logits of the one before.
        `num_items_in_batch` is the number of labels in all batches of an accumulated gradient; `Trainer` passes it.
        `logits_to_keep` keeps the logits of the last positions only; 0 keeps all.
        """
        encoded = self.encode(input_ids, attention_mask, options)
        features = encoded.last_hidden_state[:, -logits_to_keep:]
        logits = self.lm_head(features.to(self.lm_head.weight.dtype))
        loss = None
        if labels is not None:
            loss = label_loss(logits[:, :-1], labels[:, 1:], num_items_in_batch)
        output = CausalLMOutput(loss=loss, logits=logits, hidden_states=encoded.hidden_states)
        return output if returns_dict(self, return_dict) else output.to_tuple()
