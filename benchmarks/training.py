"""Characters a second in training and in inference: our default base, with tables that make it 12 M
parameters, and its peers.

    python benchmarks/training.py [--json]

Two thirds of our parameters are n-gram tables, of which a character reads one row each (CANINE has hashed embeddings
too); the others are in the layers. Peers of about the same size, with random weights: the architecture of the original
CCLM (five blocks of three convolutions with global broadcast, 512 features) in torch, CANINE of the transformers
package, and a transformer with full attention at every character. All read the same windows of the same text and learn
the same thing, to tell masked characters, by the same optimizer; the precision is said in each row. One process, one
thread, processor seconds; the sides take turns, and the row has the medians over the turns. A ratio is the median of
the ratios of each turn. Ours trains in bf16 by default and the original is usable on a CPU in fp32 alone: two rows set
those side by side.

`train/utilisation` is how many operations a second the training of ours does (as counted by torch, two for each
multiplication and addition), against a product of two 2048 x 2048 matrices in the same precision.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from encoding import paragraphs
from peers import ATTENTION, LENGTH, Canine, Original
from rows import Row, show
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cclm_core.encoders import EmbeddingConfig
from cclm_core.encoders.embedder import Embedder, EmbedderConfig
from cclm_core.runtime.random import derive, seeded_initialisation
from cclm_core.text.vocabulary import MASK, Preprocessor, VocabularyConfig

TURNS, ROWS, RATE = 5, 16, 0.15
MODES = {False: "fp32", True: "bf16"}
MATRIX = 2048
OURS = EmbedderConfig(embedding=EmbeddingConfig(ngram_buckets=32768))  # the default, but as large as its peers


class Side(NamedTuple):
    """An encoder with a head for masked characters, and the optimizer of both."""

    encoder: nn.Module
    head: nn.Linear
    optimizer: torch.optim.Optimizer

    @property
    def num_parameters(self) -> int:
        """Of the encoder."""
        return sum(parameter.numel() for parameter in self.encoder.parameters())

    def train(self, ids: Tensor, bf16: bool) -> None:
        """One step: forward, backward, update."""
        places = torch.from_numpy(derive(1, "places").random(ids.shape) < RATE)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            features = self.encoder.train()(ids.masked_fill(places, MASK))[places]
            loss = nn.functional.cross_entropy(self.head(features).float(), ids[places])
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def infer(self, ids: Tensor, bf16: bool) -> None:
        """Features of every character."""
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            self.encoder.eval()(ids)


def side(encoder: Callable[[], Any], num_ids: int) -> Side:
    """An encoder and its head with new weights."""
    with seeded_initialisation(1):
        made = encoder()
        head = nn.Linear(made.width, num_ids)
    return Side(made, head, torch.optim.AdamW([*made.parameters(), *head.parameters()], lr=1e-3, fused=True))


def seconds(call: Callable[[], Any]) -> float:
    """Processor seconds of one call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def rows() -> list[Row]:
    """All figures, each of every side measured in this process."""
    torch.set_num_threads(1)
    about, texts = paragraphs()
    preprocessor = Preprocessor(VocabularyConfig(min_count=5)).fit(texts)
    ids = preprocessor.encode("\n\n".join(texts)[: 2 * (TURNS + 1) * ROWS * LENGTH]).astype(np.int64)
    windows = torch.from_numpy(ids[: (TURNS + 1) * ROWS * LENGTH]).view(-1, ROWS, LENGTH)
    num_ids = preprocessor.num_ids
    sides = {
        "ours": side(lambda: Embedder(preprocessor, OURS), num_ids),
        "original": side(lambda: Original(num_ids), num_ids),
        "canine": side(Canine, num_ids),
        "attention": side(lambda: Embedder(preprocessor, ATTENTION), num_ids),
    }
    matrices = {bf16: torch.ones(2, MATRIX, MATRIX, dtype=torch.bfloat16 if bf16 else torch.float32) for bf16 in MODES}
    taken: dict[tuple[str, str, bool], list[float]] = {}
    for window in windows:
        for name, one in sides.items():
            for kind, call in (("train", one.train), ("infer", one.infer)):
                for bf16 in MODES:
                    taken.setdefault((name, kind, bf16), []).append(seconds(partial(call, window, bf16)))
        for bf16, pair in matrices.items():
            taken.setdefault(("matrices", "", bf16), []).append(seconds(partial(torch.mm, *pair)))
    speeds = {key: [ROWS * LENGTH / one for one in times[1:]] for key, times in taken.items()}  # the first warms up
    millions = {name: f"{one.num_parameters / 1e6:.1f} M" for name, one in sides.items()}

    def against(name: str, kind: str, ours: bool, theirs: bool) -> Row:
        mine, peer = speeds["ours", kind, ours], speeds[name, kind, theirs]
        said = MODES[ours] if ours == theirs else f"{MODES[ours]}-to-{MODES[theirs]}"
        what = f"{name}: {statistics.median(peer):.4g}; {millions['ours']} against {millions[name]}; {about}"
        ratio = statistics.median(one / other for one, other in zip(mine, peer, strict=True))
        return Row(f"{kind}/{name}/{said}", statistics.median(mine), "characters/s", what, ratio)

    result = [
        against(name, kind, bf16, bf16)
        for kind in ("train", "infer")
        for name in ("original", "canine", "attention")
        for bf16 in MODES
    ]
    result += [against("original", kind, True, False) for kind in ("train", "infer")]
    with FlopCounterMode(display=False) as counter:
        sides["ours"].train(windows[0], True)  # as many in fp32, where torch cannot count oneDNN's
    for bf16, precision in MODES.items():
        ours = counter.get_total_flops() / statistics.median(taken["ours", "train", bf16][1:])
        peak = 2 * MATRIX**3 / statistics.median(taken["matrices", "", bf16][1:])
        peer = f"product of matrices: {peak / 1e9:.4g}"
        result.append(Row(f"train/utilisation/{precision}", ours / 1e9, "GFLOP/s", peer, ours / peak))
    return result


if __name__ == "__main__":
    show(f"Training and inference, {ROWS} x {LENGTH} characters, one thread", rows())
