"""Functions of the user's own, named as `module:function` in the configuration.

Naming one runs the user's code: the module is imported, from the folder where the command runs or from the
environment, in every process that works on the corpus.
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
        ConfigError: the name is not of that form, or there is no such module or function.
    """
    module_name, separator, function_name = name.partition(":")
    if not separator or not module_name or not function_name:
        raise ConfigError(f"a function must be named as module:function, got {name!r}.")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(f"{name}: the module {module_name!r} cannot be imported: {error}.") from None
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ConfigError(f"{name}: the module {module_name!r} must have a function {function_name!r}; it has none.")
    return function  # type: ignore[no-any-return]
