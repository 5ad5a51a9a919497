"""Everything between text and batches, beside its peers, in one run: `python benchmarks/data.py`.

Rows: `encode/hf` (benchmarks/encoding.py), `noise/textnoisr`, `noise/nlpaug` (benchmarks/noising.py), `mask/hf`,
`batches/training`, `padding/…` (benchmarks/batching.py). Each of these runs alone, too.
"""

import batching
import encoding
import noising
from rows import show

if __name__ == "__main__":
    show("Text, noise, masks and batches", [*encoding.rows(), *noising.rows(), *batching.rows()])
