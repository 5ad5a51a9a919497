"""Imports functions that the configuration names as `module:function`.

Naming a function runs code: every process that works on the corpus imports its module, from the current folder or the
environment.
"""

import importlib
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from cclm_core.runtime.errors import ConfigError


@cache
def named_function(name: str) -> Callable[..., Any]:
    """Returns the function `name`, for example `my_cleaning:without_signatures`.

    Raises:
        ConfigError: the name is not `module:function`, or the module or function does not exist.
    """
    function = _attribute(name)
    if not callable(function):
        module_name, _, function_name = name.partition(":")
        raise ConfigError(f"{name}: function {function_name!r} not found in module {module_name!r}. Check the name.")
    return function  # type: ignore[no-any-return]


def sibling_function(name: str, sibling: str) -> Callable[..., Any] | None:
    """Returns the function `sibling` of the module that defines the function `name`; None if the module has none.

    Raises:
        ConfigError: `name` is not `module:function`, or the module does not exist.
    """
    function = _attribute(f"{name.partition(':')[0]}:{sibling}")
    return function if callable(function) else None


def _attribute(name: str) -> Any:
    module_name, separator, attribute = name.partition(":")
    if not separator or not module_name or not attribute:
        raise ConfigError(f"name a function as module:function, got {name!r}.")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(
            f"{name}: cannot import module {module_name!r}: {error}. It must be in the current folder or installed."
        ) from None
    return getattr(module, attribute, None)
