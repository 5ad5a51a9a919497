"""The blocks of docs/huggingface.md run as written, one after the other, and so do the examples of docstrings."""

import doctest
import importlib
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="needs transformers: pip install 'cclm-core[huggingface]'")

PAGE = Path(__file__).parents[2] / "docs" / "huggingface.md"


@pytest.mark.parametrize("name", ["remote_code", "tokenizer", "words"])
def test_examples_of_docstrings(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"cclm_core.huggingface.{name}"))
    assert result.attempted and not result.failed


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    variables: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S):
        exec(compile(block, str(PAGE), "exec"), variables)
    printed = capsys.readouterr().out
    for line in (
        "['input_ids', 'token_type_ids', 'attention_mask']",
        "[0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]",
        "café 🙂",
        "Ann Lee sings [1, 2, 2, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0]",
        "['B-PER', 'I-PER', 'O']",
    ):
        assert line in printed
    assert {answer["label"] for answer in variables["classify"](["is it?"])} <= {"question", "statement"}
    assert type(variables["shared"]).__name__ == "CclmForMaskedLM"
