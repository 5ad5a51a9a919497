"""A process that has run no code of a user yet."""

import pytest

from cclm_core.runtime import blocks, own_code


def forget_own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes this process like a new one: no block is known, and no file has run. The fixture undoes it."""
    monkeypatch.setattr(blocks, "_BLOCKS", {})
    monkeypatch.setattr(own_code, "_RAN", {})
    monkeypatch.delenv(own_code.TRUST_VARIABLE, raising=False)
