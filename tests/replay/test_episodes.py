"""`whole_episodes` against a list of episodes in plain NumPy.

A transition's number, counted from 1, is its observation, which identifies a batch's rows.
"""

from functools import partial
from operator import itemgetter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from enoto_jax.replay import Stored, ring, whole_episodes
from enoto_jax.types import InputError, MonteCarlo, Transition
from tests.oracle import methods
from tests.replay.test_replay import alike

KEY = jax.random.key(3)
CAPACITY, STEPS, MANY = 16, 60, 3000
GAMMA, SPARSE = 0.8, -5.0
DENSE, FRUITLESS = MonteCarlo(GAMMA), MonteCarlo(GAMMA, SPARSE)


def story(seed: int, steps: int = STEPS) -> Transition:
    """Episodes of random lengths, terminated or truncated; in a third, rewards are all sparse."""
    rng = np.random.default_rng(seed)
    end = rng.random(steps) < 0.2
    by_limit = rng.random(steps) < 0.5
    episode = np.append(0, np.cumsum(end)[:-1])
    reward = np.where(rng.random(steps) < 0.5, SPARSE, rng.normal(size=steps).round(2))
    reward = np.where(episode % 3 == 0, SPARSE, reward).astype(np.float32)
    number = np.arange(1.0, steps + 1, dtype=np.float32)[:, None]
    return Transition(
        number, number, reward, end & ~by_limit, end & by_limit, number, {"mc_return": 0.0 * reward}
    )


class Brute:
    """Lists of finished episodes and of the running one; the ring keeps their last rows."""

    def __init__(self, monte_carlo: MonteCarlo | None, capacity: int = CAPACITY):
        self.monte_carlo, self.capacity = monte_carlo, capacity
        self.finished, self.running = [], []  # of (number, reward, terminated)

    def insert(self, number: int, reward: float, terminated: bool, truncated: bool):
        self.running.append((number, float(reward), float(terminated)))
        if terminated or truncated:
            self.cut()

    def cut(self):
        self.finished, self.running = [*self.finished, self.running], []

    def returns(self) -> dict[int, float]:
        """The return of each transition that may be drawn, by number."""
        newest = sum(map(len, [*self.finished, self.running]))
        found = {}
        for episode in filter(None, self.finished):
            numbers, reward, terminated = zip(*episode)
            earned = methods.returns_to_go(
                reward, terminated, GAMMA, self.monte_carlo.sparse and "all", SPARSE
            )
            found |= dict(zip(numbers, earned))
        return {k: v for k, v in found.items() if k > newest - self.capacity}


def known(count: int = 30) -> Transition:
    """A data set with numbers -30 to -1, all with return 7."""
    number = -np.arange(1.0, count + 1, dtype=np.float32)
    flags = np.zeros(count, bool)
    wide = number[:, None]
    extras = {"mc_return": np.full(count, 7.0, np.float32)}
    return jax.tree.map(jnp.asarray, Transition(wide, wide, number, flags, flags, wide, extras))


def empty(policy, given: Transition) -> Stored:
    one = jax.tree.map(lambda x: jnp.asarray(x[0]), given)
    return Stored(ring.empty(one, policy.capacity), policy.start(30))


def inserting(policy, monte_carlo):
    return partial(policy.insert, monte_carlo=monte_carlo)


def row(given: Transition, number: int) -> Transition:
    """Transition `number` as the loop inserts it, without extras."""
    return jax.tree.map(lambda x: jnp.asarray(x[number - 1]), given._replace(extras={}))


def drawn(policy, stored, count: int) -> dict[int, float]:
    """The returns in a large batch, by number."""
    batch = policy.sample(stored, known(), KEY, MANY, jnp.int32(count))
    number = np.asarray(batch.observation)[:, 0].astype(int)
    return dict(zip(number.tolist(), np.asarray(batch.extras["mc_return"]).tolist()))


def assert_returns(found: dict[int, float], expected: dict[int, float]):
    """Check that exactly the expected new rows are drawn, with their returns."""
    new = {k: v for k, v in found.items() if k > 0}
    assert sorted(new) == sorted(expected)
    for number, value in expected.items():
        assert new[number] == pytest.approx(value, abs=2e-5), number


@pytest.mark.parametrize("monte_carlo", [DENSE, FRUITLESS], ids=["dense", "sparse"])
def test_seeds_side_by_side_hold_the_episodes_that_ended(monte_carlo):
    """Three seeds with different episode ends run in one program; the ring wraps three times."""
    policy = whole_episodes(capacity=CAPACITY, longest=CAPACITY)
    stories = [story(seed) for seed in range(3)]
    brutes = [Brute(monte_carlo) for _ in stories]
    stored = jax.tree.map(lambda *x: jnp.stack(x), *(empty(policy, s) for s in stories))
    insert = jax.jit(jax.vmap(inserting(policy, monte_carlo), (0, 0, None)), donate_argnums=0)
    sample = jax.jit(partial(drawn_batch, policy))
    # Call 0 inserts a placeholder, which call 1 overwrites; its reward is not the sparse one.
    nothing = jax.tree.map(lambda *x: jnp.zeros_like(jnp.stack(x)), *(row(s, 1) for s in stories))
    stored = insert(stored, nothing, jnp.int32(0))
    wrapped = 0
    for t in range(1, STEPS + 1):
        now = jax.tree.map(lambda *x: jnp.stack(x), *(row(s, t) for s in stories))
        stored = insert(stored, now, jnp.int32(t))
        for s, (given, brute) in enumerate(zip(stories, brutes)):
            ends = (given.terminated[t - 1], given.truncated[t - 1])
            brute.insert(t, given.reward[t - 1], *ends)
            expected = brute.returns()
            numbers, returns = sample(jax.tree.map(itemgetter(s), stored), jnp.int32(t))
            found = dict(zip(np.asarray(numbers).tolist(), np.asarray(returns).tolist()))
            assert_returns(found, expected)
            assert (min(found) < 0) and (bool(expected) == (max(found) > 0))
            wrapped += t > CAPACITY and bool(expected)
    assert wrapped > 50


def drawn_batch(policy, stored, count):
    batch = policy.sample(stored, known(), KEY, 600, count)
    return batch.observation[:, 0].astype(int), batch.extras["mc_return"]


def filled(policy, given, monte_carlo, until: int) -> Stored:
    insert, stored = jax.jit(inserting(policy, monte_carlo)), empty(policy, given)
    for t in range(1, until + 1):
        stored = insert(stored, row(given, t), jnp.int32(t))
    return stored


def test_halves_are_exact_and_each_row_is_drawn_alike():
    given, policy = story(0), whole_episodes(fraction=0.25, capacity=CAPACITY, longest=CAPACITY)
    brute = Brute(DENSE)
    for t in range(1, 41):
        brute.insert(t, given.reward[t - 1], given.terminated[t - 1], given.truncated[t - 1])
    stored = filled(policy, given, DENSE, 40)
    batch = policy.sample(stored, known(), KEY, MANY, jnp.int32(40))
    numbers = np.asarray(batch.observation)[:, 0].astype(int)
    assert policy.counts(MANY) == (MANY // 4, MANY - MANY // 4)
    alike(numbers[: MANY // 4], range(-30, 0))
    alike(numbers[MANY // 4 :], brute.returns())
    assert len(brute.returns()) > 5
    assert set(np.asarray(batch.extras["mc_return"])[: MANY // 4]) == {7.0}


def test_until_an_episode_has_ended_all_comes_from_the_data():
    given = story(0)
    running = given._replace(terminated=given.terminated & False, truncated=given.truncated & False)
    policy = whole_episodes(capacity=CAPACITY, longest=4)
    for until in (0, 3, CAPACITY + 3):  # an episode may be longer than the ring
        stored = filled(policy, running, DENSE, until)
        alike(np.asarray(drawn_batch(policy, stored, jnp.int32(until))[0]), range(-30, 0))


def test_an_episode_longer_than_the_ring_leaves_its_last_rows():
    given = story(0)
    never = given.terminated & False
    given = given._replace(terminated=np.arange(STEPS) == CAPACITY + 4, truncated=never)
    policy = whole_episodes(capacity=CAPACITY, longest=CAPACITY)
    found = drawn(policy, filled(policy, given, DENSE, CAPACITY + 5), CAPACITY + 5)
    assert sorted(k for k in found if k > 0) == list(range(6, CAPACITY + 6))


def test_returns_reach_back_no_further_than_the_longest():
    given = story(0)
    end = np.arange(STEPS) == 5
    given = given._replace(terminated=end, truncated=end & False, reward=np.ones(STEPS, np.float32))
    policy = whole_episodes(capacity=CAPACITY, longest=3)
    found = drawn(policy, filled(policy, given, DENSE, 6), 6)
    expected = [sum(GAMMA**i for i in range(min(3, 6 - k))) for k in range(6)]
    assert [found[k] for k in range(1, 7)] == pytest.approx(expected)


@pytest.mark.parametrize("monte_carlo", [DENSE, FRUITLESS], ids=["dense", "sparse"])
@pytest.mark.parametrize("stop", [9, 23, 40])
def test_a_resume_ends_the_episode_that_was_running(monte_carlo, stop):
    """The newest transition is inserted again, now truncated; then a new episode starts."""
    given, policy = story(1), whole_episodes(capacity=CAPACITY, longest=CAPACITY)
    stored = filled(policy, given, monte_carlo, stop)
    ring_before, insert = stored.ring, jax.jit(inserting(policy, monte_carlo))
    same = insert(stored, row(given, stop), jnp.int32(stop))
    jax.tree.map(np.testing.assert_array_equal, same, stored)  # repeating it changes nothing
    newest = row(given, stop)
    newest = newest._replace(truncated=~newest.terminated)
    again = insert(stored, newest, jnp.int32(stop))
    for name in ("observation", "action", "reward", "terminated", "next_observation"):
        np.testing.assert_array_equal(getattr(again.ring, name), getattr(ring_before, name))
    jax.tree.map(np.testing.assert_array_equal, insert(again, newest, jnp.int32(stop)), again)
    stored, brute = again, Brute(monte_carlo)
    for t in range(1, STEPS + 1):
        brute.insert(t, given.reward[t - 1], given.terminated[t - 1], given.truncated[t - 1])
        if t == stop:
            brute.cut()
        if t > stop:
            stored = insert(stored, row(given, t), jnp.int32(t))
        if t in (stop, stop + 1, stop + 7, STEPS):
            assert_returns(drawn(policy, stored, t), brute.returns())


def test_without_returns_only_the_episodes_are_kept():
    """CORL's online phase does not calibrate: no extra is stored or needed."""
    given, policy = story(2)._replace(extras={}), whole_episodes(capacity=64, longest=1)
    stored = filled(policy, given, None, 30)
    batch = policy.sample(stored, known()._replace(extras={}), KEY, MANY, jnp.int32(30))
    numbers = np.asarray(batch.observation)[MANY // 2 :, 0].astype(int)
    ends = np.flatnonzero((given.terminated | given.truncated)[:30])
    alike(numbers, range(1, ends[-1] + 2))
    assert batch.extras == {}


@pytest.mark.parametrize("longest", [0, 17])
def test_a_reach_that_makes_no_sense_is_refused(longest):
    with pytest.raises(
        InputError, match=f"longest is {longest}; it must be at least 1 and at most"
    ):
        whole_episodes(capacity=16, longest=longest).start(0)


def test_a_fraction_outside_0_to_1_is_refused():
    with pytest.raises(InputError, match="whole_episodes: fraction is 1.5; it must lie between"):
        whole_episodes(fraction=1.5)
