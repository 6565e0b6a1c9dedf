"""The examples run on budgets of seconds and use only public names."""

import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from absl import flags

import enoto_jax
from enoto_jax.cli import command
from tests.helpers import Reach, quick_compiling, reach_data

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def algorithm_1(tmp_path, *more: str) -> list[float]:
    """Run the example on a small budget."""
    command.define_only(SimpleNamespace(define=lambda: None))  # without those of earlier tests
    before = set(flags.FLAGS)
    program = runpy.run_path(str(EXAMPLES / "algorithm1.py"))
    small = "--offline_steps=3 --online_steps=40 --warmup=30 --critics=3 --width=8"
    try:
        flags.FLAGS(["algorithm1", *small.split(), *more])
        with quick_compiling(tmp_path):
            return program["main"]()
    finally:
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)


def test_algorithm_1(tmp_path):
    text = (EXAMPLES / "algorithm1.py").read_text()
    assert text.count("\n") <= 150
    for name in set(re.findall(r"\bej\.(\w+)", text)):
        assert name in enoto_jax.__all__
    returns = algorithm_1(tmp_path)
    assert returns and np.isfinite(returns).all()


def test_its_actions_reach_the_environments_bounds(tmp_path, monkeypatch):
    """ReachWide-v0 has actions in [-3, 3]."""
    np.savez(tmp_path / "wide.npz", **reach_data(), env="ReachWide-v0")
    taken, step = [], Reach.step
    monkeypatch.setattr(Reach, "step", lambda self, a: taken.append(abs(a[0])) or step(self, a))
    algorithm_1(tmp_path, f"--task={tmp_path / 'wide.npz'}")
    assert 1.0 < max(taken) <= 3.0
