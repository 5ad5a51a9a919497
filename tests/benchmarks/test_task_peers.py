"""The steps around the peers: export of the texts, rows from predictions, the report."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from cclm_core.corpus.records import Entity
from cclm_core.finetuning.fit import TaskData
from cclm_core.labeled.examples import LabeledText

WORDS = ["red", "blue", "green", "cold", "warm"]


def classify(number: int, split: str) -> list[LabeledText]:
    """Texts whose label is their first word."""
    generator = np.random.default_rng(len(split))
    rows = [generator.permutation(WORDS).tolist() for _ in range(number)]
    return [LabeledText(f"{split}-{at}", " ".join(words), label=words[0]) for at, words in enumerate(rows)]


def tagged(number: int) -> list[LabeledText]:
    text = LabeledText("0", "Ann saw Bob", entities=(Entity(0, 3, "PER"),), words=((0, 3), (4, 7), (8, 11)))
    return [text] * number


def exported(folder: Path, kind: Any = "classify") -> tuple[Any, Path]:
    """A set, written for the peers."""
    import task_data
    import task_peers

    train, test = (classify(20, "train"), classify(30, "test")) if kind == "classify" else (tagged(4), tagged(6))
    labels = tuple(sorted(WORDS)) if kind == "classify" else ("PER",)
    data = TaskData(task=kind, labels=labels, train=train, validation=train[:3])
    task = task_data.TaskSet("colors", data, test)
    task_peers.write_set(folder / "colors, 1", task, 1)
    return task, folder / "colors, 1"


def predict(target: Path, answers: dict[str, list[dict[str, Any]]]) -> None:
    """Writes the predictions of a peer."""
    result = {"seconds": 2.0, "megabytes": 3.5, "predictions": answers}
    (target / "fasttext.json").write_text(json.dumps(result))


def test_the_exported_texts_are_those_of_the_benchmark(tmp_path: Path) -> None:
    import task_peers_fit
    import tasks

    task, target = exported(tmp_path)
    texts = task_peers_fit.read_texts(target / "texts.jsonl")
    assert [row["text"] for row in texts["train", "0"]] == [text.text for text in task.data.train]
    assert [row["label"] for row in texts["test", "0"]] == [text.label for text in task.test]
    for rate, copies in tasks.test_copies(task).items():
        assert [row["text"] for row in texts["test", f"{rate:g}"]] == [text.text for text in copies]
    copies = tasks.training_copies(task, 0.1, 1)
    noised = texts["train copy", "0.1"] + texts["validation copy", "0.1"]
    assert [row["text"] for row in noised] == [text.text for text in copies]
    assert len(task_peers_fit.learned(texts, "train", noised=True)) == 4 * 20
    assert len(task_peers_fit.learned(texts, "validation", noised=False)) == 3


def test_predictions_become_rows_once(tmp_path: Path) -> None:
    import task_peers
    import task_report

    task, target = exported(tmp_path)
    right = [{"label": text.label} for text in task.test]
    wrong = [{"label": "cold" if text.label != "cold" else "red"} for text in task.test]
    predict(target, {"0": right, "0.05": right, "0.1": right[:15] + wrong[15:], "0.2": wrong})
    np.savez_compressed(target / "minilm.npz", **{"test 0, minilm": np.zeros((30, 5))})
    results = tmp_path / "results.jsonl"
    for _ in range(2):
        task_peers.rows(tmp_path, results)
    (row,) = task_report.read(results)
    assert {key: row[key] for key in ("set", "model", "seed", "seconds", "megabytes")} == {
        "set": "colors", "model": "fasttext", "seed": 1, "seconds": 2.0, "megabytes": 3.5,
    }  # fmt: skip
    assert list(task_report.scores(row).values()) == [1, 1, 0.5, 0]
    assert np.load(tmp_path / "scores" / "colors, minilm, 1.npz")["test 0, minilm"].shape == (30, 5)


def test_entities_of_given_words_become_rows(tmp_path: Path) -> None:
    import task_peers
    import task_report

    _, target = exported(tmp_path, "tag")
    right = [{"entities": [{"start": 0, "end": 3, "label": "PER"}]}] * 6
    predict(target, dict.fromkeys(("0", "0.05", "0.1", "0.2"), right))
    task_peers.rows(tmp_path, tmp_path / "results.jsonl")
    (row,) = task_report.read(tmp_path / "results.jsonl")
    assert row["metric"] == "entity_f1" and task_report.scores(row)["0"] == 1


def lines(path: Path, outcomes: dict[tuple[str, str, int], float], number: int = 200) -> Path:
    """Results in which a model is right on a share of the texts of a set; the first ones."""
    rows = []
    for (name, model, seed), share in outcomes.items():
        statistics = [[float(at < share * number), 1.0] for at in range(number)]
        row = {"set": name, "model": model, "seed": seed, "metric": "accuracy", "seconds": 10.0, "parameters": 250_000}
        rows.append(row | {"statistics": dict.fromkeys(("0", "0.05", "0.1", "0.2"), statistics)})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_report_compares_the_best_model_with_every_peer_and_counts_sets(tmp_path: Path) -> None:
    import task_report

    results = lines(
        tmp_path / "results.jsonl",
        {
            ("a", "ngrams", 1): 0.5, ("a", "minilm", 1): 0.9, ("a", "pretrained", 1): 0.7, ("a", "scratch", 1): 0.6,
            ("b", "spacy", 1): 0.7, ("b", "fasttext+noise", 1): 0.4, ("b", "pretrained+ngrams", 1): 0.71,
            ("c", "pretrained", 1): 0.7,
        },
    )  # fmt: skip
    rows = {row.name: row for row in task_report.report(results)}
    best = rows["a, 0% noise, pretrained"].peer
    assert best.startswith("best of ours; minilm 90.0: -20.0 [") and "ngrams 50.0: +20.0 [" in best
    assert best.endswith("(1 seed, 10 s, 1 MB)")
    assert rows["a, 0% noise, scratch"].peer.startswith("minilm 90.0: -30.0 [")
    assert rows["a, 0% noise, minilm"].peer.startswith("best peer (")
    same = rows["10% noise, ahead of peers trained on the same texts"]
    assert same.value == 1
    assert same.peer == (
        "ahead on 1: a (pretrained against ngrams, +20.0); level on 1: b (pretrained+ngrams against spacy, +1.0); "
        "behind on 0: none"
    )
    assert "behind on 1: a (pretrained against minilm, -20.0)" in rows["0% noise, ahead of all peers"].peer


def test_models_are_compared_on_the_seeds_that_both_have(tmp_path: Path) -> None:
    import task_report

    outcomes = {("a", "ngrams", 1): 0.5, ("a", "pretrained", 1): 0.6, ("a", "pretrained", 2): 0.9}
    results = task_report.SetResults("a", task_report.read(lines(tmp_path / "results.jsonl", outcomes)))
    assert round(results.gain("pretrained", "ngrams", "0")[0], 6) == 0.1
