"""Building blocks of a user: in the pipeline, in artifacts, in worker processes, and in a fresh process."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from cclm_core.cli.app import app
from cclm_core.composition.store import load_component, load_composition
from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.noise import NoiseRecipe
from cclm_core.runtime.artifacts import folder_digest, verify
from cclm_core.runtime.blocks import block, blocks_in, code_in, find
from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import ConfigError, IntegrityError
from cclm_core.runtime.own_code import OwnCode, carried, offering
from cclm_core.runtime.reporting import null_report
from cclm_core.steps.compose import compose
from cclm_core.steps.params import Params
from cclm_core.training.config import BaseConfig, ComponentConfig, WeightedObjective
from cclm_core.training.loop import train
from tests.corpora import encode, records
from tests.steps.test_training_steps import PARAMS, TRAINING, Project
from tests.training.trainings import CONFIG, SEED, data, new_module

BLOCKS = Path(__file__).with_name("own_blocks.py")
ROOT = Path(__file__).parents[2]


def own_params() -> dict[str, Any]:
    """A base with a schedule, and a component with an encoder and an objective of the user."""
    objectives = [
        {"task": {"objective": "masked_characters"}},
        {"name": "parity", "task": {"objective": "parity.v1"}, "gradient_factor": {"schedule": "sawtooth.v1"}},
    ]
    component = {"task": {"objective": "parity.v1"}, "encoder": {"kind": "table.v1"}, "training": TRAINING}
    return PARAMS | {
        "code": ["blocks/own_blocks.py"],
        "base": {**PARAMS["base"], "objectives": objectives},  # type: ignore[dict-item]
        "components": {"parity": component},
        "compositions": {"full": {"parts": ["parity"]}},
        "training_noise": {"rate": 0.1, "kinds": ["swap", "stutter.v1"]},
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose stages ran in this process."""
    project = Project(tmp_path_factory.mktemp("own"))
    (project.folder / "blocks").mkdir()
    shutil.copyfile(BLOCKS, project.folder / "blocks/own_blocks.py")
    project.write(own_params())
    encode(project.encoded, records(40))
    project.run_base()
    project.run_pretrain("parity")
    compose(Params.load(project.params), "full", project.base, project.folder, project.folder / "full", null_report)
    return project


def run(folder: Path, arguments: str, code: int = 0) -> str:
    """Runs a command of the library in a fresh process; returns its output."""
    done = subprocess.run(
        [sys.executable, "-m", "cclm_core.cli", *arguments.split()],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def python(folder: Path, script: str) -> str:
    """Runs a script in a fresh process; returns what it printed, errors included."""
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_the_code_travels_with_what_needs_it(trained: Project) -> None:
    folder, content = trained.folder / "parity", BLOCKS.read_bytes()
    verify(folder, "component")
    assert (folder / "code/own_blocks.py").read_bytes() == content
    carried_blocks = json.loads((folder / "code/code.json").read_text())["blocks"]
    assert set(carried_blocks) == {"encoder table.v1", "objective parity.v1"}
    digest = OwnCode.read(BLOCKS).digest
    assert json.loads((folder / "card.json").read_text())["blocks"] == dict.fromkeys(carried_blocks, digest)
    base_card = json.loads((trained.base / "card.json").read_text())
    assert set(base_card["blocks"]) == {"objective parity.v1", "schedule sawtooth.v1"}
    assert not (trained.base / "code").exists(), "the embedder itself needs no code"
    assert (trained.folder / "full/parts/parity/code/own_blocks.py").read_bytes() == content


LOAD = """
from cclm_core.cli.app import app
from cclm_core.composition.store import load
from cclm_core.runtime.errors import ConfigError
from cclm_core.runtime.own_code import OwnCode, trusting_code
def attempt():
    try:
        print(load("full").digest)
    except ConfigError as error:
        print("refused:", error)
"""


def test_a_fresh_process_elsewhere_asks_before_it_runs_the_code(trained: Project, tmp_path: Path) -> None:
    shutil.copytree(trained.folder / "full", tmp_path / "full")
    script = f"{LOAD}\nattempt()\nwith trusting_code():\n    attempt()\nattempt()"
    refused, trusted, again = python(tmp_path, script).splitlines()
    assert refused.startswith("refused: full/parts/parity needs the code in full/parts/parity/code/own_blocks.py")
    assert "--trust-code" in refused
    assert trusted == again == load_composition(trained.folder / "full").digest
    (tmp_path / "blocks").mkdir()
    shutil.copyfile(BLOCKS, tmp_path / "blocks/copied.py")
    (tmp_path / "texts.txt").write_text("a text\n")
    run(tmp_path, "embed full texts.txt --out own.parquet")  # the file in blocks/ has the same content


def test_another_version_under_the_same_name_is_refused(trained: Project, tmp_path: Path) -> None:
    (tmp_path / "changed.py").write_text(BLOCKS.read_text().replace("One linear layer.", "Another layer."))
    shutil.copytree(trained.folder / "full", tmp_path / "full")
    output = python(tmp_path, f"{LOAD}\nOwnCode.read('changed.py').run()\nattempt()")
    assert "was made with another version of the encoder table.v1" in output and "next version" in output


def test_altered_code_is_never_run(trained: Project, tmp_path: Path) -> None:
    shutil.copytree(trained.folder / "parity", tmp_path / "parity")
    code = tmp_path / "parity/code/own_blocks.py"
    code.write_text(code.read_text() + "\nraise SystemExit('run')\n")
    with pytest.raises(IntegrityError, match=r"own_blocks\.py is altered"):
        load_component(tmp_path / "parity")
    (tmp_path / "parity/manifest.json").unlink()
    with pytest.raises(IntegrityError, match=r"own_blocks\.py was altered: its SHA-256 must be"):
        load_component(tmp_path / "parity")


def test_a_worker_in_a_clone_makes_the_same_bytes(trained: Project, tmp_path: Path) -> None:
    paths = "--params params.yaml --encoded encoded --base base"
    for name in ("blocks", "encoded", "base"):
        shutil.copytree(trained.folder / name, tmp_path / name)
    shutil.copyfile(trained.params, tmp_path / "params.yaml")
    run(tmp_path, f"stage pretrain parity {paths} --checkpoints c --out parity")
    assert folder_digest(tmp_path / "parity") == folder_digest(trained.folder / "parity")


@pytest.mark.slow
def test_a_user_s_kind_of_noise_reaches_worker_processes(tmp_path: Path) -> None:
    script = f"""
import numpy as np
from cclm_core.corpus.parallel import process_map
from cclm_core.noise import NoiseRecipe, TextNoiser
from cclm_core.runtime.own_code import OwnCode
class Task:
    pass
if __name__ == "__main__":
    OwnCode.read({str(BLOCKS)!r}).run()
    from own_work import Work
    with process_map(Work(NoiseRecipe(rate=1, kinds=["stutter.v1"])), range(8), workers=2) as results:
        print(set(results))
"""
    (tmp_path / "own_work.py").write_text(
        "import numpy as np\nfrom cclm_core.noise import TextNoiser\n"
        "class Work:\n    def __init__(self, recipe): self.recipe = recipe\n"
        "    def __call__(self, seed): return TextNoiser(self.recipe)('ab', np.random.default_rng(seed)).text\n"
    )
    (tmp_path / "main.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "main.py"],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "{'aaabbb'}", done.stderr


def test_names_of_the_user_are_suggested_and_have_their_own_keys() -> None:
    with offering([OwnCode.read(BLOCKS)]):
        with pytest.raises(ConfigError, match=r"task\.objective must be one of .*, parity\.v1, got 'parity\.v2'"):
            ComponentConfig.parse({"task": {"objective": "parity.v2"}}, "components.x")
        with pytest.raises(ConfigError, match=r"task\.wieght is not a known key; did you mean 'weight'"):
            ComponentConfig.parse({"task": {"objective": "parity.v1", "wieght": 2}}, "components.x")
        with pytest.raises(ConfigError, match=r"did you mean 'stutter\.v1'"):
            NoiseRecipe.parse({"kinds": ["stuter.v1"]}, "noise")
        config = ComponentConfig.parse({"task": {"objective": "parity.v1"}, "encoder": {"kind": "table.v1"}}, "x")
    assert [entry.key for entry in blocks_in(config)] == ["encoder table.v1", "objective parity.v1"]
    assert config.canonical()["encoder"] == {"kind": "table.v1", "width": 16}
    assert ComponentConfig.parse(config.canonical(), "again") == config


def test_the_example_of_the_documentation_trains(tmp_path: Path) -> None:
    """The page is an objective that learns: vowels are easy."""
    page = (ROOT / "docs/blocks.md").read_text(encoding="utf-8")
    (tmp_path / "vowels.py").write_text(page.partition("```python\n")[2].partition("```\n")[0])
    encode(tmp_path / "encoded", records(40))
    corpus = EncodedCorpus.open(tmp_path / "encoded")
    with offering([OwnCode.read(tmp_path / "vowels.py")]):
        task = WeightedObjective.parse({"task": {"objective": "vowels.v1"}}, "objective").task
    module = new_module(corpus, task)
    config = CONFIG.model_copy(update={"steps": 12, "evaluate_every": 12})
    curve = train(module, data(corpus, config), config, SEED, None, null_report)
    assert curve[-1]["held_out_bits_per_letter"] < 0.8 * curve[0]["held_out_bits_per_letter"]


def test_version_one_of_a_member_of_the_library_is_that_member() -> None:
    assert BaseConfig.parse({"objectives": [{"task": {"objective": "entities.v1"}}]}, "base") == BaseConfig.parse(
        {"objectives": [{"task": {"objective": "entities"}}]}, "base"
    )


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def broken(:\n", r"blocks/a\.py cannot be run: SyntaxError"),
        ("import nowhere_at_all\n", r"ModuleNotFoundError: No module named 'nowhere_at_all' \(line 1\)"),
        ('@block("objectiv")\nclass A: pass\n', "no family of building blocks is called 'objectiv'; did you mean 'obj"),
        ('@block("objective")\nclass A: pass\n', "must be a configuration class"),
        ('@block("objective")\nclass A(Config):\n    rate: float = 1\n', r"first field of A must be its name"),
        (
            '@block("objective")\nclass A(Config):\n    objective: Literal["mine"] = "mine"\n',
            "must be lowercase and end in its version, such as initials.v1, got 'mine'",
        ),
        (
            '@block("encoder")\nclass A(Config):\n    kind: Literal["mine.v1"] = "mine.v1"\n    def build(self): ...\n',
            r"the encoder mine\.v1 needs 'learning_rate'",
        ),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("blocks").mkdir()
    imports = "from typing import Literal\nfrom cclm_core.runtime.blocks import block\n"
    is_alone = code.startswith(("def", "import"))
    Path("blocks/a.py").write_text(
        code if is_alone else imports + "from cclm_core.runtime.config import Config\n" + code
    )
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS | {"code": ["blocks/a.py"]}))
    with pytest.raises(ConfigError, match=message):
        Params.load("params.yaml").check()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (["own.py"], "code must be in blocks/, got 'own.py'"),
        (["blocks/../own.py"], "code must be in blocks/"),
        (["blocks/missing.py"], r"blocks/missing\.py not found"),
        (["blocks/own.txt"], r"must be a file that ends in \.py"),
        (3, "code must be a list of Python files, got 3"),
    ],
)
def test_a_wrong_path_is_refused(code: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Params({"seed": 1, "code": code}).check()


def test_a_block_without_a_file_cannot_be_saved() -> None:
    typed: dict[str, Any] = {"__name__": "typed"}
    exec(
        "from typing import Literal\nfrom cclm_core.runtime.blocks import block\n"
        "from cclm_core.runtime.config import Config\n"
        "@block('schedule')\nclass A(Config):\n    schedule: Literal['typed.v1'] = 'typed.v1'\n"
        "    def at(self, step): return 1.0\n",
        typed,
    )
    with pytest.raises(ConfigError, match=r"the schedule typed\.v1 was defined in an interactive session"):
        code_in(typed["A"]())


SCHEDULE = """
from typing import Literal
from cclm_core.runtime.blocks import block
from cclm_core.runtime.config import Config

@block("schedule")
class A(Config):
    schedule: Literal["{name}"] = "{name}"

    def at(self, step):
        return {value}
"""


def test_two_files_cannot_define_the_same_name(tmp_path: Path) -> None:
    for name, value in (("one.py", "1.0"), ("two.py", "2.0")):
        (tmp_path / name).write_text(SCHEDULE.format(name="twice.v1", value=value))
    OwnCode.read(tmp_path / "one.py").run()
    with pytest.raises(ConfigError, match=r"the schedule twice\.v1 is defined twice, in .*one\.py .* and in .*two\.py"):
        OwnCode.read(tmp_path / "two.py").run()
    assert find("schedule", "twice.v1") is not None


def test_the_command_line_runs_the_files_of_code(tmp_path: Path) -> None:
    (tmp_path / "more.py").write_text(
        "from cclm_core.noise.kinds import TypingKind\nfrom cclm_core.runtime.blocks import block\n"
        "block('noise', 'twice.v1')(TypingKind(description='Twice.', output=(('current', 0), ('current', -1))))\n"
    )
    arguments = ["noise", "ab", "--recipe", "{rate: 1, kinds: [twice.v1]}"]
    result = CliRunner().invoke(app, [*arguments, "--code", str(tmp_path / "more.py")])
    assert result.exit_code == 0 and "aabb" in result.output.replace("\n", "")


def test_an_entry_point_of_an_installed_package_is_found_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "colleague.py").write_text(SCHEDULE.format(name="colleague.v1", value="0.25"))
    information = tmp_path / "colleague-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: colleague\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[cclm.blocks]\ncolleague.v1 = colleague:A\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = BaseConfig.parse({"objectives": [{"gradient_factor": {"schedule": "colleague.v1"}}]}, "base")
    assert config.objectives[0].gradient_factor.at(7) == 0.25
    assert code_in(config)[0][1].name == "colleague.py"


def test_a_folder_without_code_offers_nothing(tmp_path: Path) -> None:
    with carried(tmp_path):
        assert find("schedule", "nowhere.v1") is None
    with pytest.raises(ConfigError, match="must be a configuration class"):
        block("schedule")(object())
    assert issubclass(BaseConfig, Config)


def test_an_export_for_transformers_is_refused_because_it_would_lose_the_code(trained: Project) -> None:
    from cclm_core.huggingface.architecture import tree_of

    with pytest.raises(ConfigError, match=r"cannot export a model with the encoder table\.v1 of your own"):
        tree_of(load_composition(trained.folder / "full"))
