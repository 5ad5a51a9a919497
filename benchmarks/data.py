"""Runs the benchmarks of everything between text and batches: encoding, noise, masks, batches, padding.

    python benchmarks/data.py [--json]

Rows `encode/…` are from `encoding.py`, `noise/…` from `noising.py`, and `mask/…`, `batches/…` and `padding/…` from
`batching.py`.
"""

import batching
import encoding
import noising
from rows import options, show

if __name__ == "__main__":
    args = options(__doc__).parse_args()
    show("Text, noise, masks and batches", [*encoding.rows(), *noising.rows(), *batching.rows()], args.json)
