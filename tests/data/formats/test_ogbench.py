"""OGBench's files against literal transitions and its package's relabelling, and damaged files."""

from types import SimpleNamespace

import numpy as np
import pytest

from enoto_jax.data import load_source
from enoto_jax.data.formats import ogbench
from enoto_jax.types import Spec
from tests.helpers import refused_in_a_line

NAME = "pointmaze-medium-navigate-singletask-task1-v0"  # its goal is (20, 20), within 1
TASKS = [task for (_, number), task in ogbench.tasks().items() if number]


@pytest.fixture
def point():
    """Two episodes of three and two steps; the first passes the goal in its second row."""
    place = np.float32([[1, 1], [20, 19.5], [18, 20], [18, 19], [5, 5], [20, 20], [20, 21.5]])
    return {
        "observations": place,
        "actions": np.float32([[0.1, 0], [0.2, 0], [0.3, 0], [9, 9], [0.4, 0], [0.5, 0], [9, 9]]),
        "terminals": np.array([0, 0, 0, 1, 0, 0, 1], bool),
        "qpos": place,
        "qvel": np.zeros_like(place),
    }


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.setenv("OGBENCH_DATASET_DIR", str(tmp_path))

    def write(arrays, name="pointmaze-medium-navigate-v0"):
        np.savez_compressed(tmp_path / f"{name}.npz", **arrays)
        return tmp_path

    return write


def refused(message, task=f"ogbench:{NAME}"):
    with refused_in_a_line(message):
        load_source(task).load()


def test_transitions_of_a_task(write, point):
    write(point)
    source = load_source(f"ogbench:{NAME}")
    data = source.load().transitions
    np.testing.assert_array_equal(data.observation, point["observations"][[0, 1, 2, 4, 5]])
    np.testing.assert_array_equal(data.next_observation, point["observations"][[1, 2, 3, 5, 6]])
    np.testing.assert_array_equal(data.action[:, 0], np.float32([0.1, 0.2, 0.3, 0.4, 0.5]))
    # Rewards belong to the state before the action; success does not end a recording.
    assert data.reward.tolist() == [-1, 0, -1, -1, 0]
    assert data.terminated.tolist() == [False, True, False, False, True]
    assert data.truncated.tolist() == [False, False, True, False, False]
    assert data.reward.dtype == data.observation.dtype == np.float32


def test_what_is_known_of_the_task(write, point):
    folder = write(point)
    source = load_source(f"ogbench:{NAME}")
    assert (source.name, source.version, source.spec) == (NAME, "v0", Spec(2, 2))
    assert source.env_id == "pointmaze-medium-singletask-task1-v0"
    assert source.max_episode_steps == 1000 and source.reference is None
    assert source.unread == ("qvel",) and source.notes == ()
    write(point, "pointmaze-medium-navigate-v0-val")
    (note,) = load_source(f"ogbench:{NAME}").notes
    assert note == "pointmaze-medium-navigate-v0-val.npz, its validation data, is not read"
    by_path = load_source(f"ogbench:{folder / NAME}")
    assert by_path.path == source.path
    assert by_path.load().content_hash == source.load().content_hash


def test_another_task_is_another_goal_and_the_default_is_the_environments(write, point):
    write(point)
    second = load_source(f"ogbench:{NAME.replace('task1', 'task2')}")  # (20, 0): never reached
    assert second.load().transitions.reward.tolist() == [-1] * 5
    assert not second.load().transitions.terminated.any()
    default = load_source(f"ogbench:{NAME.replace('-task1', '')}")
    assert default.env_id == "pointmaze-medium-singletask-task1-v0"
    assert default.load().content_hash == load_source(f"ogbench:{NAME}").load().content_hash


@pytest.mark.parametrize(
    ("name", "rewards", "arguments"),
    [("task5", [0, -9, -3], {}), ("task5-sparse", [0, -1, -1], {"sparse": True})],
)
def test_subtasks_are_counted(write, name, rewards, arguments):
    """Task 5 of puzzle-3x3 wants the buttons at 101/101/101; sparse rewards count them as one."""
    wanted = np.array([1, 0, 1, 1, 0, 1, 1, 0, 1])
    states = np.stack([wanted, 1 - wanted, np.ones(9, int), wanted])
    rows = np.zeros((4, 3), np.float32)
    write(
        {
            "observations": rows,
            "actions": rows[:, :2],
            "terminals": np.array([0, 0, 0, 1]),
            "button_states": states,
        },
        "puzzle-3x3-play-v0",
    )
    source = load_source(f"ogbench:puzzle-3x3-play-singletask-{name}-v0")
    assert source.env_id == "puzzle-3x3-singletask-task5-v0" and source.env_kwargs == arguments
    data = source.load().transitions
    assert data.reward.tolist() == rewards
    assert data.terminated.tolist() == [True, False, False]


def test_defaults_are_the_packages():
    defaults = {name: task.number for (name, number), task in ogbench.tasks().items() if not number}
    assert defaults["pointmaze-medium"] == defaults["humanoidmaze-large"] == 1
    assert defaults["antsoccer-arena"] == defaults["puzzle-3x3"] == defaults["puzzle-4x4"] == 4
    assert defaults["cube-double"] == defaults["scene"] == defaults["puzzle-4x6"] == 2
    assert len(TASKS) == 115


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("ogbench:pointmaze-medium-navigate-v0", "is not a single task of OGBench; ids look like"),
        ("ogbench:pointmaze-medium-navigate-singletask-task6-v0", "is not a single task"),
        (f"ogbench:{NAME.replace('medium', 'medum')}", "nearest: pointmaze-medium"),
        (f"ogbench:{NAME}", r"no pointmaze-medium-navigate-v0\.npz in .*OGBENCH_DATASET_DIR"),
        (f"ogbench:/no/where/{NAME}", r"v0\.npz in /no/where"),
        ("ogbench:", "is not a single task"),
    ],
)
def test_what_is_not_there_is_refused_in_a_line(write, task, message):
    refused(message, task)


def test_a_file_without_a_task_is_told_what_it_is(write, point):
    folder = write(point)
    path = folder / "pointmaze-medium-navigate-v0.npz"
    refused("is an OGBench file, which has no rewards: name a task, such as ogbench:/", str(path))
    own = point | {"rewards": np.zeros(7), "actions": np.zeros((7, 1))}
    np.savez(path, **own)  # a user's own file, complete in D4RL's layout
    assert len(load_source(str(path)).load()) == 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"qpos": None}, r"no qpos \(keys found: actions, observations"),
        ({"terminals": None}, "no terminals"),
        ({"qpos": np.zeros((7, 1))}, "qpos has shape .7, 1.; expected .7, 2. or wider"),
        ({"qpos": np.zeros((6, 2))}, "qpos has shape .6, 2."),
        ({"actions": np.zeros((5, 2))}, "actions has 5 rows but observations has 7"),
        ({"terminals": np.zeros(7)}, "last row of every episode, and is 0 in the last of all"),
        ({"terminals": np.ones(7)}, "no row has a successor"),
        ({"terminals": np.full(7, 2)}, "terminals must be 0 or 1, but row 0 is 2"),
        ({"observations": np.full((7, 2), np.nan, np.float32)}, "observations is NaN"),
        ({"qpos": np.array(["x"] * 14).reshape(7, 2)}, "qpos has shape"),
    ],
)
def test_damaged_files_are_refused_in_a_line(write, point, change, message):
    write({k: v for k, v in (point | change).items() if v is not None})
    refused(message)


def test_a_file_that_is_no_archive_is_refused(write):
    folder = write({"x": np.zeros(1)})
    (folder / "pointmaze-medium-navigate-v0.npz").write_bytes(b"PK\x03\x04 not quite")
    refused("cannot be read")


def test_a_damaged_list_of_arrays_is_refused_without_a_task(write, point):
    path = write(point) / "pointmaze-medium-navigate-v0.npz"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"PK\x01\x02", b"PK\x01\x03"))
    refused("cannot be read", str(path))


SUCCESSES = {  # of the generated files, from their README
    "pointmaze-medium-navigate": (1926, 3069, 968, 972, 2092),
    "pointmaze-large-navigate": (317, 304, 284, 200, 200),
    "cube-single-play": (2465, 2406, 1776, 2645, 2378),
    "puzzle-3x3-play": (94, 116, 156, 36, 46),
}


@pytest.mark.parametrize("name", SUCCESSES)
def test_rows_at_the_goal_of_real_recordings(shared_data, name):
    folder = shared_data / "ogbench"
    if not (folder / f"{name}-v0.npz").exists():
        pytest.skip(f"no {name}-v0.npz")
    for number, count in enumerate(SUCCESSES[name], 1):
        data = load_source(f"ogbench:{folder}/{name}-singletask-task{number}-v0").load()
        assert int(data.transitions.terminated.sum()) == count
        assert (data.transitions.reward[data.transitions.terminated] == 0).all()


# Against the package, if it is installed.


def near(task, rng, rows=400):
    """Simulator states; some parts of them are at the task's goal."""
    qpos = rng.uniform(-1, 1, (rows, 80)).astype(np.float32)
    places, at = np.asarray(task.numbers), rng.random((rows, 80)) < 0.7
    if "maze" in task.environment or "soccer" in task.environment:
        first = 15 if "soccer" in task.environment else 0
        qpos[:, first : first + 2] = places[:2] + rng.uniform(-1.2, 1.2, (rows, 2))
    else:
        for i in range(len(places) // 3):
            column = 14 + 7 * i
            near = places[3 * i : 3 * i + 3] + rng.uniform(-0.03, 0.03, (rows, 3))
            qpos[:, column : column + 3] = np.where(at[:, i : i + 1], near, 0.5)
        if task.environment == "scene":
            near = places[3:] + rng.uniform(-0.05, 0.05, (rows, 2))
            qpos[:, 23:25] = near
    buttons = np.asarray(task.buttons, np.int64)
    flips = rng.random((rows, len(buttons))) < 0.1
    return qpos, np.where(flips, 1 - buttons, buttons)


@pytest.mark.filterwarnings("ignore")  # Gymnasium warns about float64 spaces
@pytest.mark.parametrize(
    "task",
    [task for task in TASKS if task.number in (1, 5)],  # creating one takes a second
    ids=lambda task: f"{task.environment}-{task.number}",
)
def test_rewards_and_masks_are_the_packages(task):
    pytest.importorskip("ogbench")
    import gymnasium
    from ogbench.relabel_utils import relabel_dataset

    qpos, buttons = near(task, np.random.default_rng(task.number))
    dataset = {"qpos": qpos, "button_states": buttons}
    env = gymnasium.make(task.env_id, disable_env_checker=True)
    assert env.spec.max_episode_steps == task.limit
    relabel_dataset(task.env_id, env, dataset)
    env.close()
    done = ogbench.subtasks(task, qpos, buttons)
    assert done.all(axis=1).any() and not done.all(axis=1).all()
    np.testing.assert_array_equal(done.sum(axis=1) - done.shape[1], dataset["rewards"])
    np.testing.assert_array_equal(~done.all(axis=1), dataset["masks"])


@pytest.mark.filterwarnings("ignore")
def test_transitions_are_the_packages(write, point):
    package = pytest.importorskip("ogbench")
    folder = write(point)
    write(point, "pointmaze-medium-navigate-v0-val")
    _, theirs, _ = package.make_env_and_datasets(
        NAME, dataset_path=str(folder / "pointmaze-medium-navigate-v0.npz")
    )
    theirs = SimpleNamespace(**theirs)
    data = load_source(f"ogbench:{NAME}").load().transitions
    np.testing.assert_array_equal(data.observation, theirs.observations)
    np.testing.assert_array_equal(data.next_observation, theirs.next_observations)
    np.testing.assert_array_equal(data.action, theirs.actions)
    np.testing.assert_array_equal(data.reward, theirs.rewards)
    np.testing.assert_array_equal(data.terminated, 1.0 - theirs.masks)
    ended = data.terminated | data.truncated
    assert ended[theirs.terminals == 1].all()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("number", range(1, 6))
@pytest.mark.parametrize("name", SUCCESSES)
def test_real_recordings_are_relabelled_as_by_the_package(shared_data, name, number):
    package = pytest.importorskip("ogbench")
    file = shared_data / "ogbench" / f"{name}-v0.npz"
    if not file.exists():
        pytest.skip(f"no {file.name}")
    task = f"{name}-singletask-task{number}-v0"
    env, theirs, _ = package.make_env_and_datasets(task, dataset_path=str(file))
    env.close()
    data = load_source(f"ogbench:{file.parent}/{task}").load().transitions
    np.testing.assert_array_equal(data.observation, theirs["observations"])
    np.testing.assert_array_equal(data.next_observation, theirs["next_observations"])
    np.testing.assert_array_equal(data.action, theirs["actions"])
    np.testing.assert_array_equal(data.reward, theirs["rewards"])
    np.testing.assert_array_equal(data.terminated, theirs["masks"] == 0)
    over = data.terminated | data.truncated
    np.testing.assert_array_equal(over & (theirs["terminals"] == 1), theirs["terminals"] == 1)
