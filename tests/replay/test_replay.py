"""The ring against a NumPy ring, and the rows that each replay draws.

Every field of row i is i (negative in the data set), which identifies a batch's rows.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from enoto_jax import replay
from enoto_jax.replay import Stored, ring
from enoto_jax.types import InputError, Transition

KEY = jax.random.key(0)
MANY = 4000  # batch size that shows how rows are distributed


def marked(numbers, extras=False):
    """Transitions whose fields all equal the row's mark; flags are its parity."""
    marks = jnp.float32(numbers)
    wide = marks[..., None] * jnp.ones(3)
    return Transition(
        observation=wide,
        action=wide[..., :2],
        reward=marks,
        terminated=marks % 2 == 0,
        truncated=marks % 2 == 1,
        next_observation=wide,
        extras={"mask": wide} if extras else {},
    )


def rows_of(batch):
    """The marks, after checking that all fields of a row come from the same row."""
    marks = np.asarray(batch.reward)
    for field in jax.tree.leaves((batch.observation, batch.action, batch.next_observation)):
        np.testing.assert_array_equal(field, np.broadcast_to(marks[..., None], field.shape))
    for field in batch.extras.values():
        np.testing.assert_array_equal(field, np.broadcast_to(marks[..., None], field.shape))
    np.testing.assert_array_equal(batch.terminated, marks % 2 == 0)
    np.testing.assert_array_equal(batch.truncated, marks % 2 == 1)
    return marks.astype(int)


def draw(policy, storage, data, inserted, size=MANY):
    return rows_of(policy.sample(Stored(storage), data, KEY, size, jnp.int32(inserted)))


def alike(marks, known):
    """Check that the rows are drawn equally often: chi-square within 5 sd of its mean."""
    values, counts = np.unique(marks, return_counts=True)
    np.testing.assert_array_equal(values, sorted(known))
    expected, freedom = marks.size / len(known), len(known) - 1
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square <= freedom + 5 * (2 * freedom) ** 0.5


# The ring.


def test_insert_under_vmap_with_donation_is_a_numpy_ring():
    """Two seeds and 13 inserts into a capacity of 5, which wraps twice."""
    seeds, capacity, inserts = 2, 5, 13
    one = jax.tree.map(lambda x: x[0], marked(np.zeros(1), extras=True))
    storage = jax.vmap(lambda _: ring.empty(one, capacity))(jnp.arange(seeds))
    insert = jax.jit(jax.vmap(ring.insert, (0, 0, None)), donate_argnums=0)
    expected = np.zeros((seeds, capacity))
    for position in range(inserts):
        marks = np.array([position, 100 + position]) + 1
        before = storage.observation
        storage = insert(storage, marked(marks, extras=True), position)
        assert before.is_deleted()
        expected[:, position % capacity] = marks
        np.testing.assert_array_equal(storage.reward, expected)
    np.testing.assert_array_equal(rows_of(storage), expected)
    assert storage.terminated.dtype == bool


def test_empty_has_the_types_of_its_example():
    storage = ring.empty(jax.tree.map(lambda x: x[0], marked([1.0])), 4)
    assert storage.observation.shape == (4, 3) and storage.reward.shape == (4,)
    assert storage.terminated.dtype == bool and storage.reward.dtype == jnp.float32
    assert not any(np.any(x) for x in jax.tree.leaves(storage))


@pytest.mark.parametrize("size", [1, 4, 10])
def test_sample_draws_alike_from_the_written_rows_only(size):
    alike(rows_of(ring.sample(marked(np.arange(10)), KEY, MANY, jnp.int32(size))), range(size))


# The policies. Ring rows are marked 0 to 19, the data set's 30 rows -30 to -1.

CAPACITY = 20
NEW, OLD = marked(np.arange(CAPACITY)), marked(np.arange(-30, 0))


@pytest.mark.parametrize("inserted", [3, 20, 47])
def test_online_only_draws_from_what_was_inserted(inserted):
    policy = replay.online_only(capacity=CAPACITY)
    alike(draw(policy, NEW, None, inserted), range(min(inserted, CAPACITY)))
    assert not policy.needs_data


@pytest.mark.parametrize("inserted", [3, 20, 47])
def test_append_is_uniform_over_the_union(inserted):
    policy = replay.append(capacity=CAPACITY)
    alike(draw(policy, NEW, OLD, inserted), [*range(-30, 0), *range(min(inserted, CAPACITY))])
    assert policy.needs_data


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("inserted", [3, 47])
def test_mixed_draws_exact_counts(fraction, inserted):
    policy = replay.mixed(fraction=fraction, capacity=CAPACITY)
    marks, old = draw(policy, NEW, OLD, inserted), int(fraction * MANY)
    assert (marks < 0).sum() == old and len(marks) == MANY
    assert policy.needs_data and policy.counts(MANY) == (old, MANY - old)
    if old:
        alike(marks[marks < 0], range(-30, 0))
    if old < MANY:
        alike(marks[marks >= 0], range(min(inserted, CAPACITY)))


@pytest.mark.parametrize(("size", "old"), [(5, 2), (7, 4), (1, 0)])
def test_an_odd_batch_is_rounded_and_stays_whole(size, old):
    policy = replay.mixed(fraction=0.5, capacity=CAPACITY)
    marks = draw(policy, NEW, OLD, 20, size)
    assert len(marks) == size and (marks < 0).sum() == old
    assert policy.counts(size) == (old, size - old)


def test_mixed_draws_its_halves_independently():
    """With equally many rows, a shared key would draw the same indices from both."""
    policy = replay.mixed(capacity=30)
    marks = draw(policy, marked(np.arange(30)), OLD, 30, size=80)
    assert (marks[:40] + 30 == marks[40:]).mean() < 0.3


def test_extras_travel_along():
    new, old = marked(np.arange(20), extras=True), marked(np.arange(-30, 0), extras=True)
    for policy in (replay.append(capacity=20), replay.mixed(capacity=20)):
        batch = policy.sample(Stored(new), old, KEY, 8, jnp.int32(20))
        assert batch.extras["mask"].shape == (8, 3)
        rows_of(batch)


@pytest.mark.parametrize("make", [replay.online_only, replay.append, replay.mixed])
def test_capacity_is_checked_and_a_million_by_default(make):
    assert make().capacity == 1_000_000 and make(capacity=1).capacity == 1
    with pytest.raises(InputError, match="replay: capacity is 0; it must be 1 to 1073741824"):
        make(capacity=0)


@pytest.mark.parametrize("fraction", [-0.1, 1.1])
def test_a_fraction_outside_0_to_1_is_refused(fraction):
    with pytest.raises(InputError, match=f"mixed: fraction is {fraction}; it must lie between"):
        replay.mixed(fraction=fraction)
