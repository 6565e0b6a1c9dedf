"""Sources: facts about a task, scores, episodes, and arrays in memory."""

import copy
import re

import numpy as np
import pytest

from enoto_jax.data import (
    Dataset,
    completed,
    concatenate,
    from_arrays,
    load_source,
    places,
    scores,
)
from enoto_jax.data.source import content_hash
from enoto_jax.types import InputError, Spec
from tests import helpers  # noqa: F401  registers ReachShort-v0
from tests.helpers import refused_in_a_line

HOPPER = (-20.272305, 3234.3)


@pytest.fixture
def hopper():
    """Ten rows with the hopper's sizes; rows 4 and 9 are time-outs."""
    rng = np.random.default_rng(0)
    return {
        "observations": rng.normal(size=(10, 11)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (10, 3)).astype(np.float32),
        "rewards": np.arange(10, dtype=np.float32),
        "terminals": np.zeros(10, bool),
        "timeouts": np.arange(10) % 5 == 4,
    }


def refused(message, task, **options):
    with refused_in_a_line(message):
        load_source(task, **options)


@pytest.mark.parametrize("stem", ["hopper-medium", "hopper_medium-v2", "hopper_mixed"])
def test_file_name_tells_the_family(write, hopper, stem):
    source = load_source(write(hopper, f"{stem}.hdf5"))
    assert source.name == stem
    assert source.version == ("v2" if stem.endswith("v2") else "")
    assert source.spec == Spec(11, 3)
    assert (source.env_id, source.max_episode_steps) == ("Hopper-v4", 1000)
    assert source.reference == HOPPER and source.scored


def test_family_needs_the_right_sizes(write, tiny):
    source = load_source(write(tiny, "hopper-medium.hdf5"))
    assert (source.env_id, source.reference, source.max_episode_steps) == (None, None, None)


def test_attributes_come_before_the_file_name(write, hopper):
    path = write(
        hopper,
        "walker2d-mine.hdf5",
        env_id="Hopper-v5",
        ref_min_score=0.0,
        ref_max_score=np.float32(200),
        max_episode_steps=5,
    )
    source = load_source(str(path))
    assert (source.env_id, source.reference) == ("Hopper-v5", (0.0, 200.0))
    assert source.max_episode_steps == 5
    np.testing.assert_allclose(source.score([0, 100, 200]), [0, 50, 100])


def test_env_attribute_is_an_environment_too(write, hopper):
    source = load_source(write(hopper, "mine.hdf5", env=b"Hopper-v3"))
    assert (source.env_id, source.reference) == ("Hopper-v3", HOPPER)


@pytest.mark.parametrize("text", ["os:Hopper-v4", "antmaze-large (a simulator)", ""])
def test_env_attribute_that_is_no_plain_id_is_ignored(write, hopper, text):
    assert load_source(write(hopper, "mine.hdf5", env_id=text)).env_id is None
    assert load_source(write(hopper, "hopper.hdf5", env_id=text)).env_id == "Hopper-v4"


def test_time_limit_of_an_environment_that_gymnasium_knows(write, tiny):
    source = load_source(write(tiny, "mine.hdf5", env_id="CartPole-v1"))
    assert source.max_episode_steps == 500
    assert load_source(write(tiny, "own.hdf5", env_id="Mine-v0")).max_episode_steps is None


@pytest.mark.parametrize(
    "attributes, message",
    [
        ({"ref_min_score": 1.0}, "ref_min_score and ref_max_score must both be given"),
        ({"ref_min_score": 2.0, "ref_max_score": 1.0}, "the smaller first; got '2.0', '1.0'"),
        ({"ref_min_score": "low", "ref_max_score": 1.0}, "as numbers"),
        ({"ref_min_score": -np.inf, "ref_max_score": 1.0}, "as numbers"),
        ({"max_episode_steps": 0}, "max_episode_steps must be a whole number of steps, got '0'"),
        ({"max_episode_steps": np.inf}, "max_episode_steps must be a whole number"),
    ],
)
def test_bad_attributes_are_refused(write, tiny, attributes, message):
    refused(message, write(tiny, **attributes))


def test_raw_return_where_no_reference_exists(write, tiny):
    source = load_source(write(tiny))
    assert not source.scored
    np.testing.assert_array_equal(source.score([3.0, -4.0]), [3.0, -4.0])


@pytest.mark.parametrize(
    "name, spec, returns, score",
    [  # published by D4RL (0 is random, 100 the expert); HalfCheetah-v4: our own medium return
        ("hopper-medium-v2", Spec(11, 3), 3234.3, 100.0),
        ("HalfCheetah-v4", Spec(17, 6), 4769.0, 40.669),
        ("walker_mixed", Spec(17, 6), 1.629008, 0.0),
        ("ant-expert-v2", Spec(111, 8), 3879.7, 100.0),
        ("antmaze-large-play-v2", Spec(29, 8), 0.5, 50.0),
        ("Ant_maze_u-maze_noisy_multistart_False", Spec(29, 8), 1.0, 100.0),
        ("Ant_maze_big-maze_noisy_multistart_True", Spec(29, 8), 1.0, 100.0),
    ],
)
def test_scores(name, spec, returns, score):
    family = scores.family_of(name, spec)
    found = scores.normalised_score(returns, (family.random, family.expert))
    assert found == pytest.approx(score, abs=1e-3)


def test_every_known_task_has_a_family():
    from enoto_jax.data.download import catalogue

    for task in catalogue():
        matches = [
            name
            for name, family in scores.FAMILIES.items()
            if scores.family_of(task, family.spec) is family
        ]
        assert len(matches) == 1 and task.startswith(matches[0]), task
    limits = {name: family.max_episode_steps for name, family in scores.FAMILIES.items()}
    assert limits.pop("antmaze-umaze") == 700 and set(limits.values()) == {1000}


def test_episodes(write, tiny):
    dataset = load_source(write(tiny)).load()
    assert isinstance(dataset, Dataset) and len(dataset) == 7
    np.testing.assert_array_equal(dataset.episode_ends, [2, 5, 6])
    np.testing.assert_array_equal(dataset.episode_lengths, [3, 3, 1])
    np.testing.assert_array_equal(dataset.episode_returns, [6.0, 15.0, 7.0])
    assert dataset.episode_returns.dtype == np.float64


def test_load_reads_once_and_the_hash_is_that_of_the_content(write, tiny):
    source = load_source(write(tiny))
    assert source.load() is source.load()
    first = source.load().content_hash
    assert re.fullmatch("sha256:[0-9a-f]{64}", first)
    doubles = {key: array.astype(float) for key, array in tiny.items()}
    assert load_source(write(doubles, "doubles.hdf5")).load().content_hash == first
    assert from_arrays(**tiny, name="same").load().content_hash == first
    tiny["rewards"][0] += 1
    assert load_source(write(tiny, "other.hdf5")).load().content_hash != first


def test_hash_tells_shapes_apart(tiny):
    wide = {key: np.hstack([tiny[key]] * 2) for key in ("observations", "next_observations")}
    transitions = from_arrays(**(tiny | wide), name="wide").load().transitions
    reshaped = transitions._replace(observation=transitions.observation.reshape(-1, 1))
    assert content_hash(reshaped) != content_hash(transitions)


def test_source_survives_copying_as_by_other_processes(write, tiny):
    source = load_source(write(tiny))
    other = copy.deepcopy(source)
    assert other.load().content_hash == source.load().content_hash


def test_from_arrays(hopper):
    lists = {key: array.tolist() for key, array in hopper.items()}
    source = from_arrays(**lists, name="mine", env_id="Hopper-v4")
    assert (source.name, source.version, source.path) == ("mine", "", None)
    assert (source.spec, source.env_id) == (Spec(11, 3), "Hopper-v4")
    assert source.reference == HOPPER
    found = source.load()
    np.testing.assert_array_equal(found.transitions.reward, [0, 1, 2, 3, 5, 6, 7, 8])
    np.testing.assert_array_equal(found.transitions.next_observation[3], hopper["observations"][4])
    assert from_arrays(**hopper, name="hopper", reference=(0, 10)).score(5) == 50.0


def test_from_arrays_refuses_bad_arrays_at_once(hopper):
    def refused_arrays(message, reference=None, **changed):
        with pytest.raises(InputError, match=f"^mine: .*{message}"):
            from_arrays(**(hopper | changed), name="mine", reference=reference)

    refused_arrays("actions range from .* rescale", actions=hopper["actions"] * 3)
    refused_arrays("rewards has 3 rows but observations has 10", rewards=[1, 2, 3])
    refused_arrays("every array needs rows of one length", observations=[[1, 2], [3]])
    refused_arrays(r"give two returns, \(random policy, expert\)", reference=(1.0,))
    refused_arrays("reference is 5; give two returns", reference=5)
    refused_arrays("rewards has masked entries", rewards=np.ma.masked_equal(np.arange(10.0), 3.0))


@pytest.mark.parametrize(
    "how, message",
    [
        ({"name": 3}, "name: 3; give the data set a name"),
        ({"name": ""}, "name: ''; give"),
        ({"name": "a\nb"}, "name: .*in one line"),
        ({"name": "mine", "env_id": dict}, "mine: env_id is a type; give a Gymnasium id"),
    ],
)
def test_from_arrays_refuses_words_of_another_kind(hopper, how, message):
    with refused_in_a_line(message):
        from_arrays(**hopper, **how)


def test_arrays_and_sources_are_no_tasks(hopper):
    with refused_in_a_line(r"--task: dict; give an id or a path, and arrays to from_arrays"):
        load_source(hopper)
    source = from_arrays(**hopper, name="mine")
    with refused_in_a_line("concatenate: give a list of sources"):
        concatenate(source)
    with refused_in_a_line("concatenate: give a list of sources"):
        concatenate([source.load()])


@pytest.mark.parametrize("following", [True, False])
def test_from_arrays_keeps_copies(tiny, following):
    if not following:
        del tiny["next_observations"]
    source = from_arrays(**tiny, name="mine")
    other = from_arrays(**tiny, name="mine")
    before = copy.deepcopy(source.load())
    for array in tiny.values():
        array[:] = 1
    for kept in (source.load(), copy.deepcopy(source).load(), concatenate([other]).load()):
        assert kept.content_hash == before.content_hash
        for ours, theirs in zip(kept.transitions[:6], before.transitions[:6], strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_clipping_leaves_the_users_arrays_alone(tiny):
    tiny["actions"][0] = 1.00005
    from_arrays(**tiny, name="mine")
    assert tiny["actions"][0] > 1


def test_dropping_rows_leaves_the_users_arrays_alone(tiny):
    del tiny["next_observations"]
    before = {key: array.copy() for key, array in tiny.items()}
    source = from_arrays(**tiny, name="mine")
    other = copy.deepcopy(source)
    assert other.load().content_hash == source.load().content_hash
    for key, array in before.items():
        np.testing.assert_array_equal(tiny[key], array)
        tiny[key][:] = 1  # the arrays must stay writable


@pytest.mark.parametrize("following", [True, False])
def test_same_batches_through_every_format(write, tiny, tmp_path, following):
    if not following:
        del tiny["next_observations"]
    np.savez(tmp_path / "tiny.npz", **tiny)
    wide = {key: np.asarray(array, np.float64) for key, array in tiny.items()}
    sources = [
        from_arrays(**tiny, name="mine"),
        load_source(write(tiny)),
        load_source(write(wide, "wide.h5")),
        load_source(tmp_path / "tiny.npz"),
    ]
    rows = np.random.default_rng(0).integers(len(sources[0].load()), size=32)
    batches = [[x[rows] for x in source.load().transitions[:6]] for source in sources]
    for batch in batches[1:]:
        for ours, theirs in zip(batch, batches[0], strict=True):
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)
    assert len({source.load().content_hash for source in sources}) == 1


# What an environment adds to a source.


def test_an_environment_completes_what_a_file_does_not_say(write, hopper):
    plain = load_source(write(hopper, "mine.hdf5"))
    found = completed(plain, "Hopper-v4")
    by_arrays = from_arrays(**hopper, name="mine", env_id="Hopper-v4")
    for what in ("env_id", "reference", "max_episode_steps"):
        assert getattr(found, what) == getattr(by_arrays, what)
    assert (found.reference, found.max_episode_steps) == (HOPPER, 1000)
    assert found.load().content_hash == by_arrays.load().content_hash
    assert completed(plain, "CartPole-v1").max_episode_steps == 500
    for env_id in (None, "none"):
        assert completed(plain, env_id) is plain


def test_what_a_file_says_comes_first(write, hopper):
    said = {"ref_min_score": 0.0, "ref_max_score": 9.0, "max_episode_steps": 5}
    own = load_source(write(hopper, env_id="Mine-v0", **said))
    found = completed(own, "Hopper-v4")
    assert (found.env_id, found.reference, found.max_episode_steps) == ("Hopper-v4", (0.0, 9.0), 5)
    assert completed(own, "Mine-v0") is own


def test_completing_counts_time_outs_in_every_part(write, hopper):
    del hopper["timeouts"]
    part = load_source(write(hopper, "mine.hdf5"))
    assert part.load().notes == ()
    found = completed(concatenate([part, part]), "ReachShort-v0").load()  # time limit 5
    np.testing.assert_array_equal(found.episode_lengths, [4, 4, 4, 4])
    words = "no time-outs are marked: every 5 steps, the time limit, an episode is cut"
    assert found.notes == (f"mine: {words}",) * 2 and found.rows == 20


def test_completing_reaches_parts_that_do_not_name_the_environment(write, hopper):
    del hopper["timeouts"]
    named = load_source(write(hopper, "named.hdf5", env_id="ReachShort-v0"))
    other = load_source(write(hopper, "other.hdf5"))
    both = completed(concatenate([named, other]), "ReachShort-v0")
    assert both.max_episode_steps == 5
    np.testing.assert_array_equal(both.load().episode_lengths, [4, 4, 4, 4])
    assert completed(both, "ReachShort-v0") is both


# Several sources concatenated.


def test_concatenated_sources_keep_their_order_and_episodes(write, tiny):
    one = load_source(write(tiny, "one-v1.hdf5"))
    other = {key: array[:3] for key, array in tiny.items()}
    both = concatenate([from_arrays(**other, name="other"), one])
    assert (both.name, both.version, both.spec) == ("other+one-v1", " + v1", Spec(1, 1))
    found = both.load()
    np.testing.assert_array_equal(found.transitions.reward, [1, 2, 3, 1, 2, 3, 4, 5, 6, 7])
    np.testing.assert_array_equal(found.episode_lengths, [3, 3, 3, 1])
    joined = {key: np.concatenate([other[key], tiny[key]]) for key in tiny}
    assert found.content_hash == from_arrays(**joined, name="joined").load().content_hash


def test_a_part_without_successors_loses_its_last_row_alone(write, tiny):
    whole = load_source(write(tiny))
    del tiny["next_observations"]
    both = concatenate([from_arrays(**tiny, name="mine"), whole]).load()
    np.testing.assert_array_equal(both.episode_lengths, [3, 2, 3, 3, 1])


def test_concatenated_task_is_the_parts_task(write, hopper):
    named = load_source(write(hopper, "hopper_medium-v2.hdf5"))
    plain = from_arrays(**hopper, name="mine")
    both = concatenate([plain, named])
    assert (both.env_id, both.reference, both.max_episode_steps) == ("Hopper-v4", HOPPER, None)
    assert both.physics == f"unknown + {named.physics}"
    assert concatenate([named, named]).physics == named.physics
    assert concatenate([named, named]).max_episode_steps == 1000


def test_different_tasks_are_not_concatenated(hopper, tiny):
    def made(arrays=hopper, **task):
        return from_arrays(**arrays, name="mine", **task)

    for others, what in (
        ((made(), made(tiny)), "spec"),
        ((made(env_id="Hopper-v4"), made(env_id="Hopper-v5")), "env_id"),
        ((made(reference=(0, 1)), made(reference=(0, 2))), "reference"),
    ):
        with pytest.raises(
            InputError, match=f"mine: only data sets of one task can be .*its {what} is"
        ):
            concatenate(others)
    with pytest.raises(InputError, match="at least one"):
        concatenate([])


@pytest.mark.parametrize(
    "task, parts",
    [
        ("a.hdf5+b.NPZ+c.h5", ["a.hdf5", "b.NPZ", "c.h5"]),
        ("hopper-medium-v2+hopper-expert-v2", ["hopper-medium-v2", "hopper-expert-v2"]),
        ("minari:a/b-v10+~/x+y.hdf5", ["minari:a/b-v10", "~/x+y.hdf5"]),
        ("a+b.hdf5", ["a+b.hdf5"]),
        (None, [""]),
    ],
)
def test_plus_joins_data_sets(task, parts):
    assert places.split(task) == parts


def test_plus_reads_all_and_a_file_of_that_name_comes_first(write, tiny):
    path = write(tiny, "a.hdf5")
    assert len(load_source(f"{path}+{path}").load()) == 14
    refused("absent.hdf5: no such file", f"{path}+absent.hdf5")
    write({key: array[:3] for key, array in tiny.items()}, "a.hdf5+a.hdf5")
    name = str(path.parent / "a.hdf5+a.hdf5")
    assert places.split(name) == [name]


def test_physics_is_what_the_file_says(write, hopper):
    path = write(hopper, mujoco_version="4.0.0", gymnasium_version=b"1.4.0")
    assert load_source(path).physics == "MuJoCo 4.0.0, Gymnasium 1.4.0"
    assert load_source(write(hopper, "x.h5", physics="a\nrobot")).physics == "a?robot"
    assert "mujoco-py" in load_source(write(hopper, "hopper_medium-v2.hdf5")).physics
    assert load_source(write(hopper, "hopper-mine.hdf5")).physics == ""


@pytest.mark.parametrize(
    "task, message",
    [
        ("hopper-medium", "hopper-medium: no such D4RL task; did you mean .*hopper-medium-v2"),
        ("Hopper-Medium-v2", "did you mean hopper-medium-v2"),
        ("antmaze-umaze-v1", "did you mean .*antmaze-umaze-v[02]"),
        ("zzz", "ids look like hopper-medium-v2"),
        ("nowhere/absent.hdf5", "no such file; give the path"),
        ("~nobody-here/absent.h5", "no such file"),
        ("x" * 300 + ".hdf5", "cannot be read"),
    ],
)
def test_tasks_that_are_not_there(task, message):
    refused(message, task)


def test_folders_and_other_files_are_told_apart(write, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "cache"))
    path = write(tiny)
    (tmp_path / "log.csv").write_text("1,2")
    refused(r"is a file of an unsupported type \(.csv\); data sets are .hdf5", tmp_path / "log.csv")
    refused(r"is a folder; give one of its files \(tiny.hdf5\), or several joined by \+", tmp_path)
    for name, words in (
        ("empty", "is a folder without .hdf5, .h5, .npz files"),
        ("set/data/main_data.hdf5", "is a Minari data set; give minari:ID"),
        ("run/config.json", "is the folder of a run; give the data set"),
    ):
        (tmp_path / name).mkdir(parents=True)
        refused(words, tmp_path / name.split("/")[0])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hopper-medium-v2").mkdir()  # a folder of that name; the id takes precedence
    refused("hopper-medium-v2: not in the cache", "hopper-medium-v2", download=False)
    refused("is an environment; give it as --env", "CartPole-v1")
    refused("empty: is a folder", f"{path}+{tmp_path / 'empty'}")


@pytest.mark.parametrize("task", ["", " ", "a.hdf5+"])
def test_an_empty_task_is_not_the_default(task):
    refused(r"does not name a data set \(is a shell variable empty\?\)", task)


def test_bundled_data_set_is_the_default(write, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(places, "ASSETS", tmp_path)
    refused("contains 0 .hdf5 files", None)
    write(tiny, "bundled.hdf5")
    assert load_source().name == "bundled"
    write(tiny, "second.hdf5")
    refused("contains 2 .hdf5 files", None)


REGENERATED = {  # mean return and score from the data's README
    "hopper-medium": (1253.9, 39.2),
    "halfcheetah-expert": (11450.2, 94.5),
    "hopper-medium-expert": (1912.5, 59.4),  # virtual rows in two other files
}


@pytest.mark.parametrize("name", REGENERATED)
def test_regenerated_sets(shared_data, name):
    path = shared_data / "datasets" / f"{name}.hdf5"
    if not path.exists():
        pytest.skip("no regenerated data sets")
    source = load_source(path)
    mean = source.load().episode_returns.mean()
    assert (round(mean, 1), round(float(source.score(mean)), 1)) == REGENERATED[name]
