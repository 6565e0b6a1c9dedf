"""The files that one update uses, which a reader must open to follow it."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp

from enoto_jax import core
from enoto_jax.recipes.table import RECIPES
from enoto_jax.types import Spec, Transition

PACKAGE = Path(core.__file__).parent
SPEC = Spec(3, 2)
# The CPU kernels are not listed, because they are not part of an algorithm.
READ = {
    "core.py",
    "algorithms/bellman.py",
    "algorithms/sac.py",
    "exploration.py",
    "nets/distributions.py",
    "nets/ensembles.py",
    "nets/networks.py",
    "targets.py",
}


def traced(algorithm) -> set[str]:
    """Return the package's files whose code runs while an update is traced."""
    batch = Transition(
        observation=jnp.zeros((4, 3)),
        action=jnp.zeros((4, 2)),
        reward=jnp.zeros(4),
        next_observation=jnp.zeros((4, 3)),
        terminated=jnp.zeros(4),
        truncated=jnp.zeros(4),
    )
    state = core.init(algorithm, jax.random.key(0))
    found = set()

    def note(frame, event, _):
        if event == "call" and frame.f_code.co_name != "<module>":
            path = Path(frame.f_code.co_filename)
            if path.is_relative_to(PACKAGE):
                found.add(str(path.relative_to(PACKAGE)))

    jax.clear_caches()
    sys.setprofile(note)
    try:
        jax.eval_shape(lambda: core.update(algorithm, state, batch, jax.random.key(1)))
    finally:
        sys.setprofile(None)
    return found


def test_an_update_of_enoto_reads_eight_files():
    recipe = RECIPES["enoto_cql"]
    online = traced(recipe.online.algorithm.build(SPEC))
    assert online - {"nets/cpu_kernels.py"} == READ
    offline = traced(recipe.offline.algorithm.build(SPEC))
    assert offline - {"nets/cpu_kernels.py"} == READ | {"algorithms/cql.py"}
