"""A log file that stays small: when it is full it becomes `NAME.1`, and that `NAME.2`, up to a number of old ones."""

from pathlib import Path

MAX_BYTES = 10_000_000
NUM_OLD = 3


class RotatingLog:
    """Appends bytes to a file.

    Args:
        max_bytes: of the file, before it is put aside.
        num_old: how many that were put aside are kept.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES, num_old: int = NUM_OLD) -> None:
        self.path, self.max_bytes, self.num_old = path, max_bytes, num_old
        path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, data: bytes) -> None:
        """Appends `data`; opened for each write, so that a file that someone took away is made anew."""
        if self.path.is_file() and self.path.stat().st_size + len(data) > self.max_bytes:
            self._rotate()
        with self.path.open("ab") as stream:
            stream.write(data)

    def _rotate(self) -> None:
        names = [self.path, *(self.path.with_name(f"{self.path.name}.{n}") for n in range(1, self.num_old + 1))]
        for older, newer in zip(reversed(names), list(reversed(names))[1:], strict=False):
            if newer.is_file():
                newer.replace(older)


def tail(path: Path, num_lines: int) -> str:
    """The last lines of a log; empty where there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 20_000))
        lines = stream.read().decode(errors="replace").splitlines()
    return "\n".join(lines[-num_lines:])
