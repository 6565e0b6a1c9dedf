"""The tables of the study of cheaper ensembles, from runs with known numbers."""

import json

import pytest

from enoto_jax.cli import command
from enoto_jax.cli.command import define_only
from enoto_jax.recipes import registry, units
from enoto_jax.recipes.budgets import BUDGETS, with_budget
from enoto_jax.recipes.table import recipe
from enoto_jax.types import InputError
from experiments import cheap

HEADER = "phase,step,env_steps,seed,return_mean,return_std,score,success,episodes,wall_s"
LAPTOP = with_budget(recipe("enoto_cql"), BUDGETS["laptop"])


@pytest.fixture
def write(tmp_path):
    def write(name, offline, online, *, seed=0, width=128, finished=True):
        """Write a run: scores after 10,000, 20,000, ... updates and 0, 2,000, 4,000, ... steps."""
        folder = tmp_path / "halfcheetah-medium" / f"{name}-s{seed}"
        folder.mkdir(parents=True)
        lines = [HEADER]
        for phase, scores, every in (("offline", offline, 10_000), ("online", online, 2_000)):
            for index, score in enumerate(scores, start=phase == "offline"):
                env_steps = 0 if phase == "offline" else index * every
                lines.append(f"{phase},{index * every},{env_steps},{seed},1.0,1.0,{score},,10,1.0")
        (folder / "evaluations.csv").write_text("\n".join(lines) + "\n")
        own = registry.override(LAPTOP, "algorithm.critic_hidden", f"{width},{width}")
        steps = 2_000 * (len(online) - finished)
        own = registry.override(own, "online.steps", str(steps))
        config = {
            "method": "enoto_cql",
            "task": "halfcheetah-medium",
            "env": "HalfCheetah-v4",
            "data_hash": "sha256:1",
            "recipe": units.to_json(own),
            "restore": None,
        }
        (folder / "config.json").write_text(json.dumps(config))
        return folder.parent

    return write


def rows(page, *words):
    return [line for line in page.splitlines() if all(word in line for word in words)]


def test_every_number_of_a_row_and_the_difference_from_its_control(write):
    write("base", [0.0, 46.0, 50.0], [50.0, 44.0, 60.0, 40.0, 70.0])
    write("rows32", [0.0, 0.0, 40.0], [40.0, 42.0, 44.0, 30.0, 50.0], width=126)
    place = write("w94", [0.0, 50.0, 40.0], [38.0, 42.0, 40.0, 30.0, 46.0], width=64)
    found, left = cheap.read(place)
    page = cheap.page(found)
    # The base's drop is 50 - 44, because 40 comes after 5,000 steps. Its area is
    # (50 + 44) / 8 + (44 + 60) / 8 + (60 + 40) / 8 + (40 + 70) / 8 = 51.
    (line,) = rows(page, "`base`", "| base |")
    assert line == "| `base` | base | 1 | 1.00 |  | 20,000 | 1.00 | 50.0 | 6.0 | 51.0 | 70.0 |"
    (line,) = rows(page, "penalty on 32 rows")
    assert line.endswith("| - | - | 40.0 | -2.0 | 40.2 | 50.0 |")
    assert 0.9 < found["rows32"].cost["operations"] < 1.0
    assert 0.2 < found["w94"].cost["operations"] < 0.5
    (line,) = rows(page, "`rows32` - `w94`")
    assert line == "| `rows32` - `w94` | +2.0 | +0.0 | +1.8 | +4.0 |"
    assert not left


def test_five_seeds_have_an_interval_and_fewer_have_every_seed(write):
    for seed in range(5):
        write("base", [50.0], [10.0 * seed, 10.0 * seed, 20.0], seed=seed)
    for seed in range(2):
        place = write("n5", [50.0], [3.0 + seed, 0.0, 20.0 + seed], seed=seed, width=126)
    page = cheap.page(cheap.read(place)[0])
    # 20 +- 2.776 * 15.81 / sqrt(5)
    assert rows(page, "`base`", "| base | 5 |", "| 20.0 [0.4, 39.6] |", "| 20.0 [20.0, 20.0] |")
    assert rows(page, "`n5`", "| 5 critics | 2 |", "| 3.5 (3.0, 4.0) |", "| 20.5 (20.0, 21.0) |")


def test_the_command_draws_names_the_unfinished_and_needs_the_base(write, tmp_path, capsys):
    place = write("learners2", [50.0], [50.0, 60.0, 60.0], width=64)
    with pytest.raises(InputError, match="no finished run base-s0"):
        cheap.read(place)
    write("base", [50.0], [50.0, 60.0, 60.0])
    write("w76", [50.0], [50.0, 60.0], width=64, finished=False)
    rates = [{"lever": "base", "ratio": 1.0}, {"lever": "2 of 10 critics learn", "ratio": 2.5}]
    (tmp_path / "rates.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rates))
    define_only(cheap)
    picture = tmp_path / "levers.png"
    arguments = ["experiments.cheap", str(place), f"--figure={picture}"]
    assert command.execute(cheap.main, arguments, positional="runs") == command.DONE
    out = capsys.readouterr().out
    assert picture.stat().st_size > 10_000 and "Not finished: w76-s0." in out
    assert rows(out, "2 of 10 critics learn", "| 0.40 | 10,000 |")


def test_runs_of_other_lengths_have_no_difference_and_other_settings_no_row(write):
    write("base", [50.0], [50.0, 44.0, 60.0, 40.0])
    place = write("subset2", [50.0], [50.0, 44.0, 60.0], width=126)
    page = cheap.page(cheap.read(place)[0])
    assert rows(page, "`subset2` - `base`") == ["| `subset2` - `base` |  |  |  |  |"]
    write("subset2", [50.0], [50.0, 44.0, 60.0], seed=1, width=64)
    with pytest.raises(InputError, match="subset2-s1: its settings are not those of .*subset2-s0"):
        cheap.read(place)


def test_a_folder_of_another_study_is_refused(write):
    place = write("base", [50.0], [50.0, 60.0])
    (place / "base-s0").rename(place / "w50-s0")
    with pytest.raises(InputError, match="is no row of the study; known: base, learners2"):
        cheap.read(place)
