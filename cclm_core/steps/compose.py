"""The stage `compose`: joins components over one base into a model."""

from pathlib import Path

from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.config import CompositionConfig
from cclm_core.composition.store import load_all, write
from cclm_core.runtime.artifacts import publishing, verify, write_json
from cclm_core.runtime.config import nearest
from cclm_core.runtime.errors import ArtifactError
from cclm_core.runtime.random import derive_seed, seeded_initialisation
from cclm_core.runtime.reporting import Report
from cclm_core.steps.params import Params


def compose(params: Params, name: str, base: Path, components: Path, out: Path, report: Report) -> None:
    """Composes the parts that `compositions.<name>` of the parameters lists, over `base`, and publishes them at `out`.

    Args:
        params: the parameters.
        name: the composition, a key of `compositions`.
        base: folder of an embedder, or of a composition that the parts were trained over.
        components: folder that holds the parts by name: components, or compositions to nest.
        out: the folder to publish.
        report: receives the number of parameters and the width.

    Raises:
        CclmError: a part is missing (the nearest one is named) or damaged, or the parts do not fit together; `out` is
            left as it was.
    """
    config = params.named(CompositionConfig, name)
    seed = params.seed
    folders = [_folder(components, part, f"{params.source}: compositions.{name}.parts") for part in config.parts]
    digests = {
        "base": verify(base, "embedder", "composition"),
        "parts": [verify(folder, "component", "composition") for folder in folders],
    }
    shared, parts = load_all(base, folders)
    if config.untrained:
        parts = [part.untrained(derive_seed(seed, "untrained", part.name)) for part in parts]
    with seeded_initialisation(derive_seed(seed, "fusion", name)):
        model = ComposedModel(shared, parts, name, config.fusion)
    with publishing(out, "composition") as folder:
        write(model, folder)
        numbers = {"parameters": sum(parameter.numel() for parameter in model.parameters()), "width": model.width}
        write_json(folder / "metrics.json", numbers)
        write_json(
            folder / "card.json",
            {"stage": "compose", "name": name, "seed": seed, **digests, "configuration": config.canonical()},
        )
    report(1, {key: float(value) for key, value in numbers.items()}, 1)


def _folder(components: Path, part: str, key: str) -> Path:
    if (components / part).is_dir():
        return components / part
    names = [path.name for path in components.glob("[!.]*") if path.is_dir()]
    hint = nearest(part, names) if names else "the folder holds no component."
    raise ArtifactError(f"{key}: {part} not found in {components}; {hint} Otherwise run the stage that trains it.")
