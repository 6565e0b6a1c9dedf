"""The tables of the study on OGBench's point maze, from runs with known numbers."""

import json

import pytest

from enoto_jax.cli import command
from enoto_jax.cli.command import define_only
from experiments import ogbench

HEADER = "phase,step,env_steps,seed,return_mean,return_std,score,success,episodes,wall_s"
OFFLINE = {"algorithm": {"unit": "fql"}}


@pytest.fixture
def write(tmp_path):
    def write(task, method, success, finished=True, restore=None, method_of=None):
        """Write a run; `success` has a list per seed, for 0, 10 and 20 environment steps."""
        folder = tmp_path / task / method
        folder.mkdir(parents=True)
        lines = [HEADER]
        for seed, values in enumerate(success):
            for step, value in zip((0, 10, 20) if finished else (0, 10), values):
                lines.append(f"online,{step},{step},{seed},-5.0,1.0,,{value},50,1.0")
        (folder / "evaluations.csv").write_text("\n".join(lines) + "\n")
        config = {
            "method": method_of or method,
            "task": f"pointmaze-{task}",
            "env": task,
            "data_hash": f"sha256:{task}",
            "recipe": {"offline": OFFLINE, "online": {"steps": 20}},
            "restore": restore and str(tmp_path / task / restore),
        }
        (folder / "config.json").write_text(json.dumps(config))
        return tmp_path

    return write


def rows(page, *words):
    return [line for line in page.splitlines() if all(word in line for word in words)]


def test_success_of_five_seeds_and_of_two(write):
    root = write("task1", "fql", [[0.0, 0.5, 1.0]] * 4 + [[1.0, 1.0, 1.0]])
    write("task1", "iql", [[0.5, 0.5, 0.5], [0.0, 1.0, 0.0]])
    write("task1", "qc_fql", [[0.0, 0.0, 0.0]], finished=False)
    page = ogbench.page(ogbench.load(root))
    # 20 +- 2.776 * 44.72 / sqrt(5); the areas are 50, 50, 50, 50 and 100
    (line,) = rows(page, "task1", "`fql`")
    assert line == "| task1 | `fql` | 20 [-36, 76] | 100 [100, 100] | 60 [32, 88] |"
    (line,) = rows(page, "task1", "`iql`")
    assert line == ("| task1 | `iql` | 25 (seeds 50, 0) | 25 (seeds 50, 0) | 50 (seeds 50, 50) |")
    assert "Not finished: task1/qc_fql." in page and ogbench.MEAN not in page


def test_differences_are_paired_by_the_hand_over_where_it_is_shared(write):
    for task in ("task1", "task2", "task3"):
        write(task, "enoto_fql", [[0.0, 0.5, 1.0]] * 5)
        write(task, "fql_n10_wmp", [[0.0, 0.5, 0.5]] * 5, restore="enoto_fql")
        root = write(task, "fql", [[0.0, 0.0, 0.1 * seed] for seed in range(5)])
    page = ogbench.page(ogbench.load(root))
    (line,) = rows(page, "task2", "`enoto_fql` - `fql_n10_wmp` | end")
    assert line.endswith("| end | hand-over | +50 [+50, +50] | higher |")
    (line,) = rows(page, ogbench.MEAN, "`enoto_fql` - `fql_n10_wmp` | mean online")
    assert line.endswith("| hand-over | +12 [+12, +12] | higher |")
    (line,) = rows(page, "task3", "`fql_n10_wmp` - `fql` | hand-over")
    assert line.endswith("| +0 [+0, +0] | not distinguishable |")
    (line,) = rows(page, "task1", "`enoto_fql` - `fql` | end")
    assert "| +80 [+60, +100] | higher |" in line  # 100 - 0, 10, ..., 40; 2.776 * 15.8 / sqrt(5)


def test_a_shorter_run_and_another_study_are_not_compared(write):
    root = write("task1", "enoto_fql", [[0.0, 0.5, 1.0]])
    write("task1", "fql", [[0.0, 0.5]])
    write("cube", "fql", [[0.0, 0.5, 1.0]])
    config = root / "task1" / "fql" / "config.json"
    config.write_text(config.read_text().replace('"steps": 20', '"steps": 10'))
    found = ogbench.load(root)
    assert list(found) == ["task1"] and found["task1"]["fql"].finished
    assert not rows(ogbench.page(found), "`enoto_fql` - `fql`")
    for task in ("task2", "task3"):
        write(task, "enoto_fql", [[0.0, 0.5, 1.0]])
        write(task, "fql", [[0.0, 0.5, 0.75]])
    assert not rows(ogbench.page(ogbench.load(root)), "mean of the tasks", "`enoto_fql` - `fql`")


def test_the_command_draws_what_is_finished(write, tmp_path, capsys):
    root = write("task1", "fql", [[0.0, 0.5, 1.0]] * 5)
    write("task2", "fql", [[0.0, 0.5, 1.0]], finished=False)
    define_only(ogbench)
    arguments = ["experiments.ogbench", str(root), f"--figures={tmp_path / 'figures'}"]
    assert command.execute(ogbench.main, arguments, positional="runs") == command.DONE
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["task1.png"]
    assert "| task1 | `fql` |" in capsys.readouterr().out
    define_only(ogbench)
    arguments = ["experiments.ogbench", str(tmp_path / "figures")]
    assert command.execute(ogbench.main, arguments, positional="runs") == command.BAD_INPUT
    assert "contains no runs" in capsys.readouterr().err
