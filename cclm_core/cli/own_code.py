"""The options `--code` and `--trust-code` of all commands that read a model or use building blocks."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from cclm_core.runtime.own_code import OwnCode, trust_code

_OPTIONS = {
    "own_code": Annotated[
        list[str] | None,
        typer.Option(
            "--code",
            metavar="FILE",
            help="Python file with building blocks of your own, which is run first. Repeatable.",
        ),
    ],
    "trusts_code": Annotated[
        bool,
        typer.Option(
            "--trust-code", help="Run the code that a model carries, if it uses building blocks of somebody else."
        ),
    ],
}


def runs_own_code(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options `--code` and `--trust-code` to a command: a decorator, below that of Typer."""

    @wraps(command)
    def run(*args: Any, own_code: list[str] | None = None, trusts_code: bool = False, **options: Any) -> Any:
        """The command, after the files of `--code` have run."""
        if trusts_code:
            trust_code()
        for path in own_code or ():
            OwnCode.read(path).run()
        return command(*args, **options)

    signature = inspect.signature(command, eval_str=True)
    added = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=None if name == "own_code" else False, annotation=annotation
        )
        for name, annotation in _OPTIONS.items()
    ]
    # Typer reads the signature and the annotations.
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *added])  # type: ignore[attr-defined]
    run.__annotations__ = {**inspect.get_annotations(command, eval_str=True), **_OPTIONS}
    return run
