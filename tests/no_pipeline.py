"""Fails if Prefect, MLflow or DVC is installed; used by `make test-core`."""

import sys
from importlib.util import find_spec

present = [name for name in ("prefect", "mlflow", "dvc") if find_spec(name)]
sys.exit(f"the core environment must not contain {', '.join(present)}" if present else 0)
