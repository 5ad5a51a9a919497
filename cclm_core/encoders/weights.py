"""Weights in safetensors files: names, shapes and types are read and compared before anything is allocated.

```
save_weights(tensors, path)        writes named tensors
read_weights(path, expected)       reads them, if they are exactly the expected ones
read_tensors(path, names)          reads some of them
load_weights(module, path)         reads the weights of a module, which may have no storage yet
```
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from cclm_core.runtime.errors import ArtifactError

TYPES = {"F64", "F32", "F16", "BF16"}
"""The types of weights, by their names in safetensors."""

_LFS = b"version https://git-lfs"  # the first bytes of a file that Git LFS has not fetched
_SHOWN = 5  # differences in a message


class Header(NamedTuple):
    """Shape and type of one tensor of a file."""

    shape: tuple[int, ...]
    type: str


def save_weights(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Writes named tensors as a safetensors file."""
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)


def read_header(path: Path) -> dict[str, Header]:
    """Reads names, shapes and types of the tensors in a file, and nothing else.

    Raises:
        ArtifactError: the file is missing, a pointer of Git LFS, or damaged.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} not found. Run the stage that creates it.")
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  not a mapping
            return {name: Header(tuple(part.get_shape()), part.get_dtype()) for name, part in slices.items()}
    except (SafetensorError, OSError, ValueError, OverflowError) as error:
        raise ArtifactError(_damage(path, error)) from None


def read_weights(path: Path, expected: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    """Reads a file whose tensors have the names and shapes of `expected`. The tensors keep the types of the file.

    Args:
        path: a safetensors file.
        expected: tensors by name; only their shapes are read, so they may be on the device `meta`.
        what: what the weights are for, in messages, e.g. `the embedder`.

    Raises:
        ArtifactError: the file is missing or damaged, names or shapes differ (the message lists the differences), or a
            weight is NaN, infinite, or not a float.
    """
    header = read_header(path)
    problems = [*_differences(expected, header), *_foreign(header)]
    if problems:
        more = f", and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ArtifactError(
            f"{path} does not match {what}: {'; '.join(problems[:_SHOWN])}{more}. Use the vocabulary and settings that "
            "it was trained with, or train it again."
        )
    return read_tensors(path, header)


def read_tensors(path: Path, names: Iterable[str]) -> dict[str, Tensor]:
    """Reads some tensors of a file, with the types of the file. Check its header first, see `read_header`.

    Raises:
        ArtifactError: the file is damaged, or a weight is NaN or infinite.
    """
    weights: dict[str, Tensor] = {}
    try:
        with safe_open(path, framework="pt") as file:
            for name in names:
                weights[name] = file.get_tensor(name).clone()  # not a map of the file, which may change
    except (SafetensorError, OSError, ValueError) as error:
        raise ArtifactError(_damage(path, error)) from None
    infinite = [name for name, tensor in weights.items() if not tensor.isfinite().all()]
    if infinite:
        raise ArtifactError(
            f"weights must be finite, but {path} has NaN or infinity in {', '.join(infinite[:_SHOWN])}. Train it again."
        )
    return weights


def load_weights(module: nn.Module, path: Path, extra: Iterable[str] = ()) -> None:
    """Reads a file into a module. Afterwards the weights have the types of the file. On an error, nothing changes.

    Args:
        module: changed in place. It may have been built without storage, see `runtime.initialization`.
        path: a safetensors file.
        extra: names of weights of the module that other files hold, and that are already loaded.

    Raises:
        ArtifactError: see `read_weights`.
    """
    own = module.state_dict()
    loaded = {name: own[name] for name in extra}
    expected = {name: tensor for name, tensor in own.items() if name not in loaded}
    weights = read_weights(path, expected, f"the weights of {type(module).__name__}")
    trained = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
    module.load_state_dict({**weights, **loaded}, assign=True)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(trained[name])


def _damage(path: Path, error: Exception) -> str:
    with path.open("rb") as stream:
        is_pointer = stream.read(len(_LFS)) == _LFS
    if is_pointer:
        return f"{path} is a pointer of Git LFS, not the file itself. Run `git lfs pull`."
    return f"{path} is damaged: {error}. Run the stage that creates it again, or restore the file."


def _differences(expected: Mapping[str, Tensor], header: Mapping[str, Header]) -> list[str]:
    """Describes each name or shape that differs."""
    differences = [f"{name} is missing" for name in sorted(expected.keys() - header.keys())]
    differences += [f"{name} is unexpected" for name in sorted(header.keys() - expected.keys())]
    for name in sorted(expected.keys() & header.keys()):
        shape = tuple(expected[name].shape)
        if shape != header[name].shape:
            differences.append(f"{name} has shape {header[name].shape}, expected {shape}")
    return differences


def _foreign(header: Mapping[str, Header]) -> list[str]:
    foreign = [f"{name} has type {one.type}" for name, one in sorted(header.items()) if one.type not in TYPES]
    types = sorted({one.type for one in header.values()})
    return foreign or ([f"weights have different types, {' and '.join(types)}"] if len(types) > 1 else [])
