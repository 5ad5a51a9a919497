"""Check of installed versions that are known not to work together although the installer accepts them."""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from flows.doctor.finding import Finding, Inspection

# Tested with Prefect 3.8.8. pyproject.toml has the same bounds, but installing another package may exceed them.
BROKEN_FROM = {
    "fastapi": ((0, 155), "no flow and no server of Prefect 3.8 starts"),
    "sqlalchemy": ((2, 1), "Prefect's scheduled runs silently never fire"),
}


def check(inspection: Inspection) -> Iterator[Finding]:  # noqa: ARG001
    """Yields a finding for each package that is too new."""
    for package, (bound, effect) in BROKEN_FROM.items():
        try:
            installed = version(package)
        except PackageNotFoundError:
            continue
        if is_broken(package, installed):
            limit = ".".join(map(str, bound))
            yield Finding(
                subject=f"{package} {installed}",
                problem=f"with {limit} and later, {effect}",
                remedy=f"install {package} before {limit}, e.g. `pip install -r requirements.lock`",
            )


def is_broken(package: str, installed: str) -> bool:
    """Whether a version is known not to work.

    >>> is_broken("sqlalchemy", "2.1.9"), is_broken("sqlalchemy", "2.0.58")
    (True, False)
    """
    numbers = tuple(int(part) for part in installed.split(".")[:2] if part.isdigit())
    return numbers >= BROKEN_FROM[package][0]
