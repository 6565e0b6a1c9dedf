"""Minari's episode format against literal transitions and Minari's package, and damaged files."""

import json
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enoto_jax.data import completed, concatenate, from_arrays, load_source, minari
from enoto_jax.types import InputError, Spec
from tests.helpers import refused_in_a_line

ID = "tests/point/tiny-v3"
BOX = {"type": "Box", "dtype": "float32", "shape": [1], "low": [-1.0], "high": [1.0]}
ENV = {"id": "CartPole-v1", "max_episode_steps": 3, "kwargs": {}, "entry_point": "os:remove"}


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "root"))
    return tmp_path / "root"


@pytest.fixture
def episodes(tiny):
    """The seven rows of TINY as three episodes: a termination, a time-out, and one that just stops."""
    result = []
    for rows in (slice(0, 3), slice(3, 6), slice(6, 7)):
        last = tiny["next_observations"][rows][-1:]
        result.append(
            {
                "observations": np.concatenate([tiny["observations"][rows], last]),
                "actions": tiny["actions"][rows],
                "rewards": tiny["rewards"][rows].astype(np.float64),
                "terminations": tiny["terminals"][rows],
                "truncations": tiny["timeouts"][rows],
            }
        )
    return result


def metadata_of(episodes, **changes):
    described = {
        "total_episodes": len(episodes),
        "data_format": "hdf5",
        "action_space": json.dumps(BOX),
        "env_spec": json.dumps(ENV),
        "minari_version": "0.5.4",
    }
    return {k: v for k, v in (described | changes).items() if v is not None}


@pytest.fixture
def write(root):
    """write(episodes, id, **metadata) -> the folder of the data set."""

    def write(episodes, name=ID, **changes):
        folder = root / name / "data"
        folder.mkdir(parents=True, exist_ok=True)
        with h5py.File(folder / "main_data.hdf5", "w") as file:
            for index, episode in enumerate(episodes):
                for key, array in episode.items():
                    file[f"episode_{index}/{key}"] = array
        (folder / "metadata.json").write_text(json.dumps(metadata_of(episodes, **changes)))
        return folder

    return write


def load(name=ID):
    return load_source(f"minari:{name}").load()


def refused(message, name=ID):
    with refused_in_a_line(message):
        load(name)


def test_same_transitions_as_from_d4rls_layout(write, episodes, tiny):
    write(episodes)
    flat = from_arrays(**tiny, name="flat").load()
    assert load().content_hash == flat.content_hash  # which covers all arrays
    np.testing.assert_array_equal(load().transitions.next_observation, tiny["next_observations"])
    np.testing.assert_array_equal(load().transitions.truncated, [0, 0, 0, 0, 0, 1, 1])


def test_what_the_metadata_say(write, episodes):
    write(
        episodes, ref_min_score=1.0, ref_max_score=11.0, requirements=["mujoco>=3.2", "gymnasium"]
    )
    source = load_source(f"minari:{ID}")
    assert (source.name, source.version, source.spec) == (ID, "v3", Spec(1, 1))
    assert (source.env_id, source.max_episode_steps) == ("CartPole-v1", 3)
    assert source.physics == "mujoco>=3.2, gymnasium"
    assert source.reference == (1.0, 11.0) and source.score(6.0) == 50.0
    assert source.notes == ()


def test_evaluation_environment_comes_first_and_arguments_are_noted(write, episodes):
    write(episodes, eval_env_spec=json.dumps(ENV | {"id": "Acrobot-v1", "kwargs": {"maze": 1}}))
    source = load_source(f"minari:{ID}")
    assert source.env_id == "Acrobot-v1"
    assert source.notes == ("the data are of Acrobot-v1 with arguments: maze=1",)
    assert source.env_kwargs == {"maze": 1}
    assert concatenate([source, source]).env_kwargs == {"maze": 1}
    assert completed(source, "Acrobot-v1").env_kwargs == {"maze": 1}
    assert completed(source, "CartPole-v1").env_kwargs == {}  # another environment's


def test_arguments_that_only_draw_are_none(write, episodes):
    write(episodes, env_spec=json.dumps(ENV | {"kwargs": {"render_mode": "human"}}))
    source = load_source(f"minari:{ID}")
    assert (source.env_kwargs, source.notes) == ({}, ())


def test_other_arguments_are_other_tasks(write, episodes):
    sources = []
    for maze in (1, 2):
        write(episodes, f"a/m{maze}-v0", env_spec=json.dumps(ENV | {"kwargs": {"maze": maze}}))
        sources.append(load_source(f"minari:a/m{maze}-v0"))
    with pytest.raises(InputError, match="its env_kwargs is {'maze': 2}"):
        concatenate(sources)


def test_what_is_not_read_is_named(write, episodes):
    for episode in dictionary(episodes):
        episode |= {"infos/success": np.zeros(1), "extra": np.zeros(1)}
    write(episodes, env_spec=json.dumps(ENV | {"id": "AntMaze_UMaze-v4"}))
    source = load_source(f"minari:{ID}")
    assert source.unread == ("extra", "infos", "observations/desired_goal")


def test_numbers_that_float32_cannot_hold_are_noted(write, episodes):
    for number, episode in enumerate(episodes):
        steps = np.arange(len(episode["observations"]))[:, None] + 10 * number
        episode["observations"] = np.hstack([steps, 1.7e9 + steps / 100])
    write(episodes)
    (note,) = load().notes
    assert "column 1 of observations: 7 different numbers become 1 in float32" in note


def test_d4rls_reference_is_not_taken_for_other_physics(write, episodes):
    for episode in episodes:
        episode["observations"] = np.tile(episode["observations"], (1, 11))
        episode["actions"] = np.tile(episode["actions"], (1, 3))
    bounds = BOX | {"shape": [3], "low": [-1.0] * 3, "high": [1.0] * 3}
    spec = ENV | {"id": "Hopper-v5"}
    write(
        episodes,
        "mujoco/hopper/medium-v0",
        env_spec=json.dumps(spec),
        action_space=json.dumps(bounds),
    )
    source = load_source("minari:mujoco/hopper/medium-v0")
    assert source.spec == Spec(11, 3) and source.env_id == "Hopper-v5"
    assert source.reference is None and not source.scored


def test_metadata_may_say_little(write, episodes):
    write(episodes, action_space=None, env_spec=None, total_episodes=None, data_format=None)
    source = load_source(f"minari:{ID}")
    assert (source.env_id, source.max_episode_steps, source.physics) == (None, None, "")
    assert len(source.load()) == 7


def test_actions_are_rescaled_from_their_bounds(write, episodes):
    for episode in episodes:
        episode["actions"] = 3 * episode["actions"] + 1  # [-2, 4]
    write(episodes, action_space=json.dumps(BOX | {"low": [-2.0], "high": [4.0]}))
    np.testing.assert_allclose(
        load().transitions.action[:, 0], [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6], atol=1e-7
    )
    episodes[1]["actions"][0] = 5
    write(episodes, action_space=json.dumps(BOX | {"low": [-2.0], "high": [4.0]}))
    refused(r"actions range from .* first outside \[-1, 1\] in row 3")
    with pytest.raises(InputError, match=r"already scaled from the bounds in the data, \[-2, 4\]"):
        load_source(f"minari:{ID}", action_low=-2, action_high=4)


def test_whole_numbers_are_no_actions(write, episodes):
    write(episodes, action_space=json.dumps(BOX | {"dtype": "int64"}))
    refused("its actions are whole numbers; continuous ones are needed")


def test_unbounded_actions_have_to_fit(write, episodes):
    # As json writes infinity.
    write(episodes, action_space=json.dumps(BOX | {"low": [-np.inf], "high": [np.inf]}))
    np.testing.assert_allclose(load().transitions.action.max(), 0.6)
    scaled = load_source(f"minari:{ID}", action_low=-0.6, action_high=0.6).load()
    np.testing.assert_allclose(scaled.transitions.action.max(), 1.0)


def dictionary(episodes):
    """Episodes with observation x, achieved goal 2 x, and a desired goal of two numbers."""
    for episode in episodes:
        x = episode.pop("observations")
        episode["observations/observation"] = x
        episode["observations/desired_goal"] = np.hstack([x + 5, x + 6])
        episode["observations/achieved_goal"] = 2 * x
    return episodes


def test_antmaze_observes_its_position_first_and_no_goal(write, episodes, tiny):
    write(dictionary(episodes), env_spec=json.dumps(ENV | {"id": "AntMaze_UMaze-v4"}))
    x, following = tiny["observations"], tiny["next_observations"]
    found = load().transitions
    np.testing.assert_array_equal(found.observation, np.hstack([2 * x, x]))
    np.testing.assert_array_equal(found.next_observation, np.hstack([2 * following, following]))
    notes = load_source(f"minari:{ID}").notes
    assert notes == ("observations are achieved_goal, observation, concatenated",)


def test_other_dictionaries_are_flattened_as_gymnasium_does(write, episodes, tiny):
    write(dictionary(episodes))
    x = tiny["observations"]
    wanted = np.hstack([2 * x, x + 5, x + 6, x])
    np.testing.assert_array_equal(load().transitions.observation, wanted)


def test_terminations_stay_where_they_are(write, episodes):
    episodes[1]["terminations"] = np.array([0, 1, 0], bool)  # the episode goes on
    write(episodes)
    found = load().transitions
    np.testing.assert_array_equal(found.terminated, [0, 0, 1, 0, 1, 0, 0])
    np.testing.assert_array_equal(found.truncated, [0, 0, 0, 0, 0, 1, 1])


def test_episodes_are_taken_in_the_order_of_their_numbers(write, episodes):
    write([episodes[i % 3] for i in range(12)])  # episode_10 sorts before episode_2
    wanted = [1, 2, 3, 4, 5, 6, 7] * 4
    np.testing.assert_array_equal(load().transitions.reward, wanted)


def test_empty_episodes_are_passed_over(write, episodes):
    empty = {key: array[:0] for key, array in episodes[0].items()}
    empty["observations"] = episodes[0]["observations"][:1]
    write([*episodes[:1], empty, *episodes[1:]])
    assert len(load()) == 7


# What must be refused.


def cut(key, rows):
    def change(episodes):
        episodes[1][key] = episodes[1][key][:rows]

    return change


def put(key, value):
    def change(episodes):
        episodes[1][key] = value

    return change


BAD = {
    "last observation": (
        cut("observations", 3),
        r"observations of episode_1 has shape \[3, 1\]; expected \[4, 1\]",
    ),
    "actions": (cut("actions", 2), r"actions of episode_1 has shape \[2, 1\]; expected \[3, 1\]"),
    "flags": (cut("truncations", 1), r"truncations of episode_1 has shape \[1\]; expected \[3\]"),
    "width": (put("observations", np.zeros((4, 2))), r"has shape \[4, 2\]; expected \[4, 1\]"),
    "images": (
        lambda e: [x.update(observations=np.zeros((len(x["rewards"]) + 1, 4, 4, 3))) for x in e],
        r"observations of episode_0 has shape \[4, 4, 4, 3\]; expected \[4, size\]",
    ),
    "discrete": (
        lambda e: [x.update(actions=x["actions"][:, 0]) for x in e],
        r"actions of episode_0 has shape \[3\]; expected \[3, size\]",
    ),
    "missing": (lambda e: e[2].pop("rewards"), "episode_2 has no rewards"),
    "text": (put("rewards", np.full(3, b"one")), r"rewards of episode_1 has type \|S3"),
    "nan": (put("rewards", [0.0, np.nan, 0.0]), "rewards is NaN or infinite .* first in row 4"),
    "overflow": (put("rewards", [0.0, 1e39, 0.0]), "rewards is NaN or infinite .* first in row 4"),
    "no flag": (put("terminations", [0.0, 0.5, 0.0]), "terminals must be 0 or 1, but row 4 is 0.5"),
    "dictionary in one": (put("observations/observation", np.zeros((4, 1))), "observations"),
    "no array": (lambda e: [one.pop("observations") for one in e], "episode_0 has no observations"),
    "no rows": (lambda e: e.__delitem__(slice(None)), "has no episode_0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_episodes_are_refused(write, episodes, case):
    change, message = BAD[case]
    if case == "dictionary in one":
        del episodes[1]["observations"]
    change(episodes)
    write(episodes)
    refused(message)


BAD_METADATA = {
    "arrow": ({"data_format": "arrow"}, "has no folder 0"),
    "kind": ({"data_format": "zarr"}, "data_format is 'zarr'; it must be hdf5, arrow or parquet"),
    "count": ({"total_episodes": 4}, "contains 3 episodes, but its metadata declares 4"),
    "discrete": (
        {"action_space": '{"type": "Discrete", "n": 2}'},
        "from a 'Discrete' space; a Box",
    ),
    "no count": ({"total_episodes": "a\tb"}, r"its metadata declares 'a\\tb'; copy"),
    "bounds": ({"action_space": json.dumps(BOX | {"low": [2.0]})}, "no bounds low < high for 1"),
    "wide bounds": ({"action_space": json.dumps(BOX | {"low": [0, 0]})}, "no bounds low < high"),
    "bounds of text": ({"action_space": json.dumps(BOX | {"low": ["a"]})}, "cannot be read"),
    "space of text": ({"action_space": "Box(1)"}, "metadata.json: cannot be read"),
    "list": ({"env_spec": [1]}, "env_spec in metadata.json cannot be read"),
    "references": ({"ref_min_score": 2.0, "ref_max_score": 1.0}, "the smaller first"),
    "one reference": ({"ref_min_score": 2.0}, "must both be given"),
    "limit": ({"env_spec": json.dumps(ENV | {"max_episode_steps": -1})}, "max_episode_steps must"),
}


@pytest.mark.parametrize("case", BAD_METADATA)
def test_bad_metadata_are_refused(write, episodes, case):
    changes, message = BAD_METADATA[case]
    write(episodes, **changes)
    refused(message)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": ' * 5000, "\udcff", "1" * 5000])
def test_metadata_that_are_none_are_refused(write, episodes, text):
    folder = write(episodes)
    (folder / "metadata.json").write_bytes(text.encode(errors="surrogateescape"))
    refused(r"metadata.json: (cannot be read|is not a JSON object)")


def test_missing_parts_are_refused(write, episodes):
    folder = write(episodes)
    (folder / "main_data.hdf5").unlink()
    refused("main_data.hdf5: no such file")
    (folder / "metadata.json").unlink()
    refused("metadata.json: no such file")


@pytest.mark.parametrize(
    "name",
    [
        "../../x",
        "../x-v0",
        "/etc/x-v0",
        "a/../x-v0",
        "a//x-v0",
        "",
        "x",
        "x-v",
        "x-v0/",
        "~/x-v0",
        "x-v0\n",
        "http://host/x-v0",
        "é-v0",
    ],
)
def test_ids_cannot_leave_the_root(root, name):
    refused("is not a Minari id; ids look like minari:mujoco/hopper/medium-v0", name)


def test_a_dictionary_of_observations_that_is_empty(write, episodes):
    for one in episodes:
        del one["observations"]
    folder = write(episodes)
    with h5py.File(folder / "main_data.hdf5", "a") as file:
        for name in list(file):
            file[name].create_group("observations")
    refused("observations of episode_0 contain no array")


def test_a_name_too_long_for_a_folder_is_an_absent_one(root):
    with pytest.raises(InputError, match="not in .*; fetch it"):
        load_source(f"minari:a/{'x' * 300}-v0", download=False)


def test_absent_data_set_names_what_is_near(write, episodes):
    write(episodes)
    with pytest.raises(InputError, match=r"not in .*root \(which has tests/point/tiny-v3\)"):
        load_source("minari:tests/point/tiny-v2", download=False)


def test_trillion_rows_are_refused_before_they_are_allocated(write, episodes):
    folder = write(episodes)
    with h5py.File(folder / "main_data.hdf5", "a") as file:
        group = file["episode_0"]
        for key in list(group):
            del group[key]
            shape = (10**12 + (key == "observations"), 1)[: 2 if key[0] in "oa" else 1]
            group.create_dataset(key, shape, np.float32, chunks=(1000, 1)[: len(shape)])
        assert (folder / "main_data.hdf5").stat().st_size < 10**6
    refused("not all were written")
    with h5py.File(folder / "main_data.hdf5", "a") as file:  # compact storage hides that
        for key in list(file["episode_0"]):
            shape = file["episode_0"][key].shape
            del file["episode_0"][key]
            layout = h5py.VirtualLayout(shape, np.float32)
            file["episode_0"].create_virtual_dataset(key, layout)
    refused(r"header claims \S+e\+\d+ GB, but this machine has")


def test_group_that_is_none(write, episodes):
    folder = write(episodes)
    with h5py.File(folder / "main_data.hdf5", "a") as file:
        del file["episode_1"]
        file["episode_1"] = 3
    refused("episode_1 is not a group")


def test_groups_that_hold_each_other(write, episodes):
    folder = write(episodes)
    with h5py.File(folder / "main_data.hdf5", "a") as file:
        del file["episode_0/observations"]
        file["episode_0/observations"] = file["episode_0"]
    refused("cannot be read|observations")


FUZZ = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@FUZZ
@given(
    name=st.sampled_from(["main_data.hdf5", "metadata.json"]),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8),
    length=st.floats(0, 1),
    is_cut=st.booleans(),
)
def test_damaged_files_raise_nothing_but_input_error(write, episodes, name, edits, length, is_cut):
    path = write(episodes, ref_min_score=0.0, ref_max_score=1.0) / name
    content = bytearray(path.read_bytes())
    used = len(content.rstrip(b"\0"))
    for position, value in edits:
        content[int(position * used)] = value
    path.write_bytes(content[: int(length * len(content))] if is_cut else content)
    try:
        found = load().transitions
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert all(np.isfinite(array).all() for array in found[:6])
        assert np.abs(found.action).max() <= 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@FUZZ
@given(key=st.sampled_from(sorted(metadata_of([], ref_min_score=0, requirements=[]))), value=JSON)
def test_strange_metadata_raise_nothing_but_input_error(write, episodes, key, value):
    write(episodes, **{key: value})
    try:
        load()
    except InputError as error:
        assert "\n" not in str(error)


# The minari package itself.


KEYS = ("observations", "actions", "rewards", "terminations", "truncations")


STUB = """
import os, pathlib, shutil
def download_dataset(name):
    if "absent" in name:
        raise ValueError(f"Couldn't find any version for dataset {name}")
    target = pathlib.Path(os.environ["MINARI_DATASETS_PATH"]) / name
    shutil.copytree(os.environ["STUB_SOURCE"], target)
    if "broken" in name:
        raise OSError("connection lost")
"""


def test_downloads_through_the_package(write, episodes, root, tmp_path, monkeypatch, capsys):
    source = write(episodes).parent
    (tmp_path / "minari.py").write_text(STUB)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("STUB_SOURCE", str(source))
    assert len(load("tests/fetched-v0")) == 7
    assert "fetching minari:tests/fetched-v0" in capsys.readouterr().err
    refused("cannot be fetched .*Couldn't find any version", "tests/absent-v0")
    refused("cannot be fetched .*connection lost", "tests/broken-v0")
    assert sorted(p.name for p in root.iterdir()) == ["tests"]  # nothing half-fetched
    assert sorted(p.name for p in (root / "tests").iterdir()) == ["fetched-v0", "point"]


def test_download_without_the_package_says_what_to_install(root, tmp_path, monkeypatch):
    (tmp_path / "minari.py").write_text("raise ModuleNotFoundError(\"No module named 'minari'\")")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    refused(r"pip install 'enoto_jax\[minari\]'", "tests/absent-v0")


@pytest.mark.filterwarnings("ignore:`eval_env` is set to None")
def test_data_set_that_minari_wrote(root):
    package = pytest.importorskip("minari")
    gymnasium = pytest.importorskip("gymnasium")
    buffer_of = pytest.importorskip("minari.data_collector").EpisodeBuffer
    env = gymnasium.make("Pendulum-v1", max_episode_steps=5)
    env.action_space.seed(0)
    buffers = []
    for episode in range(2):
        observation, _ = env.reset(seed=episode)
        steps = {"observations": [observation]}
        ended = False
        while not ended:
            action = env.action_space.sample()
            observation, *rest = env.step(action)
            ended = rest[1] or rest[2]
            for key, value in zip(KEYS, (observation, action, *rest)):
                steps.setdefault(key, []).append(value)
        buffers.append(buffer_of(**{key: np.array(values) for key, values in steps.items()}))
    package.create_dataset_from_buffers(
        "tests/pendulum-v1",
        buffers,
        env,
        algorithm_name="random",
        author="us",
        author_email="us@example.org",
        code_permalink="none",
        description="random",
        requirements=["gymnasium>=1.0"],
    )
    env.close()
    source = load_source("minari:tests/pendulum-v1")
    assert (source.env_id, source.spec) == ("Pendulum-v1", Spec(3, 1))
    assert (source.max_episode_steps, source.physics) == (5, "gymnasium>=1.0")
    found = source.load()
    theirs = list(package.load_dataset("tests/pendulum-v1"))
    for ours, key in (("observation", slice(None, -1)), ("next_observation", slice(1, None))):
        wanted = np.concatenate([episode.observations[key] for episode in theirs])
        np.testing.assert_array_equal(getattr(found.transitions, ours), wanted)
    actions = np.concatenate([episode.actions for episode in theirs])
    np.testing.assert_allclose(found.transitions.action, actions / 2, atol=1e-7)  # [-2, 2]
    rewards = np.concatenate([episode.rewards for episode in theirs])
    np.testing.assert_allclose(found.transitions.reward, rewards, rtol=1e-6)
    np.testing.assert_array_equal(found.episode_lengths, [5, 5])
    assert found.transitions.truncated.sum() == 2 and not found.transitions.terminated.any()


def test_reading_needs_no_minari_package(write, episodes, monkeypatch):
    monkeypatch.setitem(sys.modules, "minari", None)  # importing it fails
    write(episodes)
    assert len(load()) == 7


def test_root_is_minaris_own(monkeypatch):
    monkeypatch.delenv("MINARI_DATASETS_PATH", raising=False)
    assert minari.root() == Path.home() / ".minari" / "datasets"
