"""Loads a registered model in this fresh process and tries it: `python -m flows.gate.probe MODEL_URI`.

Exit code 0 and one line of JSON when it loads and predicts. Imports nothing of this project, so that the model is
tried with the code that it brings along.
"""

import json
import math
import sys

TEXTS = [
    "",
    "a",
    "Shall I compare thee to a summer's day?",
    "na\u00efve \u2603 \U0001d518",
    "to be or not to be " * 300,
]


def main(uri: str) -> None:
    """Tries the model.

    Raises:
        ValueError: it answers with something that is no embedding.
    """
    import mlflow

    model = mlflow.pyfunc.load_model(uri)
    means = model.predict(TEXTS)
    widths = {len(row) for row in means}
    if len(means) != len(TEXTS) or len(widths) != 1 or widths == {0}:
        raise ValueError(f"{len(TEXTS)} texts must give as many embeddings of one width, got widths {sorted(widths)}.")
    if not all(math.isfinite(value) for row in means for value in row):
        raise ValueError("an embedding holds a value that is not finite.")
    if not any(value for row in means[1:] for value in row):
        raise ValueError("every embedding is zero.")
    rows = model.predict(TEXTS, params={"output": "characters"})
    if [len(row) for row in rows] != [len(text) for text in TEXTS]:
        raise ValueError("output='characters' must give one row for each character.")
    alone = model.predict([TEXTS[2]])[0]
    if max(abs(a - b) for a, b in zip(alone, means[2], strict=True)) > 1e-3:
        raise ValueError("a text must have the same embedding alone and in a batch.")
    print(json.dumps({"width": widths.pop()}))


if __name__ == "__main__":
    main(sys.argv[1])
