"""Functions of the user, named as `module:function` in the configuration.

Naming a function runs code: its module is imported, from the current folder or the environment, in every process that
works on the corpus.
"""

import importlib
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from cclm_core.runtime.errors import ConfigError


@cache
def named_function(name: str) -> Callable[..., Any]:
    """The function `name`, e.g. `my_cleaning:without_signatures`.

    Raises:
        ConfigError: the name does not have that form, or there is no such module or function.
    """
    function = _attribute(name)
    if not callable(function):
        module_name, _, function_name = name.partition(":")
        raise ConfigError(f"{name}: function {function_name!r} not found in module {module_name!r}.")
    return function  # type: ignore[no-any-return]


def neighbor(name: str, other: str) -> Callable[..., Any] | None:
    """The function `other` in the module of the function `name`; None if there is no such function.

    Raises:
        ConfigError: `name` does not have the form `module:function`, or there is no such module.
    """
    function = _attribute(f"{name.partition(':')[0]}:{other}")
    return function if callable(function) else None


def _attribute(name: str) -> Any:
    module_name, separator, attribute = name.partition(":")
    if not separator or not module_name or not attribute:
        raise ConfigError(f"a function must be named as module:function, got {name!r}.")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(f"{name}: the module {module_name!r} cannot be imported: {error}.") from None
    return getattr(module, attribute, None)
