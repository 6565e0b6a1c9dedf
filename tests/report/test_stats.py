"""The summary against numbers worked out by hand."""

import json
import math

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


# Online steps 0 to 100; the evaluations at 10 and 20 are in the first 20%.
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
        "worst_after": 10,  # at step 60, too late to count as a drop
        "drop": 20,  # 40 - 20, where 20 is the minimum of 30 and 20
        "steps_to_recover": 50,  # 41 is the first score not below 40
        "area": pytest.approx(40.75),  # (sum 460 - (40 + 65) / 2) * 10 / 100
    }
    assert found["metric"] == "score"
    assert found["seeds"] == 1


def test_a_drop_is_sought_in_the_first_20_000_steps():
    long = [{**row, "env_steps": 1_000 * row["env_steps"]} for row in rows(0, [1], ONLINE)]
    assert one(stats.summary(long)["online"])["drop"] == 20  # 20% is exactly 20,000 steps
    longer = [{**row, "env_steps": 2_000 * row["env_steps"]} for row in rows(0, [1], ONLINE)]
    assert one(stats.summary(longer)["online"])["drop"] == 10  # 20% is 40,000; the limit is 20,000


def test_the_best_overall_may_be_offline():
    found = stats.summary(rows(0, [1, 90, 40], ONLINE))
    assert one(found["overall"]) == {"final": 65, "oracle_best": 90}
    assert one(found["online"])["oracle_best"] == 70


def test_one_seed_has_no_interval():
    drop = stats.summary(rows(0, [1], ONLINE))["online"]["drop"]
    assert drop == {
        "mean": 20.0,
        "low": None,
        "high": None,
        "min": 20.0,
        "max": 20.0,
        "sd_between_seeds": None,
        "per_seed": {"0": 20.0},
    }


def test_two_seeds_have_their_range_and_no_interval():
    found = stats.summary(rows(3, [1], ONLINE) + rows(4, [1], [50, 45, 50, *ONLINE[3:]]))
    assert found["online"]["drop"] == {
        "mean": 12.5,
        "low": None,
        "high": None,
        "min": 5.0,
        "max": 20.0,
        "sd_between_seeds": pytest.approx(15 / math.sqrt(2)),
        "per_seed": {"3": 20.0, "4": 5.0},
    }
    assert found["online"]["steps_to_recover"]["per_seed"] == {"3": 50.0, "4": 20.0}


def test_five_seeds_have_students_interval():
    finals = [40.0, 42.0, 44.0, 46.0, 48.0]  # mean 44, sd sqrt(10), t quantile 2.776
    mine = [row for seed, y in enumerate(finals) for row in rows(seed, [1], [40, y])]
    final = stats.summary(mine)["online"]["final"]
    assert final["low"] == pytest.approx(44 - 2.776 * math.sqrt(10 / 5), abs=1e-3)
    assert final["high"] == pytest.approx(44 + 2.776 * math.sqrt(10 / 5), abs=1e-3)


def test_episodes_and_seeds_vary_apart():
    """Scores are returns / 10: an sd of 1 over 10 episodes is 0.1 * sqrt(10 / 9), unbiased."""
    mine = rows(0, [1, 5], [40, 41]) + rows(1, [1, 5], [40, 43])
    online = stats.summary(mine)["online"]
    assert online["final"]["sd_between_seeds"] == pytest.approx(math.sqrt(2))
    assert online["final"]["sd_within_seeds"] == pytest.approx(0.1 * math.sqrt(10 / 9))
    left = math.sqrt(2 - 0.01 * 10 / 9 / 10)
    assert online["final"]["sd_between_seeds_corrected"] == pytest.approx(left)
    assert online["handover"]["sd_between_seeds_corrected"] == 0.0  # episodes explain all variance
    assert "sd_within_seeds" not in online["area"]
    one_episode = [row | {"episodes": 1} for row in mine]
    assert stats.summary(one_episode)["online"]["final"]["sd_within_seeds"] is None


def test_success_is_summarised_where_it_is_known(tmp_path):
    assert stats.summary(rows(0, [1], ONLINE))["success"] is None
    mine = [row | {"success": 0.3} for row in rows(0, [1], [40, 50])]
    mine += [row | {"success": 0.0} for row in rows(1, [1], [40, 50])]
    found = stats.summary(mine)["success"]
    assert found["final"]["per_seed"] == {"0": 0.3, "1": 0.0}
    assert found["final"]["mean"] == pytest.approx(0.15) and found["final"]["low"] is None
    assert found["final"]["wilson"]["0"] == pytest.approx([0.1078, 0.6032], abs=1e-4)
    columns = (*EVALUATION_COLUMNS, "success")
    CsvLog(tmp_path / "evaluations.csv", tuple(dict.fromkeys(columns))).append(mine)
    assert stats.summary(tmp_path)["success"] == found
    with pytest.raises(InputError, match="success is 3.0; a share"):
        stats.summary([mine[0] | {"success": 3.0}])
    assert "final success (%) 15 (seeds 30, 0)" in stats.headline(stats.summary(mine))


def test_the_headline_has_every_seed_or_n():
    two = stats.summary(rows(0, [1], [40, 50]) + rows(1, [1], [40, 60]))
    assert stats.headline(two) == (
        "score at the hand-over 40.0 (seeds 40.0, 40.0); final score 55.0 (seeds 50.0, 60.0)"
    )
    five = stats.summary([row for seed in range(5) for row in rows(seed, [1], [40, 50 + seed])])
    assert "final score 52.0 [50.0, 54.0] (95% t interval, n = 5)" in stats.headline(five)
    assert stats.headline({}) == "no evaluations"
    one = stats.summary(rows(0, [1], [40, 50], score=False))
    assert "final return 500.0 (1 seed)" in stats.headline(one)


def test_never_recovering_is_null_and_so_is_the_mean():
    never = [40, 30, *[39] * 9]
    recovery = stats.summary(rows(0, [1], ONLINE) + rows(1, [1], never))["online"]
    steps = recovery["steps_to_recover"]
    assert steps.pop("per_seed") == {"0": 50.0, "1": None}
    assert set(steps.values()) == {None}
    assert recovery["drop"]["mean"] == 15.0


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


def test_order_of_rows_does_not_matter():
    mine = rows(0, [1, 2], ONLINE) + rows(1, [3, 4], ONLINE[::-1]) + rows(2, [0, 9], ONLINE)
    assert stats.summary(mine[::-1]) == stats.summary(mine)


def test_a_file_without_success_is_read(tmp_path):
    columns = [column for column in EVALUATION_COLUMNS if column != "success"]
    mine = rows(0, [1, 45, 40], ONLINE)
    CsvLog(tmp_path / "evaluations.csv", columns).append(mine)
    found = stats.read_evaluations(tmp_path)
    assert len(found) == len(mine) and all(math.isnan(row["success"]) for row in found)


def test_through_files(tmp_path):
    mine = rows(0, [1, 45, 40], ONLINE) + rows(1, [1, 2, 3], ONLINE)
    CsvLog(tmp_path / "evaluations.csv", EVALUATION_COLUMNS).append(mine)
    assert stats.summary(tmp_path) == stats.summary(tmp_path / "evaluations.csv")
    assert stats.summary(tmp_path) == stats.summary(mine)
    write_json(tmp_path / "summary.json", stats.summary(mine))
    assert json.loads((tmp_path / "summary.json").read_text()) == stats.summary(mine)
    second = stats.read_evaluations(tmp_path)[1]
    assert math.isnan(second.pop("success"))
    assert second == {
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
    with pytest.raises(InputError, match="has no evaluation yet"):
        stats.summary(tmp_path / "b.csv")


@pytest.mark.parametrize("cell", ["inf", "1e300"])
def test_scores_that_no_run_can_have_written_are_refused(cell):
    row = dict.fromkeys(EVALUATION_COLUMNS, "1") | {"phase": "online", "return_mean": cell}
    with pytest.raises(InputError, match="return_mean is"):
        stats.read_evaluations([row])
