"""Optional dependencies: a clear error if one is missing."""

from importlib.util import find_spec

from cclm_core.runtime.errors import MissingExtraError


def require(module: str, extra: str) -> None:
    """Checks that an optional dependency is installed. Call it right before the import.

    Raises:
        MissingExtraError: it is not installed. The message contains the command to install it.
    """
    if find_spec(module) is None:
        raise MissingExtraError(f"{module} is not installed. Run `pip install 'cclm-core[{extra}]'`.")
