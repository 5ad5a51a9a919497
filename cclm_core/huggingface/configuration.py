"""The configuration of CCLM models in Hugging Face's format."""

from typing import Any, Literal

from transformers import PreTrainedConfig

from cclm_core.encoders.embedder import Base
from cclm_core.heads.pooling import PoolingKind
from cclm_core.huggingface.architecture import Tree, build, part_tree, preprocessor_of, tree_of, vocabulary_of
from cclm_core.runtime.initialization import without_storage
from cclm_core.text.vocabulary import END, PAD


class CclmConfig(PreTrainedConfig):
    """The vocabulary, the architecture and the head of a model; create it with `config_of` or `from_pretrained`.

    Attributes:
        vocabulary: the alphabet and its settings.
        encoder: the architecture: an embedder, or a composition with its base and its parts; see `architecture`.
        hidden_size: features per character.
        vocab_size: number of ids.
        window: ids per window in which longer texts are read, with an overlap of half; None reads whole texts.
        context_length: ids that a model of the next character reads when it generates; None for all.
        pair: whether sequence classification encodes each text of a pair on its own.
        pair_similarities: with `pair`, whether the classifier also reads similarities of the character n-grams.
        tag_unit: what token classification reads as one: an `id`, a `word`, or a `character` with all its bytes. Words
            and characters have the labels O, then B and I of each entity.
        tag_transitions: whether token classification has learned transitions between tags; not with the unit `id`.
        tag_word_layers, tag_word_width: layers over words in token classification, and their features; not with the
            unit `id`.
        pooling: how sequence classification pools characters: `mean_max`, `mean` or `attention`.
        classifier_norm: whether sequence classification has a layer norm after pooling.
        classifier_dropout: dropout before the output layer of a classifier, 0 to 1.
    """

    model_type = "cclm"

    vocabulary: dict[str, Any] | None = None
    encoder: dict[str, Any] | None = None
    hidden_size: int = 0
    vocab_size: int = 0
    window: int | None = None
    context_length: int | None = None
    pair: bool = False
    pair_similarities: bool = False
    tag_unit: Literal["id", "word", "character"] = "id"
    tag_transitions: bool = False
    tag_word_layers: int = 0
    tag_word_width: int = 192
    pooling: PoolingKind = "mean_max"
    classifier_norm: bool = True
    classifier_dropout: float = 0.2
    pad_token_id: int | None = PAD
    sep_token_id: int | None = END
    tie_word_embeddings: bool = False

    @property
    def parts(self) -> "dict[str, CclmConfig]":
        """The configuration of each part of a composition, as a model of its own with its base, by name."""
        tree = self.encoder or {}
        return {part["name"]: self._of(part_tree(tree, part["name"])) for part in tree.get("parts", ())}

    def _of(self, tree: Tree) -> "CclmConfig":
        with without_storage():
            width = build(tree, preprocessor_of(self.vocabulary or {})).width
        return CclmConfig(vocabulary=self.vocabulary, encoder=tree, hidden_size=width, vocab_size=self.vocab_size)


def config_of(model: Base, **values: Any) -> CclmConfig:
    """The configuration of an embedder or a composition.

    Args:
        model: the model; not changed.
        values: further attributes, such as `id2label` or `context_length`.
    """
    return CclmConfig(
        vocabulary=vocabulary_of(model.preprocessor),
        encoder=tree_of(model),
        hidden_size=model.width,
        vocab_size=model.preprocessor.num_ids,
        **values,
    )
