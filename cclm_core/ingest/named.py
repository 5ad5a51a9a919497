"""Imports functions that the configuration names as `module:function`.

Naming a function runs code: every process that works on the corpus imports its module, from the current folder or the
environment.
"""

import importlib
import sys
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from cclm_core.runtime.errors import CclmError, ConfigError, DataError


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


def call(function: Callable[..., Any], name: str, *arguments: Any) -> Any:
    """Calls your own function.

    Args:
        function: the function.
        name: its name in messages.
        arguments: what it is called with.

    Raises:
        DataError: it raised an exception that is not an error of CCLM; the message has its kind, text and line.
    """
    try:
        return function(*arguments)
    except CclmError:
        raise
    except Exception as error:
        raise own_code_error(name, error, f"{arguments[0]!r:.80}" if arguments else "no argument") from error


def own_code_error(name: str, error: Exception, given: str) -> DataError:
    """Returns the error for your own function that raised `error` for what was `given`."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}, line {frame.lineno}"
    return DataError(f"{name} raised {type(error).__name__}: {error} ({place}) for {given}. Correct the function.")


def _attribute(name: str) -> Any:
    module_name, separator, attribute = name.partition(":")
    if not separator or not module_name or not attribute:
        raise ConfigError(f"name a function as module:function, got {name!r}.")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # importing runs your code
        reason = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
        raise ConfigError(
            f"{name}: cannot import module {module_name!r}: {reason}. It must be in the current folder or installed."
        ) from error
    return getattr(module, attribute, None)
