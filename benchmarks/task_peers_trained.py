"""Peers of benchmarks/task_peers.py that start from random weights: fastText and spaCy."""

import random
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

Text = dict[str, Any]
_UPDATES = 300_000  # texts that fastText sees in a training, so that a small set is not undertrained
_EPOCHS = 30  # at most, of spaCy
_PATIENCE = 5  # epochs without a better result on the validation texts


class Trained:
    """A peer without log-probabilities for fusions.

    Attributes:
        megabytes: size of the saved model.
    """

    megabytes = 0.0

    def scores(self, texts: dict[str, list[Text]]) -> dict[str, Any]:  # noqa: ARG002
        """Log-probabilities by name: none."""
        return {}


class FastText(Trained):
    """fastText's classifier.

    Texts are in lower case with spaces around punctuation, as its tutorial recommends.

    Source: Joulin et al. 2017, arXiv 1607.01759; https://fasttext.cc/docs/en/supervised-tutorial.html.
    """

    def __init__(self, labels: list[str], seed: int) -> None:
        self.labels, self.seed = labels, seed

    def fit(self, train: list[Text], validation: list[Text]) -> None:
        """Trains on both splits."""
        import fasttext

        texts = [*train, *validation]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "texts"
            lines = [f"__label__{self.labels.index(text['label'])} {tokens(text['text'])}\n" for text in texts]
            path.write_text("".join(lines), encoding="utf-8")
            self.model = fasttext.train_supervised(
                str(path),
                lr=0.5,
                dim=100,
                epoch=max(25, _UPDATES // len(texts)),
                minn=2,
                maxn=5,
                wordNgrams=2,
                bucket=200_000,
                thread=1,
                seed=self.seed,
                verbose=0,
            )
            self.model.save_model(f"{folder}/model")
            self.megabytes = Path(folder, "model").stat().st_size / 1e6

    def predict(self, texts: list[Text]) -> list[Text]:
        """The most probable label of each text."""
        predicted, _ = self.model.predict([tokens(text["text"]) for text in texts])
        # fastText has no answer for a text without a known word or n-gram.
        numbers = [int(names[0].removeprefix("__label__")) if names else 0 for names in predicted]
        return [{"label": self.labels[number]} for number in numbers]


def tokens(text: str) -> str:
    """The text in lower case, on one line, with spaces around punctuation.

    >>> tokens("What's\\na CPU?")
    "what ' s a cpu ?"
    """
    return " ".join(re.findall(r"\w+|[^\w\s]", text.lower()))


class Spacy(Trained):
    """A pipeline of spaCy with one component, trained from random weights with the settings of `spacy init config`.

    Args:
        seed: seed of the weights and of the order of the texts.
        limit: processor seconds after which the training stops.
    """

    component: str

    def __init__(self, seed: int, limit: float) -> None:
        import spacy

        self.seed, self.limit = seed, limit
        self.nlp = spacy.blank("en")

    def document(self, text: Text) -> Any:
        """The tokens of a text."""
        return self.nlp.make_doc(text["text"])

    def gold(self, text: Text, document: Any) -> dict[str, Any]:
        """The annotation of a text."""
        raise NotImplementedError

    def score(self, texts: list[Text]) -> float:
        """How good the pipeline is on labeled texts."""
        raise NotImplementedError

    def fit(self, train: list[Text], validation: list[Text]) -> None:
        """Trains on `train`, and keeps the weights of the best epoch on `validation`, if there are such texts."""
        from spacy.training import Example
        from spacy.util import fix_random_seed

        start = time.process_time()
        fix_random_seed(self.seed)
        examples = []
        for text in train:
            document = self.document(text)
            examples.append(Example.from_dict(document, self.gold(text, document)))
        clean = [text for text in validation if text["rate"] == "0"]
        optimizer = self.nlp.initialize(lambda: examples[:2000])
        self.prepare(examples)
        order, best, best_epoch, weights = random.Random(self.seed), -1.0, 0, b""
        for epoch in range(_EPOCHS if clean else _EPOCHS // 2):
            order.shuffle(examples)
            for first in range(0, len(examples), 32):
                self.nlp.update(examples[first : first + 32], sgd=optimizer, drop=0.1)
            score = self.score(clean) if clean else float(epoch)
            if score > best:
                best, best_epoch, weights = score, epoch, self.nlp.to_bytes(exclude=["vocab"])
            if epoch - best_epoch >= _PATIENCE or time.process_time() - start > self.limit:
                break
        self.nlp.from_bytes(weights, exclude=["vocab"])
        self.megabytes = len(weights) / 1e6

    def prepare(self, examples: list[Any]) -> None:
        """Called after the weights are initialized."""

    def processed(self, texts: list[Text]) -> Any:
        """The texts with predictions."""
        return self.nlp.pipe([self.document(text) for text in texts], batch_size=64)


class SpacyLabels(Spacy):
    """spaCy's default for texts with one label: a bag of words and a CNN over hashed features of words."""

    def __init__(self, labels: list[str], seed: int, limit: float) -> None:
        super().__init__(seed, limit)
        self.labels = labels
        categorizer = self.nlp.add_pipe("textcat")
        for number in range(len(labels)):
            categorizer.add_label(str(number))

    def gold(self, text: Text, document: Any) -> dict[str, Any]:  # noqa: ARG002
        """The label as probabilities."""
        number = self.labels.index(text["label"])
        return {"cats": {str(other): float(other == number) for other in range(len(self.labels))}}

    def score(self, texts: list[Text]) -> float:
        """Accuracy."""
        rows = zip(texts, self.predict(texts), strict=True)
        return float(np.mean([text["label"] == row["label"] for text, row in rows]))

    def predict(self, texts: list[Text]) -> list[Text]:
        """The most probable label of each text."""
        return [{"label": self.labels[int(max(doc.cats, key=doc.cats.get))]} for doc in self.processed(texts)]


class SpacyEntities(Spacy):
    """spaCy's small CNN for entities."""

    def __init__(self, seed: int, limit: float) -> None:
        super().__init__(seed, limit)
        self.recognizer = self.nlp.add_pipe("ner")

    def document(self, text: Text) -> Any:
        """The given words of a text; a blank text has one empty word."""
        from spacy.tokens import Doc

        words = text.get("words", [])
        spaces = [end < len(text["text"]) and text["text"][end].isspace() for _, end in words]
        return Doc(self.nlp.vocab, [text["text"][start:end] for start, end in words], spaces)

    def gold(self, text: Text, document: Any) -> dict[str, Any]:
        """BILUO tags."""
        words = text.get("words", [])
        tags = ["O"] * len(document)
        for entity in text.get("entities", []):
            inside = [n for n, (start, end) in enumerate(words) if start < entity["end"] and end > entity["start"]]
            for number in inside:
                kind = "U" if len(inside) == 1 else "B" if number == inside[0] else "L" if number == inside[-1] else "I"
                tags[number] = f"{kind}-{entity['label']}"
        return {"entities": tags}

    def score(self, texts: list[Text]) -> float:
        """F1 of entities."""
        gold = [{(span["start"], span["end"], span["label"]) for span in text.get("entities", [])} for text in texts]
        found = [{(s["start"], s["end"], s["label"]) for s in row["entities"]} for row in self.predict(texts)]
        correct = sum(len(a & b) for a, b in zip(gold, found, strict=True))
        return 2 * correct / max(1, sum(map(len, gold)) + sum(map(len, found)))

    def predict(self, texts: list[Text]) -> list[Text]:
        """The entities of each text."""
        rows = []
        for text, doc in zip(texts, self.processed(texts), strict=True):
            words = text.get("words", [])
            spans = [(words[e.start][0], words[e.end - 1][1], e.label_) for e in doc.ents]
            rows.append({"entities": [{"start": a, "end": b, "label": label} for a, b, label in spans]})
        return rows
