"""Every Python and shell block of the pages runs, here or in a test named in EXECUTED."""

import re
import sys
from importlib import import_module
from pathlib import Path

import pytest
from absl import flags

from enoto_jax.cli import command
from enoto_jax.cli.command import define_only
from enoto_jax.recipes import registry, units
from enoto_jax.recipes.table import RECIPES
from enoto_jax.report.metrics import EXPLAINED
from enoto_jax.runs import files
from experiments.robustness import fuzz_robots
from tests.helpers import parse_shell, quick_compiling

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
# The tests of pages whose blocks do not simply run in order.
EXECUTED = {
    "clusters.md": "tests/docs/test_docs_clusters.py",
    "deploy.md": "tests/deploy/test_export.py",
    "figures.md": "tests/experiments/test_paper.py",
    "index.md": "tests/docs/test_docs.py",
    "long_runs.md": "tests/experiments/test_crashtest.py",
    "ogbench.md": "tests/docs/test_docs_ogbench.py",
    "own_data.md": "tests/docs/test_docs_data.py",
}
IN_ORDER = (
    "data.md",
    "domains.md",
    "ideas.md",
    "methods/ro2o.md",
    "own_algorithm.md",
    "own_env.md",
    "run_folder.md",
)
HERE = ("cheaper_ensembles.md", "measuring.md", "report.md")
TINY_TRAIN = (
    "--set=algorithm.hidden=8,8",
    "--offline_steps=20",
    "--online_steps=30",
    "--warmup=10",
    "--eval_every=20",
    "--eval_episodes=1",
    "--final_episodes=1",
    "--seeds=1",
)
TINY_PYTHON = 'budget="smoke", overrides=TINY, seeds=1, eval_episodes=1, final_episodes=1'
TINY_OVERRIDES = {
    "algorithm.hidden": (8, 8),
    "offline.steps": 20,
    "offline.eval_every": 20,
    "online.steps": 30,
    "online.eval_every": 20,
}
TINY = {"enoto_jax.cli.train": TINY_TRAIN, "enoto_jax.cli.evaluate": ("--episodes=1",)}


def blocks(page: str, *languages: str) -> list[tuple[str, str]]:
    """Return (language, text) of a page's blocks, in order."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)
    return [(language, text) for language, text in found if language in languages or not languages]


def lines(text: str) -> list[str]:
    return text.replace("\\\n", " ").splitlines()


def run(line: str) -> None:
    """Run a page's command with a tiny budget."""
    module, positional, arguments = parse_shell(line)
    extra = TINY.get(module, ())
    if "--method=sac" in arguments:  # sac has no offline phase
        extra = [a for a in extra if not a.startswith("--offline_steps")]
    program = import_module(module)
    define_only(program)
    assert command.execute(program.main, [module, *arguments, *extra], positional) == 0, line


def parsed(line: str) -> flags.FlagValues:
    """Check that a program accepts a command too slow to run; return its flags."""
    module, _, arguments = parse_shell(line)
    define_only(import_module(module))
    assert flags.FLAGS([module, *arguments]) == [module], line
    return flags.FLAGS


@pytest.fixture
def own_units(monkeypatch):
    """After the test, undo what the page has registered and imported."""
    monkeypatch.setattr(registry, "UNITS", dict(registry.UNITS))
    methods, modules = dict(RECIPES), set(sys.modules)
    yield
    for name in RECIPES.keys() - methods.keys():
        del RECIPES[name]
    for name in sys.modules.keys() - modules:
        if name.startswith("my_"):
            del sys.modules[name]


def test_no_page_is_forgotten():
    pages = sorted(p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*.md"))
    found = {page: blocks(page) for page in pages}
    shown = {page for page in pages if {"python", "sh", "bash"} & {of for of, _ in found[page]}}
    assert shown == {*EXECUTED, *IN_ORDER, *HERE}
    for page, where in EXECUTED.items():
        assert page in (ROOT / where).read_text(), where
    # A block without a language would escape all of these tests.
    languages = {language for page in pages for language, _ in found[page]}
    assert languages <= {"bash", "math", "python", "sh", "text", "yaml"}


def robot_data(folder: Path) -> None:
    """Write small robomimic and LeRobot files under the names that the page on data uses."""
    pq = pytest.importorskip("pyarrow.parquet")
    fuzz_robots.robomimic(folder)
    (folder / "demo.hdf5").rename(folder / "low_dim_v141.hdf5")
    for name in ("some", "other"):
        (folder / name).mkdir()
        fuzz_robots.lerobot(folder / name)
    (folder / "some/arm").rename(folder / "some/folder")
    for path in (folder / "other/arm/data/chunk-000").iterdir():
        pq.write_table(pq.read_table(path).drop_columns(["next.reward", "next.success"]), path)


@pytest.mark.parametrize("page", IN_ORDER)
def test_the_blocks_of_a_page_run_in_order(page, tmp_path, monkeypatch, own_units):
    monkeypatch.chdir(tmp_path)
    if page == "data.md":
        robot_data(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    text, names = (DOCS / page).read_text(), {"TINY": TINY_OVERRIDES}
    with quick_compiling(tmp_path / "compiled"):
        for language, block in blocks(page, "python", "sh"):
            before = text.partition(block)[0].rpartition("\n\n")[0]
            if file := re.search(r"Save this as `(\w+\.py)`:$", before):
                (tmp_path / file[1]).write_text(block)
            elif language == "python":
                exec(block.replace('budget="smoke"', TINY_PYTHON), names)
            else:
                for line in lines(block):
                    if not line.startswith("pip install "):
                        run(line)


def test_own_algorithm_is_short():
    (_, text), *_ = blocks("own_algorithm.md", "python")
    _, _, algorithm = text.partition("class crr")
    assert len([line for line in algorithm.splitlines() if line.strip()]) <= 60


def test_the_commands_of_the_page_on_results(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "published.csv").write_text("task,method,env_steps,score\n")
    with quick_compiling(tmp_path / "compiled"):
        for name, method in (("cql", "cql_to_sac"), ("enoto", "enoto_cql")):
            run(f"enoto train --method={method} --budget=smoke --out=runs/{name}")
        for _, text in blocks("report.md", "sh"):
            for line in lines(text):
                run(line)
    assert (tmp_path / "compare.png").exists() and (tmp_path / "report.html").exists()


def test_the_commands_of_the_page_on_measuring(tmp_path, monkeypatch, capsys):
    """The first command runs on tiny networks; tests/experiments runs the other programs."""
    monkeypatch.chdir(tmp_path)
    shown = [line for _, text in blocks("measuring.md", "sh") for line in lines(text)]
    tiny = "--phase=offline --rounds=1 --seconds=0.01 --set=algorithm.hidden=8,8"
    with quick_compiling(tmp_path / "compiled"):
        run(f"{shown[0]} {tiny}")
    assert "of roofline" in capsys.readouterr().out
    for line in shown[1:]:
        parsed(line)
    ((_, pinned),) = blocks("measuring.md", "bash")
    assert parsed(pinned.partition(" -c 1 ")[2].strip()).clock == "cpu"


def test_the_command_of_the_page_on_cheaper_ensembles():
    (_, line), (_, measured) = blocks("cheaper_ensembles.md", "sh")
    assert parsed(line.strip()).budget == "laptop"
    assert parsed(measured.strip()).clock == "cpu"


def test_the_page_on_a_runs_folder_names_what_there_is():
    page = (DOCS / "run_folder.md").read_text()
    for column in files.EVALUATION_COLUMNS:
        assert f"`{column}`" in page
    for quantity, about in EXPLAINED.items():
        assert f"| `{quantity}` | {about} |" in page


def test_paths_on_the_pages_of_methods_exist():
    """Every hyper-parameter named on a method's page belongs to one of its methods."""
    for path in sorted((DOCS / "methods").glob("*.md")):
        text = path.read_text()
        methods = [name for name in RECIPES if f"`{name}`" in text.partition("\n")[0]]
        known = {p for name in methods for p, _, _ in units.leaves(RECIPES[name])}
        known |= {p.partition(".")[2] for p in known if p.startswith(("offline.", "online."))}
        named = re.findall(r"`((?:(?:offline|online)\.)?(?:algorithm|transform)\.[\w.]+)`", text)
        assert methods or path.stem == "index", path
        if methods:
            assert set(named) <= known, f"{path.name}: {sorted(set(named) - known)}"


def test_commands_in_the_text_exist():
    """Check every `enoto COMMAND`, `python -m MODULE` and path that a page names."""
    from enoto_jax.cli.main import COMMANDS

    for page in sorted(DOCS.rglob("*.md")):
        text = page.read_text()
        for name in re.findall(r"`enoto ([a-z-]+)", text):
            assert name in COMMANDS, f"{page.name}: enoto {name}"
        for module in re.findall(r"python -m (experiments[\w.]+)", text):
            assert import_module(module), page.name
        for name in re.findall(r"`((?:enoto_jax|experiments|tests)/[\w/.]+)`", text):
            assert (ROOT / name).exists(), f"{page.name}: {name}"
        assert "--preset" not in text, page.name
