"""The key `initialize`: pretrained weights of a model, of a network, or by a mapping; every mismatch is refused."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from cclm_core.composition.store import load_component, load_embedder, save
from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.encoders import Embedder
from cclm_core.runtime.artifacts import folder_digest, read_json
from cclm_core.runtime.errors import ArtifactError, CclmError, ConfigError, IntegrityError
from cclm_core.runtime.readers import parse_yaml
from cclm_core.runtime.reporting import null_report
from cclm_core.steps.compose import compose
from cclm_core.steps.params import Params
from cclm_core.training.config import BaseConfig, ComponentConfig
from cclm_core.training.initial_weights import InitializeConfig
from tests.corpora import encode, records
from tests.steps.test_training_steps import ENCODER, PARAMS, TRAINING, Project

UNTRAINED = TRAINING | {"steps": 0, "warmup_steps": 0}
CHAIN = {"kind": "chain", "parts": [{"kind": "convolution", "num_blocks": 1, "width": 16}, ENCODER]}
LARGER = {"core_width": 32, "num_layers": 2, "num_heads": 2, "width": 16}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A trained base, a component and a composition in `input/`; a second corpus with another alphabet."""
    made = Project(tmp_path_factory.mktemp("initialize"))
    encode(made.encoded, records(40))
    made.run_base()
    made.run_pretrain("entities")
    alone = made.folder / "input/alone"
    compose(Params.load(made.params), "alone", made.base, made.folder, alone, null_report)
    shutil.copytree(made.base, made.folder / "input/base")
    shutil.copytree(made.folder / "entities", made.folder / "input/entities")
    own = {"task": {"objective": "entities"}, "encoder": ENCODER, "training": UNTRAINED, "independent": True}
    made.write({**PARAMS, "components": {"own": own}})
    shutil.copytree(made.run_pretrain("own"), made.folder / "input/own")
    save_file({"encoder.extra": torch.ones(2)}, made.folder / "input/other.safetensors")
    others = [replace(record, text=record.text.replace("s", "ž")) for record in records(40)]
    encode(made.folder / "encoded-other", others)
    return made


@pytest.fixture(autouse=True)
def in_project(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.folder)


def initialized(project: Project, out: Path, keys: dict[str, Any], encoder: Any = ENCODER, **base: Any) -> Path:
    """A base with `initialize` and no training, published at `out`."""
    own = {**PARAMS["base"], "training": UNTRAINED, **base}  # type: ignore[dict-item]
    own["embedder"] = {**own["embedder"], "encoder": encoder}
    if keys:
        own["initialize"] = complete(keys)
    project.write({**PARAMS, "base": own})
    shutil.rmtree(project.folder / "checkpoints", ignore_errors=True)
    project.run_base(out)
    return out


def complete(keys: dict[str, Any]) -> dict[str, Any]:
    """`initialize` with the digest of its source, unless a digest is given."""
    return keys if "sha256" in keys else {**keys, "sha256": InitializeConfig(**keys).digest()}


def component(project: Project, name: str, keys: dict[str, Any], **own: Any) -> Path:
    settings = {"task": {"objective": "entities"}, "encoder": ENCODER, "training": UNTRAINED, **own}
    project.write({**PARAMS, "components": {name: {**settings, "initialize": complete(keys)}}})
    return project.run_pretrain(name)


def weights(folder: Path, file: str = "embedder.safetensors") -> dict[str, torch.Tensor]:
    return load_file(folder / file)


def test_a_whole_embedder_starts_from_published_weights(project: Project, tmp_path: Path) -> None:
    out = initialized(project, tmp_path / "base", {"source": "input/base"})
    assert load_embedder(out).digest == load_embedder(project.base).digest
    metrics, card = read_json(out / "metrics.json"), read_json(out / "card.json")
    assert metrics["initialized_parameters"] == metrics["parameters"] and "initialized_characters" not in metrics
    assert card["configuration"]["initialize"]["sha256"] == folder_digest(project.base)
    assert "source" not in card["configuration"]["initialize"], "a path is not part of a result"
    shutil.copytree("input/base", "input/moved")
    moved = initialized(project, tmp_path / "moved", {"source": "input/moved"})
    assert folder_digest(moved) == folder_digest(out)
    from_composition = {"source": "input/alone", "source_network": "base"}
    assert load_embedder(initialized(project, tmp_path / "c", from_composition)).digest == load_embedder(out).digest


def test_a_network_is_initialized_and_the_rest_is_random(project: Project, tmp_path: Path) -> None:
    random = weights(initialized(project, tmp_path / "random", {}))
    pretrained = weights(project.base)
    mixed = weights(initialized(project, tmp_path / "mixed", {"source": "input/base", "network": "encoder"}))
    for name, tensor in mixed.items():
        expected, other = (pretrained, random) if name.startswith("encoder.") else (random, pretrained)
        assert torch.equal(tensor, expected[name]), name
        assert tensor.std() == 0 or not torch.equal(tensor, other[name]), name


def test_a_mapping_selects_networks_by_other_names(project: Project, tmp_path: Path) -> None:
    second = {"source": "input/base", "mapping": {"encoder.parts.1": "encoder"}}
    chain = weights(initialized(project, tmp_path / "chain", second, CHAIN))
    pretrained = weights(project.base)
    copied = {name: tensor for name, tensor in chain.items() if name.startswith("encoder.parts.1.")}
    assert copied and all(
        torch.equal(tensor, pretrained[name.replace("encoder.parts.1", "encoder")]) for name, tensor in copied.items()
    )
    mapping = {"embedding": "embedding", "body": "encoder"}
    own = load_component(
        component(project, "own", {"source": "input/base", "mapping": mapping}, independent=True)
    ).state_dict()
    assert all(torch.equal(own[name.replace("encoder.", "body.")], tensor) for name, tensor in pretrained.items())


def test_a_component_starts_from_a_component_of_a_composition(project: Project) -> None:
    keys = {"source": "input/alone", "network": "body", "source_network": "parts.entities.body"}
    first, second = component(project, "first", keys), component(project, "second", {"source": "input/entities"})
    files = [weights(folder, "component.safetensors") for folder in (first, second)]
    assert all(torch.equal(files[0][name], files[1][name]) for name in files[0])
    cards = [read_json(folder / "component.json") for folder in (first, second)]
    assert cards[0]["origin"] == cards[1]["origin"], "components from the same weights can be averaged"
    assert ComponentConfig.parse(read_json(first / "card.json")["configuration"], "card").initialize is not None


def test_training_continues_from_the_weights(project: Project, tmp_path: Path) -> None:
    training = {"training": TRAINING}
    one = initialized(project, tmp_path / "one", {"source": "input/base"}, **training)
    two = initialized(project, tmp_path / "two", {"source": "input/base"}, **training)
    assert folder_digest(two) == folder_digest(one)
    random = initialized(project, tmp_path / "random", {}, **training)
    scores = [read_json(folder / "metrics.json")["held_out_bits_per_masked_character"] for folder in (one, random)]
    assert scores[0] < scores[1], "three more steps are better than the first three"


def test_the_vectors_of_shared_characters_are_copied_to_another_vocabulary(project: Project, tmp_path: Path) -> None:
    project.encoded = project.folder / "encoded-other"
    try:
        both = r"vocabulary \w{12} of \d+ characters, and the source \w{12} of \d+; \d+ are in both"
        with pytest.raises(ArtifactError, match=both):
            initialized(project, tmp_path / "out", {"source": "input/base"})
        digest_only = r"the source has only the digest of its own, \w{12}\. Use the vocabulary of the source"
        with pytest.raises(ArtifactError, match=digest_only):
            initialized(project, tmp_path / "out", {"source": "input/own", "network": "embedding"})
        out = initialized(project, tmp_path / "out", {"source": "input/base", "vocabulary": "by_character"})
        encoder_only = initialized(project, tmp_path / "encoder", {"source": "input/base", "network": "encoder"})
    finally:
        project.encoded = project.folder / "encoded"
    own, source = load_embedder(out), load_embedder(project.base)
    letters = {*own.preprocessor.alphabet} & {*source.preprocessor.alphabet}
    assert read_json(out / "metrics.json")["initialized_characters"] == len(letters) > 10
    assert "ž" in own.preprocessor.alphabet and "s" not in own.preprocessor.alphabet
    tables = [model.state_dict()["embedding.characters.weight"] for model in (own, source)]
    for letter in letters:
        ids = [int(model.preprocessor.encode(letter)[0]) for model in (own, source)]
        assert torch.equal(tables[0][ids[0]], tables[1][ids[1]]), letter
    random, copied = weights(encoder_only), weights(out)
    for name, tensor in weights(project.base).items():
        if name.startswith("encoder."):
            assert torch.equal(copied[name], tensor), name
        elif "ngrams" in name:
            assert torch.equal(copied[name], random[name]), "n-grams of other ids have no row"


BASE = {"source": "input/base"}

MISMATCHES: dict[str, tuple[dict[str, Any], Any, type[CclmError], str]] = {
    "settings": (
        BASE,
        ENCODER | {"num_heads": 1},
        ArtifactError,
        r"cannot initialize the base .* from input/base: encoder\.num_heads is 1 in the model, and encoder\.num_heads "
        r"is 2 in the source\. Use the same settings, or list those that may differ in `allow`",
    ),
    "shapes": (
        BASE | {"allow": ["core_width"]},
        ENCODER | {"core_width": 16},
        ArtifactError,
        r"encoder\.\S+ is \(16, .*\) in the model, and encoder\.\S+ is \(32, .*\) in the source",
    ),
    "weights that only the model has": (
        BASE | {"allow": ["num_layers"]},
        LARGER,
        ArtifactError,
        r"encoder\.\S+ is \(.*\) in the model, and the source has no encoder\.",
    ),
    "weights that only the source has": (
        {"source": "input/other.safetensors", "network": "encoder"},
        ENCODER,
        ArtifactError,
        r"and the source has no encoder\..*; and \d+ more",
    ),
    "another kind of model": (
        {"source": "input/entities"},
        ENCODER,
        ArtifactError,
        r"in the model, and the source has no embedding\.",
    ),
    "unknown network": (BASE | {"network": "encodr"}, ENCODER, ConfigError, "the base .* did you mean 'encoder'"),
    "unknown network of the source": (
        BASE | {"mapping": {"encoder": "body"}},
        ENCODER,
        ConfigError,
        r"initialize: input/base has no network or weight 'body'; known: embedding",
    ),
    "selected twice": (
        BASE | {"mapping": {"": "", "encoder": "encoder"}},
        ENCODER,
        ConfigError,
        r"initialize\.mapping selects encoder\.\S+ twice",
    ),
    "another digest": (BASE | {"sha256": "0" * 64}, ENCODER, IntegrityError, "input/base has the SHA-256 .* expects 0"),
    "no digest": (BASE | {"sha256": None}, ENCODER, ConfigError, r"base\.initialize\.sha256 is missing.*: [0-9a-f]{9}"),
    "no source": ({"sha256": "0" * 64, "source": None}, ENCODER, ConfigError, r"base\.initialize\.source is missing"),
    "outside": (BASE | {"source": "base"}, ENCODER, ConfigError, r"initialize\.source must be in input/"),
    "missing": ({"source": "input/none", "sha256": "0" * 64}, ENCODER, ConfigError, "'input/none' not found"),
    "two ways": (BASE | {"network": "encoder", "mapping": {"a": "b"}}, ENCODER, ConfigError, "not both"),
    "unknown key": ({**BASE, "sha256": "0" * 64, "part": "a"}, ENCODER, ConfigError, "part is not a known key"),
    "no vocabulary": (
        {"source": "input/other.safetensors", "mapping": {"embedding.characters": "encoder"}},
        ENCODER,
        ArtifactError,
        r"the model has the vocabulary \w{12}, and the source has none",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISMATCHES)
def test_a_mismatch_is_refused_with_both_sides(project: Project, tmp_path: Path, name: str) -> None:
    keys, encoder, kind, message = MISMATCHES[name]
    with pytest.raises(kind, match=message):
        initialized(project, tmp_path / "out", keys, encoder)
    assert not (tmp_path / "out").exists()


def test_weights_of_the_same_shape_with_another_meaning_are_refused(project: Project, tmp_path: Path) -> None:
    """In spaCy, weights load without a word if the attributes of an embedding are in another order."""
    embedding = {"width": 16, "ngram_buckets": 64, "ngram_sizes": [3, 2]}
    message = r"embedding\.ngram_sizes is \[3, 2\] in the model, and embedding\.ngram_sizes is \[2, 3\] in the source"
    with pytest.raises(ArtifactError, match=message):
        initialized(project, tmp_path / "out", BASE, embedder={"embedding": embedding})


def test_a_larger_model_starts_from_the_layers_of_a_smaller_one(project: Project, tmp_path: Path) -> None:
    names = {name.rpartition(".layers.")[0] + ".layers.0" for name in weights(project.base) if ".layers.0." in name}
    keys = BASE | {"mapping": {name: name for name in names}, "allow": ["num_layers"]}
    out = weights(initialized(project, tmp_path / "out", keys, LARGER))
    pretrained = weights(project.base)
    assert names and all(torch.equal(out[name], pretrained[name]) for name in pretrained if ".layers.0." in name)


def test_weights_that_are_no_finite_floats_are_refused(project: Project, tmp_path: Path) -> None:
    for name, value, message in (
        ("whole", torch.ones(2, dtype=torch.int64), "has the type I64 in the source"),
        ("nan", torch.full((2,), torch.nan), "weights must be finite"),
    ):
        (bias,) = [key for key, tensor in weights(project.base).items() if tensor.ndim == 1][:1]
        shape = weights(project.base)[bias].shape
        save_file({"x": value[:1].expand(shape).clone()}, project.folder / f"input/{name}.safetensors")
        with pytest.raises(ArtifactError, match=message):
            keys = {"source": f"input/{name}.safetensors", "mapping": {bias: "x"}}
            initialized(project, tmp_path / name, keys)


def test_the_example_of_the_documentation_runs(project: Project, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/transfer.md").read_text(encoding="utf-8")
    (example,) = [block for block in re.findall(r"^```yaml\n(.*?)^```$", page, re.M | re.S) if "initialize:" in block]
    digest = re.findall(r"\b[0-9a-f]{64}\b", example)[0]
    pretrained = Embedder(EncodedCorpus.open(project.encoded).preprocessor)
    Path("input").mkdir(exist_ok=True)
    save(pretrained, "input/pretrained")
    params = parse_yaml(example.replace(digest, folder_digest("input/pretrained")), "docs/transfer.md")
    params["base"]["training"] = params["components"]["entities"]["training"] = UNTRAINED
    project.write({"seed": 1, **params})
    shutil.rmtree(project.folder / "checkpoints", ignore_errors=True)
    project.run_base(tmp_path / "base")
    assert load_embedder(tmp_path / "base").digest == pretrained.digest
    own = load_component(project.run_pretrain("entities", tmp_path / "base")).state_dict()
    assert all(
        torch.equal(own[name.replace("encoder.", "body.")], tensor) for name, tensor in pretrained.state_dict().items()
    )


def test_a_joint_component_has_one_source_of_weights() -> None:
    values = {"task": {"objective": "entities"}, "joint": True, "initialize": BASE}
    with pytest.raises(ConfigError, match="remove `joint` or `initialize`"):
        ComponentConfig.parse(values, "components.a")


def test_configurations_without_the_key_are_unchanged() -> None:
    assert "initialize" not in BaseConfig().canonical()
    assert "initialize" not in ComponentConfig(task={"objective": "entities"}).canonical()  # type: ignore[arg-type]
