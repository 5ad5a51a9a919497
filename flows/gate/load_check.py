"""Checks that a registered model loads and predicts: `python -m flows.gate.load_check MODEL_URI`.

On success, the exit code is 0, and one line of JSON is printed. It imports nothing from this project, so that the model
has to work with the code that is stored with it.
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
    """Loads the model at `uri` and checks its embeddings of some texts.

    Raises:
        ValueError: an embedding is invalid.
    """
    import mlflow

    model = mlflow.pyfunc.load_model(uri)
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
    if difference > 1e-3:
        raise ValueError(f"the embedding of a text must not depend on the batch, but differs by {difference:.2g}.")
    print(json.dumps({"width": widths.pop()}))


if __name__ == "__main__":
    main(sys.argv[1])
