"""Checks before anything runs: params.yaml by itself, against dvc.yaml, and against what the evaluation measures.

`cclm status` and `cclm run` make the same checks. Each problem is one `ConfigError` that names the file, the key and
the remedy. What may be intended is a warning. Projects with their own stages (`python -m flows.stage --module ...`)
check their own parameters.
"""

import glob
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import cclm_core
from cclm_core.runtime.config import load_yaml, nearest
from cclm_core.runtime.errors import ConfigError
from cclm_core.runtime.files import atomic_write
from cclm_core.runtime.own_code import BLOCKS
from cclm_core.steps.params import NAMED, SECTIONS, Params
from flows.gate.gate import promotion_config
from flows.gate.measured import refuse_unmeasured
from flows.graph.dvc_yaml import Reading, iterated_sections, readings
from flows.graph.params_file import uses_library
from flows.graph.plan import Plan, read_plan
from flows.project import Project

USED_ALONE = ("denoise", "next_characters")  # objectives of components that `cclm correct` and `cclm generate` use
UNWATCHED = ("promotion",)  # sections that the gate reads, and no stage


def check_files(project: Project) -> list[str]:
    """Checks params.yaml and dvc.yaml against each other, without torch and before DVC reads them.

    Returns:
        Warnings: components that no composition uses, and sources that DVC does not watch.

    Raises:
        ConfigError: params.yaml is no valid YAML, has an unknown section or an invalid `promotion` section, or the
            files disagree.
    """
    promotion_config(project)
    if not uses_library(project):
        return []
    path = params_path(project)
    Params.load(path)
    values, graph = load_yaml(path), load_yaml(project.root / "dvc.yaml")
    stages = list(readings(graph, values))
    for section in NAMED:
        if misread := [name for name in values.get(section) or {} if not isinstance(name, str)]:
            name = misread[0]
            raise ConfigError(
                f'params.yaml: {section}: a name must be a text, got {name!r}. Put it in quotes: "{name}".'
            )
    for group, section in iterated_sections(graph):
        if values.get(section) is None:
            raise ConfigError(
                f"params.yaml: {section} is {'empty' if section in values else 'missing'}, but stages.{group} in "
                f"dvc.yaml has one stage for each of its names. Write `{section}: {{}}` for none."
            )
    _check_keys(values, stages)
    for section in NAMED:
        _check_names(section, values.get(section) or {}, stages)
    return [*_unused_components(values), *_unwatched_sources(values, stages)]


def check_parameters(project: Project) -> None:
    """Validates all of params.yaml, unless this version of the library has validated the same file before.

    The first time imports torch, which is slow.

    Raises:
        ConfigError: a section of params.yaml is invalid, or `promotion` names metrics that no evaluation has. Only the
            first problem is reported.
    """
    if not uses_library(project):
        return
    path = params_path(project)
    key = _key(path)
    marker = project.root / ".cclm" / "checked-params"
    if marker.is_file() and marker.read_text(encoding="utf-8") == key:
        return
    params = Params.load(path)
    params.check()
    _check_promotion(params)
    with suppress(OSError, ConfigError):  # a read-only project is checked every time
        atomic_write(project.state() / "checked-params", key)


def checked_plan(project: Project) -> Plan:
    """Makes all checks and reads the plan.

    Raises:
        ConfigError: dvc.yaml or params.yaml is invalid, a source file to read does not exist, or the gate names metrics
            that this corpus does not have.
    """
    check_files(project)
    check_parameters(project)
    plan = read_plan(project)
    refuse_unmeasured(project, plan)
    if uses_library(project):
        _refuse_missing_sources(project, plan)
    return plan


def params_path(project: Project) -> Path:
    """The path of params.yaml relative to the working directory, for short messages."""
    return Path(os.path.relpath(project.params_file))


def _key(path: Path) -> str:
    """A digest of params.yaml, of your own building blocks, and of the versions of the library's files."""
    key = hashlib.sha256(path.read_bytes())
    for own in sorted((path.parent / BLOCKS).glob("*.py")):
        key.update(own.name.encode() + b"\0" + own.read_bytes() + b"\0")
    root = Path(cclm_core.__file__).parent
    for file in sorted(root.rglob("*.py")):
        status = file.stat()
        key.update(f"{file.relative_to(root)} {status.st_size} {status.st_mtime_ns}\n".encode())
    return key.hexdigest()


def _check_promotion(params: Params) -> None:
    """Refuses metrics in `promotion` that no evaluation with these settings can have."""
    from cclm_core.evaluation.config import EvaluationConfig
    from cclm_core.evaluation.promotion import PromotionConfig
    from cclm_core.noise.recipe import NoiseConfig

    noise = params.section(NoiseConfig)
    test_sets = ["clean", *(f"noise_{rate:g}" for rate in noise.rates), *noise.sets]
    known = params.section(EvaluationConfig).metric_names(test_sets)
    for name in params.section(PromotionConfig).metrics:
        if name not in known and not name.startswith("contribution/"):
            raise ConfigError(
                f"{params.source}: promotion.metrics.{name} is not a metric of the evaluation; "
                f"{nearest(name, list(known))}"
            )


def _check_keys(values: Mapping[str, Any], stages: list[Reading]) -> None:
    """Refuses sections that a stage reads and params.yaml lacks, and those that no stage reads."""
    for stage in stages:
        for key in stage.params:
            section, _, name = key.partition(".")
            if section not in values:
                example = "seed: 1" if section == "seed" else f"{section}: {{}}"
                raise ConfigError(
                    f"params.yaml: {section} is missing, but stage {stage.name} in dvc.yaml reads it. Add `{example}`"
                    + ("." if section in ("seed", *NAMED) else ", which means the defaults.")
                )
            if name and section in NAMED and name not in (values[section] or {}):
                raise ConfigError(
                    f"dvc.yaml: stage {stage.name} reads {key}, which params.yaml does not have; "
                    f"{nearest(name, list(values[section] or {}))} Add it to params.yaml, or remove it from `foreach` "
                    f"of stages.{stage.group}."
                )
            if section not in NAMED and not _has(values, key):
                raise ConfigError(
                    f"params.yaml: {key} is missing, but `params` of stages.{stage.group} in dvc.yaml lists it. Add "
                    f"it, or list `{section}` there, whose keys may be left out."
                )
    read = {key.partition(".")[0] for stage in stages for key in stage.params}
    for section in values:
        if section in SECTIONS and section not in (*read, *UNWATCHED) and values[section]:
            raise ConfigError(
                f"params.yaml: {section} is read by no stage of dvc.yaml, so changing it would change nothing. Add it "
                "to `params` of the stage that uses it, or remove it."
            )


def _has(values: Mapping[str, Any], key: str) -> bool:
    """Whether a dotted key exists."""
    section: Any = values
    for name in key.split("."):
        if not isinstance(section, Mapping) or name not in section:
            return False
        section = section[name]
    return True


def _check_names(section: str, entries: Mapping[str, Any], stages: list[Reading]) -> None:
    """Refuses a component, composition, task or ensemble in params.yaml that has no stages in dvc.yaml."""
    for name in entries:
        own = [stage for stage in stages if f"{section}.{name}" in stage.params or section in stage.params]
        evaluated = section != "compositions" or any(
            stage.item == name and "evaluation" in stage.params for stage in stages
        )
        tested = section not in ("tasks", "ensembles") or len(own) > 1
        if not own or not evaluated or not tested:
            what = "makes it" if not own else "evaluates it" if tested else "tests it"
            raise ConfigError(
                f"params.yaml: {section}.{name} has no stage in dvc.yaml that {what}. Write `foreach: ${{{section}}}` "
                "there, so that dvc.yaml needs no names, or add the name to `foreach`."
            )


def _unused_components(values: Mapping[str, Any]) -> Iterator[str]:
    components, compositions = values.get("components") or {}, values.get("compositions") or {}
    used = {
        part
        for composition in compositions.values()
        if isinstance(composition, dict)
        for part in composition.get("parts") or ()
        if isinstance(part, str)
    }
    for name, component in components.items():
        task = component.get("task") if isinstance(component, dict) else None
        objective = task.get("objective") if isinstance(task, dict) else None
        if name not in used and objective not in USED_ALONE:
            yield (
                f"params.yaml: components.{name} is in no composition, so it is trained but never evaluated. Add it to "
                "compositions.NAME.parts, or remove it."
            )


def _unwatched_sources(values: Mapping[str, Any], stages: list[Reading]) -> Iterator[str]:
    """Warns about files of the corpus that are no dependency of the stage that reads them."""
    for ingest in [stage for stage in stages if "ingest" in stage.params][:1]:
        for path in _source_paths(values):
            if not any(Path(path).is_relative_to(dep) for dep in ingest.deps):
                yield (
                    f"dvc.yaml: {path} is missing in `deps` of stages.{ingest.group}, so a changed file would not "
                    f"start a new run. Add `- {path}`."
                )


def _refuse_missing_sources(project: Project, plan: Plan) -> None:
    """Refuses a run that would read a source file that does not exist."""
    values = load_yaml(params_path(project))
    for name, node in plan.nodes.items():
        if name not in plan.changed or name in plan.restorable:
            continue
        sections = {key.partition(".")[0] for key in node.params}
        paths = [("ingest.source.paths", path) for path in _source_paths(values)] if "ingest" in sections else []
        if "labeled" in sections:
            paths += _labeled_paths(values, node.item)
        for key, path in paths:
            if not glob.has_magic(path) and not (project.root / path).exists():
                raise ConfigError(f"params.yaml: {key}: {path} not found. Correct it, or add the file.")


def _labeled_paths(values: Mapping[str, Any], name: str) -> Iterator[tuple[str, str]]:
    """The keys and values of all files of a labeled data set."""
    labeled = (values.get("labeled") or {}).get(name)
    for key in ("source.paths", "validation.paths", "validation.source.paths", "test.paths", "test.source.paths"):
        paths: Any = labeled
        for part in key.split("."):
            paths = paths.get(part) if isinstance(paths, Mapping) else None
        for path in [paths] if isinstance(paths, str) else paths if isinstance(paths, list) else []:
            yield f"labeled.{name}.{key}", str(path)


def _source_paths(values: Mapping[str, Any]) -> list[str]:
    source = (values.get("ingest") or {}).get("source")
    paths = source.get("paths") if isinstance(source, dict) else None
    paths = [paths] if isinstance(paths, str) else paths
    return [path for path in paths if isinstance(path, str)] if isinstance(paths, list) else []
