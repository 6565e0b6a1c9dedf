"""The summary against numbers worked out by hand."""

import json
import math

import numpy as np
import pytest

from enoto_jax.report import stats
from enoto_jax.runs.files import EVALUATION_COLUMNS, CsvLog, write_json
from enoto_jax.types import InputError


def rows(seed, offline, online, every=10, first=0, score=True):
    """Rows of one seed with these scores, `every` steps apart; returns are ten times the score."""
    return [
        {
            "phase": phase,
            "step": start + index * every,
            "env_steps": start + index * every if phase == "online" else 0,
            "seed": seed,
            "return_mean": 10 * value,
            "return_std": 1.0,
            "score": value if score else None,
            "episodes": 10,
            "wall_s": 1.0,
        }
        for phase, start, values in (("offline", 0, offline), ("online", first, online))
        for index, value in enumerate(values)
    ]


# Online steps 0 to 100; the first 20% are the evaluations at 10 and 20.
ONLINE = [40, 30, 20, 35, 39, 41, 10, 50, 60, 70, 65]


def one(found):
    """The values of seed 0."""
    return {name: estimate["per_seed"]["0"] for name, estimate in found.items()}


def test_one_seed_by_hand():
    found = stats.summary(rows(0, [1, 45, 40], ONLINE))
    assert one(found["offline"]) == {"final": 40, "oracle_best": 45}
    assert one(found["overall"]) == {"final": 65, "oracle_best": 70}
    assert one(found["online"]) == {
        "final": 65,
        "oracle_best": 70,
        "handover": 40,
        "worst_after": 10,  # at 60, late: not the hand-over's doing
        "drop": 20,  # 40 - 20, the lowest of 30 and 20
        "steps_to_recover": 50,  # 41 is the first that is not below 40
        "area": pytest.approx(40.75),  # (sum 460 - (40 + 65) / 2) * 10 / 100
    }
    assert found["metric"] == "score"
    assert found["seeds"] == 1


def test_the_best_overall_may_be_offline():
    found = stats.summary(rows(0, [1, 90, 40], ONLINE))
    assert one(found["overall"]) == {"final": 65, "oracle_best": 90}
    assert one(found["online"])["oracle_best"] == 70


def test_one_seed_has_no_interval():
    drop = stats.summary(rows(0, [1], ONLINE))["online"]["drop"]
    assert drop == {"mean": 20.0, "low": None, "high": None, "per_seed": {"0": 20.0}}


def test_two_seeds_have_a_mean_and_an_interval():
    found = stats.summary(rows(3, [1], ONLINE) + rows(4, [1], [50, 45, 50, *ONLINE[3:]]))
    # Half of the resamples mix the seeds, a quarter each draw one of them twice.
    assert found["online"]["drop"] == {
        "mean": 12.5,
        "low": 5.0,
        "high": 20.0,
        "per_seed": {"3": 20.0, "4": 5.0},
    }
    assert found["online"]["steps_to_recover"]["per_seed"] == {"3": 50.0, "4": 20.0}


def test_a_gain_is_a_negative_drop_and_needs_no_recovery():
    found = one(stats.summary(rows(0, [1], [10, 12, 15, 9, 30, 30]))["online"])  # 20% is step 10
    assert found["drop"] == -2
    assert found["steps_to_recover"] == 0
    assert found["worst_after"] == 9
    rising = one(stats.summary(rows(0, [1], [40, 50, 60]))["online"])
    assert rising["worst_after"] == 50  # after the hand-over, not at it


def test_recovery_counts_from_the_lowest_point():
    values = [40, 41, 20, 39, 40, 10, 10, 10, 10, 10, 10]
    assert one(stats.summary(rows(0, [1], values))["online"])["steps_to_recover"] == 40


def test_never_recovering_is_null_and_so_is_the_mean():
    never = [40, 30, *[39] * 9]
    recovery = stats.summary(rows(0, [1], ONLINE) + rows(1, [1], never))["online"]
    assert recovery["steps_to_recover"] == {
        "mean": None,
        "low": None,
        "high": None,
        "per_seed": {"0": 50.0, "1": None},
    }
    assert recovery["drop"]["mean"] == 15.0


def test_rare_evaluations_still_show_a_drop():
    found = one(stats.summary(rows(0, [1], [40, 15, 50], every=1000))["online"])
    assert (found["drop"], found["steps_to_recover"]) == (25, 2000)


def test_without_an_offline_phase_the_first_row_is_the_start():
    found = stats.summary(rows(0, [], [40, 30, 50], first=5))
    assert found["offline"] is None
    assert one(found["online"])["handover"] == 40
    assert one(found["online"])["steps_to_recover"] == 20
    assert one(found["online"])["area"] == 37.5


def test_a_missing_handover_evaluation_is_not_guessed():
    found = one(stats.summary(rows(0, [1, 2], [40, 30, 50], first=10))["online"])
    assert found["final"] == 50
    for name in ("handover", "worst_after", "drop", "steps_to_recover"):
        assert found[name] is None


def test_offline_only():
    found = stats.summary(rows(0, [1, 9, 7], []))
    assert found["online"] is None
    assert one(found["overall"]) == {"final": 7, "oracle_best": 9}


def test_a_run_stopped_at_the_handover_has_no_area():
    found = one(stats.summary(rows(0, [1], [40]))["online"])
    assert (found["handover"], found["area"], found["drop"]) == (40, None, None)


def test_without_a_reference_the_return_is_summarised():
    found = stats.summary(rows(0, [1], ONLINE, score=False))
    assert found["metric"] == "return_mean"
    assert one(found["online"])["drop"] == 200


def test_a_diverged_evaluation_is_unknown_not_ignored():
    found = stats.summary(rows(0, [1], [40, 30, math.nan, 50, 60]))["online"]
    assert found["oracle_best"]["mean"] is None
    assert found["final"]["mean"] == 60


def test_order_of_rows_does_not_matter_and_the_result_is_deterministic():
    mine = rows(0, [1, 2], ONLINE) + rows(1, [3, 4], ONLINE[::-1]) + rows(2, [0, 9], ONLINE)
    found = stats.summary(mine)
    assert stats.summary(mine[::-1]) == found
    assert stats.summary(mine, samples=3, seed=1) != found


def test_interval_of_many_seeds_is_the_normal_one():
    values = np.arange(101.0)  # mean 50, standard error sqrt(850 / 101) = 2.901
    low, high = stats.interval(values, samples=20_000)
    assert low == pytest.approx(50 - 1.96 * 2.901, abs=0.15)
    assert high == pytest.approx(50 + 1.96 * 2.901, abs=0.15)


def test_interval_is_taken_point_by_point():
    values = np.array([[0.0, 10.0], [1.0, 30.0]])
    np.testing.assert_array_equal(stats.interval(values), [[0, 10], [1, 30]])
    np.testing.assert_array_equal(stats.interval(values)[:, 1], stats.interval(values[:, 1]))
    with pytest.raises(ValueError, match="two seeds"):
        stats.interval(values[:1])


def test_a_file_without_success_is_read(tmp_path):
    columns = [column for column in EVALUATION_COLUMNS if column != "success"]
    mine = rows(0, [1, 45, 40], ONLINE)
    CsvLog(tmp_path / "evaluations.csv", columns).append(mine)
    found = stats.read_evaluations(tmp_path)
    assert len(found) == len(mine) and all(np.isnan(row["success"]) for row in found)


def test_through_files(tmp_path):
    mine = rows(0, [1, 45, 40], ONLINE) + rows(1, [1, 2, 3], ONLINE)
    CsvLog(tmp_path / "evaluations.csv", EVALUATION_COLUMNS).append(mine)
    assert stats.summary(tmp_path) == stats.summary(tmp_path / "evaluations.csv")
    assert stats.summary(tmp_path) == stats.summary(mine)
    write_json(tmp_path / "summary.json", stats.summary(mine))
    assert json.loads((tmp_path / "summary.json").read_text()) == stats.summary(mine)
    found = stats.read_evaluations(tmp_path)[1]
    assert np.isnan(found.pop("success"))
    assert found == {
        "phase": "offline",
        "step": 10,
        "env_steps": 0,
        "seed": 0,
        "return_mean": 450.0,
        "return_std": 1.0,
        "score": 45.0,
        "episodes": 10,
        "wall_s": 1.0,
    }


def test_a_missing_score_is_nan(tmp_path):
    mine = rows(0, [1], [], score=False)
    CsvLog(tmp_path / "evaluations.csv", EVALUATION_COLUMNS).append(mine)
    assert math.isnan(stats.read_evaluations(tmp_path)[0]["score"])
    assert math.isnan(stats.read_evaluations(mine)[0]["score"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"phase": "warm"}, "row 2: phase is 'warm', not one of offline, online"),
        ({"step": "1x"}, "row 2: invalid literal"),
        ({"seed": ""}, "row 2: invalid literal"),
        ({"score": "high"}, "row 2: could not convert"),
    ],
)
def test_bad_cells_are_named(tmp_path, change, message):
    mine = rows(0, [1, 2], [])
    mine[1] |= change
    CsvLog(tmp_path / "evaluations.csv", EVALUATION_COLUMNS).append(mine)
    with pytest.raises(InputError, match=rf"evaluations\.csv, {message}"):
        stats.read_evaluations(tmp_path)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"evaluations\.csv: cannot be read"):
        stats.summary(tmp_path)
    (tmp_path / "a.csv").write_text("step,value\n1,2\n")
    with pytest.raises(InputError, match="has no column 'phase'"):
        stats.summary(tmp_path / "a.csv")
    CsvLog(tmp_path / "b.csv", EVALUATION_COLUMNS)
    with pytest.raises(InputError, match="holds no evaluation yet"):
        stats.summary(tmp_path / "b.csv")


@pytest.mark.parametrize("cell", ["inf", "1e300"])
def test_scores_that_no_run_can_have_written_are_refused(cell):
    row = dict.fromkeys(EVALUATION_COLUMNS, "1") | {"phase": "online", "return_mean": cell}
    with pytest.raises(InputError, match="return_mean is"):
        stats.read_evaluations([row])
