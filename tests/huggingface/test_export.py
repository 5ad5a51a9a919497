"""Exported folders: loaded in a fresh process, offline, with our package and without it, with the trained heads."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="needs transformers: pip install 'cclm-core[huggingface]'")

import numpy as np
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline
from typer.testing import CliRunner

from cclm_core import CausalLanguagePretrainer, CharacterMaskPretrainer, ComposedModel, EntityPretrainer, save
from cclm_core.applications.language_model import LanguageModel
from cclm_core.applications.trained import load_trained
from cclm_core.cli.app import app
from cclm_core.huggingface import (
    CclmForCausalLM,
    CclmForMaskedLM,
    CclmForTokenClassification,
    CclmModel,
    export,
    from_cclm,
    tokenizer_of,
)
from cclm_core.huggingface.remote_code import AUTO_CLASSES
from cclm_core.runtime.artifacts import verify
from cclm_core.runtime.errors import ArtifactError, CompositionError, ConfigError
from cclm_core.text.vocabulary import MASK
from tests.huggingface.small import CAUSAL, HOURGLASS, TEXTS, compositions, embedder

SHORT = {"steps": 60, "batch_size": 8, "window": 32, "learning_rate": 1e-2, "progress": False}
PEOPLE = [
    (f"{name} met {other}.", [(0, len(name), "PER"), (len(name) + 5, len(name) + 5 + len(other), "PER")])
    for name in ("Mary", "Ann", "York")
    for other in ("Tom", "Bo", "Cain")
]


class Published:
    """A base and components over it, as pretrainers publish them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.embedder = folder, embedder("causal")
        self.masked = CharacterMaskPretrainer(self.embedder, name="masked", encoder=HOURGLASS)
        self.masked.fit([text * 4 for text in TEXTS], **SHORT)  # trains and freezes the embedder, too
        self.next = CausalLanguagePretrainer(self.embedder, name="next", encoder=CAUSAL)
        self.next.fit([text * 4 for text in TEXTS], **SHORT | {"steps": 20})
        self.people = EntityPretrainer(self.embedder, name="people", encoder=HOURGLASS)
        self.people.fit(PEOPLE, **SHORT | {"steps": 30})
        for pretrainer in (self.masked, self.next, self.people):
            pretrainer.save(folder / pretrainer.name)
        self.base = folder / "base"
        save(self.embedder, self.base)
        save(ComposedModel(self.embedder, [self.masked.model, self.people.model], "full"), folder / "full")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    yield Published(tmp_path_factory.mktemp("published"))


def fresh(code: str, folder: Path, **environment: str) -> Any:
    """Runs code in a new process without a network, and returns the JSON that it prints last."""
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(folder / "modules"), **environment},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return json.loads(process.stdout.splitlines()[-1])


def logits_of(model: Any) -> list[float]:
    batch = tokenizer_of(model)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        values: list[float] = model(**batch)[0].double().flatten().tolist()
    return values


LOAD = """
import json, sys
{before}
import torch, transformers
from transformers import AutoConfig, AutoTokenizer
results = {{}}
for name, auto in {models!r}.items():
    options = {{"trust_remote_code": True}} if {remote} else {{}}
    config = AutoConfig.from_pretrained(name, **options)
    tokenizer = AutoTokenizer.from_pretrained(name, **options)
    model = getattr(transformers, auto).from_pretrained(name, **options)
    with torch.no_grad():
        logits = model(**tokenizer({texts!r}, padding=True, return_tensors="pt"))[0]
    results[name] = [type(tokenizer).__name__, type(model).__name__, logits.double().flatten().tolist()]
print(json.dumps(results))
"""


@pytest.mark.slow
def test_a_fresh_process_loads_every_class_offline_and_without_our_package(
    published: Published, tmp_path: Path
) -> None:
    models = {
        "AutoModel": from_cclm(published.folder / "full"),
        "AutoModelForMaskedLM": from_cclm(published.folder / "masked", base=published.base),
        "AutoModelForCausalLM": from_cclm(published.folder / "next", base=published.base),
        "AutoModelForTokenClassification": from_cclm(published.folder / "people", base=published.base),
        "AutoModelForSequenceClassification": from_cclm(
            compositions()["nested"], "sequence-classification", labels=["x", "y", "z"]
        ),
    }
    for remote in (False, True):
        for auto, model in models.items():
            export(model, tmp_path / f"{auto}-{remote}", remote_code=remote)
    expected = {auto: logits_of(model) for auto, model in models.items()}
    for remote in (False, True):
        before = "sys.modules['cclm_core'] = None" if remote else "import cclm_core.huggingface"
        names = {f"{auto}-{remote}": auto for auto in models}
        results = fresh(LOAD.format(before=before, models=names, remote=remote, texts=TEXTS), tmp_path)
        for name, auto in names.items():
            tokenizer, kind, logits = results[name]
            assert kind == type(models[auto]).__name__ == AUTO_CLASSES[auto][1]
            assert tokenizer == ("TokenizersBackend" if remote else "CclmTokenizer")
            assert logits == expected[auto], "the same numbers, bit for bit"
        assert verify(tmp_path / f"AutoModel-{remote}", "huggingface")
    files = {path.name for path in (tmp_path / "AutoModel-False").iterdir()}
    assert files == {
        "README.md", "config.json", "manifest.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"
    }  # fmt: skip


def test_heads_are_the_trained_ones(published: Published) -> None:
    folder, base = published.folder, published.base
    masked, following, people = (from_cclm(folder / name, base=base) for name in ("masked", "next", "people"))
    assert isinstance(masked, CclmForMaskedLM) and isinstance(following, CclmForCausalLM)
    assert isinstance(people, CclmForTokenClassification)
    assert people.config.id2label == {0: "O", 1: "B-PER", 2: "I-PER"}
    text = TEXTS[0][:30]  # a window has 32 ids
    with torch.no_grad():
        language_model = LanguageModel.load(folder / "next", base)
        ids = language_model.ids(text)
        assert tokenizer_of(following)(text).input_ids == ids
        logits = following(torch.tensor([ids])).logits[0, -1].double().numpy()
        assert np.allclose(logits, language_model.scores(ids), atol=1e-5)
        features = published.masked._over_base()(torch.tensor([ids]))
        assert torch.equal(masked(torch.tensor([ids])).logits, published.masked.objective.head(features))
    found = pipeline("token-classification", people, tokenizer=tokenizer_of(people), aggregation_strategy="simple")
    sentences = ["Mary met Tom.", "Ann met Bo."]
    for sentence, spans in zip(sentences, published.people.tag(sentences), strict=True):
        entities = [(one["start"], one["end"], one["entity_group"]) for one in found(sentence)]
        assert entities == [tuple(span) for span in spans]


def test_a_model_converts_from_its_pretrainer_its_loaded_parts_and_its_folder(published: Published) -> None:
    folder = published.folder / "next"
    trained = load_trained(folder, published.base, "next_characters")
    models = [from_cclm(source) for source in (published.next, trained)]
    models.append(from_cclm(folder, base=str(published.base)))
    assert {type(model) for model in models} == {CclmForCausalLM}
    assert all(logits_of(model) == logits_of(models[0]) for model in models)
    assert models[0].config.context_length == models[1].config.context_length == 32
    assert type(from_cclm(published.base)) is type(from_cclm(published.folder / "full")) is CclmModel
    features = from_cclm(folder, "features", base=published.base)
    assert type(features) is CclmModel and features.config.hidden_size == published.next.model.width
    new = from_cclm(folder, "masked-lm", base=published.base)
    assert isinstance(new, CclmForMaskedLM), "another head than the trained one is new"
    assert new.lm_head.weight.shape == models[0].lm_head.weight.shape


def test_generation_continues_like_our_language_model(published: Published) -> None:
    model = from_cclm(published.next)
    tokenizer = tokenizer_of(model)
    language_model = LanguageModel.load(published.folder / "next", published.base)
    ids = language_model.ids("To be")
    for _ in range(40):  # longer than the window of 32 ids
        ids.append(int(language_model.scores(ids)[4:].argmax()) + 4)
    written = model.generate(**tokenizer("To be", return_tensors="pt"), max_new_tokens=40, do_sample=False)
    # transformers can also end the text, which id 3 stands for.
    end = written[0].tolist()[1:].index(3) + 1 if 3 in written[0].tolist()[1:] else len(written[0])
    assert written[0, :end].tolist() == ids[:end] and end > 10
    run = pipeline("text-generation", model, tokenizer=tokenizer, device="cpu")
    text = run("To be", max_new_tokens=5, do_sample=False)[0]["generated_text"]
    assert text.startswith("To be") and len(text) >= len("To be")


def test_pipelines_of_masks_and_features(published: Published, tmp_path: Path) -> None:
    export(published.folder / "masked", tmp_path / "masked", base=published.base)
    fill = pipeline("fill-mask", str(tmp_path / "masked"), device="cpu")
    answers = fill("To be, or n[MASK]t to be", top_k=3)
    encode = published.embedder.preprocessor.encode
    ids = [*encode("To be, or n").tolist(), MASK, *encode("t to be").tolist()]
    with torch.no_grad():
        scores = published.masked.objective.head(published.masked._over_base()(torch.tensor([ids])))[0, 11]
    assert [one["token"] for one in answers] == scores.topk(3).indices.tolist()
    assert answers[0]["sequence"] == f"To be, or n{answers[0]['token_str']}t to be"
    both = fill("To b[MASK], or n[MASK]t", top_k=2)
    assert [len(mask) for mask in both] == [2, 2]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "masked")
    assert not tokenizer.split_special_tokens, "[MASK] is how a user asks"
    assert isinstance(AutoModelForMaskedLM.from_pretrained(tmp_path / "masked"), CclmForMaskedLM)
    export(published.folder / "full", tmp_path / "full")
    extract = pipeline("feature-extraction", str(tmp_path / "full"), device="cpu")
    width = published.masked.model.width + published.people.model.width
    assert torch.tensor(extract("To be")).shape == (1, 5, width)
    assert torch.tensor(extract("")).shape[1] == 0
    together, alone = extract([*TEXTS], batch_size=4), extract(TEXTS[1])
    assert torch.allclose(torch.tensor(together[1])[:, :26], torch.tensor(alone), atol=1e-5)


def test_the_pipeline_of_texts_takes_strings_lists_and_pairs() -> None:
    labels = ["different", "same"]
    model = from_cclm(embedder(), "sequence-classification", labels=labels, pair=True)
    run = pipeline("text-classification", model, tokenizer=tokenizer_of(model), device="cpu")
    answer = run({"text": "To be", "text_pair": "or not"}, top_k=None)
    assert {one["label"] for one in answer} == set(labels) and abs(sum(one["score"] for one in answer) - 1) < 1e-6
    single = from_cclm(embedder(), "sequence-classification", labels=labels)
    run = pipeline("text-classification", single, tokenizer=tokenizer_of(single), device="cpu")
    separate = [run(text)[0]["score"] for text in ["", "T", *TEXTS]]
    assert [one["score"] for one in run(["", "T", *TEXTS], batch_size=6)] == pytest.approx(separate, abs=1e-5)
    assert len(run("To be", top_k=2)) == 2
    several = from_cclm(embedder(), "sequence-classification", labels=labels, problem_type="multi_label_classification")
    scores = pipeline("text-classification", several, tokenizer=tokenizer_of(several), top_k=None)("To be")[0]
    logits = several(**tokenizer_of(several)("To be", return_tensors="pt")).logits[0]
    assert sorted(one["score"] for one in scores) == pytest.approx(sorted(torch.sigmoid(logits).tolist()))


def test_an_export_replaces_only_an_export(published: Published, tmp_path: Path) -> None:
    export(published.base, tmp_path / "out", remote_code=True)
    model = export(published.base, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.py")) and "auto_map" not in (tmp_path / "out/config.json").read_text()
    export(published.base, tmp_path / "out", remote_code=True)
    CclmModel.from_pretrained(tmp_path / "out").save_pretrained(tmp_path / "again")
    assert "auto_map" not in (tmp_path / "again/config.json").read_text(), "the code is not in this folder"
    assert logits_of(CclmModel.from_pretrained(tmp_path / "again")) == logits_of(model)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(ArtifactError, match="must be empty or hold an earlier export"):
        export(published.base, tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"


def test_wrong_sources_are_refused(published: Published, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"is a component, which needs its base"):
        from_cclm(published.folder / "masked")
    with pytest.raises(ArtifactError, match="nowhere not found"):
        from_cclm(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="`base` is for the folder of a component, got a Embedder"):
        from_cclm(published.embedder, base=published.base)
    save(embedder("causal", seed=9), tmp_path / "other")
    with pytest.raises(CompositionError, match=r"trained on another base|must share the vocabulary"):
        from_cclm(published.folder / "masked", base=tmp_path / "other")


def test_the_command_exports_and_says_how_to_load(published: Published, tmp_path: Path) -> None:
    arguments = ["export", str(published.folder / "people"), str(tmp_path / "out"), "--base", str(published.base)]
    result = CliRunner().invoke(app, [*arguments, "--license", "Apache-2.0"], catch_exceptions=False)
    assert result.exit_code == 0
    assert "Wrote CclmForTokenClassification to" in result.output
    assert "AutoModelForTokenClassification.from_pretrained(" in result.output and "license" not in result.output
    card = (tmp_path / "out" / "README.md").read_text()
    for part in (
        "license: apache-2.0",
        "pipeline_tag: token-classification",
        "# people",
        "| vocabulary |",
        '"entities"',
    ):
        assert part in card
    result = CliRunner().invoke(app, [*arguments, "--remote-code", "--json"], catch_exceptions=False)
    answer = json.loads(result.output)
    assert answer["class"] == "CclmForTokenClassification" and "huggingface_classifiers.py" in answer["files"]
    full = ["export", str(published.folder / "full"), str(tmp_path / "full")]
    result = CliRunner().invoke(app, full, catch_exceptions=False)
    assert "import cclm_core.huggingface" in result.output and "states no license" in result.output
    assert "AutoModel.from_pretrained(" in result.output
