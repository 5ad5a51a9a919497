import pytest

pytest.register_assert_rewrite(
    *(f"tests.faults.{name}" for name in ("disks", "files", "pipeline", "processes", "servers"))
)
