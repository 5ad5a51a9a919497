"""Checks that a registered model loads and predicts: `python -m flows.gate.load_check MODEL_URI`.

On success, the exit code is 0, and one line of JSON is printed. It imports nothing from this project, so that the model
has to work with the code that is stored with it.
"""

import json
import math
import sys
from collections.abc import Iterator
from typing import Any

TEXTS = [
    "",
    "a",
    "Shall I compare thee to a summer's day?",
    "na\u00efve \u2603 \U0001d518",
    "to be or not to be " * 300,
]
TOLERANCE = 1e-3  # of a number for a text alone and in a batch


def main(uri: str) -> None:
    """Loads the model at `uri` and checks its embeddings, or the answers of a task, for some texts.

    Raises:
        ValueError: an embedding or an answer is invalid.
    """
    import mlflow

    model = mlflow.pyfunc.load_model(uri)
    metadata = model.metadata.metadata or {}
    # Versions of an earlier release have no kind: they are compositions.
    if metadata.get("cclm.kind") == "task":
        report = check_answers(model, bool(metadata.get("cclm.pairs")))
    else:
        report = _check_embeddings(model)
    print(json.dumps(report))


def _check_embeddings(model: Any) -> dict[str, Any]:
    means = model.predict(TEXTS)
    widths = {len(row) for row in means}
    if len(means) != len(TEXTS) or len(widths) != 1 or widths == {0}:
        raise ValueError(
            f"{len(TEXTS)} texts must give {len(TEXTS)} embeddings of equal width, got {len(means)} embeddings of the "
            f"widths {sorted(widths)}."
        )
    if not all(math.isfinite(value) for row in means for value in row):
        raise ValueError("the embeddings contain NaN or infinite values.")
    if not any(value for row in means[1:] for value in row):
        raise ValueError("all embeddings are zero.")
    rows = model.predict(TEXTS, params={"output": "characters"})
    lengths, expected = [len(row) for row in rows], [len(text) for text in TEXTS]
    if lengths != expected:
        raise ValueError(f"output='characters' must give one row per character, {expected}, got {lengths}.")
    alone = model.predict([TEXTS[2]])[0]
    difference = max(abs(a - b) for a, b in zip(alone, means[2], strict=True))
    if difference > TOLERANCE:
        raise ValueError(f"the embedding of a text must not depend on the batch, but differs by {difference:.2g}.")
    return {"width": widths.pop()}


def check_answers(model: Any, is_pair: bool) -> dict[str, Any]:
    """Checks the answers of a task to some texts, or pairs of texts.

    Raises:
        ValueError: an answer is missing, empty, not finite, or depends on the other texts.
    """
    inputs: list[Any] = list(zip(TEXTS, TEXTS[::-1], strict=True)) if is_pair else TEXTS
    answers = model.predict(inputs)
    if not isinstance(answers, list) or len(answers) != len(inputs):
        got = len(answers) if isinstance(answers, list) else type(answers).__name__
        raise ValueError(f"{len(inputs)} texts must give a list of {len(inputs)} answers, got {got}.")
    for text, answer in zip(inputs, answers, strict=True):
        if problem := _problem(answer):
            raise ValueError(f"the answer to {text!r:.60} must not be {problem}: {answer!r:.200}.")
    if len({tuple(answer) for answer in answers}) != 1:
        raise ValueError("the answers must have the same keys for every text.")
    alone = model.predict(inputs[2:3])[0]
    values = list(_numbers(alone)), list(_numbers(answers[2]))
    if len(values[0]) != len(values[1]) or any(abs(a - b) > TOLERANCE for a, b in zip(*values, strict=True)):
        raise ValueError(f"the answer must not depend on the batch, but {alone!r:.100} became {answers[2]!r:.100}.")
    return {"answers": sorted(answers[0])}


def _problem(answer: Any) -> str:
    """What is wrong with an answer; "" if nothing is."""
    if not isinstance(answer, dict) or not answer.keys() & {"label", "labels", "value", "entities"}:
        return "empty"
    if "label" in answer and not (isinstance(answer["label"], str) and answer["label"] and answer.get("scores")):
        return "without a label"
    if "labels" in answer and not (isinstance(answer["labels"], list) and answer.get("scores")):
        return "without labels"
    if "value" in answer and not isinstance(answer["value"], int | float):
        return "without a number"
    if not all(math.isfinite(value) for value in _numbers(answer)):
        return "NaN or infinite"
    return ""


def _numbers(answer: Any) -> Iterator[float]:
    """All numbers in an answer, in order of its keys."""
    if isinstance(answer, dict):
        for key in sorted(answer):
            yield from _numbers(answer[key])
    elif isinstance(answer, list):
        for value in answer:
            yield from _numbers(value)
    elif isinstance(answer, int | float):
        yield float(answer)


if __name__ == "__main__":
    main(sys.argv[1])
