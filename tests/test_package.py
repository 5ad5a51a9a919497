"""The package itself: its version, its public names, and how objects describe themselves."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import cclm_core
from cclm_core.runtime.errors import ConfigError, DataError
from cclm_core.text.vocabulary import Preprocessor

ROOT = Path(__file__).parents[1]


def test_the_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert cclm_core.__version__ == project.get("version", cclm_core.__version__)
    assert cclm_core.__version__.count(".") == 2


def test_dir_lists_the_public_names_without_importing_them() -> None:
    code = (
        "import cclm_core, sys; print(*dir(cclm_core)); assert not {'torch', 'numpy', 'pyarrow'} & sys.modules.keys()"
    )
    names = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert {*cclm_core.__all__, "__version__"} <= set(names)
    assert all(hasattr(cclm_core, name) for name in cclm_core.__all__)


def test_a_vocabulary_describes_itself() -> None:
    assert repr(Preprocessor().fit(["abc"])) == "Preprocessor(3 characters, 263 ids, max_length None)"


def test_arguments_of_a_vocabulary_are_checked() -> None:
    assert Preprocessor({"min_count": 2}).config.min_count == 2
    with pytest.raises(ConfigError, match="`config` must be a VocabularyConfig, got 512"):
        Preprocessor(512)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="`alphabet` must be a string, got list"):
        Preprocessor(alphabet=["a"])  # type: ignore[arg-type]
    preprocessor = Preprocessor(alphabet="ab")
    for length in (-1, True, 2.5, "3", 1 << 60):
        with pytest.raises(ConfigError, match="`length` must be an integer from 0 to"):
            preprocessor.string_to_array("ab", length)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="lists of different lengths"):
        preprocessor.decode([[260], [260, 261]])  # type: ignore[list-item]
    with pytest.raises(DataError, match="a batch must have at most 4,294,967,296 ids, got"):
        preprocessor.encode_batch(["a" * 70_000] + [""] * 70_000)
