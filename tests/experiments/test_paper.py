"""The paper's figures: their cells share runs, resume, and are drawn."""

import copy
import csv
import re
import shutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from PIL import Image

from enoto_jax.cli import command, plans, train
from enoto_jax.cli.command import define_only
from enoto_jax.data.write import write_d4rl
from enoto_jax.report import curves
from enoto_jax.runs.files import read_csv
from enoto_jax.training import offline, online
from enoto_jax.types import InputError
from experiments.paper import draw, fig1, grid
from tests.helpers import ROOT, parse_shell, quick_compiling, reach_source

TINY = (
    "--preset=smoke",
    "--set=algorithm.hidden=8,8",
    "--batch_size=8",
    "--offline_steps=10",
    "--online_steps=8",
    "--warmup=2",
    "--eval_every=4",
    "--eval_episodes=1",
    "--seeds=2",
)
SCRIPTS = ("fig1", "fig2", "fig3", "fig4", "fig5", "fig6", "appendix")
PICTURES = (
    "fig1a",
    "fig1b",
    "fig1c",
    "fig2",
    "fig3",
    "fig4",
    "fig5",
    "fig6",
    "appendix_pair",
    "appendix_critics",
    "appendix_lapo",
)
PUBLISHED = "task,method,env_steps,score\nreach,ENOTO-CQL,4,-9.0\nreach,ENOTO-CQL,9000,-1.0\n"


def call(script: str, *arguments: str) -> int:
    program = import_module(f"experiments.paper.{script}")
    define_only(program)
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


@pytest.fixture(scope="module", autouse=True)
def smaller():
    """Reduce figure 1 to one line and one of the measured offline phases."""
    cells, offline_only = fig1.CELLS[1:2], fig1.OFFLINE[1:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fig1, "OFFLINE", offline_only)
        figure = fig1.FIGURE._replace(cells=cells, offline_only=offline_only)
        patch.setattr(fig1, "FIGURE", figure)
        yield


@pytest.fixture(scope="module")
def out(task, tmp_path_factory) -> Path:
    """The folder of figure 1, made from the data set."""
    out = tmp_path_factory.mktemp("figures")
    assert call("fig1", *TINY, f"--task={task}", f"--out={out}") == command.DONE
    return out


@pytest.fixture(scope="module")
def everything(out, tmp_path_factory) -> Path:
    """A folder in which one run stands in for every cell of every figure."""
    every = tmp_path_factory.mktemp("every")
    shutil.copytree(out / "reach", every / "reach")
    for figure in figures():
        for cell in figure.cells:
            if not (every / "reach" / cell.name).exists():
                shutil.copytree(out / "reach" / "cql_to_sac", every / "reach" / cell.name)
    return every


# Before the fixtures reduce it.
FIG1 = fig1.FIGURE


def figures() -> list[grid.Figure]:
    found = [FIG1]
    for script in SCRIPTS:
        program = import_module(f"experiments.paper.{script}")
        define_only(program)
        flags.FLAGS([script])
        if script == "appendix":
            found += program.figures().values()
        elif hasattr(program, "FIGURE"):
            found += [program.FIGURE] if script != "fig1" else []
        else:
            found.append(grid.Figure(script, (), grid.rows(), draw.scores))
    return found


def training_begins(*arguments):
    raise AssertionError("something is trained")


def test_from_the_data_set_to_the_pictures(out):
    folders = {path.name for path in (out / "reach").iterdir() if path.is_dir()}
    assert folders == {"off_cql", "cql_to_sac"}
    assert {path.name for path in out.glob("*.png")} == {"fig1a.png", "fig1b.png", "fig1c.png"}
    curves = draw.metric_curves([out / "reach" / "cql_to_sac"], "online/data/q_mean")
    assert [x.tolist() for x, _ in curves] == [[0, 4, 8]] * 2
    with open(out / "reach" / fig1.DISTANCES, newline="") as file:
        rows = list(csv.DictReader(file))
    counts = {}
    for row in rows:
        key = (row["policy"], row["seed"])
        counts[key] = counts.get(key, 0) + int(row["rows"])
    assert counts == dict.fromkeys([("CQL", "0"), ("CQL", "1"), ("random", "0")], 200)


def test_the_commands_of_the_page(out, everything, task, monkeypatch, capsys):
    """Figure 1's command runs a second time here and trains nothing again."""
    monkeypatch.setattr(offline, "compile_blocks", training_begins)
    monkeypatch.setattr(online, "compile_step", training_begins)
    monkeypatch.chdir(everything)
    before = (out / "reach" / "cql_to_sac" / "summary.json").stat().st_mtime_ns
    page = (ROOT / "docs" / "figures.md").read_text()
    called = []
    for line in "".join(re.findall(r"```sh\n(.*?)```", page, re.DOTALL)).splitlines():
        name, positional, arguments = parse_shell(line)
        place = everything if "--draw_only" in arguments else out
        arguments = [
            a.replace("runs/paper", str(place)).replace("pendulum-replay", "reach")
            for a in arguments
        ]
        if "--budget=smoke" in arguments:
            arguments += TINY
        if name == train.__name__:  # resolved only
            arguments = [a.replace("off_enoto_cql", "off_cql") for a in arguments] + ["--dry_run"]
        arguments += [f"--task={task}"] if not name.endswith("render") else []
        define_only(program := import_module(name))
        code = command.execute(program.main, [name, *arguments], positional=positional)
        assert code == command.DONE, (line, capsys.readouterr().err)
        called.append(name.split(".")[-1])
    assert called == ["fig1", "fig3", "train", "render"]
    assert (everything / "film.gif").stat().st_size > 1_000
    assert (out / "reach" / "cql_to_sac" / "summary.json").stat().st_mtime_ns == before
    # A different budget in the same folders is refused.
    assert call("fig1", *TINY, "--batch_size=4", f"--task={task}", f"--out={out}") == 2
    assert "holds another run" in capsys.readouterr().err


def test_every_figure_is_drawn_from_what_is_there(everything, task, monkeypatch, capsys):
    monkeypatch.setattr(grid, "_train", training_begins)
    published = everything / "published.csv"
    published.write_text(PUBLISHED)
    legends, plain = {}, curves.finish

    def finish(figure, title, handles, path):
        legends[path.stem] = [handle.get_label() for handle in handles]
        return plain(figure, title, handles, path)

    monkeypatch.setattr(curves, "finish", finish)
    for script in SCRIPTS:
        code = call(
            script,
            "--draw_only",
            f"--task={task}",
            f"--out={everything}",
            f"--published={published}",
        )
        assert code == command.DONE, script
    assert tuple(legends) == PICTURES
    for name in PICTURES:
        with Image.open(everything / f"{name}.png") as picture:
            assert len(np.unique(np.asarray(picture.convert("L")))) > 50, name
    targets = ["MinQ", "MeanQ", "REM", "RandomMinPair", "WeightedMinPair"]
    assert legends["fig3"] == [*targets, "each seed, n = 2"]
    assert legends["fig1c"] == ["CQL", "random"]
    assert legends["fig5"][-2:] == ["ENOTO-CQL (published)", "each seed, n = 2"]


def test_what_is_not_there_is_named_and_left_out(out, tmp_path, task, capsys):
    assert call("fig2", "--draw_only", f"--task={task}", f"--out={tmp_path}") == command.BAD_INPUT
    assert "no run of this figure" in capsys.readouterr().err
    shutil.copytree(out / "reach" / "cql_to_sac", tmp_path / "reach" / "enoto_cql")
    shutil.copytree(out / "reach" / "off_cql", tmp_path / "reach" / "enoto_cql-oac")
    cut = tmp_path / "reach" / "enoto_cql-oac" / "evaluations.csv"  # a run that has just started
    cut.write_text(cut.read_text().split("\n")[0] + "\n")
    assert call("fig4", "--draw_only", f"--task={task}", f"--out={tmp_path}") == command.DONE
    said = capsys.readouterr().err
    assert "enoto_cql-bootstrapped, enoto_cql-oac" in said and "enoto_cql," not in said


def test_cells_that_share_a_folder_are_the_same_run(task):
    """Every run that starts from an offline phase also has that phase in its recipe."""
    recipes, phases = {}, {}
    for figure in figures():
        for arguments in grid.runs(figure, str(task), Path("out")):
            given = flags.FlagValues()
            for flag in flags.FLAGS.get_flags_for_module(train.__name__):
                given[flag.name] = _fresh(flag)
            given(["train", *arguments, *TINY[:1]])
            restore, given.restore = given.restore, None
            plan = plans.resolve(given, train.PATHS, arguments)
            assert recipes.setdefault(given.out, plan.recipe) == plan.recipe, given.out
            phase = (plan.recipe.offline, plan.recipe.transform)
            if restore is None:
                phases[given.out] = phase
            else:
                assert phases[restore] == phase, given.out
    assert len(recipes) > 35


def _fresh(flag):
    flag = copy.deepcopy(flag)
    flag.unparse()
    return flag


@pytest.mark.parametrize(
    "wrong, said",
    [("--method=sac", "--method"), ("--restore=x", "--restore"), ("--budget=hour", "--budget")],
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
    with pytest.raises(InputError, match="does not name a data set"):
        grid.folder_name("")


def test_seeds_that_were_trained_one_by_one(out, tmp_path):
    """Folders per seed belong to the cell; similar names and runs without a curve do not."""
    place = tmp_path / "reach"
    for seed in (0, 1):
        place.joinpath(f"cql_to_sac-s{seed}").mkdir(parents=True)
        for file in ("evaluations.csv", "metrics.csv"):
            rows = read_csv(out / "reach" / "cql_to_sac" / file)
            with open(place / f"cql_to_sac-s{seed}" / file, "w", newline="") as new:
                table = csv.DictWriter(new, list(rows[0]))
                table.writeheader()
                table.writerows(row for row in rows if row["seed"] == str(seed))
    shutil.copytree(place / "cql_to_sac-s0", place / "cql_to_sac-sunrise")
    place.joinpath("cql_to_sac-s2").mkdir()
    arguments = ("--draw_only", f"--out={tmp_path}", "--task=reach")
    assert call("fig1", *arguments) == 0
    assert {path.name for path in tmp_path.glob("*.png")} == {"fig1a.png", "fig1b.png"}
    runs = [place / f"cql_to_sac-s{seed}" for seed in (0, 1)]
    whole = [out / "reach" / "cql_to_sac"]
    column = "return_mean"
    np.testing.assert_equal(draw.score_curves(runs, column), draw.score_curves(whole, column))
    quantity = "online/data/q_mean"
    np.testing.assert_equal(draw.metric_curves(runs, quantity), draw.metric_curves(whole, quantity))


def test_scores_are_not_drawn_where_a_run_has_returns_only(tmp_path, monkeypatch):
    head = "phase,step,env_steps,seed,return_mean,return_std,score,episodes,wall_s\n"
    for task, score in (("a", "7.0"), ("b", "")):
        (tmp_path / task).mkdir()
        line = f"online,0,0,0,500.0,1.0,{score},1,1.0\n"
        (tmp_path / task / "evaluations.csv").write_text(head + line)
    drawn = {}
    monkeypatch.setattr(draw, "panels", lambda tasks, path, word: drawn.update(tasks, word=word))
    draw.scores({task: {"x": [tmp_path / task]} for task in "ab"}, tmp_path / "x.png")
    assert drawn["word"] == "return"
    assert [drawn[task]["x"][0][1].tolist() for task in "ab"] == [[500.0]] * 2


def test_a_seed_in_two_folders_is_refused(tmp_path):
    for name, seeds in {"cql": (0, 1), "cql-s1": (1,)}.items():
        (tmp_path / name).mkdir()
        rows = "".join(f"online,0,{seed}\n" for seed in seeds)
        (tmp_path / name / "evaluations.csv").write_text(f"phase,step,seed\n{rows}")
    with pytest.raises(InputError, match="cql-s1: seed 1 of cql is in another folder already"):
        grid.seeds_of(tmp_path / "cql")


def test_an_aggregate_is_the_mean_over_tasks(tmp_path, monkeypatch):
    """The mean is taken per seed; tasks that lack a line are left out."""
    curves = {
        ("a", "x"): [([0, 2], [0.0, 10.0]), ([0, 2], [4.0, 4.0])],
        ("b", "x"): [([0, 1, 2], [2.0, 2.0, 2.0]), ([0, 2], [0.0, 2.0])],
        ("c", "x"): [([0, 2], [99.0, 99.0])],
        ("d", "x"): [([0, 2], [2.0, 3.0]), ([0, 2], [1.0, 6.0])],
        ("d", "y"): [([0, 2], [2.0, 2.0])] * 2,
        ("a", "y"): [([0, 2], [1.0, 1.0])] * 2,
        ("b", "y"): [([0, 2], [3.0, 3.0])] * 2,
    }
    folders = {}
    for task, label in curves:
        folders.setdefault(task, {})[label] = Path(task, label)
    read = {Path(*key): [(np.array(x), np.array(y)) for x, y in own] for key, own in curves.items()}
    order = {("d", "x"): (1, 0)}  # the second run in the list has seed 0
    seeds = {Path(*key): order.get(key, (0, 1)) for key in curves}
    monkeypatch.setattr(draw, "score_curves", lambda run, _: dict(zip(seeds[run], read[run])))
    monkeypatch.setattr(draw, "_column", lambda folders: "score")
    drawn = {}
    monkeypatch.setattr(draw, "panels", lambda tasks, path, word: drawn.update(tasks) or path)
    draw.aggregate(folders, tmp_path / "x.png")
    ((title, lines),) = drawn.items()
    assert title == "mean over 3 tasks" and list(lines) == ["x", "y"]
    assert [(x.tolist(), y.tolist()) for x, y in lines["x"]] == [
        ([0, 1, 2], [1.0, 3.5, 6.0]),
        ([0, 1, 2], [2.0, 2.5, 3.0]),
    ]
