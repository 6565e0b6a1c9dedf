"""Differences seed by seed, against values by hand."""

import json

import numpy as np
import pytest

from enoto_jax.report import paired
from enoto_jax.report.runs import read
from enoto_jax.runs.files import EVALUATION_COLUMNS, CsvLog
from tests.report.test_curves import rows as evaluations


def run(folder, method, seeds, shift=0.0, restore=None, online=(40.0, 50.0), **about):
    """A run whose final score in seed s is 50 + shift + s * s."""
    folder.mkdir()
    offline = {"algorithm": {"unit": "cql"}, "steps": 2000}
    config = {
        "method": method,
        "task": "reach",
        "env": "Reach-v0",
        "eval_episodes": 10,
        "seeds": list(seeds),
        "restore": restore and str(restore),
        "data_hash": "sha256:12",
        "recipe": {"offline": offline, "online": {"algorithm": {"unit": method}, "steps": 1000}},
    }
    (folder / "config.json").write_text(json.dumps(config | about))
    log = CsvLog(folder / "evaluations.csv", EVALUATION_COLUMNS)
    for seed in seeds:
        own = evaluations(seed, offline=[0.0, 40.0] if restore is None else [], online=list(online))
        for row in own:
            row["score"] += (shift + seed * seed) * (row["step"] > 0)
        log.append(own)
    found = read(folder)
    found.row = method
    return found


def finals(ours, theirs):
    (found,) = [d for d in paired.compare(ours, theirs) if d.quantity == "final"]
    return found


def test_differences_of_runs_that_share_a_hand_over(tmp_path):
    start = run(tmp_path / "start", "cql", range(5))
    ours = run(tmp_path / "a", "ours", range(5), 3.0, tmp_path / "start")
    theirs = run(tmp_path / "b", "theirs", range(1, 6), 1.0, tmp_path / "start")
    found = finals([ours], [theirs])
    assert found.per_seed == dict.fromkeys(range(1, 5), 2.0)  # seeds that both have
    assert (found.paired_by, found.mean, found.interval) == ("hand-over", 2.0, None)
    assert found.verdict.startswith("not distinguishable (4 seeds")
    assert finals([ours], [start]).paired_by == "hand-over"  # its own hand-over
    assert "seeds 1: +2.0, 2: +2.0" in paired.line(found) and "from +2.0 to +2.0" in paired.line(
        found
    )


@pytest.mark.parametrize(("step", "by"), [(None, "hand-over"), (10, "hand-over"), (20, "seed")])
def test_one_start_at_another_update_is_another_hand_over(tmp_path, step, by):
    start = run(tmp_path / "start", "cql", [0])
    ours = run(tmp_path / "a", "ours", [0], restore=start.folder, restored_step=10)
    theirs = run(tmp_path / "b", "theirs", [0], restore=start.folder, restored_step=step)
    assert finals([ours], [theirs]).paired_by == by


@pytest.mark.parametrize(("precision", "by"), [("float32", "hand-over"), ("bf16", "seed")])
def test_another_precision_is_another_hand_over(tmp_path, precision, by):
    recipe = {"offline": {"algorithm": {"unit": "cql"}, "steps": 2000}}
    recipe["online"] = {"algorithm": {"unit": "sac"}, "steps": 1000}
    ours = run(tmp_path / "a", "ours", (0,), recipe=recipe | {"precision": "float32"})
    theirs = run(tmp_path / "b", "theirs", (0,), recipe=recipe | {"precision": precision})
    assert finals([ours], [theirs]).paired_by == by


def test_a_start_is_the_run_that_fits_not_one_of_its_name_in_the_current_folder(
    tmp_path, monkeypatch
):
    """Folders of the same name: in the current folder, and beside runs that have moved."""
    (tmp_path / "cwd" / "runs").mkdir(parents=True)
    (tmp_path / "moved").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    here = tmp_path / "cwd" / "runs" / "off"
    run(here, "cql", [0], data_hash="sha256:34")
    beside = run(tmp_path / "moved" / "off", "cql", [0, 1])
    assert run(tmp_path / "moved" / "a", "ours", [1], restore="runs/off").start == beside.folder
    other = run(tmp_path / "moved" / "b", "ours", [0], restore="runs/off", data_hash="sha256:34")
    assert other.start == here
    own = run(tmp_path / "cwd" / "off", "ours", [0], restore="runs/off", data_hash="sha256:34")
    assert own.start == here  # it has the name itself
    run(tmp_path / "other", "iql", [0], recipe={"offline": {"algorithm": {"unit": "iql"}}})
    gone = run(tmp_path / "c", "ours", [0], restore="gone/other")
    assert gone.start == tmp_path / "cwd" / "gone" / "other"  # not a neighbour that does not fit


def test_five_seeds_have_an_interval(tmp_path):
    ours = run(tmp_path / "a", "ours", range(5))
    theirs = [run(tmp_path / f"b{s}", "theirs", [s], shift=-s - s * s) for s in range(5)]
    found = finals([ours], theirs)
    assert list(found.per_seed.values()) == [0, 2, 6, 12, 20]
    half = 2.776 * np.std([0, 2, 6, 12, 20], ddof=1) / np.sqrt(5)
    np.testing.assert_allclose(found.interval, [8 - half, 8 + half], atol=1e-2)
    assert found.verdict == "not distinguishable"
    assert paired.line(found).endswith(
        "seeds 0: +0.0, 1: +2.0, 2: +6.0, 3: +12.0, 4: +20.0): not distinguishable"
    )


@pytest.mark.parametrize(
    ("about", "by"),
    [
        ({}, "hand-over"),  # the same offline phase on the same data
        ({"data_hash": "sha256:34"}, "seed"),
        ({"data_hash": None}, "seed"),
        ({"eval_episodes": 20}, "seed"),  # different start states
        ({"recipe": {"offline": {"steps": 1}}}, "seed"),
    ],
)
def test_what_a_shared_hand_over_is(tmp_path, about, by):
    ours, theirs = run(tmp_path / "a", "ours", [0]), run(tmp_path / "b", "theirs", [0], **about)
    assert finals([ours], [theirs]).paired_by == by


def test_runs_from_scratch_share_their_seeds_alone(tmp_path):
    alone = {"recipe": {"offline": None}}
    ours, theirs = (run(tmp_path / n, n, [0], **alone) for n in ("ours", "theirs"))
    assert finals([ours], [theirs]).paired_by == "seed"


@pytest.mark.parametrize(
    "about",
    [{"seeds": [1]}, {"online": (40.0, 50.0, 60.0)}, {"env": "Other-v0"}],
)
def test_what_is_not_compared(tmp_path, about):
    ours = run(tmp_path / "a", "ours", [0])
    theirs = run(tmp_path / "b", "theirs", **{"seeds": [0], **about})
    assert paired.compare([ours], [theirs]) == []


def test_every_pair_is_compared_once(tmp_path):
    groups = {name: [run(tmp_path / name, name, [0])] for name in ("a", "b", "c")}
    found = {(d.ours, d.theirs) for d in paired.every(groups)}
    assert found == {("b", "a"), ("c", "a"), ("c", "b")}
