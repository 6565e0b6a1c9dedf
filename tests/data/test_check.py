"""Each finding on data with that problem, and no findings on sound data."""

from pathlib import Path

import gymnasium
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enoto_jax.data import check, contents
from tests.helpers import LIMIT, Reach, reach_data


@pytest.fixture
def reach():
    """Ten sound episodes of Reach-v0, which a test may change."""
    return {**reach_data(), "observations": reach_data()["observations"].copy()}


@pytest.fixture
def found(write):
    """found(arrays, asked, **attributes) -> the report on a file with these arrays."""

    def found(arrays, asked=None, **attributes):
        path = write(arrays, **({"env_id": "Reach-v0"} | attributes))
        return check.inspect(str(path), env_id=asked)

    return found


def texts(report, error=None):
    return [f.text for f in report.findings if error is None or f.error == error]


def has(report, words, error):
    """Check that exactly one finding contains the words, and that its kind is `error`."""
    kinds = [f.error for f in report.findings if words in f.text]
    assert kinds == [error], report.findings
    assert report.usable != any(f.error for f in report.findings)


def test_sound_data_have_no_findings(found, reach):
    report = found(reach)
    assert report.findings == [] and report.usable
    lines = "\n".join(contents.lines(report))
    assert "environment Reach-v0, 2 numbers observed, 1 in an action, limit 20" in lines
    assert "transitions: 200 (of 200 rows)" in lines
    assert "episodes: 10, 0 end in a terminal state, 10 are cut" in lines
    assert "lengths: 20 to 20" in lines and report.dataset.content_hash in lines
    # 2 + 2 observed numbers, action and reward at four bytes each, and two flags.
    assert f"memory: {200 * 26 / 1e6:.1f} MB" in lines


def test_everything_is_reported_at_once(found, reach):
    reach["observations"][7] = np.nan
    reach["actions"] = 3 * reach["actions"]
    reach["terminals"] = reach["timeouts"].copy()
    reach["rewards"] = np.append(reach["rewards"], 0.0)
    report = found(reach)
    errors = "\n".join(texts(report, error=True))
    for words in (
        "rewards has 201 rows but observations has 200",
        "observations is NaN or infinite (as float32) in 1 of 200 rows, first in row 7",
        "actions range from",
    ):
        assert words in errors
    notes = "\n".join(texts(report, error=False))
    assert "10 rows are both terminal and a time-out" in notes
    assert "10 of 10 terminals are at step 20" in notes
    assert not report.usable and report.dataset is None
    low = reach["actions"].min()
    assert any(line.startswith(f"actions: {low:g} to") for line in contents.lines(report))


def test_missing_array_hides_nothing_else(found, reach):
    del reach["actions"]
    reach["rewards"][3] = np.inf
    report = found(reach)
    has(report, "no actions", True)
    has(report, "rewards is NaN or infinite", True)


def test_observations_of_another_shape_hide_nothing_else():
    arrays = dict.fromkeys(("observations", "next_observations", "terminals"), np.zeros(3))
    texts = [finding.text for finding in check.on_flat(arrays | {"rewards": np.ones(3)}, None)]
    assert "every reward is 1: there is nothing to learn from" in texts


def test_terminals_that_are_timeouts(found, reach):
    reach["terminals"] = reach.pop("timeouts")
    has(found(reach), f"10 of 10 terminals are at step {LIMIT}, the time limit", True)
    # If the limit is unknown, this is only a note.
    has(found(reach, env_id=""), "terminals are at step 20, always the same", False)


def test_terminals_at_the_limit_of_an_environment_that_a_function_makes(found, reach):
    reach["terminals"] = reach.pop("timeouts")
    has(found(reach, "tests.envs.odd:make_telling", env_id=""), "the time limit", True)


def test_terminals_at_other_steps_are_none(found, reach):
    reach["terminals"] = np.arange(200) % 20 == np.repeat(np.arange(10, 20), 20)
    assert not any("terminals stand" in text for text in texts(found(reach)))


def test_unmarked_ends_with_stored_successors(found, reach):
    del reach["timeouts"]
    has(found(reach), "the next observation of 9 rows is not the following row's", False)


def test_unmarked_ends_without_stored_successors(found):
    # Steps of at most 0.2, and a jump of about 100 after row 39: a reset without a flag.
    rows = np.arange(200)
    arrays = {
        "observations": (np.sin(rows / 10)[:, None] + 100 * (rows[:, None] >= 40)).astype("f4"),
        "actions": np.linspace(-1, 1, 200, dtype=np.float32)[:, None],
        "rewards": rows.astype(np.float32),
        "terminals": rows == 199,
        "timeouts": rows == -1,
    }
    arrays = {key: np.concatenate([array] * 3) for key, array in arrays.items()}
    report = found(arrays, env_id="")
    has(report, "3 transitions inside episodes jump", False)
    assert "first transition 39:" in "\n".join(texts(report))
    arrays["timeouts"][39::200] = True
    assert not any("jump" in text for text in texts(found(arrays, env_id="")))


def test_goal_rows(found, reach):
    reach["terminals"][15:20] = True
    has(found(reach), "4 terminal rows directly follow another", False)


def test_constant_columns(found, reach):
    reach["observations"][:, 1] = 0.5
    report = found(reach)
    has(report, "observations are constant in column 1", False)


def test_constant_rewards(found, reach):
    reach["rewards"][:] = -1
    has(found(reach), "every reward is -1", False)


def test_duplicate_rows(found, reach):
    reach = {key: np.concatenate([array, array[:40]]) for key, array in reach.items()}
    has(found(reach), "40 rows repeat", False)


def test_small_actions(found, reach):
    reach["actions"] = reach["actions"] / 10
    has(found(reach), "no action is larger than", False)


def test_episodes_beyond_the_limit(found, reach):
    reach["timeouts"][19] = False
    reach["observations"][20] = reach["next_observations"][19]
    has(found(reach), "the longest episode has 40 steps, the task's limit is 20", False)


def test_one_endless_episode(found, reach):
    del reach["next_observations"], reach["timeouts"]
    has(found(reach, env_id="", max_episode_steps=1000), "one episode", False)


def test_environment_of_other_sizes(found, reach):
    words = (
        "InvertedPendulum-v5 has observation size 4 and action size 1, but the data have 2 and 1"
    )
    has(found(reach, asked="InvertedPendulum-v5"), words, True)


class Gripping(Reach):
    """Reach whose observation is a dictionary, declared in an order that is not alphabetical."""

    def __init__(self):
        super().__init__()
        box = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
        inner = gymnasium.spaces.Dict({"y": box, "b": box})
        self.observation_space = gymnasium.spaces.Dict({"joint": inner, "gripper": box})


def test_the_order_of_a_dictionary_and_its_bounds_are_noted(found, reach):
    asked = f"{__name__}:Gripping"
    has(found(reach, asked=asked), "(observes gripper [1], joint.b [1], joint.y [1]); set", True)
    wide = np.hstack([reach["observations"], reach["observations"][:, :1] * 0 + 3])
    wide[0, 2] = -1
    del reach["next_observations"]
    report = found(reach | {"observations": wide}, asked)
    has(report, "observes gripper [1], joint.b [1], joint.y [1], in this order", False)
    has(report, "(and 1 more) ranges from", False)
    has(report, "column 1", False)


def test_environment_that_cannot_be_made(found, reach):
    # An environment named by the data is only noted; one that the user asks for is an error.
    has(found(reach, env_id="NoSuch-v0"), "cannot make 'NoSuch-v0'", False)


def test_asked_environment(write, reach):
    path = str(write(reach, env_id="NoSuch-v0"))
    assert check.inspect(path, env_id="Reach-v0").findings == []
    assert check.inspect(path, env_id="none").findings == []
    has(check.inspect(path, env_id="NoneSuch-v0"), "cannot make 'NoneSuch-v0'", True)
    has(check.inspect(str(write(reach))), "does not name an environment", False)


def test_code_that_a_file_names_is_not_imported(found, reach):
    words = "names seven:make; code named in a file is not imported; give --env=seven:make"
    has(found(reach, env_id="seven:make"), words, False)


def test_damaged_file_is_a_finding(write, reach):
    path = write(reach)
    path.write_bytes(path.read_bytes()[:3000])
    has(check.inspect(str(path)), "cannot be read", True)
    has(check.inspect(str(path.parent / "absent.hdf5")), "no such file", True)


def test_bad_attributes_are_a_finding(found, reach):
    has(found(reach, ref_min_score=2.0), "must both be given", True)


NUMBERS = st.sampled_from([0.0, 1.0, -1.0, 0.5, 3e38, -3e38, 1e39, 1e-40, np.nan, np.inf, -np.inf])


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data(), rows=st.integers(1, 6))
def test_whatever_the_numbers_are_there_is_a_report(write, data, rows):
    arrays = {}
    for key, width in (
        ("observations", 2),
        ("actions", 1),
        ("rewards", 0),
        ("terminals", 0),
        ("timeouts", 0),
        ("next_observations", 2),
    ):
        if data.draw(st.integers(0, 9)):
            count = rows * max(width, 1)
            values = data.draw(st.lists(NUMBERS, min_size=count, max_size=count))
            arrays[key] = np.array(values).reshape((rows, width) if width else (rows,))
    report = check.inspect(str(write(arrays)), env_id="none")
    assert all("\n" not in line for line in [*contents.lines(report), *texts(report)])
    assert not report.usable or report.dataset is not None


# Real files.


TABLE = (Path(__file__).resolve().parents[2] / "docs" / "data.md").read_text().splitlines()


@pytest.mark.parametrize("folder, count", [("d4rl_samples", 8), ("datasets", 15)])
def test_the_table_in_the_documents(shared_data, folder, count):
    paths = sorted((shared_data / folder).glob("*.hdf5"))
    if not paths:
        pytest.skip(f"no {folder}")
    assert len(paths) == count
    for path in paths:
        report = check.inspect(str(path), env_id="none")
        assert report.usable
        assert contents.table_row(report) in TABLE


def test_row_of_data_that_cannot_be_used(found, reach):
    reach["rewards"] = np.full((200, 1), np.nan)
    row = contents.table_row(found(reach))
    assert row.startswith(
        "| tiny | | | | float64 rewards, rewards [N, 1] | rewards is NaN or infinite"
    )


def test_layouts(found, reach):
    del reach["next_observations"], reach["timeouts"]
    reach["terminals"] = reach["terminals"].astype(float)
    reach["actions"] = reach["actions"].astype(float)
    layout = found(reach).layout
    assert layout == "no timeouts, no next_observations, float64 actions, terminals"
