"""Selects the stages for a partial run, and checks that the stages before them are up to date."""

from collections.abc import Iterable, Mapping

from cclm_core.runtime.config import nearest
from cclm_core.runtime.errors import ConfigError
from flows.graph.node import Node
from flows.graph.plan import Plan


def component_stage(plan: Plan, component: str) -> str:
    """The stage that trains a component, which is the first one that depends on its parameters.

    Raises:
        ConfigError: no stage depends on parameters of this component.
    """
    trainers: dict[str, str] = {}
    for node in plan.nodes.values():
        for key in node.params:
            if key.startswith("components."):
                trainers.setdefault(key.split(".")[1], node.name)
    if component not in trainers:
        raise ConfigError(f"{component} is not a component of params.yaml; {nearest(component, list(trainers))}")
    return trainers[component]


def with_dependents(plan: Plan, stage: str) -> dict[str, Node]:
    """A stage and all stages after it, in order.

    Compositions that read the folder of the stage's output without containing the output are included, but the stages
    after them are not: DVC considers these compositions changed, but composing them again yields the same files.
    """
    dependents: set[str] = {stage}
    sharing: set[str] = set()
    for name, node in plan.nodes.items():
        if dependents.intersection(node.needs):
            dependents.add(name)
        elif dependents.intersection(node.shares):
            sharing.add(name)
    return {name: node for name, node in plan.nodes.items() if name in dependents | sharing}


def evaluation_stages(plan: Plan, compositions: Iterable[str]) -> dict[str, Node]:
    """The stages that compose and evaluate the given compositions, in order.

    Args:
        compositions: names in params.yaml; empty for all.

    Raises:
        ConfigError: a name is not a composition of params.yaml.
    """
    composers = {
        node.item: node for node in plan.nodes.values() if any(key.startswith("compositions.") for key in node.params)
    }
    names = list(compositions) or list(composers)
    for name in names:
        if name not in composers:
            raise ConfigError(f"{name} is not a composition of params.yaml; {nearest(name, list(composers))}")
    stages: set[str] = set()
    for name in names:
        stages.update(with_dependents(plan, composers[name].name))
    return {name: node for name, node in plan.nodes.items() if name in stages}


def after_forced(nodes: Mapping[str, Node], forced: Iterable[str]) -> set[str]:
    """The stages that a run has to check because some are forced.

    These are the forced stages, the stages after them, and the stages that share a folder with any of these.
    """
    cascading, affected = set(forced), set(forced)
    for name, node in nodes.items():
        if cascading.intersection(node.needs):
            cascading.add(name)
        if cascading.intersection((*node.needs, *node.shares)):
            affected.add(name)
    return affected


def submission_order(nodes: Mapping[str, Node]) -> list[str]:
    """The stages in topological order; those that share a folder with others, and the stages after them, come last."""
    late: set[str] = set()
    for name, node in nodes.items():
        if late.intersection(node.needs) or any(writer in nodes for writer in node.shares):
            late.add(name)
    return [name for name in nodes if name not in late] + [name for name in nodes if name in late]


def refuse_stale_before(plan: Plan, nodes: dict[str, Node]) -> None:
    """Checks that the inputs of a partial run are up to date.

    Raises:
        ConfigError: stages before `nodes` are stale. The message lists the changed stages with reasons.
    """
    before: set[str] = set()
    for name in reversed(plan.nodes):
        if name in nodes or name in before:
            before.update(plan.nodes[name].needs)
    reasons = [f"{name} ({', '.join(why[:3])})" for name, why in plan.changed.items() if name in before - nodes.keys()]
    if reasons:
        raise ConfigError(
            f"{next(iter(nodes))} depends on stale stages: {'; '.join(reasons)}. "
            "Run the whole pipeline first: `cclm run`."
        )
