"""Runs a stage of dvc.yaml: `python -m flows.stage [--module MODULE] ARGS...`. See `flows.run.stage_runner`."""

import sys

from cclm_core.runtime.errors import CclmError
from flows.run.stage_runner import main

if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except CclmError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
