"""Saving publishes a folder as a whole; loading verifies it, and allocates nothing that the file does not hold."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.store import load, load_base, load_component, load_composition, save, write
from cclm_core.encoders import HourglassConfig
from cclm_core.runtime.artifacts import verify
from cclm_core.runtime.errors import ArtifactError, CclmError, ConfigError, IntegrityError
from tests.composition.nests import over, pair
from tests.encoders.shapes import SMALL, embedder, text


def test_a_saved_model_is_published(tmp_path: Path) -> None:
    base = embedder(SMALL)
    for kind, model in {"embedder": base, "component": over(base, "part"), "composition": pair(base)}.items():
        folder = tmp_path / "new" / kind
        save(model, str(folder))
        verify(folder, kind)
        assert load(str(folder)).digest == model.digest
        save(model, folder)  # over itself


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_an_interrupted_save_leaves_the_old_model_or_the_new_one(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = embedder(SMALL), embedder(SMALL, seed=2)
    whole, calls = {old.digest, new.digest}, 0
    while True:
        folder = tmp_path / str(calls)
        save(old, folder)
        with monkeypatch.context() as patch:
            patch.setattr(os, failing, _interrupting(getattr(os, failing), calls))
            try:
                save(new, folder)
                is_done = True
            except KeyboardInterrupt:
                is_done = False
        assert load(folder).digest in whole
        if is_done:
            break
        calls += 1


def _interrupting(function: Any, calls: int) -> Any:
    """`function`, which raises KeyboardInterrupt instead of call number `calls`."""
    remaining = [calls]

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        if not remaining[0]:
            remaining[0] = -1
            raise KeyboardInterrupt
        remaining[0] -= 1
        return function(*args, **kwargs)

    return interrupted


def test_a_folder_with_other_files_is_not_replaced(tmp_path: Path) -> None:
    base = embedder(SMALL)
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ArtifactError, match=r"must be empty or hold a saved model and nothing else, got thesis.txt"):
        save(base, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    with pytest.raises(ArtifactError, match="takes an Embedder, a Component or a ComposedModel, got Linear"):
        save(torch.nn.Linear(1, 1), tmp_path / "new")  # type: ignore[arg-type]


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    save(pair(embedder(SMALL)), tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "manifest.json"]
    assert len(files) == 8
    for path in files:
        content = path.read_bytes()
        path.write_bytes(content[:-7] + bytes([content[-7] ^ 0x40]) + content[-6:])
        with pytest.raises(IntegrityError, match=f"{path.name} is altered"):
            load_composition(tmp_path)
        path.write_bytes(content)
    load_composition(tmp_path)


def test_freezing_is_recorded(tmp_path: Path) -> None:
    base = embedder(SMALL)
    plain = {"embedder.json": (written(base, tmp_path / "plain") / "embedder.json").read_bytes()}
    assert b"frozen" not in plain["embedder.json"]
    base.embedding.requires_grad_(False)
    loaded = load_base(written(base, tmp_path / "partly"))
    assert flags(loaded) == flags(base) and loaded.digest == base.digest
    assert not any(flags(load_base(written(base.freeze(), tmp_path / "frozen"))).values())
    assert all(flags(load_base(written(base.unfreeze(), tmp_path / "again"))).values())
    part = over(base, "part").requires_grad_(False)
    assert not any(flags(load(written(part, tmp_path / "part"))).values())
    model = pair(base)
    model.part("first").requires_grad_(False)
    again = load_composition(written(model, tmp_path / "pair"))
    assert {name for name, is_trained in flags(again).items() if not is_trained and not name.startswith("base.")} == {
        f"components.first.{name}" for name in flags(model.part("first"))
    }
    card = tmp_path / "part" / "component.json"
    for value in (3, ["body.nothing"], {"a": 1}):
        card.write_text(json.dumps(json.loads(card.read_text()) | {"frozen": value}))
        with pytest.raises(ArtifactError, match="`frozen`"):
            load(tmp_path / "part")


def written(model: Any, folder: Path) -> Path:
    """The folder, with the files of a model and without a manifest."""
    folder.mkdir()
    write(model, folder)
    return folder


def flags(model: torch.nn.Module) -> dict[str, bool]:
    return {name: parameter.requires_grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16, torch.float64])
def test_a_model_of_another_precision_keeps_it(precision: torch.dtype, tmp_path: Path) -> None:
    base = embedder(SMALL).to(precision)
    model = ComposedModel(base, [over(base, "part").to(precision)], fusion="attention").to(precision).eval()
    again = load_composition(written(model, tmp_path / "model"))
    assert again.digest == model.digest and {parameter.dtype for parameter in again.parameters()} == {precision}
    assert torch.equal(again(text(9)), model(text(9)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensor: torch.full_like(tensor, torch.nan), "must be finite, but .* has NaN or infinity in body"),
        (lambda tensor: torch.full_like(tensor, torch.inf), "must be finite"),
        (lambda tensor: tensor > 0, "has type BOOL"),
        (lambda tensor: tensor.to(torch.uint8), "has type U8"),
        (lambda tensor: tensor.to(torch.complex64), "has type C64"),
        (lambda tensor: tensor.half() if tensor.ndim < 2 else tensor, "different types, F16 and F32"),
        (lambda tensor: tensor[None].contiguous(), r"has shape \(1, .*, expected \("),
    ],
)
def test_weights_that_are_none_are_refused(change: Any, message: str, tmp_path: Path) -> None:
    folder = written(over(embedder(SMALL), "part"), tmp_path / "part")
    path = folder / "component.safetensors"
    save_file({name: change(tensor) for name, tensor in load_file(path).items()}, path)
    with pytest.raises(ArtifactError, match=message):
        load_component(folder)


def test_a_pointer_of_git_lfs_and_garbage_are_named(tmp_path: Path) -> None:
    folder = written(over(embedder(SMALL), "part"), tmp_path / "part")
    path = folder / "component.safetensors"
    size = (2**63 - 1).to_bytes(8, "little")
    for content, message in (
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS, .* Run `git lfs pull`"),
        (b"", "component.safetensors is damaged"),
        (size + b"{}", "component.safetensors is damaged"),
        (path.read_bytes()[:-1], "component.safetensors is damaged"),
    ):
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match=message):
            load_component(folder)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("embedding", "width"), 10**9),
        (("embedding", "ngram_buckets"), 10**30),
        (("embedding", "ngram_buckets"), 2**24),
        (("embedding", "ngram_sizes"), [2] * 10**5),
        (("encoder", "core_width"), 8192),
        (("encoder", "kernel_size"), 10**9 + 1),
        (("encoder", "num_layers"), 10**8),
        (("encoder", "width"), 10**6),
    ],
)
def test_a_configuration_that_does_not_fit_its_weights_allocates_nothing(
    keys: tuple[str, str], value: Any, tmp_path: Path
) -> None:
    folder = written(embedder(SMALL), tmp_path / "base")
    card = json.loads((folder / "embedder.json").read_text())
    card[keys[0]][keys[1]] = value
    (folder / "embedder.json").write_text(json.dumps(card))
    with pytest.raises((ArtifactError, ConfigError)):
        load(folder)


def test_a_chain_of_links_ends(tmp_path: Path) -> None:
    base = embedder(SMALL)
    folder = written(over(base, "part").fork(base), tmp_path / "fork")
    (folder / "base" / "embedder.json").unlink()
    for path in [*(folder / "base").iterdir(), folder / "base"]:
        path.unlink() if path.is_file() else path.rmdir()
    deep = written(ComposedModel(base, [over(base, "part").fork(base)]), tmp_path / "deep")
    (folder / "base").symlink_to(deep, target_is_directory=True)
    for path in sorted((deep / "parts" / "part").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (deep / "parts" / "part").rmdir()
    (deep / "parts" / "part").symlink_to(folder, target_is_directory=True)
    with pytest.raises(CclmError, match="is a link to a folder that contains it"):
        load(folder)


def test_bounds_of_configurations_name_the_key() -> None:
    with pytest.raises(ConfigError, match=r"num_layers must be less than or equal to 128"):
        HourglassConfig.parse({"num_layers": 10**8}, "encoder")
