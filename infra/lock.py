"""Writes the lock files: `python infra/lock.py` (`make lock`). Needs `uv` and a package index.

```
requirements.lock       what `cclm` needs to run: exact versions with SHA-256 hashes
requirements-dev.lock   in addition, for tests, linters, documentation and signing; also with hashes
requirements-torch.txt  the version of torch, without a hash: its build depends on the machine (CPU, CUDA, your own)
```

Options are passed on to `uv pip compile`, for example `--upgrade-package mlflow` or `--find-links FOLDER`.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUNTIME, DEVELOPMENT = ("pipeline", "stack"), ("test", "lint", "docs", "signing")
# torch, and what only its CUDA build needs.
TORCH = re.compile(r"torch|triton|nvidia-.*|cuda-.*")
ENTRY = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)(?: \\\n +--hash=\S+)+$", re.MULTILINE)


def compiled(extras: tuple[str, ...], constraints: str, options: list[str]) -> dict[str, str]:
    """Package name -> its entry in a lock file, with hashes.

    Args:
        extras: extras of pyproject.toml.
        constraints: lines `name==version` that the solution must keep.
        options: of `uv pip compile`.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(constraints)
        file.flush()
        command = ["uv", "pip", "compile", "pyproject.toml", "--quiet", "--generate-hashes", "--no-annotate"]
        command += ["--no-header", "--python-version", "3.11", "--constraints", file.name, *options]
        command += [word for extra in extras for word in ("--extra", extra)]
        output = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    return {match[1]: match[0] for match in ENTRY.finditer(output)}


def versions(path: Path) -> str:
    """The lines `name==version` of a lock file; "" if it does not exist."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return "".join(f"{line}\n" for line in re.findall(r"^[A-Za-z0-9._-]+==[^ \\\n]+", text, re.MULTILINE))


def main(options: list[str]) -> None:
    """Writes the files; versions of the present ones are kept if possible."""
    lock, dev, torch = (ROOT / f"requirements{name}" for name in (".lock", "-dev.lock", "-torch.txt"))
    pinned = "".join(versions(path) for path in (lock, dev, torch))
    runtime = compiled(RUNTIME, pinned, options)
    everything = compiled(RUNTIME + DEVELOPMENT, pinned, options)
    changed = [name for name in runtime if everything[name] != runtime[name]]
    assert not changed, f"the tools for development need other versions of {', '.join(changed)}"
    head = "# Written by `make lock` from pyproject.toml. Install with --require-hashes --no-deps; torch: {}.\n"
    kept = {name: entry for name, entry in everything.items() if not TORCH.fullmatch(name)}
    for path, entries in (
        (lock, [entry for name, entry in kept.items() if name in runtime]),
        (dev, [entry for name, entry in kept.items() if name not in runtime]),
    ):
        path.write_text(head.format(torch.name) + "\n".join(entries) + "\n", encoding="utf-8")
    number = runtime["torch"].partition("==")[2].partition(" ")[0].partition("+")[0]
    torch.write_text(
        f"# Without a hash, because its build depends on the machine.\ntorch=={number}\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
