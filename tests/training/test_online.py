"""The online loop's program: the numbers of its updates."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from enoto_jax import core
from enoto_jax.exploration import policy
from enoto_jax.nets.networks import Scalar
from enoto_jax.recipes.recipe import Phase
from enoto_jax.replay import online_only
from enoto_jax.training import online
from enoto_jax.training.seeds import SeedMap

KEY = jax.random.key(0)


@pytest.mark.parametrize("warmup, catch_up, utd", [(0, 0, 1), (3, 0, 2), (2, 3, 2)])
def test_updates_are_numbered_from_the_first_one(spec, batch, warmup, catch_up, utd):
    """So a weight falls, and a delay counts, as it would offline."""

    def loss(params, state, batch, key):
        return 0.0 * params["params"]["value"], {"number": state.step}

    nets, adam = {"a": Scalar(0.0)}, {"a": optax.adam(0.1)}
    counting = core.Algorithm(nets, {"a": ()}, {"a": loss}, adam, (), 0.0, None, None, policy())
    phase = Phase(None, 8, batch_size=2, warmup=warmup, catch_up=catch_up, utd=utd)
    replay, seeds = online_only(capacity=8), SeedMap([0])
    train = jax.tree.map(lambda x: x[None], core.init(counting, KEY))
    carried = seeds.compile(online.begin(counting, replay, spec, 2))(train, seeds.seeds)
    step = online.compile_step(phase, counting, replay, seeds, acts=False)
    now = jax.tree.map(lambda x: x[:1], batch)
    for t in range(8):
        counts = (np.int32(t), np.int32(online.rounds(phase, t)), None)
        carried, _ = step(carried, seeds.seeds, now, now.observation, jnp.zeros(1, bool), *counts)
        done = int(carried.count[0])
        assert carried.totals["a"]["number"] == done * (done - 1) / 2  # 0 + 1 + ... so far
    assert carried.train.step == done == utd * (7 - warmup + catch_up * warmup)
