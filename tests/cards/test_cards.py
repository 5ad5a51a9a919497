"""The template of model cards: complete, readable by model hubs, and safe against markup in its facts."""

import doctest
import json
from pathlib import Path

import pytest
import yaml

from cclm_core.cards import Facts, Score, facts_of, render, template, write_card
from cclm_core.runtime.artifacts import publishing, write_json, write_text
from cclm_core.runtime.errors import ArtifactError

DIGEST = "d" * 64


def evaluated(folder: Path) -> Path:
    """A folder of results as the stage `evaluate` writes it."""
    folder.mkdir()
    baseline = {"name": "majority", "value": 0.25}
    metrics = {
        "accuracy": {
            "value": 0.912345,
            "better": "higher",
            "interval": [0.9, 0.92],
            "documents": 1200,
            "labels": 3,
            "baselines": [baseline],
            "headline": True,
        },
        "accuracy_typos": {"value": 0.5, "better": "higher", "headline": False},
        "documents/accuracy": {"value": 1200},
    }
    write_json(
        folder / "evaluation.json",
        {"metrics": metrics, "skipped": {"tags": "no entity labels"}, "warnings": ["few test documents"]},
    )
    write_text(
        folder / "noise_curve.csv",
        "rate,accuracy,documents/accuracy,other\n0.0,0.91,1200,1\n0.1,0.85,1200,2\n",
    )
    return folder


def published(folder: Path) -> Path:
    with publishing(folder, "component") as writing:
        write_json(writing / "metrics.json", {"held_out_bits": 1.5, "parameters": 10})
        card = {"stage": "pretrain", "name": "words", "seed": 7, "data": DIGEST, "configuration": {"width": 64}}
        write_json(writing / "card.json", card)
    return folder


def test_a_card_has_everything_that_the_folders_have(tmp_path: Path) -> None:
    facts = facts_of(
        published(tmp_path / "words"),
        "component",
        evaluated(tmp_path / "results"),
        description="Predicts words.",
        license="Apache-2.0",
        limits=["English only."],
        usage="run()",
    )
    card = render(facts)
    assert card.startswith("# words\n\nPredicts words.\n\n|  |  |\n| --- | --- |\n| type | component |\n")
    for part in (
        "| license | Apache-2.0 |",
        "| seed | 7 |",
        "```python\nrun()\n```",
        "| accuracy | 0.9123 | 0.9 to 0.92 | higher | 1,200 | majority 0.25 |",
        "| noise rate | accuracy |\n| --- | --- |\n| 0.0 | 0.91 |\n| 0.1 | 0.85 |",
        "* English only.",
        "* Few test documents.",
        "* Not measured: tags (no entity labels).",
        "| held_out_bits | 1.5 |",
        f"| data | {DIGEST} |",
        '"width": 64',
    ):
        assert part in card, part
    assert "accuracy_typos" not in card and "| files |" in card
    sections = [line for line in card.splitlines() if line.startswith("## ")]
    assert sections == [
        f"## {title}"
        for title in ("Use", "Scores", "Under noise", "Limits", "Metrics", "Data and origin", "Configuration")
    ]


def test_what_is_unknown_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    card = render(facts_of(tmp_path / "bare", "embedder"))
    assert card == "# bare\n\n|  |  |\n| --- | --- |\n| type | embedder |\n| license | not stated |\n"
    with pytest.raises(ArtifactError, match=r"evaluation.json not found in .*bare"):
        facts_of(tmp_path / "bare", "embedder", tmp_path / "bare")
    write_text(tmp_path / "bare" / "card.json", "[1]")
    with pytest.raises(ArtifactError, match=r"card.json must contain a JSON object, got \[1\]"):
        facts_of(tmp_path / "bare", "embedder")


@pytest.mark.parametrize(
    ("license", "expected"),
    [
        ("MIT", {"license": "mit"}),
        ("", {"license": "unknown"}),
        ("My: own\n- license", {"license": "other", "license_name": "My: own\n- license"}),
    ],
)
def test_the_front_matter_is_yaml(license: str, expected: dict[str, str]) -> None:
    facts = Facts(name="x", kind="model", license=license, tags=("a: b", "c"), pipeline="fill-mask")
    _, front, rest = render(facts, front_matter=True).split("---\n", 2)
    other = {"library_name": "transformers", "pipeline_tag": "fill-mask", "tags": ["a: b", "c"]}
    assert yaml.safe_load(front) == expected | other
    assert rest.startswith("\n# x\n")


def test_examples_of_docstrings() -> None:
    result = doctest.testmod(template)
    assert result.attempted and not result.failed


def test_facts_cannot_become_markup() -> None:
    hostile = "a|b\n# heading <script> [x](y) \x1b[2J"
    facts = Facts(
        name=hostile,
        kind=hostile,
        description=hostile,
        license=hostile,
        limits=[hostile],
        scores={hostile: Score(value=1.0)},
        digests={hostile: hostile},
        configuration={"text": "```\n# heading\x1b"},
    )
    card = render(facts)
    assert "\n# heading" not in card and "<script" not in card.replace("\\<", "") and "\x1b" not in card
    assert json.loads(card.split("```json\n")[1].split("\n```")[0])["text"] == "```\n# heading\x1b"


def test_a_published_folder_has_its_card(tmp_path: Path) -> None:
    cards = []
    for name in ("one", "two"):
        with publishing(tmp_path / name, "embedder") as folder:
            write_json(folder / "card.json", {"stage": "base", "seed": 1, "data": DIGEST})
            write_json(folder / "metrics.json", {"parameters": 5})
            write_card(folder, "embedder")
        cards.append((tmp_path / name / "README.md").read_text())
    assert cards[0] == cards[1], "nothing depends on the folder"
    assert cards[0].startswith("# base\n") and "| parameters | 5 |" in cards[0]
