"""Where training and held-out windows come from."""

from typing import NamedTuple

from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.corpus.windows import Windows


class Data(NamedTuple):
    """Windows of the train split to learn from, and of the validation split to measure on."""

    training: Windows
    held_out: Windows


def open_data(corpus: EncodedCorpus, window: int, variants: tuple[str, ...] | None) -> Data:
    """Training windows of the train split, held-out windows of the validation split."""
    splits = (corpus.split("train"), corpus.split("validation"))
    return Data(*(Windows(split, window, variants) for split in splits))
