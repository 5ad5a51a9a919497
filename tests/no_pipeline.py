"""Imports every module of the library where Prefect, MLflow and DVC are not installed; used by `make test-core`."""

import sys
from importlib import import_module
from importlib.util import find_spec
from pkgutil import walk_packages

import cclm_core

if present := [name for name in ("prefect", "mlflow", "dvc") if find_spec(name)]:
    sys.exit(f"the core environment must not contain {', '.join(present)}")
for module in walk_packages(cclm_core.__path__, "cclm_core."):
    if not module.name.endswith("__main__"):
        import_module(module.name)
