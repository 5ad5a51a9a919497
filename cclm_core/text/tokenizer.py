"""The vocabulary as a Hugging Face `tokenizers.Tokenizer`, with the ids and offsets of `Preprocessor`.

The model is byte-pair encoding without merges: it looks up single characters and falls back to bytes. The special
tokens are in its vocabulary but are not "added tokens". `tokenizers` searches texts for added tokens, so a user who
types `[CLS]` would insert a special id. The decoder skips special ids.

>>> preprocessor = Preprocessor(alphabet="ab")
>>> tokenizer = character_tokenizer(preprocessor)
>>> encoding = tokenizer.encode("bé")
>>> encoding.ids, encoding.offsets
([261, 199, 173], [(0, 1), (1, 2), (1, 2)])
>>> tokenizer.decode(encoding.ids)
'bé'
"""

from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, processors

from cclm_core.text.normalization import normalizer
from cclm_core.text.vocabulary import CLS, END, FIRST_BYTE, FIRST_CHARACTER, MASK, PAD, Preprocessor

SPECIAL_TOKENS = {"[PAD]": PAD, "[MASK]": MASK, "[CLS]": CLS, "[END]": END}
"""Names of the special ids. In a text, these names are ordinary text."""


def character_tokenizer(preprocessor: Preprocessor) -> Any:
    """A `tokenizers.Tokenizer` with the ids, offsets and normal form of `preprocessor`.

    `encode`, `encode_batch`, pairs and `save("tokenizer.json")` work as usual. A pair is encoded as the first text,
    END, the second text (type id 1), after one CLS if `cls` is set. Decoding restores every text. Invalid UTF-8 can
    decode to more U+FFFD characters than with `Preprocessor.decode`.

    Padding and truncation are off. For the padding of `Preprocessor.encode_batch`, call
    `tokenizer.enable_padding(pad_id=PAD, pad_token="[PAD]", pad_to_multiple_of=downsample_factor)`. Truncation by
    `tokenizers` can split the bytes of a character; `Preprocessor.encode_batch(texts, truncate=True)` does not.

    With normalization, the starts of offsets equal `Preprocessor.offsets`. The end of an offset can exclude combining
    marks that were composed into the character.
    """
    vocab = dict(SPECIAL_TOKENS)
    vocab |= {f"<0x{byte:02X}>": FIRST_BYTE + byte for byte in range(256)}
    vocab |= {character: FIRST_CHARACTER + index for index, character in enumerate(preprocessor.alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], byte_fallback=True))
    front = "[CLS] " if preprocessor.config.cls else ""
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{front}$A",
        pair=f"{front}$A [END] $B:1",
        special_tokens=[("[CLS]", CLS), ("[END]", END)],
    )
    # Every other token is a single character or byte, so the pattern matches special tokens only.
    special = "|".join(name.strip("[]") for name in SPECIAL_TOKENS)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(Regex(rf"^\[({special})\]$"), ""), decoders.ByteFallback(), decoders.Fuse()]
    )
    if preprocessor.config.normalisation is not None:
        tokenizer.normalizer = normalizer(preprocessor.config.normalisation)
    return tokenizer
