"""The stage `compose`: combines parts over one base into a composition."""

from pathlib import Path

from cclm_core.cards import write_card
from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.config import CompositionConfig
from cclm_core.composition.store import load_all, write
from cclm_core.runtime.artifacts import publishing, verify, write_json
from cclm_core.runtime.folders import named_folder
from cclm_core.runtime.random import derive_seed, seeded_initialization
from cclm_core.runtime.reporting import Report
from cclm_core.steps.params import Params


def compose(params: Params, name: str, base: Path, components: Path, out: Path, report: Report) -> None:
    """Composes the parts that `compositions.NAME` of the parameters lists.

    Args:
        params: the parameters.
        name: the composition, a key of `compositions`.
        base: folder of the embedder, or of the composition that the parts were trained over.
        components: folder with the parts by name: components, or compositions to nest.
        out: folder to publish the composition at.
        report: receives the number of parameters and the width.

    Raises:
        CclmError: a part is missing (the message suggests the nearest name) or damaged, or does not fit this base.
            `out` is not changed.
    """
    config = params.named(CompositionConfig, name)
    seed = params.seed
    folders = [
        named_folder(components, part, f"{params.source}: compositions.{name}.parts", "pretrain")
        for part in config.parts
    ]
    digests = {
        "base": verify(base, "embedder", "composition"),
        "parts": [verify(folder, "component", "composition") for folder in folders],
    }
    shared, parts = load_all(base, folders)
    if config.untrained:
        parts = [part.untrained(derive_seed(seed, "untrained", part.name)) for part in parts]
    with seeded_initialization(derive_seed(seed, "fusion", name)):
        model = ComposedModel(shared, parts, name, config.fusion)
    with publishing(out, "composition") as folder:
        write(model, folder)
        sizes = {"parameters": sum(parameter.numel() for parameter in model.parameters()), "width": model.width}
        write_json(folder / "metrics.json", sizes)
        write_json(
            folder / "card.json",
            {"stage": "compose", "name": name, "seed": seed, **digests, "configuration": config.canonical()},
        )
        write_card(folder, "composition")
    report(1, {key: float(value) for key, value in sizes.items()}, 1)
