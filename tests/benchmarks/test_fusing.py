"""Compositions of parts are compared with each part, with other weights, and with more seeds of one part."""

from dataclasses import replace
from typing import Any

import numpy as np

from cclm_core.corpus.records import Entity
from cclm_core.finetuning.familiarity import Familiarity
from cclm_core.labeled.examples import LabeledText

RATES = {"0": 0.0, "0.05": 0.2, "0.1": 0.4, "0.2": 0.8}
WORDS = ("send", "money", "card", "lost", "where", "account", "transfer", "fee")


def scored(name: str, seed: int, splits: tuple[str, ...]) -> Any:
    """Two parts: the first is right on texts of usual words, the second on texts of letters that nobody saw."""
    import fusing

    generator, labels = np.random.default_rng(seed), ("a", "b", "c")
    examples: dict[str, dict[str, list[LabeledText]]] = {split: {} for split in splits}
    scores: dict[str, dict[str, Any]] = {split: {} for split in splits}
    for split in splits:
        gold = generator.integers(3, size=400)
        for rate, share in RATES.items():
            is_noisy = generator.random(400) < share
            usual = [" ".join(generator.choice(WORDS, 5)) for _ in gold]
            strange = ["".join(generator.choice(list("qxzjkv "), 25)) for _ in gold]
            texts = [second if noisy else first for first, second, noisy in zip(usual, strange, is_noisy, strict=True)]
            examples[split][rate] = [
                LabeledText(f"{number}", text, label=labels[label])
                for number, (text, label) in enumerate(zip(texts, gold, strict=True))
            ]
            values = generator.normal(size=(2, 400, 3))
            for part, is_good in enumerate((~is_noisy, is_noisy)):
                values[part, np.arange(400), gold] += np.where(is_good, 4, 0)
            scores[split][rate] = values - np.log(np.exp(values).sum(axis=2, keepdims=True))
    familiarity = Familiarity.fit([" ".join(generator.permutation(WORDS)) for _ in range(200)])
    return fusing.Scored(name, seed, "classify", labels, examples, scores, familiarity)


def test_a_composition_is_compared_with_every_other_way() -> None:
    import fusing

    sets = [
        scored("one", 1, ("test", "validation")),
        scored("one", 2, ("test", "validation")),
        scored("other", 1, ("test", "validation")),
        scored("other, few", 1, ("test",)),
    ]
    rows = {row.name: row for row in fusing.rows(fusing.Outcomes(sets, ["network", "minilm"]))}
    ways = ["network", "minilm", "lowest loss", "equal", "composition", "by text", "best part", "fixed part"]
    assert {name.rpartition(", ")[2] for name in rows if name.startswith("one, 20%")} == {*ways, "seeds of network"}
    for rate in ("0%", "20%"):
        assert rows[f"one, {rate} noise, composition"].value > rows[f"one, {rate} noise, minilm"].value
    assert rows["one, 20% noise, composition"].value > rows["one, 20% noise, network"].value + 10
    assert "by_text" in rows["one, 20% noise, composition"].peer
    few = "other, few, 20% noise, "
    assert rows[f"{few}composition"].value > rows[f"{few}network"].value + 10, "weights of another set are used"
    summary = rows["mean of the sets, 20% noise, composition minus network"]
    assert summary.value > 10 and "ahead on 3, level on 0, behind on 0 of 3 sets" in summary.peer


def test_labels_that_training_never_saw_are_no_part_of_the_validation() -> None:
    first = scored("one", 1, ("test", "validation"))
    for texts in first.examples["validation"].values():
        texts[7] = replace(texts[7], label="new")
    validation = first.validation()
    assert validation.number == 399 and validation.rows.scores.shape == (2, 4 * 399, 3)


def test_sets_with_tags_are_measured_by_f1_of_spans() -> None:
    import fusing

    example = LabeledText("1", "Ann met Bob", entities=(Entity(0, 3, "PER"), Entity(8, 11, "PER")))
    texts = {"test": {"0": [example]}}
    right, wrong = (np.log(np.full((3, 3), 0.1) + 0.7 * np.eye(3)[tags]) for tags in ([1, 0, 1], [1, 0, 0]))
    scores = {"test": {"0": np.stack([right, wrong])}}
    one = fusing.Scored("x", 1, "tag", ("PER",), texts, scores, Familiarity.fit(["Ann met Bob"]))
    assert [fusing.single(part).measure(one, "0").value for part in (0, 1)] == [1, 2 / 3]
