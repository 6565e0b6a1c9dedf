"""Every command in the documents runs, and what they say of the code is what the code says."""

import os
import re
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from enoto_jax.cli import command
from enoto_jax.recipes.table import RECIPES
from experiments import table
from tests.helpers import define_flags, parse_shell, quick_compiling

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ["README.md", "WORKSPACE.md", "docs/index.md"]
# Budgets and files that a test cannot afford, and what stands for them.
STAND_INS = {
    "--budget=paper": "--budget=smoke",
    "--budget=cpu": "--budget=smoke",
    "--rows=10000": "--rows=30",
}
LEFT_OUT = ("--task=hopper-medium-v2",)  # a gigabyte from the network
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
    "experiments.benchmarks.updates": (
        "--rounds=1",
        "--seconds=0.01",
        "--set=algorithm.hidden=8,8",
    ),
    "enoto_jax.cli.collect": (
        "--set=online.algorithm.hidden=8,8",
        "--set=online.warmup=10",
    ),
    "enoto_jax.cli.check_data": (),
    "enoto_jax.cli.compare": (),
    "enoto_jax.cli.report": (),
    "experiments.table": (),
}


def commands(document: str) -> list[str]:
    """The lines of its shell blocks that start one of our programs."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith(("python -m ", "enoto "))]


def call(module: str, positional: str | None, arguments: list[str]) -> int:
    """What the module's command does with these arguments, without a new interpreter."""
    program = import_module(module)
    define_flags(program)
    return command.execute(program.main, [module, *arguments], positional)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_runs(document, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = commands(document)
    assert lines, f"{document} shows no command"
    with quick_compiling(tmp_path / "compiled"):
        for line in lines:
            module, positional, arguments = parse_shell(line)
            arguments = [STAND_INS.get(a, a) for a in arguments if a not in LEFT_OUT]
            if module == "experiments.table":
                assert table.table()
                continue
            scratch = "--method=sac" in arguments  # a row without an offline phase
            extra = [a for a in TINY[module] if not (scratch and a.startswith("--offline_steps"))]
            assert call(module, positional, [*arguments, *extra]) == command.DONE, line


def test_the_table_of_the_readme_is_the_codes():
    assert table.table() in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("target", ["demo", "test"])
def test_the_readme_and_ci_use_the_makefiles_targets(target):
    makefile = (ROOT / "Makefile").read_text()
    assert f"\n{target}: setup" in makefile
    assert f"make {target}" in (ROOT / "README.md").read_text()
    assert "make test" in (ROOT / ".ci" / "run").read_text()


PAGES = sorted(
    str(path.relative_to(ROOT))
    for folder in ("docs", "experiments/results")
    for path in (ROOT / folder).rglob("*.md")
)


@pytest.mark.parametrize("document", ["README.md", "WORKSPACE.md", *PAGES])
def test_links_and_pictures_exist(document):
    text = (ROOT / document).read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert ((ROOT / document).parent / target).exists(), target


@pytest.mark.parametrize("row", RECIPES)
def test_every_row_has_a_page(row):
    titles = [path.read_text().splitlines()[0] for path in (ROOT / "docs/methods").glob("*.md")]
    assert any(f"`{row}`" in title or title == f"# {row}" for title in titles)


def test_the_map_names_what_is_there():
    for name in re.findall(
        r"`((?:enoto_jax|experiments|tests)/[\w/.]*)`", (ROOT / "WORKSPACE.md").read_text()
    ):
        assert (ROOT / name).exists(), name


def test_the_shell_of_the_page_on_long_runs(tmp_path):
    """Its loop starts again on 75 alone; its Slurm job is put back in the queue on 75 alone."""
    stand_in = """#!/bin/sh
echo "$(basename "$0") $*" >> called
[ "$(basename "$0")" = scontrol ] && exit 0
left=$(cat left); echo $((left - 1)) > left
[ "$left" -gt 1 ] && exit 75; exit $(cat last)
"""
    for name in ("python", "srun", "scontrol"):
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
        assert called(loop, 2, last) == ["python"] * 3
        assert called(job, 0, last) == ["srun"]
    assert called(job, 1, 0) == ["srun", "scontrol"]
