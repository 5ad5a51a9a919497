"""`params.yaml` and its sections. Each section is validated by the configuration class that owns it.

A stage reads only its own sections. So it imports only the code that it uses, and DVC reruns it only when that code
changes. `Params.check` validates all sections before anything runs.
"""

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Self, TypeVar

from cclm_core.runtime.config import Config, load_yaml, nearest
from cclm_core.runtime.errors import ConfigError
from cclm_core.runtime.files import StrPath
from cclm_core.runtime.own_code import BLOCKS, OwnCode, offering

SECTIONS = {
    "ingest": "cclm_core.ingest.config:IngestConfig",
    "labeled": "cclm_core.labeled.config:LabeledConfig",
    "vocabulary": "cclm_core.text.config:VocabularyConfig",
    "noise": "cclm_core.noise.recipe:NoiseConfig",
    "training_noise": "cclm_core.noise.recipe:TrainingNoise",
    "base": "cclm_core.training.config:BaseConfig",
    "components": "cclm_core.training.config:ComponentConfig",
    "compositions": "cclm_core.composition.config:CompositionConfig",
    "evaluation": "cclm_core.evaluation.config:EvaluationConfig",
    "tasks": "cclm_core.finetuning.config:TaskConfig",
    "ensembles": "cclm_core.finetuning.config:EnsembleConfig",
    "promotion": "cclm_core.evaluation.promotion:PromotionConfig",
}
"""Section -> the class that validates it, as `module:class`."""

NAMED = ("labeled", "components", "compositions", "tasks", "ensembles")
"""Sections with user-defined names as keys, each with its own configuration."""

MODELS = ("compositions", "tasks", "ensembles")
"""Sections whose entries become registered models."""

MISSPELLINGS = "misspellings"
"""The folder for lists of misspellings. DVC watches it: a changed list reruns the stages that read it."""

INPUT = "input"
"""The folder for labeled data. DVC watches it: a changed file reruns the stages that read it."""

SCALARS = ("seed", "code")
"""Keys at the top that are no sections: the seed, and the files with your own building blocks."""

LISTS = {"noise": "misspellings.path", "training_noise": "misspellings"}
"""Section -> its key for the path of a list of misspellings."""

_NAME = re.compile(r"\w[\w-]*")
_REFERENCE = re.compile(r"\$\{[A-Za-z_][\w.-]*\}")
_NAME_BYTES = 100

C = TypeVar("C", bound=Config)


class Params:
    """The parameters of the whole pipeline.

    >>> Params({"seed": 1, "components": {"names": {"task": {"objective": "entities"}}}}).seed
    1

    Args:
        values: content of `params.yaml`.
        source: name of the file in error messages.

    Raises:
        ConfigError: an unknown section (the message suggests the nearest one), or a section that is not a mapping.
    """

    def __init__(self, values: dict[str, Any], source: str = "params.yaml") -> None:
        self.source = source
        for key, value in values.items():
            if key not in (*SCALARS, *SECTIONS):
                raise ConfigError(f"{source}: {key} is not a known section; {nearest(str(key), [*SCALARS, *SECTIONS])}")
            if key not in SCALARS and value is not None and not isinstance(value, dict):
                raise ConfigError(f"{source}: {key} must be a mapping, got {value!r:.80}.")
        self._seed = values.get("seed")
        # A section under which every line is a comment is null.
        self._values = {key: {} if value is None else value for key, value in values.items() if key not in SCALARS}
        self._code = self._checked_code(values.get("code"))
        _refuse_references(values, source)
        for key in NAMED:
            self._check_names(key)
        self._check_models()

    @classmethod
    def load(cls, path: StrPath) -> Self:
        """Reads a YAML file.

        Raises:
            ConfigError: the file is missing or is not a YAML mapping; also see the class.
        """
        return cls(load_yaml(path), str(path))

    @property
    def seed(self) -> int:
        """The seed of the whole pipeline.

        Raises:
            ConfigError: the seed is missing or not an integer.
        """
        if not isinstance(self._seed, int) or isinstance(self._seed, bool):
            raise ConfigError(f"{self.source}: seed must be an integer, got {self._seed!r:.80}.")
        return self._seed

    def section(self, config: type[C]) -> C:
        """The section that `config` validates. An omitted section gets its defaults.

        Raises:
            ConfigError: an unknown key (the message suggests the nearest one), a missing key or an invalid value, or a
                list of misspellings outside the folder that DVC watches.
        """
        key = _section_of(config)
        self._refuse_untracked(key)
        with offering(self.code):
            parsed = config.parse(self._values.get(key, {}), f"{self.source}: {key}")
        self._check_sources(key, parsed)
        return parsed

    def named(self, config: type[C], name: str) -> C:
        """The entry `name` of the section whose entries `config` validates, for example of `components`.

        Raises:
            ConfigError: the entry is missing (the message suggests the nearest one) or invalid, see `section`; or it
                names a file outside the folder that DVC watches.
        """
        key = _section_of(config)
        entries = self._values.get(key, {})
        if name not in entries:
            raise ConfigError(f"{self.source}: {key}.{name} not found; {nearest(name, entries)}")
        entry = {} if entries[name] is None else entries[name]
        with offering(self.code):
            parsed = config.parse(entry, f"{self.source}: {key}.{name}")
        if key == "labeled":
            self._refuse_outside(name, parsed)
        self._check_sources(f"{key}.{name}", parsed)
        return parsed

    @property
    def code(self) -> list[OwnCode]:
        """The files with your own building blocks. They run when a section names a block that the library lacks.

        Raises:
            ConfigError: a file is missing.
        """
        return [OwnCode.read(Path(self.source).parent / path) for path in self._code]

    def names(self, config: type[Config]) -> list[str]:
        """The names in the section whose entries `config` validates, in order."""
        return list(self._values.get(_section_of(config), {}))

    def check(self) -> None:
        """Validates the seed, every section, and the references between sections.

        Raises:
            ConfigError: the first problem, such as an invalid section, a composition with a part that is not a
                component, or an objective that needs word targets with a vocabulary that has none.
        """
        _ = self.seed  # raises if it is not an integer
        for code in self.code:
            code.run()
        for key in SECTIONS:
            config = class_of(key)
            if key in NAMED:
                for name in self.names(config):
                    self.named(config, name)
            else:
                self.section(config)
        self._check_parts()
        self._check_tasks()
        self._check_words()
        self._check_joint()

    def _checked_code(self, paths: Any) -> tuple[str, ...]:
        """The paths of own code: Python files in the folder that DVC watches."""
        paths = [paths] if isinstance(paths, str) else [] if paths is None else paths
        if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
            raise ConfigError(f"{self.source}: code must be a list of Python files, got {paths!r:.80}.")
        for path in paths:
            if Path(path).parts[:1] != (BLOCKS,) or ".." in Path(path).parts:
                raise ConfigError(
                    f"{self.source}: code must be in {BLOCKS}/, got {path!r}. Move it there: DVC watches only that "
                    "folder, so changes to a file elsewhere would not rerun the stages that use it."
                )
        return tuple(paths)

    def _check_names(self, key: str) -> None:
        """Refuses names that cannot be those of a stage, of a folder on every system, and of an argument."""
        taken: dict[str, str] = {}
        for name in self._values.get(key, {}):
            if not isinstance(name, str):
                raise ConfigError(f"{self.source}: {key}: a name must be a string, got {name!r:.80}. Put it in quotes.")
            if not _NAME.fullmatch(name) or len(name.encode()) > _NAME_BYTES:
                raise ConfigError(
                    f"{self.source}: {key}: a name must consist of letters, digits, `_` and `-`, at most {_NAME_BYTES} "
                    f"bytes, and not start with `-`, got {name!r:.80}. Rename it."
                )
            if name.lower() in taken:
                raise ConfigError(
                    f"{self.source}: {key}: names must differ in more than upper and lower case, got "
                    f"{taken[name.lower()]!r} and {name!r}. Rename one."
                )
            taken[name.lower()] = name

    def _check_models(self) -> None:
        """Refuses two models with the same name, such as a task and a composition: both would be `cclm-NAME`."""
        taken: dict[str, str] = {}
        for section in MODELS:
            for name in self._values.get(section, {}):
                if (other := taken.setdefault(name.lower(), f"{section}.{name}")) != f"{section}.{name}":
                    raise ConfigError(
                        f"{self.source}: {other} and {section}.{name} have the same name, so both would be the "
                        f"registered model cclm-{name}. Rename one."
                    )

    # Use `class_of` below: importing the classes would make every stage depend on all of them.

    def _check_parts(self) -> None:
        config = class_of("compositions")
        for name in self.names(config):
            composition: Any = self.named(config, name)
            for part in composition.parts:
                self._check_reference(f"compositions.{name}.parts", part, "components")

    def _check_tasks(self) -> None:
        config = class_of("tasks")
        for name in self.names(config):
            task: Any = self.named(config, name)
            self._check_reference(f"tasks.{name}.data", task.data, "labeled")
            if task.composition is not None:
                self._check_reference(f"tasks.{name}.composition", task.composition, "compositions")
        ensembles = class_of("ensembles")
        for name in self.names(ensembles):
            ensemble: Any = self.named(ensembles, name)
            data = {}
            for part in ensemble.parts:
                self._check_reference(f"ensembles.{name}.parts", part, "tasks")
                own: Any = self.named(config, part)
                data[own.data] = part
            if len(data) > 1:
                listed = ", ".join(f"{part}: {value}" for value, part in data.items())
                raise ConfigError(
                    f"{self.source}: ensembles.{name}.parts must all have the same `data`, got {listed}. Put only "
                    "tasks on one labeled set together."
                )

    def _check_reference(self, key: str, name: str, section: str) -> None:
        """Refuses a name that a section does not have."""
        known = self._values.get(section, {})
        if name not in known:
            hint = nearest(name, list(known)) if known else f"the section {section} is empty"
            raise ConfigError(f"{self.source}: {key}: {name!r:.80} not found in {section}; {hint}")

    def _check_words(self) -> None:
        vocabulary: Any = self.section(class_of("vocabulary"))
        if vocabulary.words is not None:
            return
        base: Any = self.section(class_of("base"))
        tasks = {f"base.objectives.{number}": part.task for number, part in enumerate(base.objectives)}
        component = class_of("components")
        for name in self.names(component):
            trained: Any = self.named(component, name)
            tasks[f"components.{name}"] = trained.task
        for key, task in tasks.items():
            if getattr(task, "needs_words", False):
                raise ConfigError(
                    f"{self.source}: the objective {task.objective} of {key} needs a vocabulary with word targets. Set "
                    "vocabulary.words, for example `words: {kind: words}`."
                )

    def _check_joint(self) -> None:
        """Refuses components that are trained jointly with the base but differ from its objective of that name."""
        base: Any = self.section(class_of("base"))
        joint = {part.name: part for part in base.objectives if part.encoder is not None}
        config = class_of("components")
        for name in self.names(config):
            component: Any = self.named(config, name)
            if not component.joint:
                continue
            if name not in joint:
                hint = nearest(name, list(joint)) if joint else "none has a name and an encoder"
                raise ConfigError(
                    f"{self.source}: components.{name}.joint: no objective of base.objectives has this name and an "
                    f"encoder of its own; {hint}"
                )
            for key in ("task", "encoder"):
                ours, theirs = getattr(component, key).canonical(), getattr(joint[name], key).canonical()
                for field in sorted({*ours, *theirs}):
                    if ours.get(field) != theirs.get(field):
                        raise ConfigError(
                            f"{self.source}: components.{name}.{key}.{field} is {ours.get(field)!r}, but "
                            f"{theirs.get(field)!r} in base.objectives. A component with `joint: true` needs the same "
                            "value in both; a YAML anchor writes it once."
                        )

    def _refuse_outside(self, name: str, labeled: Any) -> None:
        """Refuses files of labeled data outside the folder that DVC watches."""
        for key, path in labeled.local_paths():
            if Path(path).parts[:1] != (INPUT,) or ".." in Path(path).parts:
                raise ConfigError(
                    f"{self.source}: labeled.{name}.{key} must be in {INPUT}/, got {path!r}. Move it there: DVC "
                    "watches only that folder, so changes to a file elsewhere would not rerun the stages that read it."
                )

    def _check_sources(self, key: str, config: Config) -> None:
        """Checks that files of pretrained weights are in the project or a package, and that their digests are given.

        The digest is part of the parameters, so another file reruns exactly the stages that read it.
        """
        for path, part in _nested(config, key):
            if not hasattr(part, "require_digest"):
                continue
            source = getattr(part, "source", None)
            if not isinstance(source, str):
                raise ConfigError(f"{self.source}: {path}.source is missing. Name a file or folder, or package:NAME.")
            is_inside = Path(source).parts[:1] == (INPUT,) and ".." not in Path(source).parts
            if not is_inside and not source.startswith("package:"):
                raise ConfigError(
                    f"{self.source}: {path}.source must be in {INPUT}/ or package:NAME, got {source!r:.200}. "
                    "Move it there."
                )
            try:
                part.require_digest(f"{self.source}: {path}")
            except ConfigError as error:
                if str(error).startswith(self.source):
                    raise
                raise ConfigError(f"{self.source}: {path}: {error}") from None

    def _refuse_untracked(self, key: str) -> None:
        """Refuses a list of misspellings outside the folder that DVC watches."""
        if key not in LISTS:
            return
        value: Any = self._values.get(key)
        for name in LISTS[key].split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None and Path(str(value)).parts[:1] != (MISSPELLINGS,):
            raise ConfigError(
                f"{self.source}: {key}.{LISTS[key]} must be a file in {MISSPELLINGS}/, got {value!r}. Move it there: "
                "DVC watches only that folder, so changes to a list elsewhere would not rerun the stages that read it."
            )


def _refuse_references(value: Any, where: str) -> None:
    """Refuses `${a.b}` as a value: DVC would not see that it changes with what it refers to."""
    if isinstance(value, dict):
        for key, part in value.items():
            _refuse_references(part, f"{where}: {key}" if ": " not in where else f"{where}.{key}")
    elif isinstance(value, list):
        for number, part in enumerate(value):
            _refuse_references(part, f"{where}.{number}")
    elif isinstance(value, str) and _REFERENCE.fullmatch(value):
        raise ConfigError(
            f"{where} must be a value, got the reference {value}. Use an anchor of YAML, which DVC understands: write "
            "`width: &width 128` where the value is defined, and `width: *width` elsewhere."
        )


def class_of(key: str) -> type[Config]:
    """The class that validates a section, or each entry of a section with names."""
    module, _, name = SECTIONS[key].partition(":")
    config: type[Config] = getattr(import_module(module), name)
    return config


def _nested(config: Config, path: str) -> Iterator[tuple[str, Any]]:
    """A configuration and all configurations in it, with their keys."""
    yield path, config
    for name in type(config).model_fields:
        value = getattr(config, name)
        members = enumerate(value) if isinstance(value, tuple) else [(None, value)]
        for number, member in members:
            if isinstance(member, Config):
                yield from _nested(member, f"{path}.{name}" if number is None else f"{path}.{name}.{number}")


def _section_of(config: type[Config]) -> str:
    name = f"{config.__module__}:{config.__qualname__}"
    assert name in SECTIONS.values(), f"{name} is not a section of params.yaml"
    return next(key for key, value in SECTIONS.items() if value == name)
