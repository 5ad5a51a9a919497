"""From the models of several tasks on the same data to one ensemble, with the reasons for its parts and weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cclm_core.evaluation.candidates import Candidate, Choice
from cclm_core.evaluation.fusing import KINDS, Kind, Weights
from cclm_core.evaluation.selection import CLEAN
from cclm_core.finetuning.any_model import AnyTaskModel
from cclm_core.finetuning.choosing import choose
from cclm_core.finetuning.config import EnsembleConfig
from cclm_core.finetuning.ensemble import Ensemble, EnsembleCard, refuse_different
from cclm_core.finetuning.familiarity import Familiarity
from cclm_core.finetuning.measures import HEADLINES
from cclm_core.finetuning.validation import Validation, validation_of
from cclm_core.labeled.examples import LabeledText
from cclm_core.runtime.artifacts import rounded
from cclm_core.runtime.random import derive


@dataclass(frozen=True)
class Fused:
    """An ensemble, and how it was chosen.

    Attributes:
        model: the ensemble.
        description: the choice, as JSON values: see `docs/ensembles.md`.
        candidates: a row per candidate, the lowest loss first.
        warnings: what makes the choice less sure than it looks.
    """

    model: Ensemble
    description: dict[str, Any]
    candidates: list[dict[str, Any]]
    warnings: list[str]


def fuse_parts(
    name: str,
    parts: Mapping[str, AnyTaskModel],
    train: Sequence[LabeledText],
    validation: Sequence[LabeledText],
    config: EnsembleConfig,
    seed: int = 1,
) -> Fused:
    """Chooses parts and weights on validation texts that the parts were not trained on.

    Args:
        name: the name of the ensemble.
        parts: name -> model, all of the same task and labels.
        train: the training texts, to estimate how unusual a text is.
        validation: the validation texts; those with labels that training never saw are left out.
        config: the configuration; its `parts` are not read.
        seed: seed of the noise and the folds.

    Raises:
        ArtifactError: the parts do not fit together.
    """
    names, models = list(parts), list(parts.values())
    first = models[0]
    refuse_different({part: model for part, model in parts.items() if model is not first}, _named(first, name))
    familiarity = Familiarity.fit(_strings(train, first.is_pair))
    known = [text for text in validation if first.task != "classify" or text.label in first.labels]
    if len(known) > config.validation_texts:
        order = derive(seed, "validation texts").permutation(len(known))[: config.validation_texts]
        known = [known[row] for row in sorted(order.tolist())]
    kinds: tuple[Kind, ...] = KINDS if config.weights == "auto" else (config.weights,)
    values: dict[str, Any] = {"name": name, "task": first.task, "labels": first.labels, "is_pair": first.is_pair}
    if not known:
        chosen, weights = tuple(range(len(names))), Weights.even(len(names))
        warnings = ["no validation texts, so all parts have equal weights; add a validation share to the labeled set"]
        description: dict[str, Any] = {"validation_texts": 0, "chosen": _described(names, chosen, weights.kind)}
        rows: list[dict[str, Any]] = []
    else:
        data = validation_of(models, known, config.noise, familiarity, config.threshold, seed)
        choice = choose(data, kinds, config.subsets, seed)
        chosen, weights, warnings = choice.chosen.parts, choice.chosen.weights, choice.warnings
        description = _description(names, choice, data)
        rows = [_row(names, entry, entry is choice.chosen) for entry in choice.candidates]
    card = EnsembleCard(
        **values, parts=tuple(names[part] for part in chosen), weights=weights, threshold=config.threshold
    )
    model = Ensemble(card, [models[part] for part in chosen], familiarity if weights.slope else None)
    model.requires_grad_(False).eval()
    return Fused(model, description | {"metric": HEADLINES[first.task], "warnings": warnings}, rows, warnings)


def _strings(texts: Sequence[LabeledText], is_pair: bool) -> list[str]:
    return [f"{text.text} {text.second}" if is_pair else text.text for text in texts]


def _named(model: AnyTaskModel, name: str) -> EnsembleCard:
    """A card with the facts of a model, to compare others with."""
    facts: dict[str, Any] = {"task": model.task, "labels": model.labels, "is_pair": model.is_pair}
    return EnsembleCard(name=name, parts=("first",), weights=Weights.even(1), **facts)


def _described(names: Sequence[str], parts: Sequence[int], kind: str) -> dict[str, Any]:
    return {"parts": [names[part] for part in parts], "weights": kind}


def _description(names: Sequence[str], choice: Choice, data: Validation) -> dict[str, Any]:
    """The choice, with the share of each part."""
    chosen = choice.chosen
    weights = chosen.weights.of(data.rows.measures)
    shares = weights / weights.sum(axis=1, keepdims=True)
    is_clean = np.arange(len(shares)) < data.number
    parts: dict[str, dict[str, Any]] = {}
    for number, name in enumerate(names):
        single = next((entry for entry in choice.candidates if entry.parts == (number,)), None)
        facts: dict[str, Any] = {"chosen": number in chosen.parts}
        if single is not None:
            facts |= {"alone": rounded(single.value), "alone_clean": rounded(single.values[CLEAN].value)}
            facts["alone_noised"] = rounded(single.noised_value)
        if number in chosen.parts:
            column = shares[:, chosen.parts.index(number)]
            facts["weight_clean"] = rounded(float(column[is_clean].mean()))
            if not is_clean.all():
                facts["weight_noised"] = rounded(float(column[~is_clean].mean()))
            if (without := choice.without(number)) is not None:
                facts |= {"without": rounded(without.value), "without_clean": rounded(without.values[CLEAN].value)}
                facts["without_noised"] = rounded(without.noised_value)
        parts[name] = facts
    values = {level: rounded(measured.value) for level, measured in chosen.values.items()}
    return {
        "validation_texts": data.number,
        "chosen": _described(names, chosen.parts, chosen.kind) | {"loss": rounded(chosen.loss), "values": values},
        "parts": parts,
    }


def _row(names: Sequence[str], entry: Candidate, is_chosen: bool) -> dict[str, Any]:
    """A row of candidates.csv."""
    return {
        "parts": "+".join(names[part] for part in entry.parts),
        "weights": entry.kind,
        "chosen": "yes" if is_chosen else "",
        "loss": rounded(entry.loss),
        "value": rounded(entry.value),
        **{level: rounded(measured.value) for level, measured in entry.values.items()},
    }
