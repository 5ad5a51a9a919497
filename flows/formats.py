"""How numbers, durations and sizes are shown to people."""

# Better direction of a metric -> the sign next to its name.
ARROWS = {"higher": "↑", "lower": "↓", None: ""}


def format_number(value: float) -> str:
    """Three significant digits; large numbers in thousands or millions.

    >>> [format_number(value) for value in (0.58964, 2.7461, 384, 1234.5, 61152, 1234567)]
    ['0.590', '2.75', '384', '1,234', '61.2 k', '1.23 M']
    """
    size = abs(value)
    if size >= 999_500:
        return f"{value / 1e6:.3g} M"
    if size >= 1e4:
        return f"{value / 1e3:.3g} k"
    if size >= 99.95 or float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".")


def format_seconds(seconds: float) -> str:
    """A duration in seconds, minutes or hours.

    >>> [format_seconds(seconds) for seconds in (0, 0.42, 8.31, 59.7, 75, 3725)]
    ['0 s', '0.4 s', '8.3 s', '1 min', '1 min 15 s', '1 h 2 min']
    """
    if 0 < seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours} h" + (f" {minutes} min" if minutes else "")


def format_megabytes(megabytes: float) -> str:
    """An amount of memory, given in megabytes.

    >>> [format_megabytes(megabytes) for megabytes in (312.4, 2150)]
    ['312 MB', '2.1 GB']
    """
    return f"{megabytes:.0f} MB" if megabytes < 1000 else f"{megabytes / 1024:.1f} GB"
