"""The report: how runs are found and pooled, and the page in a real browser."""

import base64
import csv
import io
import json
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from enoto_jax.cli import command, report
from enoto_jax.cli.command import define_only
from enoto_jax.report import figures, page, tables
from enoto_jax.report.runs import find
from enoto_jax.runs.files import EVALUATION_COLUMNS, METRIC_COLUMNS, CsvLog, read_csv
from enoto_jax.types import InputError
from tests.browser import chromium, requests, size
from tests.helpers import ROOT
from tests.report.test_curves import rows as evaluations

DAMAGED, COPY = "c/damaged", "c/copy"
TASKS = ("hopper-medium-v2", "walker2d-medium", "ant-medium")


def make(
    folder,
    method,
    task,
    seeds,
    target=None,
    online=3000,
    summary=True,
    restore=None,
    shift=0,
    score=True,
):
    rng = np.random.default_rng(sum(seeds) + shift)
    offline = {
        "algorithm": {"unit": "edac" if method == "edac" else "cql", "hidden": [8, 8]},
        "steps": 2000,
    }
    unit = method if method in ("cql", "edac") else "sac"
    algorithm = {"unit": unit} | ({"target": {"unit": target}} if target else {})
    config = {
        "method": method,
        "task": task,
        "env": "Reach-v0",
        "seeds": list(seeds),
        "eval_episodes": 2,
        "restore": restore,
        "recipe": {"offline": offline, "online": {"algorithm": algorithm, "steps": 3000}},
        "versions": {"jax": "0.0"},
        "device": "1 x cpu",
        "git_commit": "0123abc",
        "package_version": "9.8",
        "command": f"enoto train --method={method} --task={task}",
    }
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "timing.json").write_text(json.dumps({"compile_s": 3.5, "updates_per_s": 41.25}))
    if summary:
        (folder / "summary.json").write_text("{}")
    phases = [("offline", range(1000, 2001, 1000))] if restore is None else []
    rows = [
        {
            "phase": phase,
            "step": step,
            "env_steps": step * (phase == "online"),
            "seed": seed,
            "return_mean": 1.0,
            "return_std": 0.0,
            "score": 40 + shift + rng.normal() if score else None,
            "episodes": 2,
            "wall_s": 1.0,
        }
        for phase, steps in [*phases, ("online", range(0, online + 1, 1000))]
        for step in steps
        for seed in seeds
    ]
    CsvLog(folder / "evaluations.csv", EVALUATION_COLUMNS).append(rows)
    metrics = [
        {"step": step, "seed": seed, "name": f"online/{name}", "value": step + seed}
        for name in ("critic/loss", "data/q_mean")
        for step in (0, 1000)
        for seed in seeds
    ]
    CsvLog(folder / "metrics.csv", METRIC_COLUMNS).append(metrics)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four tasks (one without scores), seeds in several folders, and every kind of bad folder."""
    top = tmp_path_factory.mktemp("runs")
    for shift, task in enumerate(TASKS):
        make(top / task / "cql-a", "cql", task, (0, 1, 3, 4), shift=shift)
        make(top / task / "cql-b", "cql", task, (2,), shift=shift)
        make(top / task / "enoto", "enoto_cql", task, range(5), shift=10 + shift)
        path = Path("elsewhere") / "cql-a"  # as if the runs had moved together
        make(top / task / "min", "to_sac", task, (0, 1), restore=str(path), shift=5)
        make(top / task / "rem", "to_sac", task, (0, 1), target="rem", restore=str(path), shift=5)
    make(top / "raw", "cql", "reach", (0, 1), score=False)
    make(top / "c/stopped", "edac", "walker2d-medium", (0,), online=1000, summary=False)
    shutil.copytree(top / "walker2d-medium/enoto", top / "c" / "copy")
    make(top / DAMAGED, "iql", "walker2d-medium", (0,))
    (top / DAMAGED / "evaluations.csv").write_text("phase,step\noffline,x\n")
    return top


def run(*arguments):
    define_only(report)
    return command.execute(report.main, ["report", *map(str, arguments)], positional="runs")


@pytest.fixture(scope="module")
def out(folder, tmp_path_factory):
    where = tmp_path_factory.mktemp("page")
    lines = ["task,method,env_steps,score", "hopper-medium,PEX,0,40", "hopper-medium,PEX,3000,50"]
    (where / "published.csv").write_text("\n".join([*lines, ""]))
    arguments = [folder, "--out", where / "report.html", "--published", where / "published.csv"]
    assert run(*arguments) == command.DONE
    assert not list(where.glob("*.part*"))
    return where / "report.html"


def test_runs_are_found_named_and_pooled(folder):
    runs, problems = find([folder])
    counts = Counter((run.row, run.task.split("-")[0]) for run in runs)
    rows = {"cql": 2, "enoto_cql": 1, "to_sac": 1, "to_sac · target=rem": 1}
    tasks = ("hopper", "walker2d", "ant")
    expected = {(row, task): n for row, n in rows.items() for task in tasks}
    assert counts == expected | {("edac (unfinished)", "walker2d"): 1, ("cql", "reach"): 1}
    assert [run.folder for run in runs] == sorted(run.folder for run in runs)
    restored = next(run for run in runs if run.row == "to_sac")
    assert {row["phase"] for row in restored.rows} == {"offline", "online"}
    assert len(problems) == 2
    assert any(DAMAGED in line for line in problems)
    assert any("the same method, task and seed (0, 1, 2, 3, 4)" in line for line in problems)


def test_an_offline_run_that_others_went_on_from_is_no_row_of_its_own(tmp_path):
    make(tmp_path / "off", "cql", "reach", (0, 1), online=0)
    make(tmp_path / "on", "to_sac", "reach", (0, 1), restore=str(tmp_path / "off"))
    assert [run.row for run in find([tmp_path])[0]] == ["to_sac"]


def test_a_recipe_without_a_name_is_a_row_too(tmp_path):
    make(tmp_path / "mine", "cql", "reach", (0,))
    path = tmp_path / "mine" / "config.json"
    config = json.loads(path.read_text())
    del config["method"]
    path.write_text(json.dumps(config))
    found, problems = find([tmp_path])
    assert [run.row for run in found] == ["own"] and not problems


def test_tasks_are_told_apart_by_their_data(tmp_path):
    """A run without data belongs to the same task as runs with data."""

    def tasks(**hashes):
        for name, value in hashes.items():
            path = tmp_path / name / "config.json"
            if not path.exists():
                make(path.parent, name, "reach", (0,))
            path.write_text(json.dumps(json.loads(path.read_text()) | {"data_hash": value}))
        return [run.task for run in find([tmp_path])[0]]

    assert tasks(a="sha256:12", b=None, c="sha256:12") == ["reach"] * 3
    assert tasks(c="sha256:34") == ["reach (12)", "reach", "reach (34)"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nowhere"], "nowhere: is not a folder"),
        ([], "no folder given"),
        (["."], "no run that can be read"),
    ],
)
def test_bad_input_is_one_line(arguments, line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == command.BAD_INPUT
    error = capsys.readouterr().err
    assert line in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_published_file_of_another_kind_is_refused(folder, tmp_path, capsys):
    (tmp_path / "p.csv").write_text("task,score\nreach,1\n")
    assert run(folder, f"--published={tmp_path / 'p.csv'}") == command.BAD_INPUT
    assert "--published" in capsys.readouterr().err


def test_published_curves_of_a_task_with_its_version(folder, tmp_path, capsys):
    rows = ["task,method,env_steps,score", "hopper-medium-v2,PEX,0,40", "nowhere,PEX,0,40"]
    (tmp_path / "p.csv").write_text("\n".join([*rows, "hopper-medium-v2,PEX,3000,50"]))
    over = report.published(str(tmp_path / "p.csv"))
    assert over["hopper-medium-v2"] == {"PEX (published)": [(0.0, 40.0), (3000.0, 50.0)]}
    text = page.build(find([folder])[0], [], over)
    assert "PEX (published)" in text
    assert "published curves of nowhere are not drawn: no run has this task" in text
    (tmp_path / "p.csv").write_text("\n".join([*rows, "hopper-medium-v2,PEX,3,000,50"]))
    assert run(folder, f"--published={tmp_path / 'p.csv'}") == command.BAD_INPUT
    assert "line 4: not as many cells as the header" in capsys.readouterr().err


def test_a_phase_that_ends_before_it_is_evaluated_elsewhere_is_not_drawn():
    tasks = [evaluations(0, [0.0, 1.0, 2.0], [], every) for every in (500, 20_000)]
    found = {"a": [[row for row in rows if row["step"]] for rows in tasks]}
    assert figures.aggregated(found, {"a": figures.look(0)})["data"] == []


def test_the_page_holds_what_was_read_and_loads_nothing(out):
    text = out.read_text()
    assert "<script src" not in text and '<link rel="stylesheet' not in text
    for word in (
        "PEX (published)",
        "probability of improvement",
        "enoto_jax 9.8; git commit 0123abc",
        "enoto train --method=cql --task=ant-medium",
        "not distinguishable (2 seeds; 5 are needed to tell)",
        "on the same rows at every evaluation",
        "t interval",
        DAMAGED,
        "edac (unfinished)",
    ):
        assert word.lower() in text.lower(), word


def test_figures_are_what_plotly_knows(folder):
    graph_objects = pytest.importorskip("plotly.graph_objects")
    runs, _ = find([folder])
    text = page.build(runs)
    shown = json.loads(text.split('id="figures" type="application/json">')[1].split("</script>")[0])
    drawn = {"aggregated", "intervals", "profiles"}
    assert set(shown) == {"task-0", "task-1", "task-2", "task-3"} | drawn
    quantities = json.loads(text.split('id="training" type="application/json">')[1].split("</s")[0])
    assert set(quantities) == {"training-0", "training-1", "training-2", "training-3"}
    assert list(quantities["training-0"]) == ["data/q_mean", "critic/loss"]
    kinds = [t["meta"] for t in shown["task-0"]["data"] if t["legendgroup"] == "enoto_cql"]
    assert kinds.count("band") == 2 and kinds.count("seed") == 10  # two phases
    kinds = [t["meta"] for t in shown["task-0"]["data"] if t["legendgroup"] == "to_sac"]
    assert "band" not in kinds and kinds.count("seed") == 4
    for figure in [*shown.values(), *quantities["training-0"].values()]:
        graph_objects.Figure(figure)  # fails on unknown properties


def test_raw_returns_and_scores_are_in_tables_of_their_own(folder):
    text = page.build(find([folder])[0])
    parts = {part.partition("</h2>")[0]: part for part in text.split("<section><h2>")}
    assert "ant-medium" in parts["Scores"] and "reach" not in parts["Scores"]
    assert "reach" in parts["Raw returns"] and "ant-medium" not in parts["Raw returns"]
    assert "regret" not in parts["Around the hand-over, and after: raw returns"].lower()


def test_fewer_than_three_tasks_are_no_aggregate(folder):
    runs = [run for run in find([folder])[0] if run.task in TASKS[:2]]
    text = page.build(runs)
    assert "Nothing to aggregate: that needs 3 tasks" in text
    assert '"aggregated"' not in text and "Probability of improvement" not in text


def test_probabilities_are_of_rows_with_five_seeds(folder):
    text = page.build(find([folder])[0])
    table = text.split("Probability of improvement, %")[1].split("</table>")[0]
    assert "enoto_" in table and "to_<wbr>sac" not in table


def test_damaged_losses_are_left_out_and_named(folder, tmp_path):
    make(tmp_path / "a", "cql", "reach", (0,))
    (tmp_path / "a/metrics.csv").write_text("step,seed,name,value\n1,0,online/critic/loss,x\n")
    text = page.build(find([tmp_path])[0])
    assert "losses left out" in text and "line 2: could not convert" in text


def test_regret_is_what_an_expert_would_have_had_more(folder):
    runs = [run for run in find([folder])[0] if run.row == "enoto_cql"][:1]
    found = tables.summary(runs[0].task, "enoto_cql", runs, runs)["values"]
    assert found["regret"]["mean"] == pytest.approx(100 - found["area"]["mean"])
    assert found["regret"]["low"] == pytest.approx(100 - found["area"]["high"])


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile") / "new") as driver:
        yield driver


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_in_a_browser(browser, out, folder, width):
    browser.get("about:blank")
    requests(browser)  # discard those of the browser's start page
    size(browser, width)
    browser.get(out.as_uri())
    ask = browser.execute_script
    assert ask("return document.body.dataset.drawn") == "yes"
    assert browser.get_log("browser") == []
    assert {url.partition(":")[0] for url in requests(browser)} <= {"file", "data", "blob"}
    assert ask("return document.documentElement.scrollWidth <= innerWidth")

    shown = "return [...document.querySelectorAll('.plot .scatterlayer .js-line')].filter(p => p.getAttribute('d')).length"
    assert ask("return document.querySelectorAll('.plot svg.main-svg').length") >= 5
    assert ask("return document.querySelectorAll('#task-0 .annotation-text').length") == 1
    before = ask(shown)
    assert before > 20
    box = browser.find_element("css selector", "#legend input[value='enoto_cql']")
    box.send_keys(" ")  # with the keyboard
    visible = "return document.getElementById('task-0').data.filter(t => t.legendgroup === 'enoto_cql' && t.visible !== false).length"
    assert ask(visible) == 0 and ask(shown) < before
    box.click()
    assert ask(visible) > 0 and ask(shown) == before

    link = browser.find_element("css selector", "a[download='evaluations.csv']")
    text = base64.b64decode(link.get_attribute("href").partition("base64,")[2]).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    mine = [row for row in rows if row["row"] == "enoto_cql" and row["task"] == "walker2d-medium"]
    wanted = read_csv(folder / "walker2d-medium/enoto/evaluations.csv")
    assert [float(row["score"]) for row in mine] == [float(row["score"]) for row in wanted]

    if width < 600:
        ask("document.querySelector('.sortable').scrollIntoView()")
        seen = """return [...document.querySelectorAll('.sortable')[0].rows[1].cells].map(cell => {
            const box = cell.getBoundingClientRect();
            return box.width > 0 && box.left >= 0 && box.right <= innerWidth; })"""
        assert ask(seen)[0] and sum(ask(seen)[3:]) >= 3  # the method's name and three results
    legend = browser.find_element("css selector", "#legend")
    assert ask("return arguments[0].scrollHeight <= arguments[0].clientHeight + 1", legend)
    pick = browser.find_element("css selector", "select[data-id=training-0]")
    first = ask("return document.getElementById('training-0').data[0].y")
    pick.send_keys("critic/loss")
    assert ask("return document.querySelector('select').value") == "critic/loss"
    assert (
        ask("return document.getElementById('training-0').layout.yaxis.title.text") == "critic/loss"
    )
    assert first

    final = "return [...document.querySelectorAll('.sortable')][0].rows[1].cells[3].dataset.value"
    ask("document.querySelectorAll('.sortable thead th')[3].querySelector('button').click()")
    lowest = float(ask(final))
    ask("document.querySelectorAll('.sortable thead th')[3].querySelector('button').click()")
    assert float(ask(final)) > lowest


def test_without_its_extra_it_says_so(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(InputError, match=r"extra \[report\]"):
        page.build(find([folder])[0])


def test_the_command_of_the_page_on_results(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder, "runs")
    (tmp_path / "published.csv").write_text("task,method,env_steps,score\n")
    lines = (ROOT / "docs/report.md").read_text().split("```sh\n")[1].split("```")[0].splitlines()
    for line in lines:
        program = line.split()
        assert program[:2] == ["enoto", "report"]
        assert run(*program[2:]) == command.DONE
    assert (tmp_path / "report.html").exists()
