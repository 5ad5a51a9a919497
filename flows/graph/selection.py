"""Which stages a run of a part of the pipeline consists of, and a check that the stages before them are up to date."""

from collections.abc import Iterable, Mapping

from cclm_core.runtime.config import nearest
from cclm_core.runtime.errors import ConfigError
from flows.graph.node import Node
from flows.graph.plan import Plan


def component_stage(plan: Plan, component: str) -> str:
    """The stage that trains a component: the one that reads its parameters.

    Raises:
        ConfigError: there is no such stage.
    """
    makers: dict[str, str] = {}
    for node in plan.nodes.values():
        for key in node.params:
            if key.startswith("components."):
                makers.setdefault(key.split(".")[1], node.name)
    if component not in makers:
        raise ConfigError(f"{component} is not a component of params.yaml; {nearest(component, list(makers))}")
    return makers[component]


def with_dependents(plan: Plan, stage: str) -> dict[str, Node]:
    """A stage and all that comes after it, in order.

    A composition that does not contain the stage's output, but reads the folder that it is in, is included without what
    comes after it: DVC counts it as changed, and making it again takes seconds and gives equal files.
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
    """The stages that compose and evaluate the named compositions, in order; of all compositions if none is named.

    Raises:
        ConfigError: there is no such composition.
    """
    makers = {
        node.item: node for node in plan.nodes.values() if any(key.startswith("compositions.") for key in node.params)
    }
    names = list(compositions) or list(makers)
    for name in names:
        if name not in makers:
            raise ConfigError(f"{name} is not a composition of params.yaml; {nearest(name, list(makers))}")
    stages: set[str] = set()
    for name in names:
        stages.update(with_dependents(plan, makers[name].name))
    return {name: node for name, node in plan.nodes.items() if name in stages}


def after_forced(nodes: Mapping[str, Node], forced: Iterable[str]) -> set[str]:
    """The stages that a run must look at because others are forced: these, those after them, and those that share a
    folder with them.
    """
    cascading, looked_at = set(forced), set(forced)
    for name, node in nodes.items():
        if cascading.intersection(node.needs):
            cascading.add(name)
        if cascading.intersection((*node.needs, *node.shares)):
            looked_at.add(name)
    return looked_at


def submission_order(nodes: Mapping[str, Node]) -> list[str]:
    """The stages in an order in which they can run, with those that share a folder, and those after them, last."""
    late: set[str] = set()
    for name, node in nodes.items():
        if late.intersection(node.needs) or any(other in nodes for other in node.shares):
            late.add(name)
    return [name for name in nodes if name not in late] + [name for name in nodes if name in late]


def refuse_stale_before(plan: Plan, nodes: dict[str, Node]) -> None:
    """Refuses to run a part of the pipeline on outdated inputs.

    Raises:
        ConfigError: a stage that these need is stale; those that changed are named, with reasons.
    """
    before: set[str] = set()
    for name in reversed(plan.nodes):
        if name in nodes or name in before:
            before.update(plan.nodes[name].needs)
    reasons = [f"{name} ({', '.join(why[:3])})" for name, why in plan.changed.items() if name in before - nodes.keys()]
    if reasons:
        raise ConfigError(
            f"{next(iter(nodes))} needs stages that are stale: {'; '.join(reasons)}. "
            "Run the whole pipeline first: `cclm run`."
        )
