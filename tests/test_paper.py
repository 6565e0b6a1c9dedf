"""The paper's figures: their cells share runs, go on where they were, and are drawn."""

import copy
import csv
import re
import shlex
import shutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from PIL import Image

from enoto_jax import plot
from enoto_jax.data.write import write_d4rl
from enoto_jax.train import offline, online
from experiments import command, train
from experiments.paper import draw, fig1, grid
from tests.helpers import ROOT, define_flags, quick_compiling, reach_source

TINY = (
    "--preset=smoke", "--set=algorithm.hidden=8,8", "--batch_size=8", "--offline_steps=10",
    "--online_steps=8", "--warmup=2", "--eval_every=4", "--eval_episodes=1", "--seeds=2",
)  # fmt: skip
SCRIPTS = ("fig1", "fig2", "fig3", "fig4", "fig5", "fig6", "appendix")
PICTURES = (
    "fig1a", "fig1b", "fig1c", "fig2", "fig3", "fig4", "fig5", "fig6", "appendix_pair",
    "appendix_critics", "appendix_lapo",
)  # fmt: skip
PUBLISHED = "task,method,env_steps,score\nreach,ENOTO-CQL,4,-9.0\nreach,ENOTO-CQL,9000,-1.0\n"


def call(script: str, *arguments: str) -> int:
    program = import_module(f"experiments.paper.{script}")
    define_flags(program)
    return command.execute(program.main, [script, *map(str, arguments)])


@pytest.fixture(scope="module", autouse=True)
def quick(tmp_path_factory):
    with quick_compiling(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(scope="module")
def task(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "reach.hdf5"
    write_d4rl(path, reach_source().load().transitions, {"env_id": "ReachDrawn-v0"})
    return path


@pytest.fixture(scope="module")
def out(task, tmp_path_factory) -> Path:
    """Figure 1 from the data set on, one of its lines: two offline phases, one online phase."""
    out = tmp_path_factory.mktemp("figures")
    line = fig1.FIGURE._replace(cells=[c for c in fig1.CELLS if c.row == "cql_to_sac"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fig1, "FIGURE", line)
        assert call("fig1", *TINY, f"--task={task}", f"--out={out}") == command.DONE
    return out


@pytest.fixture(scope="module")
def everything(out, tmp_path_factory) -> Path:
    """What the first line's run has written, as if it were every cell's of every figure."""
    every = tmp_path_factory.mktemp("every")
    shutil.copytree(out / "reach", every / "reach")
    for figure in figures():
        for cell in figure.cells:
            if not (every / "reach" / cell.name).exists():
                shutil.copytree(out / "reach" / "cql_to_sac", every / "reach" / cell.name)
    return every


def figures() -> list[grid.Figure]:
    found = []
    for script in SCRIPTS:
        program = import_module(f"experiments.paper.{script}")
        define_flags(program)
        flags.FLAGS([script])
        if script == "appendix":
            found += program.figures().values()
        elif hasattr(program, "FIGURE"):
            found.append(program.FIGURE)
        else:
            found.append(grid.Figure(script, (), grid.rows(), draw.scores))
    return found


def training_begins(*arguments):
    raise AssertionError("something is trained")


def test_from_the_data_set_to_the_pictures(out):
    folders = {path.name for path in (out / "reach").iterdir() if path.is_dir()}
    assert folders == {"off_sac_n", "off_cql", "cql_to_sac"}
    assert {path.name for path in out.glob("*.png")} == {"fig1a.png", "fig1b.png", "fig1c.png"}
    curves = draw.metric_curves(out / "reach" / "cql_to_sac", "online/data/q_mean")
    assert [x.tolist() for x, _ in curves] == [[0, 4, 8]] * 2
    with open(out / "reach" / fig1.DISTANCES, newline="") as file:
        rows = list(csv.DictReader(file))
    counts = {}
    for row in rows:
        key = (row["policy"], row["seed"])
        counts[key] = counts.get(key, 0) + int(row["rows"])
    both = {(name, seed): 200 for name in ("SAC-N", "CQL") for seed in "01"}
    assert counts == {**both, ("random", "0"): 200}


def test_the_same_command_goes_on_and_trains_nothing_twice(out, task, monkeypatch, capsys):
    monkeypatch.setattr(offline, "compile_blocks", training_begins)
    monkeypatch.setattr(online, "compile_step", training_begins)
    monkeypatch.setattr(fig1, "FIGURE", fig1.FIGURE._replace(cells=fig1.CELLS[1:2]))
    before = (out / "reach" / "cql_to_sac" / "summary.json").stat().st_mtime_ns
    assert call("fig1", *TINY, f"--task={task}", f"--out={out}") == command.DONE
    assert (out / "reach" / "cql_to_sac" / "summary.json").stat().st_mtime_ns == before
    assert capsys.readouterr().out.splitlines()[-1] == str(out / "fig1c.png")
    # Another budget in the same folders is refused, not mixed in.
    again = [*TINY, "--online_steps=4", f"--task={task}", f"--out={out}"]
    assert call("fig1", *again) == command.BAD_INPUT
    assert "holds another run" in capsys.readouterr().err


def test_the_commands_of_the_page(everything, task, monkeypatch, capsys):
    """On the runs that are there already, and where a run is to begin, as far as its beginning."""
    monkeypatch.setattr(offline, "compile_blocks", training_begins)
    monkeypatch.setattr(online, "compile_step", training_begins)
    monkeypatch.setattr(fig1, "FIGURE", fig1.FIGURE._replace(cells=fig1.CELLS[1:2]))
    page = (ROOT / "docs" / "figures.md").read_text()
    lines = "".join(re.findall(r"```sh\n(.*?)```", page, re.DOTALL)).splitlines()
    called = []
    for line in lines:
        line = line.replace("runs/paper", str(everything)).replace("pendulum-replay", "reach")
        line = line.replace("--task= ", f"--task={task} ").replace("off_enoto_cql", "off_cql")
        _, _, name, *arguments = shlex.split(line)
        program, positional = import_module(name), "run" if name.endswith("render") else None
        if "--preset=smoke" in arguments:
            arguments += TINY
        if name == train.__name__:
            arguments += ["--dry_run", f"--task={task}"]
        define_flags(program)
        monkeypatch.chdir(everything)
        code = command.execute(program.main, [name, *arguments], positional=positional)
        assert code == command.DONE, (line, capsys.readouterr().err)
        called.append(name.split(".")[-1])
    assert called == ["fig1", "fig3", "train", "render"]
    assert (everything / "film.gif").stat().st_size > 1_000


def test_every_figure_is_drawn_from_what_is_there(everything, task, monkeypatch, capsys):
    monkeypatch.setattr(grid, "_train", training_begins)
    published = everything / "published.csv"
    published.write_text(PUBLISHED)
    legends, plain = {}, plot.finish

    def finish(figure, title, handles, path):
        legends[path.stem] = [handle.get_label() for handle in handles]
        return plain(figure, title, handles, path)

    monkeypatch.setattr(plot, "finish", finish)
    for script in SCRIPTS:
        code = call(
            script, "--draw_only", f"--task={task}", f"--out={everything}",
            f"--published={published}",
        )  # fmt: skip
        assert code == command.DONE, script
    assert tuple(legends) == PICTURES
    for name in PICTURES:
        with Image.open(everything / f"{name}.png") as picture:
            assert len(np.unique(np.asarray(picture.convert("L")))) > 50, name
    assert legends["fig3"] == ["MinQ", "MeanQ", "REM", "RandomMinPair", "WeightedMinPair"]
    assert legends["fig1c"] == ["SAC-N", "CQL", "random"]
    assert legends["fig5"][-1] == "ENOTO-CQL (published)"


def test_what_is_not_there_is_named_and_left_out(out, tmp_path, task, capsys):
    assert call("fig2", "--draw_only", f"--task={task}", f"--out={tmp_path}") == command.BAD_INPUT
    assert "no run of this figure" in capsys.readouterr().err
    shutil.copytree(out / "reach" / "cql_to_sac", tmp_path / "reach" / "enoto_cql")
    assert call("fig4", "--draw_only", f"--task={task}", f"--out={tmp_path}") == command.DONE
    said = capsys.readouterr().err
    assert "enoto_cql-bootstrapped, enoto_cql-oac" in said and "enoto_cql," not in said


def test_cells_that_share_a_folder_are_the_same_run(task):
    """And an offline phase is that of every row which starts from it."""
    plans, phases = {}, {}
    for figure in figures():
        for arguments in grid.runs(figure, str(task), Path("out")):
            given = flags.FlagValues()
            for flag in flags.FLAGS.get_flags_for_module(train.__name__):
                given[flag.name] = _fresh(flag)
            given(["train", *arguments, *TINY[:1]])
            restore, given.restore = given.restore, None
            plan = command.resolve(given, train.PATHS, arguments)
            assert plans.setdefault(given.out, plan.recipe) == plan.recipe, given.out
            phase = (plan.recipe.offline, plan.recipe.transform)
            if restore is None:
                phases[given.out] = phase
            else:
                assert phases[restore] == phase, given.out
    assert len(plans) > 35


def _fresh(flag):
    flag = copy.deepcopy(flag)
    flag.unparse()
    return flag


@pytest.mark.parametrize(
    "wrong, said",
    [("--method=sac", "--method"), ("--restore=x", "--restore"), ("--preset=laptop", "--preset")],
)
def test_bad_flags(task, tmp_path, capsys, wrong, said):
    assert call("fig3", wrong, f"--task={task}", f"--out={tmp_path}") == command.BAD_INPUT
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error:") and said in error


def test_tasks_of_a_figure_have_folders_of_their_own():
    assert grid.folder_name("walker2d-medium-expert-v2") == "walker2d-medium-expert-v2"
    assert grid.folder_name("/data/walker2d-medium.hdf5") == "walker2d-medium"
    assert grid.folder_name("minari:mujoco/hopper/medium-v0") == "mujoco-hopper-medium-v0"
    assert grid.folder_name("a.hdf5+b.npz") == "a+b"
    assert grid.folder_name("") == "pendulum-replay"


def test_an_aggregate_is_the_mean_over_tasks(tmp_path, monkeypatch):
    """Seed by seed; a task that lacks a line does not count."""
    curves = {
        ("a", "x"): [([0, 2], [0.0, 10.0]), ([0, 2], [4.0, 4.0])],
        ("b", "x"): [([0, 1, 2], [2.0, 2.0, 2.0]), ([0, 2], [0.0, 2.0])],
        ("c", "x"): [([0, 2], [99.0, 99.0])],
        ("a", "y"): [([0, 2], [1.0, 1.0])] * 2,
        ("b", "y"): [([0, 2], [3.0, 3.0])] * 2,
    }
    folders = {}
    for task, label in curves:
        folders.setdefault(task, {})[label] = Path(task, label)
    read = {Path(*key): [(np.array(x), np.array(y)) for x, y in own] for key, own in curves.items()}
    monkeypatch.setattr(draw, "score_curves", lambda run: ("score", read[run]))
    drawn = {}
    monkeypatch.setattr(draw, "panels", lambda tasks, path, word: drawn.update(tasks) or path)
    draw.aggregate(folders, tmp_path / "x.png")
    ((title, lines),) = drawn.items()
    assert title == "mean over 2 tasks" and list(lines) == ["x", "y"]
    assert [(x.tolist(), y.tolist()) for x, y in lines["x"]] == [
        ([0, 1, 2], [1.0, 3.5, 6.0]), ([0, 1, 2], [2.0, 2.5, 3.0]),
    ]  # fmt: skip
