"""What was fetched: one folder for each version of an item, complete and verified, or not there at all.

```
<cache>/<identifier>/<item type>/<digest>/card.json   the card as it was published
                                          card.sig    its signature, where there is one
                                          CARD.md     the card for people
                                          item/       the item's files
<cache>/.shelf/records/                               which digest a tag stands for
<cache>/.shelf/work/                                  what is being fetched; nobody reads there
```
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from cclm_core.runtime.config import canonical_json, digest
from cclm_core.runtime.errors import IntegrityError
from cclm_core.shelf.contents import check
from cclm_core.shelf.history import CARD, FILES, SIGNATURE, Entry, read_card

README = "CARD.md"


@dataclass(frozen=True)
class Record:
    """What a name stood for when it was fetched.

    Attributes:
        digest: of the item's card.
        commit: of the shelf.
        moves: whether the name can stand for something else by now.
    """

    digest: str
    commit: str
    moves: bool


class Cache:
    """A folder of fetched items, shared by any number of processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder = folder.absolute()  # DVC runs in another folder
        self._records, self._work = folder / ".shelf" / "records", folder / ".shelf" / "work"

    def place(self, identifier: str, item_type: str, digest: str) -> Path:
        """Where a version of an item is, once it was fetched."""
        return self.folder / identifier / item_type / digest

    def entry(self, identifier: str, item_type: str, digest: str) -> Entry:
        """A version of an item that was fetched, after every byte of it was compared with its card.

        Raises:
            IntegrityError: it was altered; it is taken out of the cache.
        """
        place = self.place(identifier, item_type, digest)
        try:
            return self._checked(place, identifier, item_type)
        except IntegrityError as error:
            with self.work() as work:
                place.rename(work / "altered")
            raise IntegrityError(
                f"{error} The copy in the cache was altered after it was fetched, and was taken out; fetch it again."
            ) from None

    def install(self, entry: Entry, staged: Path) -> None:
        """Gives a complete item its place; where another process was faster, its copy stays.

        Args:
            entry: the item's card.
            staged: a folder in `work` with the item's verified files in `item`; it is moved.
        """
        (staged / CARD).write_bytes(entry.card_bytes)
        (staged / README).write_text(entry.card.to_markdown(), encoding="utf-8")
        if entry.signature is not None:
            (staged / SIGNATURE).write_bytes(entry.signature)
        _flush(staged)
        place = self.place(entry.card.identifier, entry.card.item_type, entry.card.digest)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            staged.rename(place)
        except OSError:
            if not place.is_dir():
                raise
        _flush(place.parent)

    def replace_signature(self, entry: Entry) -> None:
        """Puts the signature of a shelf beside a card that was fetched with another one, or with none."""
        assert entry.signature is not None
        place = self.place(entry.card.identifier, entry.card.item_type, entry.card.digest)
        with self.work() as work:
            (work / SIGNATURE).write_bytes(entry.signature)
            (work / SIGNATURE).replace(place / SIGNATURE)

    def record(self, shelf: str, name: str, identifier: str, item_type: str) -> Record | None:
        """What a name stood for when it was fetched last, None if it never was."""
        try:
            value = json.loads(self._record_path(shelf, name, identifier, item_type).read_bytes())
            return Record(str(value["digest"]), str(value["commit"]), bool(value["moves"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            raise IntegrityError(
                f"the records in {self._records} must be as they were written; they are damaged. Remove that folder."
            ) from None

    def remember(self, shelf: str, name: str, identifier: str, item_type: str, record: Record, work: Path) -> None:
        """Keeps what a name stands for; it is written in `work` first, then moved."""
        path = self._record_path(shelf, name, identifier, item_type)
        path.parent.mkdir(parents=True, exist_ok=True)
        value = {"digest": record.digest, "commit": record.commit, "moves": record.moves}
        (work / "record").write_text(canonical_json(value) + "\n", encoding="utf-8")
        (work / "record").replace(path)

    @contextmanager
    def work(self) -> Iterator[Path]:
        """A private folder for one fetch, on the disk of the cache; what killed processes left behind is removed."""
        self._work.mkdir(parents=True, exist_ok=True)
        with FileLock(self._work / "lock"):  # nobody may take a new folder for an abandoned one
            self._sweep()
            folder = Path(tempfile.mkdtemp(dir=self._work))  # closed to other users
            own = FileLock(folder.with_suffix(".lock"))
            own.acquire()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            own.release()
            Path(own.lock_file).unlink(missing_ok=True)

    def _sweep(self) -> None:
        for folder in self._work.iterdir():
            if folder.is_dir():
                lock = FileLock(folder.with_suffix(".lock"), timeout=0)
                try:
                    with lock:
                        shutil.rmtree(folder, ignore_errors=True)
                    Path(lock.lock_file).unlink(missing_ok=True)
                except Timeout:
                    continue  # its process lives
        for lock_file in self._work.glob("*.lock"):
            if not lock_file.with_suffix("").exists():
                lock_file.unlink(missing_ok=True)

    def _checked(self, place: Path, identifier: str, item_type: str) -> Entry:
        names = {path.name for path in place.iterdir()}
        if names - {SIGNATURE} != {CARD, README, FILES} or (place / FILES).is_symlink():
            raise IntegrityError(
                f"{identifier}/{item_type} must hold {CARD}, {README} and {FILES}, got {sorted(names)}."
            )
        if any((place / name).is_symlink() for name in names):
            raise IntegrityError(f"{identifier}/{item_type} must hold no link.")
        content = (place / CARD).read_bytes()
        card = read_card(content, identifier, item_type)
        if card.digest != place.name:
            raise IntegrityError(f"the card of {identifier}/{item_type} must have the digest {place.name}.")
        if (place / README).read_text(encoding="utf-8", errors="replace") != card.to_markdown():
            raise IntegrityError(
                f"{README} of {identifier}/{item_type} is altered: it does not say what the card says."
            )
        check(place / FILES, card.files)
        return Entry(card, content, (place / SIGNATURE).read_bytes() if SIGNATURE in names else None)

    def _record_path(self, shelf: str, name: str, identifier: str, item_type: str) -> Path:
        return self._records / f"{digest([shelf, name, identifier, item_type])}.json"


def _flush(folder: Path) -> None:
    """Brings what stands in a folder to the disk; the item's own files were flushed when they were copied."""
    for path in [*(entry for entry in folder.iterdir() if entry.is_file()), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
