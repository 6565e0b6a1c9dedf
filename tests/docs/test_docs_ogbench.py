"""The commands of docs/ogbench.md in order, executed if ogbench is installed, else parsed."""

import re
from importlib import import_module, util
from pathlib import Path

import pytest
from absl import flags

from enoto_jax.cli import command
from enoto_jax.cli.command import define_only
from tests.helpers import parse_shell, quick_compiling

DOCS = Path(__file__).resolve().parents[2] / "docs"
TINY = {
    "enoto_jax.cli.collect": ("--episodes=2", "--validation=1"),
    "enoto_jax.cli.train": (
        "--budget=smoke",
        "--set=algorithm.hidden=8,8",
        "--offline_steps=20",
        "--online_steps=10",
        "--eval_every=20",
        "--eval_episodes=1",
        "--seeds=1",
        "--set=online.eval_every=10",
    ),
}


def commands() -> list[str]:
    """The commands of the page's only block, without the installation."""
    (block,) = re.findall(r"^```sh\n(.*?)^```", (DOCS / "ogbench.md").read_text(), re.S | re.M)
    return [line for line in block.splitlines() if not line.startswith("pip ")]


def test_the_commands_of_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(commands()) == 4
    for line in commands():
        module, positional, arguments = parse_shell(line)
        program, arguments = import_module(module), [module, *arguments]
        define_only(program)
        if util.find_spec("ogbench") is None or module == "enoto_jax.cli.render":
            rest = flags.FLAGS(arguments)  # filming two whole episodes takes minutes
            assert len(rest) == 1 + bool(positional and len(rest) > 1)
            continue
        with quick_compiling(tmp_path / "compiled"):
            assert (
                command.execute(program.main, arguments + [*TINY.get(module, ())], positional) == 0
            )
    if util.find_spec("ogbench") is not None:
        assert "success" in (tmp_path / "runs/fql/evaluations.csv").read_text().splitlines()[0]


@pytest.mark.parametrize("page", ["ogbench.md"])
def test_links_exist(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", (DOCS / page).read_text()):
        assert (DOCS / target).exists(), target
