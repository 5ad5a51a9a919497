"""The code of the models in a folder, for `trust_remote_code=True` where this package is not installed.

transformers copies the files of a folder that import each other as `from .name import ...`, without subfolders. So
each module that the models need becomes one file: `cclm_core.encoders.linear` becomes `encoders_linear.py`.
"""

import ast
import re
from importlib.resources import files
from pathlib import Path

PACKAGE = "cclm_core"
_IMPORT = re.compile(rf"^(\s*from )({PACKAGE}(?:\.\w+)+)( import )", re.MULTILINE)
_HEADER = "# From cclm-core {version}: {module}. Apache-2.0.\n"

AUTO_CLASSES = {
    "AutoConfig": ("configuration", "CclmConfig"),
    "AutoModel": ("modeling", "CclmModel"),
    "AutoModelForMaskedLM": ("language_models", "CclmForMaskedLM"),
    "AutoModelForCausalLM": ("language_models", "CclmForCausalLM"),
    "AutoModelForSequenceClassification": ("classifiers", "CclmForSequenceClassification"),
    "AutoModelForTokenClassification": ("classifiers", "CclmForTokenClassification"),
}
"""Auto class of transformers -> module and name of our class."""


def auto_map() -> dict[str, str]:
    """The key `auto_map` of config.json: where the classes are in the folder."""
    return {auto: f"huggingface_{module}.{name}" for auto, (module, name) in AUTO_CLASSES.items()}


def write_code(folder: Path, version: str) -> list[str]:
    """Writes the modules that the models need into a folder; returns their file names."""
    sources = _closure({f"{PACKAGE}.huggingface.{module}" for module, _ in AUTO_CLASSES.values()})
    for module, source in sources.items():
        code = _IMPORT.sub(lambda match: f"{match[1]}.{file_name(match[2])}{match[3]}", source)
        path = folder / f"{file_name(module)}.py"
        path.write_text(_HEADER.format(version=version, module=module) + code, encoding="utf-8")
    return sorted(f"{file_name(module)}.py" for module in sources)


def file_name(module: str) -> str:
    """The name of a module's file in the folder.

    >>> file_name("cclm_core.encoders.linear")
    'encoders_linear'
    """
    return module.removeprefix(f"{PACKAGE}.").replace(".", "_")


def _closure(modules: set[str]) -> dict[str, str]:
    """The sources of modules and of all modules of this package that they import, directly or not."""
    sources: dict[str, str] = {}
    pending = sorted(modules)
    while pending:
        name = pending.pop()
        if name in sources:
            continue
        path = files(PACKAGE).joinpath(*name.split(".")[1:-1], f"{name.rpartition('.')[2]}.py")
        sources[name] = path.read_text(encoding="utf-8")
        imports = [node for node in ast.walk(ast.parse(sources[name])) if isinstance(node, ast.ImportFrom)]
        pending += [node.module for node in imports if node.module and node.module.startswith(f"{PACKAGE}.")]
    return sources
