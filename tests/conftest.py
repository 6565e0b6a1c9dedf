"""Fixtures for the unit tests: a tiny problem, also as arrays for tests/oracle/reference.py.

All sizes differ, so that no axis can be mistaken for another. All modules use the same sizes, so
that a module reuses what an earlier one has compiled.
"""

import gc
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from enoto_jax import core
from enoto_jax.types import Spec, Transition

B, N, K, D, A = 6, 4, 5, 3, 2

# All tests run on one device, whichever test asks for devices first.
jax.config.update("jax_num_cpu_devices", 1)

# XLA's older CPU code generator compiles these small programs in half the time. jax 0.12 has
# removed it, and XLA aborts on unknown flags. Processes that tests start inherit the flags, which
# XLA reads at its first computation.
QUICK = ["--xla_cpu_parallel_codegen_split_count=1"]
if jax.__version_info__ < (0, 11):
    QUICK.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *QUICK]).strip()

# Tracing makes millions of small objects that live on. Python's default, a collection for every 700
# of them, took 3 to 11 percent of the time of the files in which it was measured.
gc.set_threshold(100_000, 50, 1000)


def pytest_addoption(parser):
    parser.addoption(
        "--regenerate-golden", action="store_true", help="rewrite tests/golden instead of checking"
    )


@pytest.fixture(scope="session")
def spec():
    return Spec(observation_size=D, action_size=A)


@pytest.fixture(scope="session")
def double():
    """double(tree) -> the tree in float64, for the oracle."""
    return lambda tree: jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


@pytest.fixture(scope="session")
def batch():
    """A batch: row 1 terminates, row 2 hits a time limit, and action 3 is exactly on the bounds."""
    rng = np.random.default_rng(0)
    action = rng.uniform(-1, 1, (B, A)).astype(np.float32)
    action[3] = [-1.0, 1.0]
    transitions = Transition(
        observation=rng.normal(size=(B, D)).astype(np.float32),
        action=action,
        reward=rng.normal(size=B).astype(np.float32),
        terminated=np.arange(B) == 1,
        truncated=np.arange(B) == 2,
        next_observation=rng.normal(size=(B, D)).astype(np.float32),
        extras={},
    )
    return jax.tree.map(jnp.asarray, transitions)


@pytest.fixture(scope="session")
def numbers():
    """(tree of shapes, seed) -> the tree filled with NumPy's random numbers; compiles nothing."""

    def fill(tree, seed):
        rng = np.random.default_rng(seed)

        def leaf(path, x):
            if np.issubdtype(x.dtype, np.integer):
                return np.full(x.shape, 3, x.dtype)
            value = rng.normal(scale=0.5, size=x.shape).astype(x.dtype)
            # Adam's second moment is never negative.
            return abs(value) if ".nu" in jax.tree_util.keystr(path) else value

        return jax.tree_util.tree_map_with_path(leaf, tree)

    return fill


@pytest.fixture(scope="session")
def state_of(numbers):
    """algorithm -> a random state: targets differ from parameters, and members from each other."""

    def make(algorithm, seed=0):
        shapes = jax.eval_shape(lambda key: core.init(algorithm, key), jax.random.key(0))
        return numbers(shapes, seed)

    return make


@pytest.fixture(scope="session")
def data(batch, double):
    """The batch in float64."""
    return double(batch)


@pytest.fixture(scope="module")
def evaluate(request, spec, state_of, double):
    """(make, options) -> the algorithm, a state of it, and that state in float64.

    It builds the module's MAKE by default; options extend or replace those in its SHAPE.
    """

    def evaluate(make=request.module.MAKE, **options):
        algorithm = make(**{**request.module.SHAPE, **options}).build(spec)
        state = state_of(algorithm)
        return algorithm, state, double(state)

    return evaluate
