"""Check for package versions that the installer accepts but that do not work together."""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from flows.doctor.finding import Finding, Inspection

# Tested with Prefect 3.8.8. pyproject.toml has the same bounds, but installing another package can exceed them.
BROKEN_FROM = {
    "fastapi": ((0, 155), "flows and servers of Prefect 3.8 do not start"),
    "sqlalchemy": ((2, 1), "Prefect's scheduled runs silently never start"),
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
                problem=f"with {limit} or later, {effect}",
                remedy=f"install a version before {limit}: `pip install -r requirements.lock`",
            )


def is_broken(package: str, installed: str) -> bool:
    """Whether this version of a package does not work.

    >>> is_broken("sqlalchemy", "2.1.9"), is_broken("sqlalchemy", "2.0.58")
    (True, False)
    """
    numbers = tuple(int(part) for part in installed.split(".")[:2] if part.isdigit())
    return numbers >= BROKEN_FROM[package][0]
