"""Every block of the first pages runs, and their statements about the code are true."""

import os
import re
import subprocess
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from enoto_jax.cli import command
from enoto_jax.cli.command import define_only
from enoto_jax.recipes import budgets, registry
from enoto_jax.recipes.table import RECIPES
from experiments import table
from experiments.paper import readme
from tests.helpers import parse_shell, quick_compiling

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ["README.md", "WORKSPACE.md", "docs/index.md"]
# Budgets and files that a test cannot afford, and their replacements.
STAND_INS = {
    "--budget=paper": "--budget=smoke",
    "--budget=cpu": "--budget=smoke",
    "--rows=10000": "--rows=30",
}
# A gigabyte from the network; without it, a command uses the bundled data set.
LEFT_OUT = ("--task=hopper-medium-v2", "hopper-medium-v2")
TINY = {
    "enoto_jax.cli.train": (
        "--set=algorithm.hidden=8,8",
        "--offline_steps=20",
        "--online_steps=30",
        "--warmup=10",
        "--eval_every=20",
        "--eval_episodes=1",
        "--seeds=1",
    ),
    "enoto_jax.cli.collect": (
        "--set=online.algorithm.hidden=8,8",
        "--set=online.warmup=10",
    ),
    "enoto_jax.cli.evaluate": ("--episodes=1",),
}
PYTHON_STAND_INS = {
    'load_source("hopper-medium-v2")': "load_source(None)",
    'budget="paper", seeds=5': 'budget="smoke", seeds=1, eval_episodes=1, overrides=TINY',
    "episodes=20": "episodes=1",
}
TINY_OVERRIDES = {
    "algorithm.hidden": (8, 8),
    "offline.steps": 20,
    "offline.eval_every": 20,
    "online.steps": 30,
    "online.eval_every": 20,
    "online.warmup": 10,
}


def blocks(document: str) -> Iterator[tuple[str, str]]:
    """Return the language and text of every shell or Python block."""
    return re.findall(r"```(sh|python)\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)


def run_shell(line: str) -> None:
    """Run one line of a shell block, with the stand-ins above."""
    if line.startswith("make "):
        assert make(line.split()[1])  # running it would install from the network
    elif line.startswith("source "):
        folder = line.removeprefix("source ").removesuffix("/bin/activate")
        assert f"VENV := {folder}\n" in (ROOT / "Makefile").read_text()
    else:
        module, positional, arguments = parse_shell(line)  # fails for any other program
        arguments = [STAND_INS.get(a, a) for a in arguments if a not in LEFT_OUT]
        scratch = "--method=sac" in arguments  # sac has no offline phase
        extra = TINY.get(module, ())
        extra = [a for a in extra if not (scratch and a.startswith("--offline_steps"))]
        assert call(module, positional, [*arguments, *extra]) == command.DONE, line


def make(target: str) -> str:
    """Return the commands of a target of the Makefile, without running them."""
    found = subprocess.run(
        ["make", "--dry-run", "--always-make", target], cwd=ROOT, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def call(module: str, positional: str | None, arguments: list[str]) -> int:
    """Run the module's command with these arguments in this process; return its exit code."""
    program = import_module(module)
    define_only(program)
    return command.execute(program.main, [module, *arguments], positional)


def run_python(text: str) -> None:
    """Run a Python block, with the stand-ins above."""
    for there, here in PYTHON_STAND_INS.items():
        text = text.replace(there, here)
    assert "paper" not in text, "the paper's budget takes days"
    exec(text, {"TINY": TINY_OVERRIDES})


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_block_runs(document, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "UNITS", dict(registry.UNITS))  # pages register their own units
    found = list(blocks(document))
    assert found, f"{document} shows no block"
    with quick_compiling(tmp_path / "compiled"):
        for language, text in found:
            if language == "python":
                run_python(text)
                continue
            for line in text.replace("\\\n", " ").splitlines():
                run_shell(line)


def test_blocks_are_in_languages_that_run():
    """No block escapes the test above under another language name."""
    for document in DOCUMENTS:
        fences = re.findall(r"^```(\w*)$", (ROOT / document).read_text(), re.MULTILINE)
        assert set(fences[::2]) <= {"sh", "python", "bibtex"}, document


@pytest.mark.parametrize("written", [readme.results, readme.speed])
def test_the_tables_of_the_readme_are_those_of_the_results(written):
    assert written() in (ROOT / "README.md").read_text()


def test_the_page_on_methods_is_the_codes():
    assert (ROOT / "docs/methods/index.md").read_text() == table.methods()


PUBLIC = ["README.md", "WORKSPACE.md", "CONTRIBUTING.md", "CHANGELOG.md"]
PAGES = sorted(
    str(path.relative_to(ROOT))
    for folder in ("docs", "experiments/results")
    for path in (ROOT / folder).rglob("*.md")
)


@pytest.mark.parametrize("document", [*PUBLIC, *PAGES])
def test_links_and_pictures_exist(document):
    text = (ROOT / document).read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert ((ROOT / document).parent / target).exists(), target


@pytest.mark.parametrize("row", RECIPES)
def test_every_row_has_a_page(row):
    titles = [path.read_text().splitlines()[0] for path in (ROOT / "docs/methods").glob("*.md")]
    assert any(f"`{row}`" in title or title == f"# {row}" for title in titles)


MAP_TEXT = (ROOT / "WORKSPACE.md").read_text().partition("\n## Map\n")[2].partition("\n## ")[0]
MAP = dict(re.findall(r"^\| `([^`]+)` \| (.*) \|$", MAP_TEXT, re.MULTILINE))


@pytest.mark.parametrize("where", MAP)
def test_the_map_names_what_is_there(where):
    assert (ROOT / where).exists()
    if where.startswith(("enoto_jax/", "experiments/")) and where.endswith("/"):
        for name in re.findall(r"`([a-z_0-9]+)`", MAP[where].partition("write")[0]):
            inside = (ROOT / where / f"{name}.py", ROOT / where / name)
            commands = (ROOT / "enoto_jax/cli" / f"{name}.py",)
            assert any(path.exists() for path in (*inside, *commands)), name


@pytest.mark.parametrize("document", PUBLIC)
def test_paths_in_the_text_exist(document):
    text = (ROOT / document).read_text().partition("## Upgrade")[0]
    found = re.findall(r"`((?:enoto_jax|experiments|tests|docs|examples)/[\w/.]*)`", text)
    for name in found:
        assert (ROOT / name).exists(), name


def test_every_room_is_on_the_map():
    for path in (ROOT / "enoto_jax").rglob("*.py"):
        assert room(path.relative_to(ROOT).as_posix()) or path.parent.name == "enoto_jax", path


def room(path: str) -> str | None:
    """The map's entry for a file: the longest match."""
    return max((w for w in MAP if path == w or path.startswith(w)), key=len, default=None)


def test_the_shell_of_the_page_on_long_runs(tmp_path):
    """Only exit code 75 restarts the loop, and only 75 requeues the Slurm job."""
    stand_in = """#!/bin/sh
echo "$(basename "$0") $*" >> called
[ "$(basename "$0")" = scontrol ] && exit 0
left=$(cat left); echo $((left - 1)) > left
[ "$left" -gt 1 ] && exit 75; exit $(cat last)
"""
    for name in ("enoto", "srun", "scontrol"):
        (tmp_path / name).write_text(stand_in)
        (tmp_path / name).chmod(0o755)
    page = (ROOT / "docs" / "long_runs.md").read_text()
    job, loop = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    shell = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "4711"}

    def called(script, stops, last):
        for name, text in (("left", f"{stops + 1}"), ("last", f"{last}"), ("called", "")):
            (tmp_path / name).write_text(text)
        subprocess.run(["bash", "-c", script], cwd=tmp_path, env=shell, check=False, timeout=60)
        return [line.split()[0] for line in (tmp_path / "called").read_text().splitlines()]

    for last in (0, 2):
        assert called(loop, 2, last) == ["enoto"] * 3
        assert called(job, 0, last) == ["srun"]
    assert called(job, 1, 0) == ["srun", "scontrol"]


def test_the_budgets_of_the_readme_are_the_codes():
    lines = (ROOT / "README.md").read_text().splitlines()
    for name, budget in budgets.BUDGETS.items():
        row = budgets.with_budget(RECIPES["enoto_cql"], budget)
        hidden = row.offline.algorithm.hidden
        cells = [f"{row.offline.steps:,}", f"{row.online.steps:,}", str(budget.seeds)]
        cells.append("the method's own" if name == "paper" else f"{len(hidden)} x {hidden[0]}")
        start = f"| `{name}` | {' | '.join(cells)} | "
        assert any(line.startswith(start) for line in lines), start
