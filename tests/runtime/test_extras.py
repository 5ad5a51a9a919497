"""The error for a missing optional dependency contains the command to install it."""

import pytest

from cclm_core.runtime.errors import MissingExtraError
from cclm_core.runtime.extras import require


def test_the_error_for_a_missing_package_contains_its_extra() -> None:
    require("numpy", "core")
    with pytest.raises(
        MissingExtraError, match=r"no_such_module is not installed\. Run `pip install 'cclm-core\[some\]'`"
    ):
        require("no_such_module", "some")
