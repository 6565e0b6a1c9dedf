"""LeRobot's folders against literal transitions, and damaged folders."""

import json
import sys

import numpy as np
import pytest

from enoto_jax.data import check, concatenate, contents, load_source, scaled
from enoto_jax.data.formats import columns as reader
from enoto_jax.types import InputError, Spec
from tests.helpers import refused_in_a_line

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

LENGTHS = [3] * 11 + [2]  # 35 frames; episodes 4 and 11 fail
FAILED = (4, 11)
LOW, HIGH = np.array([-30.0, 0.0]), np.array([30.0, 2.0])


@pytest.fixture
def columns():
    """Frames of twelve episodes; every number identifies its episode and row."""
    episode = np.repeat(np.arange(12), LENGTHS)
    step = np.concatenate([np.arange(n) for n in LENGTHS])
    last = step == np.array(LENGTHS)[episode] - 1
    mark = 10.0 * episode + step
    middle, half = (LOW + HIGH) / 2, (HIGH - LOW) / 2
    return {
        "observation.state": np.stack([mark, mark + 0.1, mark + 0.2], 1).astype(np.float32),
        "observation.environment_state": (mark[:, None] + 0.3).astype(np.float32),
        "action": (middle + half * np.sin(mark)[:, None]).astype(np.float32),
        "next.reward": (last & ~np.isin(episode, FAILED)).astype(np.float32),
        "next.done": last,  # set at every end, as in LeRobot's own recordings
        "next.success": last & ~np.isin(episode, FAILED),
        "timestamp": (step / 10).astype(np.float32),
        "frame_index": step,
        "episode_index": episode,
        "index": np.arange(35),
        "task_index": np.zeros(35, np.int64),
    }


def table(columns, rows):
    arrays = {}
    for name, values in columns.items():
        values = values[rows]
        if values.ndim == 2 and values.shape[1] > 1:
            flat = pa.array(values.reshape(-1))
            arrays[name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
        else:  # LeRobot stores vectors of length 1 as numbers
            arrays[name] = pa.array(values.reshape(-1))
    return pa.table(arrays)


@pytest.fixture
def write(tmp_path):
    """write(columns, **info) -> the folder; its second file starts inside an episode."""

    def write(columns, name="arm", cut=20, **changes):
        folder = tmp_path / name
        for number, rows in ((2, slice(None, cut)), (10, slice(cut, None))):
            path = folder / "data" / "chunk-000" / f"file-{number:03d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table(columns, rows), path)
        shapes = {k: [*v.shape[1:]] or [1] for k, v in columns.items()}
        features = {k: {"dtype": str(columns[k].dtype), "shape": s} for k, s in shapes.items()}
        features["observation.images.top"] = {"dtype": "video", "shape": [48, 64, 3]}
        info = {
            "codebase_version": "v3.0",
            "features": features,
            "total_frames": 35,
            "total_episodes": 12,
        }
        info = {k: v for k, v in (info | changes).items() if v is not None}
        (folder / "meta").mkdir(exist_ok=True)
        (folder / "meta" / "info.json").write_text(json.dumps(info))
        stats = {"action": {"min": LOW.tolist(), "max": HIGH.tolist(), "count": [35]}}
        (folder / "meta" / "stats.json").write_text(json.dumps(stats))
        return folder

    return write


def refused(message, task):
    with refused_in_a_line(message):
        load_source(task).load()


def test_transitions(write, columns):
    source = load_source(write(columns))
    data = source.load()
    found = data.transitions
    assert (source.name, source.spec, source.env_id) == ("arm", Spec(4, 2), None)
    # A failure's last frame has no successor: it is dropped, and the frame before it is truncated.
    lengths = [3 - (i == 4) for i in range(11)] + [1]
    assert data.episode_lengths.tolist() == lengths
    mark = np.concatenate([10.0 * i + np.arange(n) for i, n in enumerate(lengths)])
    ends = np.cumsum(lengths) - 1
    failed = np.isin(np.arange(len(mark)), ends[list(FAILED)])
    success = np.isin(np.arange(len(mark)), ends) & ~failed
    shift = np.array([0, 0.1, 0.2, 0.3])
    np.testing.assert_allclose(found.observation, mark[:, None] + shift, rtol=1e-6)
    following = np.where(success, mark, mark + 1)  # never used for a terminal frame
    np.testing.assert_allclose(found.next_observation, following[:, None] + shift, rtol=1e-6)
    np.testing.assert_allclose(found.action, np.sin(mark)[:, None] * [1, 1], atol=1e-5)
    np.testing.assert_array_equal(found.reward, success)
    np.testing.assert_array_equal(found.terminated, success)
    np.testing.assert_array_equal(found.truncated, failed)


def test_what_is_said_of_it(write, columns):
    source = load_source(f"{write(columns)}/")
    assert source.notes == (
        "observations are observation.state and observation.environment_state, concatenated",
        "images are left out: observation.images.top",
        "last frames of episodes dropped, as no observation follows and nothing marks them as "
        "terminal: 2",
    )
    assert source.name == "arm" and source.unread == ("next.done",)
    report = check.inspect(str(write(columns)), env_id="none")
    assert report.usable and "images are left out" in str(report.findings)
    lines = contents.opening_lines(source, source.load(), (np.full(2, -50.0), np.full(2, 50.0)))
    assert "actions: scaled from [-30, 30] x [0, 2] to [-1, 1]" in lines
    assert any("but the environment's bounds are [-50, 50]" in line for line in lines)
    lines = contents.opening_lines(source, source.load(), (LOW, HIGH))
    assert not any("environment's bounds" in line for line in lines)


def test_done_where_no_success_is_told(write, columns):
    del columns["next.success"]
    source = load_source(write(columns))
    assert source.load().transitions.terminated.sum() == 12 and len(source.load()) == 35
    assert "frames with next.done count as terminal; it can also mark time limits" in source.notes
    columns["next.truncated"] = columns["next.done"] & np.isin(columns["episode_index"], FAILED)
    source = load_source(write(columns))
    assert source.load().transitions.terminated.sum() == 10 and len(source.load()) == 33
    assert not any("time limits" in note for note in source.notes)


def test_without_any_flag_every_end_is_a_cut(write, columns):
    del columns["next.success"], columns["next.done"]
    source = load_source(write(columns))
    data = source.load()
    assert len(data) == 35 - 12 and not data.transitions.terminated.any()
    assert source.notes[-1].endswith("marks them as terminal: 12 (with a reward: 10)")


def test_rewards_are_invented_only_on_request(write, columns):
    for name in ("next.reward", "next.done", "next.success"):
        del columns[name]
    folder = write(columns)
    refused("no rewards .*demonstrations:/.* gives 1 for its last frame; otherwise add", folder)
    source = load_source(f"demonstrations:{folder}")
    data = source.load()
    assert source.name == "arm" and data.episode_lengths.tolist() == LENGTHS
    ends = np.isin(np.arange(35), np.cumsum(LENGTHS) - 1)
    np.testing.assert_array_equal(data.transitions.reward, ends)
    np.testing.assert_array_equal(data.transitions.terminated, ends)
    assert source.notes[-1].startswith("no rewards were recorded: 1 at every episode's last frame")


def test_the_demonstrations_prefix_is_for_folders_without_rewards(write, columns, tmp_path):
    refused(r"has rewards \(next.reward\); leave out", f"demonstrations:{write(columns)}")
    refused("no meta/info.json", f"demonstrations:{tmp_path}")
    del columns["next.reward"]
    refused("next.success is 0 at the end of 2 episodes", f"demonstrations:{write(columns)}")


def test_given_bounds_replace_the_data_s_own_range(write, columns):
    folder = write(columns)
    source = load_source(folder, action_low=-40.0, action_high=40.0)
    action = load_source(folder).load().transitions.action
    raw = (LOW + HIGH) / 2 + (HIGH - LOW) / 2 * action
    np.testing.assert_allclose(source.load().transitions.action, raw / 40, atol=1e-6)
    with pytest.raises(InputError, match="already scaled"):
        scaled(source, -1.0, 1.0)
    (folder / "meta" / "stats.json").unlink()
    refused("is above 1", folder)


def test_sets_that_are_scaled_differently_are_not_joined(write, columns):
    first, second = load_source(write(columns)), load_source(write(columns, "other"))
    assert len(concatenate([first, second]).load()) == 2 * 33
    path = write(columns, "third") / "meta" / "stats.json"
    path.write_text(path.read_text().replace("30.0", "31.0"))
    both = concatenate([first, load_source(path.parents[1])])
    with pytest.raises(InputError, match="scale their actions from other ranges"):
        both.load()
    assert len(scaled(both, -40.0, 40.0).load()) == 2 * 33


def test_the_ranges_of_all_actions_are_compared(write, columns):
    columns["action"] = np.tile(columns["action"], (1, 3))
    first, second = write(columns), write(columns, "other")
    for folder, last in ((first, 80.0), (second, 90.0)):  # messages show four of the six
        bound = [40.0, 50.0, 60.0, 70.0, 80.0, last]
        (folder / "meta" / "stats.json").write_text(
            json.dumps({"action": {"min": [-b for b in bound], "max": bound}})
        )
    with pytest.raises(InputError, match="scale their actions from other ranges"):
        concatenate([load_source(first), load_source(second)]).load()


def test_an_action_that_never_moves(write, columns):
    columns["action"][:, 1] = 2.0
    folder = write(columns)
    (folder / "meta" / "stats.json").write_text(
        json.dumps({"action": {"min": [-30.0, 2.0], "max": [30.0, 2.0]}})
    )
    assert (load_source(folder).load().transitions.action[:, 1] == 0).all()


def changed(key, value, row=5):
    def act(columns):
        columns[key][row] = value

    return act


def without(key):
    return lambda columns: columns.pop(key)


BAD = {
    "nan": (changed("observation.state", np.nan), "observations is NaN or infinite .* in row 5"),
    "bounds": (
        changed("action", 99.0),
        "row 5, action 1: 99 is above .* clip them, or correct the bounds",
    ),
    "order": (changed("episode_index", 0), "episode_index decreases in row 5"),
    "episodes": (changed("episode_index", 12, 34), "contains 13 episodes, .* declares 12"),
    "frames": (changed("frame_index", 7), "frame_index of row 5 is not 2"),
    "no action": (without("action"), r"no column action \(columns found: observation.state"),
    "no episodes": (without("episode_index"), "no column episode_index"),
    "reward": (changed("next.reward", np.inf), "rewards is NaN or infinite .* in row 5"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_columns_are_refused_in_a_line(write, columns, case):
    act, message = BAD[case]
    act(columns)
    refused(message, write(columns))


def test_no_state_at_all(write, columns):
    del columns["observation.state"], columns["observation.environment_state"]
    refused("no column observation.state", write(columns))


@pytest.mark.parametrize("key", ["codebase_version", "features", "total_frames", "total_episodes"])
def test_missing_keys_of_the_description(write, columns, key):
    refused(rf"info.json: no {key}; copy or download", write(columns, **{key: None}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codebase_version": "v2.1"}, "format 'v2.1', but only v3.0 can be read"),
        ({"total_frames": 36}, "contain 35 frames, but meta/info.json declares 36"),
        ({"total_episodes": "x\ty"}, r"contains 12 episodes, but meta/info.json declares 'x\\ty'"),
        ({"features": [1]}, "features is not a table"),
        ({"features": {}}, "does not declare observation.state as vectors"),
        (
            {"features": {"observation.state": {"shape": [4]}}},
            "does not declare observation.state as vectors",
        ),
    ],
)
def test_strange_descriptions_are_refused(write, columns, changes, message):
    refused(message, write(columns, **changes))


@pytest.mark.parametrize("text", ["", "[]", "{", "\udcff"])
def test_a_description_that_is_none(write, columns, text):
    folder = write(columns)
    (folder / "meta" / "info.json").write_bytes(text.encode(errors="surrogateescape"))
    refused("info.json: (cannot be read|is not a JSON object)", folder)


@pytest.mark.parametrize(
    ("stats", "message"),
    [
        ({"min": [0.0], "max": [1.0]}, "action needs min <= max for 2 numbers"),
        ({"min": [0.0, 3.0], "max": [1.0, 2.0]}, "action needs min <= max for 2 numbers"),
        ({"min": ["a", "b"], "max": [1.0, 2.0]}, "cannot be read"),
        ({}, "action needs min <= max for 2 numbers"),
    ],
)
def test_strange_statistics_are_refused(write, columns, stats, message):
    folder = write(columns)
    (folder / "meta" / "stats.json").write_text(json.dumps({"action": stats}))
    refused(message, folder)


def test_damaged_files_are_refused_in_a_line(write, columns):
    folder = write(columns)
    path = folder / "data" / "chunk-000" / "file-010.parquet"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    refused("cannot be read", folder)
    path.write_bytes(content)
    table = pq.read_table(path)
    pq.write_table(table.drop_columns("action"), path)
    refused("file-010.parquet: no column action", folder)
    pq.write_table(table.set_column(2, "action", pa.array([[1.0, 0.0]] * 14 + [[1.0]])), path)
    refused("file-010.parquet: action has 1 number in row 14 of a block, not 2", folder)
    pq.write_table(table.set_column(2, "action", pa.array([[1.0, None]] * 15)), path)
    refused(r"action has 15 missing values \(null\)", folder)
    pq.write_table(table.set_column(2, "action", pa.array(["x"] * 15)), path)
    refused("action has type string; expected real numbers", folder)
    path.unlink()
    refused("contain 20 frames, but meta/info.json declares 35", folder)
    (path.parent / "file-002.parquet").unlink()
    refused("no data/chunk", folder)


def test_names_that_are_no_printable_text_are_refused(write, columns):
    columns["a\x00tion"] = columns.pop("action")
    refused(r"the name 'a\\x00tion' is not printable text", write(columns))


def test_rows_that_a_file_claims_and_does_not_have(write, columns, monkeypatch):
    folder, counted = write(columns), reader.count
    wrong = {"file-002.parquet": 1, "file-010.parquet": -1}  # the total is right
    monkeypatch.setattr(reader, "count", lambda path: counted(path) + wrong.get(path.name, 0))
    refused("episode_index has 20 rows, but the file claims 21; it is damaged", folder)


def test_lists_of_any_length_are_vectors_too(write, columns):
    """Older versions of the libraries wrote such lists."""
    folder = write(columns)
    hashed = load_source(folder).load().content_hash
    for path in (folder / "data" / "chunk-000").iterdir():
        table = pq.read_table(path)
        place = table.column_names.index("action")
        action = pa.array(table.column("action").to_pylist(), pa.list_(pa.float32()))
        pq.write_table(table.set_column(place, "action", action), path)
    assert load_source(folder).load().content_hash == hashed


def test_without_pyarrow_the_line_says_what_to_install(write, columns, monkeypatch):
    folder = write(columns)
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # importing it fails
    refused(r"reading it needs pyarrow; pip install 'enoto_jax\[robots\]'", folder)
