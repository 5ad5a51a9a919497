"""The stage `compose`: joins components over one base into a model."""

from collections.abc import Sequence
from pathlib import Path

from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.config import CompositionConfig
from cclm_core.composition.store import load_base, load_part
from cclm_core.runtime.artifacts import publishing, verify, write_json
from cclm_core.runtime.random import derive_seed, seeded_initialisation
from cclm_core.runtime.reporting import Report
from cclm_core.steps import parameters

EMPTY_SLOT = "empty-"


def compose(params: Path, name: str, base: Path, parts: Sequence[Path], out: Path, report: Report) -> None:
    """Composes the components at `parts`, in that order, over `base`, and publishes the model at `out`.

    Args:
        base: the folder of an embedder, or of a composition on which the parts were trained.
        parts: folders of components and compositions; a path whose name begins with `empty-` is an empty slot and is
            passed over.

    Raises:
        CclmError: a part is missing or damaged, or the parts do not belong together; `out` is left as it was.
    """
    config = parameters.section(params, f"compositions.{name}", CompositionConfig)
    seed = parameters.seed(params)
    folders = [part for part in parts if not part.name.startswith(EMPTY_SLOT)]
    digests = {
        "base": verify(base, "embedder", "composition"),
        "parts": [verify(folder, "component", "composition") for folder in folders],
    }
    components = [load_part(folder) for folder in folders]
    if config.untrained:
        components = [part.untrained(derive_seed(seed, "untrained", part.name)) for part in components]
    with seeded_initialisation(derive_seed(seed, "fusion", name)):
        model = ComposedModel(load_base(base), components, name, config.fusion)
    with publishing(out, "composition") as folder:
        model.save(folder)
        numbers = {"parameters": sum(parameter.numel() for parameter in model.parameters()), "width": model.width}
        write_json(folder / "metrics.json", numbers)
        write_json(
            folder / "card.json",
            {"stage": "compose", "name": name, "seed": seed, **digests, "configuration": config.canonical()},
        )
    report(1, {key: float(value) for key, value in numbers.items()}, 1)
