"""The examples run on budgets of seconds and use only public names."""

import re
import runpy
from pathlib import Path

import numpy as np
from absl import flags

import enoto_jax
from tests.helpers import quick_compiling

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_algorithm_1(tmp_path):
    text = (EXAMPLES / "algorithm1.py").read_text()
    assert text.count("\n") <= 150
    for name in set(re.findall(r"\bej\.(\w+)", text)):
        assert name in enoto_jax.__all__
    before = set(flags.FLAGS)
    program = runpy.run_path(str(EXAMPLES / "algorithm1.py"))
    small = "--offline_steps=3 --online_steps=40 --warmup=30 --critics=3 --width=8"
    try:
        flags.FLAGS(["algorithm1", *small.split()])
        with quick_compiling(tmp_path):
            returns = program["main"]()
    finally:
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)
    assert returns and np.isfinite(returns).all()
