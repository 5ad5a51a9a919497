"""More than thirty wrong configurations: each is refused before anything runs, with path, value and remedy."""

from pathlib import Path

import pytest

from cclm_core.runtime.errors import ConfigError
from cclm_core.steps.params import Params

VALID = """\
seed: 1
ingest: {source: {kind: files, paths: [input]}, validation_share: 0.1, test_share: 0.1}
components:
  ner: {task: {objective: entities}}
compositions:
  full: {parts: [ner]}
promotion: {metrics: {label_accuracy: {margin: 0.1}}}
"""

BASE = "base: {objectives: "

CASES = {
    "unknown section": ("bas: {}", "bas is not a known section; did you mean 'base'?"),
    "unknown key": ("base: {trainig: {}}", "base: trainig is not a known key; did you mean 'training'?"),
    "unknown key deeper": (
        "base: {training: {max_step: 10}}",
        "base: training.max_step is not a known key; did you mean 'steps'?",
    ),
    "duplicate section": ("seed: 2", "the key 'seed' appears twice"),
    "duplicate key": ("base: {training: {steps: 1, steps: 2}}", "line 8, column 29: the key 'steps' appears twice"),
    "missing key": ("labeled: {a: {task: classify}}", "labeled.a: test is missing. Add a test split"),
    "missing name of an objective": ("tasks: {a: {}}", "tasks.a: data is missing. Add it."),
    "wrong type": ("base: {training: {steps: many}}", "base: training.steps must be an integer, got 'many'"),
    "truth value for a number": ("base: {training: {steps: true}}", "steps must not be a truth value, got True"),
    "fraction for an integer": ("base: {training: {steps: 1.5}}", "base: training.steps must be an integer, got 1.5"),
    "out of range": (
        "base: {training: {learning_rate: 0}}",
        "base: training.learning_rate must be greater than 0, got 0",
    ),
    "not finite": ("base: {training: {learning_rate: .inf}}", "base: training.learning_rate must be a finite number"),
    "unknown choice": ("base: {training: {keep: first}}", "base: training.keep must be 'last' or 'best', got 'first'"),
    "unknown objective": (
        "base: {objectives: [{task: {objective: masked_charcters}}]}",
        "did you mean 'masked_characters'?",
    ),
    "objective without its name": (
        "base: {objectives: [{task: {rate: 0.1}}]}",
        "base: objectives.0.task.objective is missing. Add it.",
    ),
    "key of another objective": (
        "base: {objectives: [{task: {objective: entities, rate: 0.1}}]}",
        "base: objectives.0.task.rate is not a known key; known: entity_weight, objective",
    ),
    "unknown encoder": ("base: {embedder: {encoder: {kind: hourglas}}}", "did you mean 'hourglass'?"),
    "key of another encoder": (
        "base: {embedder: {encoder: {kind: convolution, num_layers: 2}}}",
        "base: embedder.encoder.num_layers is not a known key; did you mean 'num_blocks'?",
    ),
    "sizes that do not fit": (
        "base: {embedder: {encoder: {kind: attention, width: 100, num_heads: 8}}}",
        "width must be divisible by 2 * num_heads = 16",
    ),
    "combination without parts": (
        "base: {embedder: {encoder: {kind: chain, parts: []}}}",
        "base: embedder.encoder.parts",
    ),
    "unknown part of a combination": (
        "base: {embedder: {encoder: {kind: chain, parts: [{kind: convolutoin}]}}}",
        "did you mean 'convolution'?",
    ),
    "widths of a sum": (
        "base: {embedder: {encoder: {kind: add, parts: [{kind: convolution, width: 64}, {width: 96}]}}}",
        "add needs parts of equal width, got [64, 96]; use concatenate, or change the widths",
    ),
    "two embeddings": (
        "components: {ner: {task: {objective: entities}, independent: true, embedding: {width: 64}}}",
        "components.ner: set `independent: true` or `embedding`, not both",
    ),
    "vectors without a source": (
        "components: {w: {encoder: {kind: none}, embedding: {kind: vectors}}}",
        "components.w: embedding: source is missing. Name a file or folder, or package:NAME",
    ),
    "vectors that do not exist": (
        "components: {w: {encoder: {kind: none}, embedding: {kind: vectors, source: input/none.txt}}}",
        "components.w.embedding: source 'input/none.txt' not found. Put the file there",
    ),
    "vectors elsewhere": (
        "components: {w: {encoder: {kind: none}, embedding: {kind: vectors, source: /vectors.txt}}}",
        "components.w.embedding.source must be in input/ or package:NAME, got '/vectors.txt'. Move it there",
    ),
    "checkpoint that is not installed": (
        "components: {h: {encoder: {kind: none}, embedding: {kind: huggingface, source: 'package:nowhere_at_all'}}}",
        "components.h.embedding: source 'package:nowhere_at_all': the package nowhere_at_all is not installed",
    ),
    "key of word vectors for a checkpoint": (
        "components: {h: {encoder: {kind: none}, embedding: {kind: huggingface, source: input/h, max_words: 3}}}",
        "components.h: embedding.max_words is not a known key",
    ),
    "causal encoder over a checkpoint": (
        "base: {embedder: {encoder: {causal: true}, embedding: {kind: huggingface, source: input/h}}}",
        "a causal encoder needs the embedding `characters`, got huggingface",
    ),
    "pretrained weights elsewhere": (
        "base: {initialize: {source: models/base}}",
        "base.initialize.source must be in input/ or package:NAME, got 'models/base'. Move it there",
    ),
    "pretrained weights without a source": ("base: {initialize: {network: encoder}}", "source is missing"),
    "pretrained weights, selected twice": (
        "base: {initialize: {source: input/base, network: encoder, mapping: {encoder: encoder}}}",
        "base: initialize: set `mapping`, or `network` and `source_network`, not both",
    ),
    "pretrained weights of a joint component": (
        "components: {ner: {task: {objective: entities}, joint: true, initialize: {source: input/base}}}",
        "components.ner: a joint component starts from the weights that the base trained with it",
    ),
    "unknown fusion": ("compositions: {a: {parts: [ner], fusion: averge}}", "did you mean 'average'?"),
    "unknown part": ("compositions: {a: {parts: [nre]}}", "compositions.a.parts: 'nre' not found in components"),
    "part twice": ("compositions: {a: {parts: [ner, ner]}}", "names of parts must be unique, got 'ner' twice"),
    "unknown kind of noise": ("training_noise: {kinds: [swp]}", "did you mean 'swap'?"),
    "unknown schedule": (BASE + "[{gradient_factor: {schedule: warm_up}}]}", "did you mean 'warmup'?"),
    "schedule without its name": (
        BASE + "[{gradient_factor: {steps: 3}}]}",
        "base: objectives.0.gradient_factor.schedule is missing. Add it.",
    ),
    "schedule that goes back": (
        BASE + "[{gradient_factor: {schedule: piecewise, values: [[0, 1], [9, 0], [5, 1]]}}]}",
        "the steps of values must increase, got 9 before 5",
    ),
    "negative factor": (BASE + "[{gradient_factor: -1}]}", "base: objectives.0.gradient_factor"),
    "two names of objectives": (BASE + "[{name: a}, {name: A}]}", "the names of objectives must differ, got 'a' twice"),
    "body without a name": (BASE + "[{encoder: {kind: convolution}}]}", "must have a `name`; add it"),
    "joint component of no objective": (
        "components: {ner: {task: {objective: entities}, joint: true}}",
        "components.ner.joint: no objective of base.objectives has this name",
    ),
    "reference that DVC would not see": (
        "base: {training: {steps: '${vocabulary.max_characters}'}}",
        "base.training.steps must be a value, got the reference ${vocabulary.max_characters}. Use an anchor of YAML",
    ),
    "unknown anchor": ("base: {training: {steps: *steps}}", "found undefined alias 'steps'"),
    "code elsewhere": ("code: [my_blocks.py]", "code must be in blocks/, got 'my_blocks.py'"),
    "missing code": ("code: [blocks/nowhere.py]", "blocks/nowhere.py not found"),
    "block that no file defines": (
        "components: {ner: {task: {objective: initials.v1}}}",
        "components.ner: task.objective must be one of masked_characters, entities,",
    ),
    "number as a name": ("components: {2024: {task: {objective: entities}}}", "Put it in quotes"),
    "list for a mapping": ("base: [1]", "base must be a mapping, got [1]"),
    "objective without word targets": (
        "components: {ner: {task: {objective: masked_words}}}",
        "needs a vocabulary with word targets",
    ),
}


def test_there_are_at_least_thirty() -> None:
    assert len(CASES) >= 30


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_configuration_is_refused_with_its_path_and_a_remedy(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, message = CASES[name]
    section = text.partition(":")[0]
    is_duplicate = name == "duplicate section"
    others = [] if is_duplicate else [line for line in VALID.split("\n") if line.startswith(f"{section}:")]
    kept, skipping = [], False
    for line in VALID.splitlines():
        skipping = line in others or (skipping and line.startswith(" "))
        if not skipping:
            kept.append(line)
    (tmp_path / "params.yaml").write_text("\n".join([*kept, text]) + "\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        Params.load("params.yaml").check()
    assert str(caught.value).startswith("params.yaml") or name == "missing code"
    assert message in str(caught.value)


def test_the_valid_configuration_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(VALID)
    Params.load(tmp_path / "params.yaml").check()
