"""Seconds and counts continue when a run is resumed."""

import json

import pytest

from enoto_jax.runs.timing import Timing
from enoto_jax.types import InputError


def test_a_resumed_run_goes_on_counting():
    first = Timing()
    with first.timed("update") as took:
        assert took() == 0.0
    first.count("updates", 8)
    assert first.totals["update_s"] == took() > 0.0
    second = Timing()
    second.resume(json.loads(json.dumps(first.to_json())), "here")
    second.count("updates", 2)
    with second.timed("update"):
        pass
    assert second.totals["updates"] == 10 and second.wall() > first.to_json()["wall_s"] * 0.5
    summary = second.summary()
    assert summary["updates_per_s"] == 10 / summary["update_s"] > 0
    assert summary["update_s"] > first.totals["update_s"]
    assert summary["env_steps_per_s"] != summary["env_steps_per_s"]  # NaN: not measured


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"wall_s": 1.0},
        {"wall_s": 1.0, "timing": {"update_s": 1.0}},
        {"wall_s": 1.0, "timing": {"save_s": "1"}},
        {"wall_s": None, "timing": {"save_s": 1.0}},
    ],
)
def test_a_record_without_times_is_damaged(found):
    with pytest.raises(InputError, match="^runs/hopper: .* no times; it is damaged$"):
        Timing().resume(found, "runs/hopper")
