"""The command `cclm noise`."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cclm_core.cli.app import app
from cclm_core.cli.noise import SENTENCE, colored, every_kind, read_recipe
from cclm_core.noise.kinds import CATALOGUE
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.noise.text import TextNoiser
from cclm_core.runtime.errors import ConfigError, DataError


def run(*arguments: str, stdin: str | None = None) -> str:
    result = CliRunner().invoke(app, ["noise", *arguments], input=stdin)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_every_kind_is_listed_with_an_example() -> None:
    output = run("--every-kind", "--seed", "1")
    versions = dict(every_kind(SENTENCE, 1, {"their": {"thier": 1}}))
    # Other tests of the process may have registered kinds of their own.
    own = {name: text for name, text in versions.items() if name in CATALOGUE}
    assert list(own) == list(CATALOGUE)
    assert len({SENTENCE, *own.values()}) == len(own) + 1
    assert all(name in output for name in CATALOGUE)
    assert "Thier" in output and "recieved" in output  # the default misspellings of the sample


def test_noise_follows_the_recipe(tmp_path: Path) -> None:
    assert run("abc", "--recipe", "{rate: 1, kinds: [duplicate]}") == "aabbcc\n"
    assert run("-", "--recipe", "{rate: 1, kinds: [drop]}", stdin="a b") == " \n"
    (tmp_path / "recipe.yaml").write_text("rate: 1\nkinds: [case]\n")
    assert run("abc", "--recipe", str(tmp_path / "recipe.yaml"), "--times", "2") == "ABC\nABC\n"
    (tmp_path / "list.txt").write_text("teh->the\n")
    options = ("--misspellings", str(tmp_path / "list.txt"))
    assert run("The", "--recipe", "{rate: 1, kinds: [misspelling]}", *options) == "Teh\n"
    described = json.loads(run("ab", "--recipe", "{rate: 1, kinds: [swap]}", "--json"))
    assert described == {
        "text": "ba",
        "source": [1, 0],
        "edits": [{"position": 0, "kind": "swap", "consumes": 2, "emits": 2}],
    }


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("{rat: 1}", "--recipe: rat is not a known key; did you mean 'rate'?"),
        ("rate", "must be a mapping"),
        ("{rate: [", "YAML"),
        ("missing.yaml", "missing.yaml not found"),
    ],
)
def test_wrong_recipes(recipe: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        read_recipe(recipe)


def test_colored_text_contains_both_texts() -> None:
    noiser = TextNoiser(NoiseRecipe(rate=0.5, kinds=list(CATALOGUE)), {"the": {"teh": 1}})
    text = "the modern house is not the old one 10"
    for seed in range(40):
        noised = noiser(text, np.random.default_rng(seed))
        shown = colored(text, noised)
        red = {index for span in shown.spans if "red" in str(span.style) for index in range(span.start, span.end)}
        green = {index for span in shown.spans if "green" in str(span.style) for index in range(span.start, span.end)}
        assert "".join(character for index, character in enumerate(shown.plain) if index not in red) == noised.text
        assert "".join(character for index, character in enumerate(shown.plain) if index not in green) == text


def test_long_lines_are_not_wrapped_without_a_terminal() -> None:
    assert run("x" * 500, "--recipe", "{rate: 0}") == "x" * 500 + "\n"


def test_brackets_of_a_text_are_no_markup() -> None:
    assert "[/nope] and on" in run("--every-kind", "[/nope] and on")
    assert "[@12345]" in run("--every-kind", "see [@12345] there")


def test_control_characters_are_escaped_in_tables_and_json() -> None:
    text = "hi \x1b]0;owned\x07 \x9b31m"
    assert "\x1b" not in run("--every-kind", text)
    shown = run(text, "--recipe", "{rate: 0}", "--json")
    assert "\x9b" not in shown and json.loads(shown)["text"] == text
    assert run(text, "--recipe", "{rate: 0}") == text + "\n"  # a pipe gets the text itself
    shown_in_color = colored(text, TextNoiser(NoiseRecipe(rate=0))(text, np.random.default_rng(1)))
    assert shown_in_color.plain == "hi \\x1b]0;owned\\x07 \\x9b31m"


def test_what_a_list_cannot_give_is_told(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("teh->the\nx1->y1\n")
    arguments = ["noise", "the", "--recipe", "{rate: 1, kinds: [misspelling]}"]
    result = CliRunner().invoke(app, [*arguments, "--misspellings", str(tmp_path / "list.txt")])
    assert result.stdout == "teh\n"
    assert "1 of 2 entries are not used; line 2: 'y1' is not one word of letters" in result.stderr


def test_arguments_and_input_that_cannot_be_used() -> None:
    assert CliRunner().invoke(app, ["noise", "a", "--seed", "-1"]).exit_code == 2
    result = CliRunner().invoke(app, ["noise", "-"], input=b"fine\nna\xefve\n")
    assert isinstance(result.exception, DataError)
    assert str(result.exception).startswith("standard input must be UTF-8, but byte 3 of line 2 is not.")
