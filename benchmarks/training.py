"""Compares the default base with peers of the same size: characters per second in training and inference.

    python benchmarks/training.py [--json]

The default base has n-gram tables with twice the rows here, which makes it 12 M parameters. Two thirds of them are in
the tables, of which a character reads one row each. The peers have random weights:

- `original`: the architecture of the original CCLM in torch: five blocks of three convolutions with global broadcast,
  512 features.
- `canine`: CANINE from transformers, which has hashed embeddings too.
- `attention`: a transformer with full attention at every character.

All read the same windows and predict masked characters with the same optimizer. One process, one thread, processor
seconds. The sides take turns; a value is the median over the turns, a ratio the median of the ratios of the turns.
The last part of a name is the precision. `bf16-to-fp32` compares the default, which trains in bf16, with the original
in fp32, the only precision in which it is usable on a CPU.

`train/utilization`: operations per second in training (counted by torch; a multiply-add is two). The peer is the
product of two 2048 x 2048 matrices in the same precision.
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
from rows import Row, options, show
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cclm_core.encoders import EmbeddingConfig
from cclm_core.encoders.embedder import Embedder, EmbedderConfig
from cclm_core.runtime.random import derive, seeded_initialization
from cclm_core.runtime.reporting import format_number
from cclm_core.text.vocabulary import MASK, Preprocessor, VocabularyConfig

TURNS, ROWS, RATE = 5, 16, 0.15
MODES = {False: "fp32", True: "bf16"}
MATRIX = 2048
DEFAULT = "default base"
ENLARGED = EmbedderConfig(embedding=EmbeddingConfig(ngram_buckets=32768))  # the default, but as large as the peers


class Side(NamedTuple):
    """An encoder, a head for masked characters, and the optimizer of both."""

    encoder: nn.Module
    head: nn.Linear
    optimizer: torch.optim.Optimizer

    @property
    def num_parameters(self) -> int:
        """Number of parameters of the encoder."""
        return sum(parameter.numel() for parameter in self.encoder.parameters())

    def train(self, ids: Tensor, bf16: bool) -> None:
        """Makes one training step on `ids` (B, L)."""
        masked = torch.from_numpy(derive(1, "places").random(ids.shape) < RATE)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            features = self.encoder.train()(ids.masked_fill(masked, MASK))[masked]
            loss = nn.functional.cross_entropy(self.head(features).float(), ids[masked])
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def infer(self, ids: Tensor, bf16: bool) -> None:
        """Computes the features of `ids` (B, L)."""
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            self.encoder.eval()(ids)


def side(encoder: Callable[[], Any], num_ids: int) -> Side:
    """Creates an encoder and its head with new weights."""
    with seeded_initialization(1):
        model = encoder()
        head = nn.Linear(model.width, num_ids)
    return Side(model, head, torch.optim.AdamW([*model.parameters(), *head.parameters()], lr=1e-3, fused=True))


def seconds(call: Callable[[], Any]) -> float:
    """Returns the processor seconds of one call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def rows() -> list[Row]:
    """Measures all figures in this process."""
    torch.set_num_threads(1)
    description, texts = paragraphs()
    preprocessor = Preprocessor(VocabularyConfig(min_count=5)).fit(texts)
    ids = preprocessor.encode("\n\n".join(texts)[: 2 * (TURNS + 1) * ROWS * LENGTH]).astype(np.int64)
    windows = torch.from_numpy(ids[: (TURNS + 1) * ROWS * LENGTH]).view(-1, ROWS, LENGTH)
    num_ids = preprocessor.num_ids
    sides = {
        DEFAULT: side(lambda: Embedder(preprocessor, ENLARGED), num_ids),
        "original": side(lambda: Original(num_ids), num_ids),
        "canine": side(Canine, num_ids),
        "attention": side(lambda: Embedder(preprocessor, ATTENTION), num_ids),
    }
    matrices = {bf16: torch.ones(2, MATRIX, MATRIX, dtype=torch.bfloat16 if bf16 else torch.float32) for bf16 in MODES}
    times: dict[tuple[str, str, bool], list[float]] = {}
    for window in windows:
        for name, member in sides.items():
            for kind, call in (("train", member.train), ("infer", member.infer)):
                for bf16 in MODES:
                    times.setdefault((name, kind, bf16), []).append(seconds(partial(call, window, bf16)))
        for bf16, pair in matrices.items():
            times.setdefault(("matrices", "", bf16), []).append(seconds(partial(torch.mm, *pair)))
    # The first turn warms up.
    speeds = {key: [ROWS * LENGTH / seconds for seconds in values[1:]] for key, values in times.items()}
    sizes = {name: format_number(member.num_parameters) for name, member in sides.items()}

    def compare(name: str, kind: str, bf16: bool, peer_bf16: bool) -> Row:
        """Returns the comparison of the default base with one peer."""
        values, peer = speeds[DEFAULT, kind, bf16], speeds[name, kind, peer_bf16]
        precision = MODES[bf16] if bf16 == peer_bf16 else f"{MODES[bf16]}-to-{MODES[peer_bf16]}"
        text = (
            f"{name}: {format_number(statistics.median(peer))} characters/s; "
            f"{sizes[DEFAULT]} and {sizes[name]} parameters; {description}"
        )
        ratio = statistics.median(value / peer_value for value, peer_value in zip(values, peer, strict=True))
        return Row(f"{kind}/{name}/{precision}", statistics.median(values), "characters/s", text, ratio, "higher")

    result = [
        compare(name, kind, bf16, bf16)
        for kind in ("train", "infer")
        for name in ("original", "canine", "attention")
        for bf16 in MODES
    ]
    result += [compare("original", kind, True, False) for kind in ("train", "infer")]
    with FlopCounterMode(display=False) as counter:
        sides[DEFAULT].train(windows[0], True)  # fp32 needs the same number, but torch cannot count oneDNN's operations
    for bf16, precision in MODES.items():
        speed = counter.get_total_flops() / statistics.median(times[DEFAULT, "train", bf16][1:])
        peak = 2 * MATRIX**3 / statistics.median(times["matrices", "", bf16][1:])
        peer = f"matrix product: {format_number(peak / 1e9)} GFLOP/s"
        result.append(Row(f"train/utilization/{precision}", speed / 1e9, "GFLOP/s", peer, speed / peak, "higher"))
    return result


if __name__ == "__main__":
    args = options(__doc__).parse_args()
    show(f"Training and inference, {ROWS} x {LENGTH} characters, one thread", rows(), args.json)
