"""Chunks against numbers worked out by hand, and which rows they may contain.

Rows are marked as in test_replay: the data set's from -8 to -1, the ring's from 0. Observation,
action and reward of a row are its mark; its next observation is the mark + 0.5.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from enoto_jax import replay
from enoto_jax.data.returns import chunk_notes, ends
from enoto_jax.replay import Stored, chunks
from enoto_jax.types import Chunk, InputError, Transition

KEY = jax.random.key(0)
MANY = 400
HALF = Chunk(3, 0.5)


def steps(rewards, terminated=(), truncated=()):
    """One chunk's steps [1, h]; the flags are given by their positions."""
    count = len(rewards)
    numbers = np.arange(1.0, count + 1.0, dtype=np.float32)
    flags = [np.isin(np.arange(count), places)[None] for places in (terminated, truncated)]
    return Transition(
        observation=numbers[None, :, None],
        action=np.stack([numbers, -numbers], axis=1)[None],
        reward=np.float32(rewards)[None],
        terminated=flags[0],
        truncated=flags[1],
        next_observation=numbers[None, :, None] + 0.5,
    )


def joined(rewards, chunk=HALF, ends=(), **flags):
    found = steps(rewards, **flags)
    return chunks.joined(found, np.isin(np.arange(len(rewards)), ends)[None], chunk)


def told(batch):
    """`reward`, `terminated`, `truncated`, `valid` and `learns` of the batch's only chunk."""
    valid, learns = batch.extras["valid"][0].tolist(), float(batch.extras["learns"][0])
    flags = bool(batch.terminated[0]), bool(batch.truncated[0])
    return float(batch.reward[0]), *flags, valid, learns


# By hand. Rewards 8, 4, 2 and a discount of 1/2: 8 + 2 + 1/2.


def test_a_chunk_within_an_episode():
    batch = joined([8.0, 4.0, 2.0])
    assert told(batch) == (10.5, False, False, [1, 1, 1], 1.0)
    np.testing.assert_array_equal(batch.observation, [[1.0]])
    np.testing.assert_array_equal(batch.next_observation, [[3.5]])
    np.testing.assert_array_equal(batch.action, [[1, -1, 2, -2, 3, -3]])


@pytest.mark.parametrize("whole", [False, True])
def test_an_episode_that_terminates_at_the_last_row(whole):
    batch = joined([8.0, 4.0, 2.0], Chunk(3, 0.5, whole), ends=[2], terminated=[2])
    assert told(batch) == (10.5, True, False, [1, 1, 1], 1.0)


def test_an_episode_that_is_cut_at_the_last_row():
    batch = joined([8.0, 4.0, 2.0], ends=[2], truncated=[2])
    assert told(batch) == (10.5, False, True, [1, 1, 1], 1.0)


def test_an_episode_that_terminates_in_the_middle_is_over_there():
    """The return is known, so later rows do not count."""
    batch = joined([8.0, 4.0, 2.0], ends=[1], terminated=[1])
    assert told(batch) == (10.0, True, False, [1, 1, 0], 1.0)
    batch = joined([8.0, 4.0, 2.0], Chunk(3, 0.5, True), ends=[1], terminated=[1])
    assert told(batch) == (10.0, True, False, [1, 1, 0], 0.0)


def test_an_episode_that_is_cut_in_the_middle_teaches_critics_nothing():
    batch = joined([8.0, 4.0, 2.0], ends=[0], truncated=[0], terminated=[1])
    assert told(batch) == (8.0, False, False, [1, 0, 0], 0.0)


def test_a_terminal_row_after_which_the_recording_goes_on():
    """All actions are valid, but rewards and values after the terminal row do not count."""
    batch = joined([8.0, 4.0, 2.0], terminated=[0])
    assert told(batch) == (8.0, True, False, [1, 1, 1], 1.0)
    batch = joined([8.0, 4.0, 2.0], terminated=[1, 2])
    assert told(batch) == (10.0, True, False, [1, 1, 1], 1.0)


def test_ends_of_a_recording():
    """Rows 1 and 4 are terminal; the recording continues after 1, but not after 2 or 4."""
    seen = np.float32([[0.0], [1.0], [2.0], [7.0], [8.0], [3.0], [4.0]])
    following = np.float32([[1.0], [2.0], [3.0], [8.0], [9.0], [4.0], [5.0]])
    flags = np.zeros(7, bool)
    terminated, truncated = flags.copy(), flags.copy()
    terminated[[1, 4]], truncated[[2, 6]] = True, True
    data = Transition(seen, seen, flags, terminated, truncated, following)
    np.testing.assert_array_equal(ends(data), [0, 0, 1, 0, 1, 0, 1])
    data.truncated[6], data.terminated[6] = False, True
    np.testing.assert_array_equal(ends(data), [0, 0, 1, 0, 1, 0, 1])


def recorded(lengths, over=()):
    """Episodes of these lengths, cut off except where row `over` is terminal."""
    rows = np.arange(sum(lengths))
    seen = np.float32(rows + 10 * np.repeat(np.arange(len(lengths)), lengths))[:, None]
    terminated = np.isin(rows, over)
    truncated = np.isin(rows, np.cumsum(lengths) - 1) & ~terminated
    return Transition(seen, seen, np.float32(rows), terminated, truncated, seen + 1)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("over", [(), (1,), (4, 9)])
@pytest.mark.parametrize("lengths", [(2, 3, 4), (6, 2, 2), (1, 1, 8), (3,) * 4])
def test_the_note_says_from_how_many_chunks_critics_learn(whole, over, lengths):
    data, kind = recorded(lengths, over), Chunk(3, 0.9, whole)
    rows = np.minimum(np.arange(len(data.reward))[:, None] + np.arange(3), len(data.reward) - 1)
    drawn = jax.tree.map(lambda x: jnp.asarray(x)[rows], data)
    last = np.arange(3) > len(data.reward) - 1 - np.arange(len(data.reward))[:, None]
    learns = chunks.joined(drawn, ends(data)[rows] | last, kind).extras["learns"]
    share = 100 * float(np.mean(learns))
    (note,) = chunk_notes(data, kind, "mine") or ("",)
    assert note.startswith(
        f"critics learn from {share:.2g} % of the chunks of 3 rows" * (share < 50)
    )


@pytest.mark.parametrize("single, option", [(False, "chunk"), (True, "returns")])
def test_data_without_a_whole_chunk_are_refused(single, option):
    message = f"mine: at most 2 of .* chunks of 3; .* --set=algorithm.{option}=2"
    with pytest.raises(InputError, match=message):
        chunk_notes(recorded((2, 1, 2)), Chunk(3, 0.9, single=single), "mine")


# Which rows chunks contain.


def marked(marks, over=()):
    marks = np.float32(marks)
    wide = marks[:, None] * np.ones(2, np.float32)
    off = np.zeros(len(marks), bool)
    return Transition(wide, wide, marks, np.isin(marks, over), off, wide + 0.5)


def with_ends(data, at):
    return data._replace(extras={"ends": np.isin(data.reward, at)})


DATA = with_ends(marked(np.arange(-8, 0)), [-5, -1])  # episodes -8 to -5 and -4 to -1


def leads(batch):
    """Return first mark -> (count, valid marks), after checking that the marks are consistent."""
    found = {}
    actions = np.asarray(batch.action).reshape(len(batch.reward), -1, 2)
    for i, valid in enumerate(np.asarray(batch.extras["valid"])):
        count = int(valid.sum())
        first = actions[i, 0, 0]
        np.testing.assert_array_equal(valid, np.arange(len(valid)) < count)
        assert batch.observation[i, 0] == first
        if count == len(valid):
            assert batch.next_observation[i, 0] == actions[i, -1, 0] + 0.5
        marks = actions[i, :count, 0]
        assert found.setdefault(first, (count, tuple(marks))) == (count, tuple(marks))
    return found


def test_chunks_of_the_data_set_stay_in_their_episodes():
    found = leads(chunks.sample(DATA, KEY, MANY, jnp.int32(8), Chunk(3, 0.9)))
    ends_at = {**dict.fromkeys(range(-8, -4), -5), **dict.fromkeys(range(-4, 0), -1)}
    assert found == {
        first: (count, tuple(range(first, first + count)))
        for first, last in ends_at.items()
        for count in [min(3, last - first + 1)]
    }


def test_without_chunks_rows_are_drawn_as_ever():
    one, two = chunks.sample(DATA, KEY, 9, jnp.int32(8), None), chunks.sample
    assert one.reward.shape == (9,) and one.action.shape == (9, 2)
    chunk = two(DATA, KEY, 9, jnp.int32(8), Chunk(2, 0.0))
    np.testing.assert_array_equal(chunk.reward, one.reward)  # starts at the same rows


def written(capacity, inserted, over=()):
    """A ring after `inserted` inserts, each marked by its number."""
    numbers = np.arange(capacity)
    last = inserted - 1 - (inserted - 1 - numbers) % capacity
    return marked(np.where(last >= 0, last, 99), over)


@pytest.mark.parametrize("inserted", [2, 5, 6, 9, 13])
@pytest.mark.parametrize("make", [replay.online_only, replay.append, replay.mixed])
def test_chunks_of_the_ring_stop_at_the_newest_row(make, inserted):
    """They may wrap, but never continue from the newest row to the oldest; row 3 is an end."""
    starts = make(capacity=5)
    policy = replay.Chunked(starts=starts, chunk=Chunk(3, 0.9), capacity=5)
    data = DATA if starts.needs_data else None
    stored = Stored(written(5, inserted, over=[3]))
    batch = policy.sample(stored, data, KEY, MANY, jnp.int32(inserted))
    found = {first: seen for first, seen in leads(batch).items() if first >= 0}
    oldest, expected = max(0, inserted - 5), {}
    for first in range(oldest, inserted):
        last = min(first + 2, inserted - 1, 3 if first <= 3 else inserted)
        expected[first] = (last - first + 1, tuple(range(first, last + 1)))
    assert found == expected
    over = np.asarray(batch.terminated)[np.asarray(batch.observation)[:, 0] == 3]
    assert over.all()
    if data is not None:
        old = {first: seen for first, seen in leads(batch).items() if first < 0}
        assert old == leads(chunks.sample(DATA, KEY, MANY, jnp.int32(8), Chunk(3, 0.9)))


def test_a_ring_shorter_than_a_chunk():
    policy = replay.Chunked(starts=replay.online_only(capacity=2), chunk=Chunk(3, 0.9), capacity=2)
    batch = policy.sample(Stored(written(2, 7)), None, KEY, 50, jnp.int32(7))
    assert leads(batch) == {5: (2, (5, 6)), 6: (1, (6,))}
    assert not np.any(batch.extras["learns"])


def test_masks_of_critics_are_those_of_the_first_step():
    mask = np.arange(5, dtype=np.float32)[:, None] * np.ones(4, np.float32)
    stored = Stored(written(5, 5)._replace(extras={"mask": mask}))
    data = DATA._replace(extras={**DATA.extras, "mask": np.full((8, 4), 9, np.float32)})
    policy = replay.Chunked(starts=replay.append(capacity=5), chunk=Chunk(2, 0.9), capacity=5)
    batch = policy.sample(stored, data, KEY, MANY, jnp.int32(5))
    first = np.asarray(batch.observation[:, 0])
    np.testing.assert_array_equal(batch.extras["mask"][:, 0], np.where(first < 0, 9, first))
    assert set(batch.extras) == {"mask", "valid", "learns"}
