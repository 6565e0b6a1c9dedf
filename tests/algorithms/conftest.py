"""Fixtures for the algorithms' tests: quick compilation and golden numbers."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from tests.algorithms.losses import KEY, B, close, loss_of
from tests.helpers import quick_compiling

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def quick():
    with quick_compiling():
        yield


@pytest.fixture(scope="module")
def pinned_on(batch):
    """The batch for which the numbers are pinned."""
    return batch


@pytest.fixture(scope="module")
def golden(request, evaluate, pinned_on):
    """golden(case) compares every network's loss and metrics with tests/golden/<module>.json.

    The module's CASES map each case to (make, options).
    """
    path = GOLDEN / f"{request.path.stem.removeprefix('test_')}.json"
    cases = request.module.CASES
    returns = {"mc_return": jnp.linspace(-3.0, 2.0, B)}

    def numbers_of(make, options):
        algorithm, state, _ = evaluate(make, **options)
        known = pinned_on
        if algorithm.monte_carlo is not None:
            known = known._replace(extras=returns)
        found, seen = {}, {}
        names = [*algorithm.losses, *algorithm.duals]
        for key, name in zip(jax.random.split(KEY, len(names)), names):
            loss, seen[name] = loss_of(algorithm, name, state, known, key, seen)
            for metric, value in {"loss": loss, **seen[name]}.items():
                found[f"{name}/{metric}"] = float(value)
        return found

    if request.config.getoption("--regenerate-golden"):
        found = {case: numbers_of(*cases[case]) for case in cases}
        path.write_text(json.dumps(found, indent=2) + "\n")
    pinned = json.loads(path.read_text())

    def compare(case):
        found = numbers_of(*cases[case])
        assert list(found) == list(pinned[case])
        close(list(found.values()), list(pinned[case].values()), 2e-5)

    return compare
