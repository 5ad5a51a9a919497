"""Names of cclm 0.1.2: those that still work, and errors that name the replacement of the others.

```
@old_arguments(aliases={"models": "components"}, hints={"prefix": "leave it out"})
def __init__(self, base, components): ...         an argument of 0.1.2 works, or raises OldArgumentError

def __getattr__(self, name):                      an attribute of 0.1.2 raises OldAttributeError
    raise old_attribute(self, name, {"char_dict": "use `encode`"})

__getattr__ = old_names(__name__)                 a name of a module of 0.1.2 raises OldImportError
```

Each error is also the error that Python raises for such a name, so `hasattr` and `except ImportError` work. The whole
list is in docs/migrating.md.
"""

from collections.abc import Callable, Mapping
from functools import wraps
from importlib.abc import MetaPathFinder
from typing import Any, ParamSpec, TypeVar

from cclm_core.runtime.errors import CclmError, ConfigError

PAGE = "docs/migrating.md"

_ENCODERS = "configure an encoder of `cclm_core.encoders` instead; see docs/encoders.md"
_CALLBACK = "write `fit(..., callback=function)`"
_PLAIN = "write a function `callback(step, values)` and pass it to `fit`"

NAMES = {
    "CLMaskPretrainer": "import CharacterMaskPretrainer from `cclm_core`",
    "BasePretrainer": "import CharacterMaskPretrainer from `cclm_core`",
    "CausalPretrainer": "import CausalLanguagePretrainer from `cclm_core`",
    "CausalLMPretrainer": "import CausalLanguagePretrainer from `cclm_core`",
    "CCLMModelBase": "import Embedder from `cclm_core`",
    "MLMPreprocessor": "import Preprocessor from `cclm_core`",
    "MLMTrainingLogger": _CALLBACK,
    "CLMaskPretrainerEvaluationCallback": _PLAIN,
    "BasePretrainerEvaluationCallback": _PLAIN,
    "EvaluationCallback": _PLAIN,
    "PrinterCallback": _PLAIN,
    "rev": "write `prep.decode(ids)`",
    "zero_out_zero_embedding": "leave it out, because padding has no features",
    "CONST_FUNCTION": 'write "function"',
    "CONST_PROBABILITY": 'write "probability"',
    **dict.fromkeys(
        (
            "TransformerBlock",
            "GlobalBroadcaster1D",
            "PositionEmbedding",
            "TokenAndPositionEmbedding",
            "MultiHeadSelfAttention",
            "get_character_embedder",
            "get_block",
        ),
        _ENCODERS,
    ),
}
"""Names of classes and functions of cclm 0.1.2 that no longer exist."""

P = ParamSpec("P")
R = TypeVar("R")


class OldArgumentError(ConfigError, TypeError):
    """An argument of cclm 0.1.2 that no longer exists."""


class OldAttributeError(CclmError, AttributeError):
    """An attribute of cclm 0.1.2 that no longer exists."""


class OldImportError(CclmError, ImportError):
    """A module or name of cclm 0.1.2 that no longer exists."""


def old_arguments(
    aliases: Mapping[str, str] | None = None, hints: Mapping[str, str] | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator for functions that had other arguments in cclm 0.1.2. Type checkers see the same signature as before.

    Args:
        aliases: old name -> new name, where the value means the same.
        hints: old name -> what to write instead.

    Raises:
        OldArgumentError: when called with an argument in `hints`, or with an argument under both names.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        """Wraps `function`."""

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            """Translates the old arguments."""
            if kwargs:
                _refuse(function.__qualname__, kwargs, hints or {})
                _rename(function.__qualname__, kwargs, aliases or {})
            return function(*args, **kwargs)

        return call

    return decorate


class OldModules(MetaPathFinder):
    """Explains imports of `cclm`, the package of cclm 0.1.2, unless it is installed.

    `cclm_core` appends it to `sys.meta_path`: the last finder is asked only for modules that no other one has.
    """

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:  # noqa: ARG002
        """Raises OldImportError for `cclm` and its modules; finds no other module."""
        if fullname.partition(".")[0] == "cclm":
            raise OldImportError(
                f"there is no module `{fullname}`: import from `cclm_core`, for example `from cclm_core import "
                f"Preprocessor`. See {PAGE}."
            )


def old_attribute(owner: object, name: str, hints: Mapping[str, str]) -> AttributeError:
    """The error for a missing attribute, with a hint for attributes of cclm 0.1.2."""
    kind = type(owner).__name__
    if name in hints:
        return OldAttributeError(f"{kind} has no `{name}` any more: {hints[name]}. See {PAGE}.")
    return AttributeError(f"{kind!r} object has no attribute {name!r}", name=name, obj=owner)


def old_names(module: str, hints: Mapping[str, str] = NAMES) -> Callable[[str], Any]:
    """The `__getattr__` of a module: raises the error for a missing name, with a hint for names of cclm 0.1.2."""

    def get(name: str) -> Any:
        """Raises: there is no such name."""
        if name in hints:
            raise OldImportError(f"{module} has no `{name}` any more: {hints[name]}. See {PAGE}.")
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return get


def _refuse(function: str, kwargs: Mapping[str, Any], hints: Mapping[str, str]) -> None:
    owner = function.removesuffix(".__init__")
    for name in kwargs:
        if name in hints:
            raise OldArgumentError(f"{owner} has no argument `{name}` any more: {hints[name]}. See {PAGE}.")


def _rename(function: str, kwargs: dict[str, Any], aliases: Mapping[str, str]) -> None:
    for old, new in aliases.items():
        if old in kwargs:
            if new in kwargs:
                owner = function.removesuffix(".__init__")
                raise OldArgumentError(f"{owner}: `{old}` is the old name of `{new}`. Pass one of them.")
            kwargs[new] = kwargs.pop(old)
