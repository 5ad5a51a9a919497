"""Classifiers of texts, pairs and characters in Hugging Face's format."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput, TokenClassifierOutput

from cclm_core.heads.pooling import Pooling, pair_features, word_features
from cclm_core.heads.similarity import NUM_SIMILARITIES, PairSimilarity
from cclm_core.heads.transitions import Transitions, padded_words, places_of
from cclm_core.heads.word_layers import WordLayers
from cclm_core.huggingface.batches import CharacterBatch
from cclm_core.huggingface.configuration import CclmConfig
from cclm_core.huggingface.modeling import ModelWithHead, label_loss, returns_dict
from cclm_core.huggingface.tagging import scores_of_ids, words_in
from cclm_core.runtime.errors import ConfigError
from cclm_core.text.alphabet import CLS, END


class CclmForSequenceClassification(ModelWithHead):
    """Classifies, labels or scores whole texts: logits (B, K), also for a single text.

    Pooled features, a layer norm, and a linear layer. `problem_type` selects the loss:
    `single_label_classification`, `multi_label_classification` or `regression`; without it, the labels do: one output
    is a regression, labels of whole numbers are classes, other labels are several labels per text.

    With `pair`, each text of a pair is encoded and pooled on its own, found by its segment ids, and the head reads
    `[u, v, |u - v|, u * v]` and, with `pair_similarities`, `PairSimilarity`.
    Otherwise a pair is one text with a separator in it.
    """

    accepts_loss_kwargs = False  # the loss is a mean over texts, which `Trainer` divides by the accumulated batches

    def __init__(self, config: CclmConfig) -> None:
        super().__init__(config)
        self.pooling = Pooling(config.pooling, config.hidden_size)
        width = self.pooling.width * (4 if config.pair else 1)
        self.norm = nn.LayerNorm(width) if config.classifier_norm else nn.Identity()
        self.dropout = nn.Dropout(config.classifier_dropout)
        has_similarity = config.pair and config.pair_similarities
        self.similarity = PairSimilarity(self.cclm.encoder.preprocessor.alphabet) if has_similarity else None
        self.classifier = nn.Linear(width + (NUM_SIMILARITIES if has_similarity else 0), config.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
        **options: Any,
    ) -> Any:
        """Logits (B, K), and with `labels` the mean loss.

        Args:
            input_ids: (B, L) int64.
            attention_mask: (B, L), 0 at padding.
            token_type_ids: (B, L), 0 in the first text of a pair and 1 in the second; required with `pair`.
            labels: (B,) int64 classes, (B,) or (B, K) float values, or (B, K) float 0 or 1 for several labels.
            return_dict: whether to return an output object instead of a tuple.
            options: `output_hidden_states`.

        Raises:
            ConfigError: the model reads pairs, and `token_type_ids` is missing or has another shape.
        """
        batch = CharacterBatch(input_ids, attention_mask)
        mask = self._texts(batch, token_type_ids) if self.config.pair else batch.mask
        ids = batch.input_ids.repeat(len(mask) // max(1, len(batch.mask)), 1)
        encoded = self.encode(ids, mask, options)
        text = self.pooling(encoded.last_hidden_state, mask)
        if self.config.pair:
            text = pair_features(text)
        read = self.dropout(self.norm(text.to(self.classifier.weight.dtype)))
        if self.similarity is not None:
            read = torch.cat([read, self.similarity(ids * mask).to(read.dtype)], dim=-1)
        logits = self.classifier(read)
        loss = None if labels is None else self._loss(logits, labels)
        output = SequenceClassifierOutput(loss=loss, logits=logits, hidden_states=encoded.hidden_states)
        return output if returns_dict(self, return_dict) else output.to_tuple()

    def _texts(self, batch: CharacterBatch, segments: Tensor | None) -> Tensor:
        """Where the first texts have characters, then where the second ones do: (2 B, L) bool."""
        mask = batch.mask
        if segments is None or segments.numel() != mask.numel():
            given = "none" if segments is None else tuple(segments.shape)
            raise ConfigError(
                f"a model of pairs needs `token_type_ids` of shape {tuple(mask.shape)}, got {given}. Call the "
                "tokenizer with two texts."
            )
        is_text = mask & (batch.input_ids != CLS) & (batch.input_ids != END)
        is_second = segments.view(mask.shape) == 1
        return torch.cat([is_text & ~is_second, is_text & is_second])

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        labels, scores = labels.to(logits.device), logits.float()
        if self.config.problem_type is None:
            is_class = not labels.is_floating_point()
            several = "single_label_classification" if is_class else "multi_label_classification"
            self.config.problem_type = "regression" if self.config.num_labels == 1 else several
        if self.config.problem_type == "regression":
            return nn.functional.mse_loss(scores, labels.float().view(scores.shape))
        if self.config.problem_type == "multi_label_classification":
            return nn.functional.binary_cross_entropy_with_logits(scores, labels.float())
        return nn.functional.cross_entropy(scores, labels.view(-1))


class CclmForTokenClassification(ModelWithHead):
    """Classifies each character: logits (B, L, K).

    With `tag_unit` `word`, the head reads the first character of a word, the mean of all, and the last one, and the
    logits of its characters follow from those of the word; see `tagging`. With `tag_word_layers`, words also read their
    neighbors. With `tag_transitions`, they are the
    probabilities of each tag given the whole text: the most probable tags, not the most probable sequence.
    """

    def __init__(self, config: CclmConfig) -> None:
        super().__init__(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        width = config.hidden_size * (3 if config.tag_unit == "word" else 1)
        has_norm = config.tag_unit != "id" and config.classifier_norm
        self.norm = nn.LayerNorm(width) if has_norm else nn.Identity()
        layers = config.tag_word_layers
        self.word_layers = WordLayers(width, config.tag_word_width, layers) if layers else None
        self.classifier = nn.Linear(config.tag_word_width if layers else width, config.num_labels)
        self.transitions = Transitions(config.num_labels) if config.tag_transitions else None
        self.post_init()

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
        """Logits (B, L, K), and with `labels` (B, L), -100 for none, the cross-entropy in nats per label.

        `num_items_in_batch` is the number of labels in all batches of an accumulated gradient; `Trainer` passes it.
        """
        encoded = self.encode(input_ids, attention_mask, options)
        features = encoded.last_hidden_state.to(self.classifier.weight.dtype)
        logits = self._word_logits(features, CharacterBatch(input_ids, attention_mask))
        loss = None if labels is None else label_loss(logits, labels, num_items_in_batch)
        output = TokenClassifierOutput(loss=loss, logits=logits, hidden_states=encoded.hidden_states)
        return output if returns_dict(self, return_dict) else output.to_tuple()

    def _word_logits(self, features: Tensor, batch: CharacterBatch) -> Tensor:
        if self.config.tag_unit == "id":
            logits: Tensor = self.classifier(self.dropout(features))
            return logits
        words = words_in(batch.input_ids * batch.mask, self.cclm.encoder.preprocessor, self.config.tag_unit)
        if self.config.tag_unit == "word":
            read = word_features(features, words.row, words.start, words.stop)
        else:
            read = features[words.row, words.start]
        read = self.dropout(self.norm(read))
        if self.word_layers is not None:
            read = self.dropout(self.word_layers(read, words.row))
        scores = self.classifier(read)
        if self.transitions is not None and len(words.row):
            place, mask = places_of(words.row)
            padded = padded_words(scores.float(), words.row, place, mask)
            scores = self.transitions.log_marginals(padded, mask)[words.row, place]
        batch_size, length = batch.mask.shape
        return scores_of_ids(scores, words, (batch_size, length))
