"""How the direction of a metric and an amount of memory are shown; numbers and durations: `runtime.reporting`."""

# Better direction of a metric -> the sign next to its name.
ARROWS = {"higher": "↑", "lower": "↓", None: ""}


def format_megabytes(megabytes: float) -> str:
    """An amount of memory, given in megabytes.

    >>> [format_megabytes(megabytes) for megabytes in (312.4, 2150)]
    ['312 MB', '2.1 GB']
    """
    return f"{megabytes:.0f} MB" if megabytes < 1000 else f"{megabytes / 1024:.1f} GB"
