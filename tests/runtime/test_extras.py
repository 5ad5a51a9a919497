"""A missing optional dependency is an error with the command that installs it."""

import pytest

from cclm_core.runtime.errors import MissingExtraError
from cclm_core.runtime.extras import require


def test_what_is_installed_passes_and_what_is_not_names_its_extra() -> None:
    require("numpy", "core")
    with pytest.raises(MissingExtraError, match=r"no_such_module is not installed\. Run `pip install 'cclm\[some\]'`"):
        require("no_such_module", "some")
