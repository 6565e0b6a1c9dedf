"""Every method's two programs lower for GPUs and TPUs, on a machine without either."""

import jax
import numpy as np
import pytest

from enoto_jax.exploration import policy
from enoto_jax.nets import cpu_kernels
from enoto_jax.recipes import examples
from enoto_jax.recipes.building import build
from enoto_jax.recipes.table import RECIPES
from enoto_jax.runs.templates import abstract, template
from enoto_jax.training import offline, online
from enoto_jax.training.seeds import SeedMap
from tests.helpers import REACH, tiny

ACCELERATORS = ("cuda", "tpu")
ROWS = 40


@pytest.fixture(scope="module", autouse=True)
def as_on_an_accelerator():
    """Trace the accelerators' programs: nothing unstacked, and no products instead of sums."""
    jax.clear_caches()  # drop what was traced for a CPU
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu_kernels, "_on_cpu", lambda: False)
        patch.setattr(SeedMap, "on_cpu", False)
        yield
    jax.clear_caches()


def shape(dtype, *sizes):
    return jax.ShapeDtypeStruct(sizes, dtype)


def batched(tree):
    """One seed's shapes with a leading seed axis."""
    return jax.tree.map(lambda x: shape(x.dtype, 1, *x.shape), tree)


def lowered(program, *arguments) -> str:
    return program.trace(*arguments).lower(lowering_platforms=ACCELERATORS).as_text()


@pytest.mark.parametrize("method", RECIPES)
def test_both_programs_lower(method):
    row = tiny(method)
    built, seeds = build(row, REACH), SeedMap([0])
    seed, count = shape(np.int32, 1), shape(np.int32)

    def data(algorithm):
        return jax.eval_shape(lambda: examples.data(REACH, algorithm, ROWS))

    if built.offline is not None:
        state = template(lambda: abstract(built.offline), 1)
        blocks = offline.compile_blocks(built.offline, 8, 2, seeds)
        rows = data(built.offline._replace(exploration=policy()))
        text = lowered(blocks, state, seed, count, count, rows)
        assert "stablehlo.while" in text and "dot_general" in text
    replay = built.replay
    rows = ROWS if replay.needs_data else 0
    begin = online.begin(built.online, replay, REACH, 8, rows)
    state = jax.eval_shape(lambda: abstract(built.online))
    carried = batched(jax.eval_shape(begin, state, shape(np.int32)))
    new = jax.eval_shape(lambda: examples.transition(REACH, built.online))._replace(extras={})
    new = batched(new)
    step = online.compile_step(row.online, built.online, replay, seeds)
    resident = data(built.online) if rows else None
    text = lowered(
        step, carried, seed, new, new.observation, shape(bool, 1), count, count, resident
    )
    assert "dot_general" in text
