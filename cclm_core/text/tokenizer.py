"""The vocabulary as a Hugging Face `tokenizers.Tokenizer`: the same ids and offsets as `Preprocessor`, by another path.

Byte-pair encoding without merges looks up single characters, and its byte fallback gives the bytes of those that it
does not know. The special tokens stand in the model's vocabulary alone and are not declared "added tokens": those are
searched for in the text, so that a user who writes `[CLS]` would put a special id into it. They are left out again by
the decoder.

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

from cclm_core.text.normalization import normaliser
from cclm_core.text.vocabulary import CLS, END, FIRST_BYTE, FIRST_CHARACTER, MASK, PAD, Preprocessor

SPECIAL_TOKENS = {"[PAD]": PAD, "[MASK]": MASK, "[CLS]": CLS, "[END]": END}
"""Names of the special ids. In a text they are text."""


def character_tokenizer(preprocessor: Preprocessor) -> Any:
    """A `tokenizers.Tokenizer` with the ids, offsets and normal form of `preprocessor`.

    `encode`, `encode_batch`, pairs and `save("tokenizer.json")` work as usual. A pair is the ids of the first text,
    END, the ids of the second (type id 1); CLS, where configured, stands once, at the front. Decoding gives back every
    text. Ids that no text has, where bytes are no UTF-8, may decode to more U+FFFD than by `Preprocessor.decode`.

    Neither padding nor truncation is on. Padding as in `Preprocessor.encode_batch` is
    `tokenizer.enable_padding(pad_id=PAD, pad_token="[PAD]", pad_to_multiple_of=downsample_factor)`. Truncation by
    `tokenizers` may cut a character's bytes apart; `Preprocessor.encode_batch(texts, truncate=True)` does not.

    With normalisation, the end of an offset may leave out combining marks that were composed into the character
    (`tokenizers` counts so); the starts are those of `Preprocessor.offsets`.
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
    # Every token of a text is one character, so that only a special token matches whole.
    special = "|".join(name.strip("[]") for name in SPECIAL_TOKENS)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(Regex(rf"^\[({special})\]$"), ""), decoders.ByteFallback(), decoders.Fuse()]
    )
    if preprocessor.config.normalisation is not None:
        tokenizer.normalizer = normaliser(preprocessor.config.normalisation)
    return tokenizer
