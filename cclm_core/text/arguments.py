"""The arguments of `Preprocessor`, with those of cclm 0.1.2."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cclm_core.runtime.errors import ArtifactError, ConfigError
from cclm_core.text.config import VocabularyConfig

FILE = "preprocessor.json"
"""The file of a vocabulary in the folder of a model."""

ARGUMENTS = {
    "batch_size": "pass it to `fit` of a pretrainer",
    "num_stopwords": "leave it out, because frequent words are targets, too",
    "mask_output_len": "leave it out, because a masked word is predicted as a whole",
    "mask_token_ind": "leave it out, because the mask always has the id 1",
    "tokenizer_path": "leave it out, because the words to predict are fitted on your texts",
}
"""Arguments of `Preprocessor` of cclm 0.1.2 that no longer exist."""

FIT = {
    "skip_tokenizer": "leave it out, because `fit` trains no tokenizer; `fit` of a pretrainer selects the words",
    "progbar": "leave it out, because `fit` draws no progress bar",
}
"""Arguments of `Preprocessor.fit` of cclm 0.1.2 that no longer exist."""

TO_ARRAY = {"padding_pre": "leave it out, because a batch pads on the right"}
"""Arguments of `Preprocessor.string_to_array` of cclm 0.1.2 that no longer exist."""

ATTRIBUTES = {
    "char_dict": "write `prep.encode(text)`; the character `prep.alphabet[k]` has the id 260 + k",
    "char_rev": "write `prep.decode(ids)`",
    "token_dict": "the words of a masked language model are `pretrainer.objective.targets.names`",
    "token_rev": "the words of a masked language model are `pretrainer.objective.targets.names`",
    "tokenizer": "the words of a masked language model are `pretrainer.objective.targets`",
    "tokenize": "write `pretrainer.objective.targets.encode(text)` for words, or `prep.encode(text)` for characters",
    "tok_trainer": "pass `words=TargetsConfig(kind='bpe')` to a pretrainer",
    "tokenizer_is_fit": "a pretrainer selects its words in `fit`",
    "vocab_size": "write `prep.config.words.max_targets`",
    "add_cls": "write `prep.config.cls`",
    "downsample_factor": "write `prep.config.downsample_factor`",
    "infer_length": "write `prep.encode_batch(texts)`, which rounds the length up",
    "mask_token_ind": "import MASK from `cclm_core.text.vocabulary`",
    "array_to_string": "write `prep.decode(ids)`",
}
"""Attributes of `Preprocessor` of cclm 0.1.2 that no longer exist."""


def configured(
    config: VocabularyConfig | Mapping[str, Any] | None,
    max_example_len: int | None,
    vocab_size: int | None,
    add_cls: bool | None,
    downsample_factor: int | None,
) -> VocabularyConfig:
    """The configuration, with the arguments of the original CCLM.

    Raises:
        ConfigError: an argument is invalid, or contradicts `config`.
    """
    if config is not None and not isinstance(config, VocabularyConfig | Mapping):
        raise ConfigError(
            f"`config` must be a VocabularyConfig, got {config!r:.80}. Write `Preprocessor(max_example_len=...)` for a "
            "maximum length, or `Preprocessor(load_from=...)` for a saved file."
        )
    if not isinstance(config, VocabularyConfig):
        config = VocabularyConfig.parse({} if config is None else config, "Preprocessor")
    values = {"max_length": max_example_len, "cls": add_cls, "downsample_factor": downsample_factor}
    old_names = {"max_length": "max_example_len", "cls": "add_cls"}
    current, defaults = config.canonical(), VocabularyConfig().canonical()
    changed: dict[str, Any] = {}
    for name, value in values.items():
        if value is None or value == current[name]:
            continue
        if current[name] != defaults[name]:
            old = old_names.get(name, name)
            raise ConfigError(f"{old} {value} contradicts {name} {current[name]}. Omit {old}.")
        changed[name] = value
    if vocab_size is not None:
        changed["words"] = {**(current["words"] or {}), "max_targets": vocab_size}
    return VocabularyConfig.parse({**current, **changed}, "Preprocessor") if changed else config


def check_same(
    saved: VocabularyConfig,
    config: VocabularyConfig | Mapping[str, Any] | None,
    saved_alphabet: str,
    alphabet: str,
    path: Any,
) -> None:
    """Checks the arguments that were passed together with `load_from`.

    Raises:
        ConfigError: they contradict the saved values.
    """
    if config is not None:
        given = configured(config, None, None, None, None).canonical()
        for key, expected in saved.canonical().items():
            if given[key] != expected:
                raise ConfigError(
                    f"`config` contradicts {path}: {key} must be {expected!r}, got {given[key]!r}. Omit `config`."
                )
    if alphabet not in ("", saved_alphabet):
        raise ConfigError(f"`alphabet` contradicts {path}, got {alphabet!r:.40}. Omit `alphabet`.")


def file_in(path: Path) -> Path:
    """The file of a vocabulary: `path`, or the one in the folder `path`."""
    return path / FILE if path.is_dir() else path


def file_to_load(path: Path) -> Path:
    """`file_in(path)`, which must exist.

    Raises:
        ArtifactError: it does not exist.
    """
    file = file_in(path)
    if not file.is_file():
        raise ArtifactError(
            f"vocabulary {file} not found. Pass a file written by `Preprocessor.save`, or the folder that "
            "`Shelf.fetch` returned."
        )
    return file


def refuse_old_file(content: Any, path: Path) -> None:
    """Refuses a file of cclm 0.1.2, whose ids are others.

    Raises:
        ArtifactError: it is one.
    """
    if isinstance(content, dict) and {"char_rev", "char_dict"} <= content.keys():
        raise ArtifactError(
            f"{path} was written by cclm 0.1.2, whose ids and models cannot be used any more. Call `fit` on your "
            "texts, and train the models again. See docs/migrating.md."
        )


def too_long(name: str, length: int, limit: int) -> str:
    """The message for a text with too many ids; `name` is the text."""
    return f"{name} must have at most {limit} ids, got {length}. Shorten it, or set `truncate=True`."
