"""Selects the stages for a partial run, and checks that the stages before them are up to date."""

from collections.abc import Iterable, Mapping

from cclm_core.runtime.config import nearest
from cclm_core.runtime.errors import ConfigError
from flows.graph.node import Node
from flows.graph.plan import Plan

TRAINED = {"components": "component", "tasks": "task"}
"""Sections of params.yaml whose entries are trained, and what one is called."""


def trained_section(plan: Plan, name: str) -> str:
    """The section of params.yaml that has a component or a task with this name.

    Raises:
        ConfigError: none has, or both have.
    """
    sections = {section: _trainers(plan, section) for section in TRAINED}
    matches = [section for section, trainers in sections.items() if name in trainers]
    if not matches:
        names = [known for trainers in sections.values() for known in trainers]
        what = "a component or a task" if sections["tasks"] else "a component"
        raise ConfigError(f"{name} is not {what} of params.yaml; {nearest(name, names)}")
    if len(matches) > 1:
        raise ConfigError(
            f"{name} is both a component and a task. Run `cclm finetune {name}` for the task, or `cclm run --force "
            f"{sections['components'][name]}` for the component."
        )
    return matches[0]


def training_stage(plan: Plan, name: str, section: str = "components") -> str:
    """The stage that trains a component or a task, which is the first one that depends on its parameters.

    Args:
        name: its name in params.yaml.
        section: `components` or `tasks`.

    Raises:
        ConfigError: no stage depends on its parameters.
    """
    trainers = _trainers(plan, section)
    if name not in trainers:
        raise ConfigError(f"{name} is not a {TRAINED[section]} of params.yaml; {nearest(name, list(trainers))}")
    return trainers[name]


def _trainers(plan: Plan, section: str) -> dict[str, str]:
    trainers: dict[str, str] = {}
    for node in plan.nodes.values():
        for key in node.params:
            if key.startswith(f"{section}."):
                trainers.setdefault(key.split(".")[1], node.name)
    return trainers


def with_dependents(plan: Plan, stage: str) -> dict[str, Node]:
    """A stage and all stages after it, in order.

    Stages that read the folder of the stage's output without using the output are included, but the stages after them
    are not: DVC considers them changed, but their results stay the same.
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
    """The stages that compose and evaluate the given compositions, in order, without the tasks that start from them.

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
    return {name: node for name, node in plan.nodes.items() if name in stages and not node.is_of_task}


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
    """Checks that the inputs of a partial run are up to date, except those of summaries such as the report.

    Raises:
        ConfigError: stages before `nodes` are stale. The message lists the changed stages with reasons.
    """
    before: set[str] = set()
    for name in reversed(plan.nodes):
        if (name in nodes or name in before) and not plan.nodes[name].is_summary:
            before.update(plan.nodes[name].needs)
    reasons = [f"{name} ({', '.join(why[:3])})" for name, why in plan.changed.items() if name in before - nodes.keys()]
    if reasons:
        raise ConfigError(
            f"{next(iter(nodes))} depends on stale stages: {'; '.join(reasons)}. "
            "Run the whole pipeline first: `cclm run`."
        )
