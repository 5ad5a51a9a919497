"""The vocabulary as a Hugging Face fast tokenizer, with the ids and offsets of `Preprocessor`.

Tokens are characters. A character outside the alphabet becomes its UTF-8 bytes, so there is no unknown token, and
decoding restores every text. `word_ids()` numbers words, spaces and punctuation marks.

>>> from cclm_core.text.vocabulary import Preprocessor
>>> tokenizer = tokenizer_from(Preprocessor(alphabet=" ab"))
>>> tokenizer("ab é").tokens()
['a', 'b', ' ', '<0xC3>', '<0xA9>']
>>> tokenizer.decode(tokenizer("ab é").input_ids)
'ab é'
"""

from typing import Any, Literal

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import BatchEncoding, PreTrainedTokenizerFast

from cclm_core.runtime.errors import ConfigError
from cclm_core.text.code_points import refuse_surrogates
from cclm_core.text.normalization import normalizer
from cclm_core.text.vocabulary import CLS, END, FIRST_BYTE, FIRST_CHARACTER, MASK, PAD, Preprocessor
from cclm_core.text.words import RUN, with_apostrophes

SPECIAL_TOKENS = {"[PAD]": PAD, "[MASK]": MASK, "[CLS]": CLS, "[SEP]": END}
"""Names of the special ids. The separator is the id END, which separates documents in training."""

Frame = Literal["text", "bert", "generation"]
"""The special tokens around a text:

```
              single            pair
text          A                 A [SEP] B                the input of the trained encoders
bert          [CLS] A [SEP]     [CLS] A [SEP] B [SEP]
generation    [SEP] A           [SEP] A [SEP] B          the input of a model of the next character
```

The segment ids of B, and of a separator after it, are 1. If the vocabulary puts CLS before every text, so does `text`.
"""

_FRAMES: dict[Frame, tuple[str, str]] = {
    "text": ("$A", "$A [SEP] $B:1"),
    "bert": ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1"),
    "generation": ("[SEP] $A", "[SEP] $A [SEP] $B:1"),
}

_WORD = Regex(rf"{with_apostrophes(RUN)}|\s|[^\w\s]")


class CclmTokenizer(PreTrainedTokenizerFast):
    """A tokenizer of characters; create it with `tokenizer_from` or `from_pretrained`.

    It has no `__init__`, because transformers 5 would then rebuild the backend from its vocabulary, without the
    byte fallback.
    """

    model_input_names = ["input_ids", "token_type_ids", "attention_mask"]  # noqa: RUF012  as in transformers

    def _encode_plus(self, text: Any, text_pair: Any = None, **options: Any) -> BatchEncoding:
        """Encodes one text, a pair, or a batch.

        Raises:
            DataError: a lone surrogate; the message gives its position.
        """
        _refuse_surrogates(text, text_pair)
        if isinstance(text, list | tuple) and not text and not options.get("is_split_into_words"):
            return BatchEncoding({name: [] for name in self.model_input_names})
        if not isinstance(text, str) or text_pair != "":
            return super()._encode_plus(text, text_pair, **options)
        # An empty second text must not turn a pair into a single text.
        batch = super()._encode_plus([text], [text_pair], **options)
        if options.get("return_tensors") is not None or options.get("return_overflowing_tokens"):
            return batch
        return BatchEncoding({name: values[0] for name, values in batch.items()}, batch.encodings)


def tokenizer_from(
    preprocessor: Preprocessor, frame: Frame = "text", *, split_special_tokens: bool = True
) -> CclmTokenizer:
    """A tokenizer with the ids, offsets and normal form of `preprocessor`.

    Args:
        preprocessor: the vocabulary. Its `max_length` becomes `model_max_length`.
        frame: the special tokens around a text; with `text` the ids are those of `Preprocessor.encode`.
        split_special_tokens: whether the name of a special token in a text, such as `[MASK]`, is ordinary text. Set it
            to False to write `[MASK]` for the mask, in texts that you trust.

    Raises:
        ConfigError: an unknown frame.
    """
    if frame not in _FRAMES:
        raise ConfigError(f"`frame` must be one of {', '.join(_FRAMES)}, got {frame!r:.80}.")
    limit = preprocessor.config.max_length
    return CclmTokenizer(
        tokenizer_object=_backend(preprocessor, frame),
        pad_token="[PAD]",
        mask_token="[MASK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        **({"bos_token": "[SEP]", "eos_token": "[SEP]"} if frame == "generation" else {}),
        **({} if limit is None else {"model_max_length": limit}),
        model_input_names=CclmTokenizer.model_input_names,  # for `AutoTokenizer` where this class is not installed
        padding_side="left" if frame == "generation" else "right",
        split_special_tokens=split_special_tokens,
        clean_up_tokenization_spaces=False,
    )


def _backend(preprocessor: Preprocessor, frame: Frame) -> Any:
    """The `tokenizers.Tokenizer`: byte-pair encoding without merges looks up characters and falls back to bytes."""
    vocabulary = dict(SPECIAL_TOKENS)
    vocabulary |= {f"<0x{byte:02X}>": FIRST_BYTE + byte for byte in range(256)}
    vocabulary |= {character: FIRST_CHARACTER + index for index, character in enumerate(preprocessor.alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(_WORD, "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    single, pair = _FRAMES[frame]
    if frame == "text" and preprocessor.config.cls:
        single, pair = f"[CLS] {single}", f"[CLS] {pair}"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[("[CLS]", CLS), ("[SEP]", END)]
    )
    if preprocessor.config.normalisation is not None:
        tokenizer.normalizer = normalizer(preprocessor.config.normalisation)
    return tokenizer


def _refuse_surrogates(*texts: Any) -> None:
    """Raises DataError for a lone surrogate in a text, or in nested lists of texts."""
    for text in texts:
        if isinstance(text, str):
            if not text.isascii():
                refuse_surrogates(text)
        elif isinstance(text, list | tuple):
            _refuse_surrogates(*text)
