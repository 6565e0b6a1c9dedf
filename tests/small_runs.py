"""Helpers for tests with runs of a tiny task, whole or interrupted."""

import csv
import json
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from enoto_jax import core
from enoto_jax.recipes.building import build
from enoto_jax.recipes.recipe import Recipe
from enoto_jax.runs.checkpoint import Checkpoints
from enoto_jax.runs.timing import Timing
from enoto_jax.training import online, run
from enoto_jax.training.carried import Online
from enoto_jax.training.record import Record
from tests.helpers import REACH, assert_same, tiny

# Offline: 20 updates, evaluated at 10 and 20. Online: 12 steps, evaluated at 0, 4, 8 and 12; the
# first update is after step 4. A call is 5 updates or 1 step; `watched` counts both as "update".
SEEDS, EPISODES = (3, 5), 2
WARMUP, UTD, STEPS = 3, 2, 12
MINE = {"online__utd": UTD, "online__algorithm__exploration__mask": 0.7}
ROW = tiny("enoto_cql", **MINE)
REFERENCE = (-15.0, -3.0)
EVALUATED = [("offline", 10), ("offline", 20), *(("online", step) for step in (0, 4, 8, 12))]


class Killed(BaseException):
    """Raised to end a run as SIGKILL does: nothing is saved."""


class Finished(NamedTuple):
    folder: Any
    summary: dict
    start: Online  # of the online phase
    calls: dict[str, int]  # kind of work -> how often it was done


def train(source, folder, row: Recipe = ROW, **changes):
    settings = {"seeds": SEEDS, "eval_episodes": EPISODES, **changes}
    return run.train(row, source, folder, **settings)


@contextmanager
def watched(at: tuple[str, int] | None = None, kill: bool = False):
    """Count a run's calls by kind; stop or kill it after the n-th call of a kind."""
    calls: dict[str, int] = {}
    records: list[Record] = []
    timed, begin = Timing.timed, Record.__init__

    @contextmanager
    def counted(self, what):
        with timed(self, what) as seconds:
            yield seconds
        calls[what] = calls.get(what, 0) + 1
        if at == (what, calls[what]):
            if kill:
                # The writing threads would survive, because no process ends here.
                records[-1].saving.checkpoints.wait()
                raise Killed
            records[-1].signals.stop = True

    def known(self, *arguments):
        begin(self, *arguments)
        records.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Timing, "timed", counted)
        patch.setattr(Record, "__init__", known)
        yield calls


def table(path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def evaluations(folder) -> list[tuple[str, int, int]]:
    return [
        (row["phase"], int(row["step"]), int(row["seed"]))
        for row in table(folder / "evaluations.csv")
    ]


@cache
def templates(row: Recipe, seeds: int) -> tuple[core.TrainState | None, Online]:
    """Return zeros in the shapes of the offline and the online phase's states."""
    units, key = build(row, REACH), jax.random.key(0)
    begin = online.begin(units.online, units.replay, REACH, row.online.batch_size)
    shapes = (
        units.offline and jax.eval_shape(lambda: core.init(units.offline, key)),
        jax.eval_shape(lambda: begin(core.init(units.online, key), np.int32(0))),
    )
    return jax.tree.map(lambda x: np.zeros((seeds, *x.shape), x.dtype), shapes)


def kept_handover(folder, row: Recipe = ROW, seeds: int = 2) -> core.TrainState:
    checkpoints = Checkpoints(folder / "checkpoints")
    state = checkpoints.restore(templates(row, seeds)[0], "handover")
    checkpoints.close()
    return state


def last_state(folder, row: Recipe = ROW, seeds: int = 2) -> Online:
    """Return the newest checkpoint, which must be from the online phase."""
    template = templates(row, seeds)[1]
    checkpoints = Checkpoints(folder / "checkpoints")
    about = checkpoints.record()
    assert about["phase"] == "online"
    ring = jax.tree.map(lambda x: x[:, : about["step"]], template.storage.ring)
    found = checkpoints.restore(template.replace(storage=template.storage._replace(ring=ring)))
    checkpoints.close()
    return found


def contents(folder) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def assert_goes_on_as_uninterrupted(folder, finished):
    """Assert that rows, states, replay and counters are bit-for-bit equal; clocks may differ."""
    assert_same(kept_handover(folder), kept_handover(finished.folder))
    assert_same(last_state(folder), last_state(finished.folder))
    mine, whole = (table(f / "evaluations.csv") for f in (folder, finished.folder))
    assert [{**row, "wall_s": ""} for row in mine] == [{**row, "wall_s": ""} for row in whole]
    names = ("metrics.csv", "summary.json")
    assert [(folder / n).read_text() for n in names] == [
        (finished.folder / n).read_text() for n in names
    ]
    timing, whole = (json.loads((f / "timing.json").read_text()) for f in (folder, finished.folder))
    for name in ("updates", "env_steps"):
        assert timing[name] == whole[name]
