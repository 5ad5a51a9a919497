"""Which stages a run of a part of the pipeline consists of, and that nothing before them is stale."""

from collections.abc import Iterable

from cclm_core.runtime.config import nearest
from cclm_core.runtime.errors import ConfigError
from flows.graph import Node, Plan


def component_stage(plan: Plan, component: str) -> str:
    """The stage that trains a component: the one that reads its parameters.

    Raises:
        ConfigError: no stage does.
    """
    makers: dict[str, str] = {}
    for node in plan.nodes.values():
        for key in node.params:
            if key.startswith("components."):
                makers.setdefault(key.split(".")[1], node.name)
    if component not in makers:
        raise ConfigError(f"{component} must be a component of params.yaml; {nearest(component, list(makers))}")
    return makers[component]


def with_dependents(plan: Plan, stage: str) -> dict[str, Node]:
    """A stage and all that comes after it, in order."""
    found: dict[str, Node] = {}
    for name, node in plan.nodes.items():
        if name == stage or found.keys() & set(node.needs):
            found[name] = node
    return found


def evaluation_stages(plan: Plan, compositions: Iterable[str]) -> dict[str, Node]:
    """The stages that compose and measure the named compositions, in order; those of all when none is named.

    Raises:
        ConfigError: a composition is not there.
    """
    makers = {
        node.item: node for node in plan.nodes.values() if any(key.startswith("compositions.") for key in node.params)
    }
    wanted = list(compositions) or list(makers)
    for name in wanted:
        if name not in makers:
            raise ConfigError(f"{name} must be a composition of params.yaml; {nearest(name, list(makers))}")
    chosen: set[str] = set()
    for name in wanted:
        chosen.update(with_dependents(plan, makers[name].name))
    return {name: node for name, node in plan.nodes.items() if name in chosen}


def refuse_stale_before(plan: Plan, nodes: dict[str, Node]) -> None:
    """A part of the pipeline runs on what is before it, which must be what it was made from.

    Raises:
        ConfigError: a stage that these need is stale; those that changed are named, with why.
    """
    before: set[str] = set()
    for name in reversed(plan.nodes):
        if name in nodes or name in before:
            before.update(plan.nodes[name].needs)
    reasons = [f"{name} ({', '.join(why[:3])})" for name, why in plan.changed.items() if name in before - nodes.keys()]
    if reasons:
        raise ConfigError(
            f"{next(iter(nodes))} must stand on stages that are up to date; stale: {'; '.join(reasons)}. "
            "Run the whole pipeline first: `cclm run`."
        )
