"""Balanced replay: the tree of sums and its draws, and hundreds of steps against plain NumPy.

Transitions are marked as in test_replay.py: ring rows by 0, 1, ..., data set rows from -30.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from enoto_jax import replay
from enoto_jax.recipes import registry
from enoto_jax.recipes.building import build
from enoto_jax.recipes.table import RECIPES
from enoto_jax.replay import Stored, ring, sum_tree
from enoto_jax.types import InputError, Spec
from tests.helpers import quick_compiling
from tests.oracle import composite as reference
from tests.replay.test_replay import alike, marked, rows_of

KEY = jax.random.key(0)
KNOWN, CAPACITY, BATCH = 30, 20, 8
DATA = marked(np.arange(-KNOWN, 0))


@pytest.fixture(scope="module", autouse=True)
def quick():
    with quick_compiling():
        yield


def some_priorities(count, seed=0):
    """Priorities from 0.001 to 1000; every third is 0."""
    rng = np.random.default_rng(seed)
    found = np.exp(rng.uniform(np.log(0.001), np.log(1000.0), count))
    return np.where(np.arange(count) % 3 == 1, 0.0, found).astype(np.float32)


def check_sums(levels, priorities):
    """Compare every level of the tree with NumPy's sums in float64."""
    expected = np.asarray(priorities, np.float64)
    for level in levels:
        flat = np.ravel(level)
        np.testing.assert_allclose(flat[: len(expected)], expected, rtol=1e-6)
        assert not flat[len(expected) :].any()
        expected = np.add.reduceat(expected, np.arange(0, len(expected), level.shape[1]))
    assert levels[-1].shape[0] == 1


# The tree.


@pytest.mark.parametrize("count", [1, 15, 16, 17, 300, 5000])
def test_a_tree_holds_sums_and_changes_with_its_rows(count):
    priorities = some_priorities(count)
    levels = sum_tree.build(jnp.asarray(priorities))
    check_sums(levels, priorities)
    rng = np.random.default_rng(1)
    for _ in range(20):
        rows = rng.integers(0, count, BATCH)
        values = some_priorities(count, seed=2)[rows]  # a repeated row gets the same value
        levels = sum_tree.put(levels, jnp.asarray(rows), jnp.asarray(values))
        priorities[rows] = values
        np.testing.assert_array_equal(sum_tree.get(levels, jnp.arange(count)), priorities)
    check_sums(levels, priorities)


def draws(priorities, count, times):
    levels = sum_tree.build(jnp.asarray(priorities))
    keys = jax.random.split(KEY, times)
    return np.asarray(jax.jit(jax.vmap(lambda k: sum_tree.draw(levels, k, count)))(keys))


@pytest.mark.parametrize("count", [10, 300])
def test_draws_are_proportional(count):
    """Chi-square is within 5 sd of its mean; rows with priority 0 are never drawn."""
    priorities = np.float32(np.random.default_rng(0).uniform(0.2, 2.0, count))
    priorities[::3] = 0.0
    drawn = draws(priorities, 16, 2000)
    found = np.bincount(drawn.ravel(), minlength=count)
    assert not found[priorities == 0].any()
    expected = drawn.size * priorities / priorities.sum(dtype=np.float64)
    likely = priorities > 0
    chi_square = ((found - expected)[likely] ** 2 / expected[likely]).sum()
    freedom = likely.sum() - 1
    assert chi_square <= freedom + 5 * (2 * freedom) ** 0.5


def test_draws_are_stratified():
    """16 draws from 16 equal rows draw each once; unequal rows follow the oracle's strata."""
    drawn = draws(np.ones(16, np.float32), 16, 50)
    np.testing.assert_array_equal(drawn, np.tile(np.arange(16), (50, 1)))
    priorities = np.float32([0.0, 3.0, 0.0, 1.0, 2.5, 0.7])
    numbers = jax.random.uniform(jax.random.fold_in(KEY, 0), (BATCH,))
    expected = reference.stratified_choice(priorities.astype(float), np.asarray(numbers, float))
    levels = sum_tree.build(jnp.asarray(priorities))
    np.testing.assert_array_equal(sum_tree.draw(levels, KEY, BATCH), expected)


def test_a_small_row_far_behind_large_ones_is_drawn_as_often_as_it_should():
    """A single float32 position for the whole tree could not resolve the last rows."""
    count = 200_000
    priorities = np.full(count, 1000.0, np.float32)
    priorities[-400:] = 0.001
    priorities[-1] = priorities.sum(dtype=np.float64) / 99
    share = (draws(priorities, 100, 300) == count - 1).mean()
    assert abs(share - 0.01) < 5 * (0.01 * 0.99 / 30_000) ** 0.5
    only_small = np.where(priorities == np.float32(0.001), priorities, np.float32(0.0))
    alike(draws(only_small, 100, 300).ravel(), range(count - 400, count - 1))


# The policy.


@pytest.fixture(scope="module")
def policy():
    return replay.balanced(online_fraction=0.75, first=CAPACITY, capacity=CAPACITY)


def empty(policy):
    one = jax.tree.map(lambda x: x[0], DATA)
    return Stored(ring.empty(one, CAPACITY), policy.start(KNOWN))


def test_the_start(policy):
    own = empty(policy).own
    check_sums(own.levels, [0.0] * CAPACITY + [1.0] * KNOWN)
    assert own.largest == reference.first_online_priority(KNOWN, 0.75, CAPACITY)
    default = replay.balanced().start(300_000)
    assert default.largest == reference.first_online_priority(300_000, 0.5)


def test_hundreds_of_steps_under_vmap_with_donation_against_numpy(policy):
    """Two seeds; the ring wraps often, and some transitions repeat, as after resuming."""
    seeds, steps = 2, 300

    def step(stored, transition, key, values, count):
        stored = policy.insert(stored, transition, count, None)
        batch = policy.sample(stored, DATA, key, BATCH, count)
        # One priority per row, so a row that is drawn twice gets a single value.
        own = policy.feedback(stored, batch, values[batch.extras["row"]])
        return stored._replace(own=own), batch

    run = jax.jit(jax.vmap(step, (0, 0, 0, 0, None)), donate_argnums=0)
    stored = jax.vmap(lambda _: empty(policy))(jnp.arange(seeds))
    priorities = np.float32([[0.0] * CAPACITY + [1.0] * KNOWN] * seeds)
    largest = np.full(seeds, KNOWN * 0.75 / (0.25 * CAPACITY), np.float32)
    rng, count, marks = np.random.default_rng(3), 0, np.zeros((seeds, CAPACITY), int)
    for number in range(steps):
        again = count > 0 and rng.random() < 0.1
        count += not again
        if not again:
            slot = (count - 1) % CAPACITY
            priorities[:, slot] = largest
            marks[:, slot] = [count, 1000 + count]
        values = np.exp(rng.uniform(-3, 3, (seeds, CAPACITY + KNOWN))).astype(np.float32)
        keys = jax.random.split(jax.random.fold_in(KEY, number), seeds)
        before = stored
        transition = marked(np.array([count, 1000 + count]))
        stored, batch = run(stored, transition, keys, values, jnp.int32(count))
        assert all(x.is_deleted() for x in jax.tree.leaves(before))
        rows = np.asarray(batch.extras["row"])
        for seed in range(seeds):
            assert (priorities[seed, rows[seed]] > 0).all()
            where = np.concatenate([marks[seed], np.arange(-KNOWN, 0)])
            of_seed = jax.tree.map(lambda x, s=seed: x[s], batch)
            np.testing.assert_array_equal(rows_of(of_seed._replace(extras={})), where[rows[seed]])
            priorities[seed, rows[seed]] = values[seed, rows[seed]]
            largest[seed] = max(largest[seed], values[seed, rows[seed]].max())
        flat = np.reshape(stored.own.levels[0], (seeds, -1))[:, : CAPACITY + KNOWN]
        np.testing.assert_array_equal(flat, priorities)
        np.testing.assert_array_equal(stored.own.largest, largest)
    assert count > 10 * CAPACITY and count < steps
    for seed in range(seeds):
        check_sums(jax.tree.map(lambda x, s=seed: x[s], stored.own.levels), priorities[seed])


def test_a_transition_that_comes_again_changes_nothing(policy):
    stored = empty(policy)
    for count in (1, 2):
        stored = policy.insert(stored, jax.tree.map(lambda x: x[0], marked([7])), count, None)
    own = policy.feedback(
        stored, DATA._replace(extras={"row": jnp.int32([1, 25])}), jnp.float32([0.5, 1e9])
    )
    stored = stored._replace(own=own)
    again = policy.insert(stored, jax.tree.map(lambda x: x[1], stored.ring), 2, None)
    for x, y in zip(jax.tree.leaves(again), jax.tree.leaves(stored), strict=True):
        np.testing.assert_array_equal(x, y)
    new = policy.insert(stored, jax.tree.map(lambda x: x[1], stored.ring), 3, None)
    assert sum_tree.get(new.own.levels, jnp.int32(2)) == np.float32(1e9)


def test_what_call_0_writes_is_never_drawn(policy):
    """Call 0 has no transition; its row keeps priority 0 until call 1 overwrites it."""
    stored = policy.insert(empty(policy), jax.tree.map(lambda x: x[0], DATA), jnp.int32(0), None)
    assert sum_tree.get(stored.own.levels, jnp.int32(0)) == 0
    drawn = np.concatenate(
        [sum_tree.draw(stored.own.levels, k, 50) for k in jax.random.split(KEY, 9)]
    )
    assert drawn.min() >= CAPACITY


def test_the_share_of_new_transitions_after_the_first_ones(policy):
    stored, insert = empty(policy), jax.jit(lambda s, x, count: policy.insert(s, x, count, None))
    for count in range(1, CAPACITY + 1):
        stored = insert(stored, jax.tree.map(lambda x: x[0], marked([count])), count)
    batch = policy.sample(stored, DATA, KEY, 4000, jnp.int32(CAPACITY))
    share = (np.asarray(batch.reward) >= 0).mean()
    assert abs(share - 0.75) < 5 * (0.75 * 0.25 / 4000) ** 0.5


@pytest.mark.parametrize("inserted", [3, CAPACITY, 47])
def test_the_ratio_learns_from_uniform_batches_of_either_source(policy, inserted):
    stored = Stored(marked(np.arange(CAPACITY)), policy.start(KNOWN))
    batch = policy.sample(stored, DATA, KEY, 4000, jnp.int32(inserted))
    alike(rows_of(batch.extras["offline"]), range(-KNOWN, 0))
    alike(rows_of(batch.extras["online"]), range(min(inserted, CAPACITY)))


def test_masks_travel_along(policy):
    one = jax.tree.map(lambda x: x[0], marked([1], extras=True))
    stored = Stored(ring.empty(one, CAPACITY), policy.start(KNOWN))
    stored = policy.insert(stored, one, 1, None)
    data = marked(np.arange(-KNOWN, 0), extras=True)
    batch = policy.sample(stored, data, KEY, BATCH, jnp.int32(1))
    rows_of(batch._replace(extras={"mask": batch.extras["mask"]}))


def test_refusals():
    for fraction in (0.0, 1.0, 1.5):
        with pytest.raises(InputError, match=f"balanced: online_fraction is {fraction}; it must"):
            replay.balanced(online_fraction=fraction)
    with pytest.raises(InputError, match="balanced: first is 0; it must be at least 1"):
        replay.balanced(first=0)
    with pytest.raises(InputError, match="replay: capacity is 0; it must be 1 to 1073741824"):
        replay.balanced(capacity=0)
    assert replay.balanced().capacity == 250_000


@pytest.mark.parametrize(("row", "policy"), [("sac", "balanced"), ("br", "append")])
def test_balanced_replay_and_br_need_each_other(row, policy):
    recipe = registry.override(RECIPES[row], "online.replay", policy)
    name = recipe.online.algorithm.name
    with pytest.raises(
        InputError, match=f"--replay: {policy} does not fit {name}: only br computes"
    ):
        build(recipe, Spec(3, 2))
