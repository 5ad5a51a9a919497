"""Writes params.yaml for a corpus and a labeled data set."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import yaml

from cclm_core.ingest.sources.paths import SUFFIXES, suffix_of
from cclm_core.survey.corpus import CorpusSurvey

BATCH_SIZE, WINDOW = 16, 256
# Measured for 200 seconds of one processor: with 30 to 40 % of the characters masked, small batches, n-grams up to 5
# and a stride of 8, a base reaches in this time 0.26 bits per masked character less than with the defaults.
_MAX_STEPS, _LARGE_MAX_STEPS = 2200, 4000
_MIN_STEPS, _PASSES, _LARGE = 600, 20, 20_000_000
_BASE = "{embedding: {ngram_sizes: [2, 3, 4, 5]}, encoder: {kind: hourglass, stride: 8}}"
_MASKING = "{objective: masked_characters, rate: 0.4, mean_span: 2.5}"


def base_steps(num_characters: int) -> int:
    """Steps of the base: up to 20 passes over the corpus, within the limits that were measured.

    >>> base_steps(100_000), base_steps(300_000), base_steps(5_000_000), base_steps(50_000_000)
    (600, 1500, 2200, 4000)
    """
    passes = _PASSES * num_characters // (BATCH_SIZE * WINDOW)
    limit = _LARGE_MAX_STEPS if num_characters >= _LARGE else _MAX_STEPS
    return max(_MIN_STEPS, min(limit, round(passes, -2)))


def params_text(
    name: str, ingest: Mapping[str, Any], corpus: CorpusSurvey, labeled: Mapping[str, Any] | None, command: str
) -> str:
    """The text of params.yaml.

    Args:
        name: the name of the labeled data set and of its task.
        ingest: the section `ingest`.
        corpus: what the corpus has.
        labeled: the entry of the section `labeled`; None for a corpus without a task.
        command: the command that wrote it, for the first line.
    """
    columns = ingest["source"].get("columns", {})
    has_entities = bool(labeled) and (labeled or {})["task"] == "tag"
    parts = ["masked_characters", "entities" if has_entities and _reads_entities(ingest) else "characters"]
    sections = [
        f"# Written by `{command}`. docs/own-data.md explains it.",
        "seed: 1",
        "# The texts for pretraining. Their labels are not used for it, only to measure the features.\n"
        f"ingest:\n  source: {flow(ingest['source'])}\n"
        + "".join(f"  {key}: {flow(value)}\n" for key, value in ingest.items() if key != "source").rstrip(),
        f"# Labeled texts of your own tasks.\nlabeled:{_labeled(name, labeled)}",
        f"vocabulary: {flow(_vocabulary(corpus))}",
        "# Test sets with typing errors in this share of the letters. `layouts` are the keyboards.\n"
        f"noise: {flow({'rates': [0.05, 0.1, 0.2], 'layouts': corpus.layouts})}",
        "# Typing errors in the texts for pretraining, new for every batch.\ntraining_noise: {rate: 0.03}",
        _pretraining(parts, base_steps(corpus.num_characters)),
        f"# Each composition joins the components above. Tasks start from one.\ncompositions:\n  full: {{parts: "
        f"{flow(parts)}}}",
        f"# What is fine-tuned on the labeled texts: docs/tasks.md.\ntasks:{_tasks(name, labeled)}",
        "# Several tasks on the same data as one model: docs/ensembles.md.\nensembles: {}",
        _evaluation(bool(columns.get("label")), "entities" in parts),
    ]
    return "\n\n".join(sections) + "\n"


def flow(value: Any) -> str:
    """A value as YAML in one line.

    >>> flow({"paths": ["a.csv"], "delimiter": ";"})
    "{paths: [a.csv], delimiter: ;}"
    """
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False, allow_unicode=True)
    return str(text).removesuffix("\n").removesuffix("\n...")


def _reads_entities(ingest: Mapping[str, Any]) -> bool:
    source = ingest["source"]
    return "entities" in source.get("columns", {}) or all(_is_conll(path, source) for path in source["paths"])


def _is_conll(path: str, source: Mapping[str, Any]) -> bool:
    return (source.get("format") or SUFFIXES.get(suffix_of(PurePath(path)))) == "conll"


def _labeled(name: str, labeled: Mapping[str, Any] | None) -> str:
    if labeled is None:
        return " {}"
    return f"\n  {flow(name)}:\n" + "\n".join(f"    {key}: {flow(value)}" for key, value in labeled.items())


def _vocabulary(corpus: CorpusSurvey) -> dict[str, int]:
    """Characters that occur twice get an id of their own, up to 8,000; the others are spelled in bytes."""
    repeated = sum(count > 1 for count in corpus.characters.values())
    return {"min_count": 2, "max_characters": min(8000, max(1000, -(-repeated // 1000) * 1000))}


def _pretraining(parts: list[str], steps: int) -> str:
    tasks = {
        "masked_characters": _MASKING,
        "characters": "{objective: characters, num_bytes: 4}",
        "entities": "{objective: entities}",
    }
    base = f"{{steps: {steps}, batch_size: {BATCH_SIZE}, window: {WINDOW}, threads: 2}}"
    own = f"{{steps: {max(300, round(steps // 4, -2))}, batch_size: {BATCH_SIZE}, window: {WINDOW}}}"
    components = "\n".join(f"  {part}:\n    task: {tasks[part]}\n    training: {own}" for part in parts)
    return (
        "# The shared embedder, trained first. The steps fit the size of the corpus.\n"
        f"base:\n  embedder: {_BASE}\n  objectives:\n    - task: {_MASKING}\n  training: {base}\n\n"
        f"# Trained over the base, each on its own objective.\ncomponents:\n{components}"
    )


def _tasks(name: str, labeled: Mapping[str, Any] | None) -> str:
    if labeled is None:
        return " {}"
    return (
        f"\n  {flow(name)}: {{data: {flow(name)}, composition: full}}\n"
        "  # The same without pretraining: the difference is what pretraining is worth.\n"
        f"  {name}_scratch: {{data: {flow(name)}, embedder: {_BASE}}}"
    )


def _evaluation(has_labels: bool, has_entities: bool) -> str:
    probes, metrics = ["{probe: characters}"], ["bits_per_masked_character: {margin: 0.05}"]
    if has_entities:
        probes.append("{probe: tags}")
        metrics.append("entity_f1_clean: {margin: 0.07}")
    if has_labels:
        probes.append("{probe: labels}")
        metrics.append("label_accuracy: {margin: 0.03}")
    return (
        "# How compositions are measured.\nevaluation:\n  probes:\n"
        + "\n".join(f"    - {probe}" for probe in probes)
        + "\n\n# When a new version replaces the champion. The margins are a first guess: docs/gate.md shows how to "
        "measure yours.\npromotion:\n  metrics:\n"
        + "\n".join(f"    {metric}" for metric in metrics)
        + "\n  improved: 1"
    )
