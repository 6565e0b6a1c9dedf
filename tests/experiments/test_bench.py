"""The benchmarks measure what they claim to; no test depends on the speed."""

import csv
import json
import subprocess

import jax
import numpy as np
import pytest

from enoto_jax.cli import command
from enoto_jax.cli.command import define_only
from enoto_jax.recipes.building import build
from enoto_jax.training import online
from enoto_jax.training.seeds import SeedMap
from enoto_jax.transforms import transform
from enoto_jax.types import Spec
from experiments.benchmarks import all as whole
from experiments.benchmarks import evaluations, rates, scaling, step_parts, updates
from tests.helpers import quick_compiling

SPEC = Spec(17, 6)
SMALL = ("--set=algorithm.hidden=8,8", "--batch_size=8", "--rounds=2", "--seconds=0.01")


@pytest.fixture(scope="module", autouse=True)
def quick(tmp_path_factory):
    with quick_compiling(tmp_path_factory.mktemp("compiled")):
        yield


def run(program, *arguments) -> int:
    define_only(program)
    return command.execute(program.main, [program.__name__, *SMALL, *arguments])


def test_lines_and_a_roofline(tmp_path, capsys):
    picture = tmp_path / "new" / "roofline.svg"
    flags = ("--method=td3_bc,sac", "--baseline", "--json", f"--picture={picture}")
    assert run(updates, *flags) == command.DONE
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    measured = [("td3_bc", "offline"), ("td3_bc", "online"), ("sac", "online")]
    assert [(x["method"], x["phase"]) for x in lines] == measured
    for line in lines:
        part = line["flop_per_update"] * line["updates_per_s"] / (1e9 * line["matmul_rate"])
        assert 0 < line["fraction_of_matmul_rate"] < 1 and 0 < part < 1
        assert line["times_plain_loop"] > 0 and line["intensity"] > 0
    assert "operations a byte" in picture.read_text() and "offline, float32" in picture.read_text()


def test_rows_whose_batches_are_more_than_transitions(capsys):
    assert run(updates, "--method=cal_ql,br", "--baseline", "--json") == command.DONE
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(x["method"], x["phase"], x["times_plain_loop"] is None) for x in lines] == [
        ("cal_ql", "offline", False),
        ("cal_ql", "online", False),
        ("br", "offline", False),
        ("br", "online", True),
    ]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--method=bc,nope"], "--method: unknown method 'nope'"),
        (["--seeds=two"], "--seeds: invalid literal"),
        (["--set=foo"], "--set: 'foo' is not path=value"),
        (["--set=foo.bar=1"], "no hyper-parameter 'foo.bar'; nearest: "),
        (["--out=a file"], "a file is a file; give a folder"),
    ],
)
def test_what_is_wrong_is_said_before_all_of_them_begin(
    flags, message, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a file").touch()
    assert run(whole, "--method=bc", *flags) == command.BAD_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert [x.name for x in tmp_path.iterdir()] == ["a file"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--picture=roofline.txt"], "no .png, .svg or .pdf file"),
        (["--phase=both"], "choose offline or online"),
        (["--clock=sun"], "value should be one of <wall|cpu>"),
        (["--seeds=two"], "--seeds: invalid literal"),
    ],
)
def test_wrong_flags_are_one_line(flags, message, capsys):
    assert run(updates, "--method=sac", *flags) == command.BAD_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_the_plain_loop_trains(monkeypatch):
    row = _row("td3_bc")
    states = []

    def jit(function):
        def kept(state, *rest):
            states.append(state.step)
            return function(state, *rest)

        return kept

    monkeypatch.setattr(rates.jax, "jit", jit)
    rates.plain_loop(build(row, SPEC).offline, 8, SPEC, rows=50)
    assert [int(step) for step in states] == list(range(rates.BLOCK))


@pytest.mark.parametrize("overlap", [False, True])
def test_the_loop_that_is_measured_is_the_loop(overlap, monkeypatch):
    """Every step of the measured loop steps the environment and learns."""
    row, seeds = _row("sac"), SeedMap([0, 1], jax.devices()[:1])
    given, train = [], online.train

    def watched(phase, *rest):
        given.append(phase)
        return train(phase, *rest)

    monkeypatch.setattr(online, "train", watched)
    loop = step_parts._Loop(row, seeds, SPEC, overlap)
    assert loop(transform()(SPEC, None), 5) > 0.0
    assert [phase.overlap for phase in given] == [overlap]
    assert np.asarray(loop._online.train.step).tolist() == [5, 5]
    stored = np.asarray(loop._online.storage.ring.observation)[:, :5]
    assert len(np.unique(stored[:, :, 0])) == 10  # observations change, and differ between seeds


def test_a_step_and_its_parts(capsys):
    assert run(step_parts, "--method=sac", "--json", "--seeds=2") == command.DONE
    line = json.loads(capsys.readouterr().out)
    assert (line["seeds"], line["batch_size"], line["env_id"]) == (2, 8, "HalfCheetah-v4")
    assert all(line[part] > 0 for part in ("env", "update", "dispatch", "loop", "overlap"))
    assert line["dispatch"] <= line["update"]
    assert run(step_parts, "--method=sac") == command.DONE
    head, words = capsys.readouterr().out.splitlines()
    assert head == step_parts.HEAD and words.split()[:4] == ["sac", "2", "8", "1"]


def test_an_evaluations_step_by_processes(capsys):
    flags = ("--method=td3_bc", "--env=Reach-v0", "--seeds=2", "--eval_episodes=3")
    assert run(evaluations, *flags, "--json", "--processes=1,2") == command.DONE
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(x["seeds"], x["eval_episodes"], x["processes"]) for x in lines] == [
        (2, 3, 1),
        (2, 3, 2),
    ]
    assert all(0 < x["policy"] < x["step"] for x in lines)
    assert lines[0]["times"] == 1.0 and lines[1]["times"] > 0
    assert run(evaluations, *flags, "--processes=1") == command.DONE
    head, words = capsys.readouterr().out.splitlines()
    assert head == evaluations.HEAD and words.split()[:4] == ["td3_bc", "2", "3", "1"]
    assert run(evaluations, *flags, "--processes=2,1") == command.BAD_INPUT
    assert run(evaluations, "--env=Reach-v0", "--eval_episodes=0") == command.BAD_INPUT


def test_a_table_and_a_picture_of_what_more_costs(tmp_path):
    define_only(scaling)
    small = [flag for flag in SMALL if "batch_size" not in flag]
    axes = ["--num_critics=2,4", "--batch_size=8", "--seeds=2", "--rows=50"]
    arguments = ["bench_scale", *small, *axes, "--method=td3_bc", f"--out={tmp_path / 'scale'}"]
    assert command.execute(scaling.main, arguments) == command.DONE
    with open(tmp_path / "scale" / "scale.csv") as file:
        rows = list(csv.DictReader(file))
    varied = [("num_critics", "2"), ("num_critics", "4"), ("batch_size", "8"), ("seeds", "2")]
    assert [(r["axis"], r["value"]) for r in rows] == [*varied, ("rows", "50")]
    assert all(0 < float(r["arithmetic_ms"]) < float(r["ms"]) for r in rows)
    assert (tmp_path / "scale" / "scale.png").stat().st_size > 10_000
    assert command.execute(scaling.main, arguments) == command.BAD_INPUT  # it exists already


def _row(method: str):
    define_only(updates)
    updates.FLAGS(["bench", *SMALL])
    define_only(step_parts)
    updates.FLAGS(["bench_online", *SMALL])
    return updates.row(method, None, 8)


def test_all_of_them_and_what_is_there_is_kept(tmp_path, capfd):
    out = tmp_path / "all"
    (out / "scale").mkdir(parents=True)  # as if already measured
    flags = ("--method=bc", "--seeds=1", "--precision=float32", f"--out={out}")
    assert run(whole, *flags, "--env=Nothing-v0") == command.FAILED
    assert "experiments.benchmarks.step_parts failed" in capfd.readouterr().err
    found = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert found == {"about.json", "updates/bc.jsonl", "online/bc.jsonl.part"}
    updated = out / "updates" / "bc.jsonl"
    lines = [json.loads(line) for line in updated.read_text().splitlines()]
    assert [(x["method"], x["phase"]) for x in lines] == [("bc", "offline"), ("bc", "online")]
    first = updated.stat().st_mtime_ns
    assert run(whole, *flags, "--seeds=2") == command.BAD_INPUT
    assert "updates/bc.jsonl comes of python -m" in capfd.readouterr().err
    assert run(whole, *flags) == command.DONE
    assert updated.stat().st_mtime_ns == first
    assert "experiments.benchmarks.updates" not in capfd.readouterr().out
    assert json.loads((out / "online" / "bc.jsonl").read_text())["method"] == "bc"
    last = (out / "evaluations" / "bc.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["processes"] >= 1
    assert (out / "roofline.png").exists()
    about = json.loads((out / "about.json").read_text())
    assert about["devices"] and about["commands"]["scale"].startswith("python -m")


def test_a_lease_ends_and_the_next_goes_on(tmp_path, capfd, monkeypatch):
    """A measurement cut off by the end leaves no file or folder that counts as done."""
    out, given = tmp_path / "all", []

    def measure(arguments, stdout, timeout, **_):
        given.append((arguments[2].rpartition(".")[2], timeout > 0))
        stdout.write("{}\n")
        if "scaling" in arguments[2]:
            (out / "scale").mkdir()
            if not resumed:
                raise subprocess.TimeoutExpired(arguments, timeout)
        return subprocess.CompletedProcess(arguments, 0)

    monkeypatch.setattr(whole, "_said", lambda arguments: [])
    monkeypatch.setattr(whole.subprocess, "run", measure)
    monkeypatch.setattr(whole.updates, "roofline", lambda lines, path: None)
    flags = ("--method=bc,td3_bc", "--seeds=1", f"--out={out}", "--minutes=1")
    programs = ["updates"] * 2 + ["step_parts"] * 2 + ["evaluations"] * 2 + ["scaling"]
    resumed = False
    assert run(whole, *flags) == command.DONE
    assert [name for name, _ in given] == programs and all(left for _, left in given)
    assert "time is up; left: scale; the same command continues" in capfd.readouterr().out
    given.clear()
    assert run(whole, *flags) == command.FAILED
    assert "scale alone takes longer than --minutes=1" in capfd.readouterr().err
    resumed = True
    assert run(whole, *flags) == command.DONE
    assert [name for name, _ in given] == ["scaling"] * 2
    assert not list(out.rglob("*.part")) and len(list(out.rglob("*.jsonl"))) == 6
    given.clear()
    assert run(whole, *flags) == command.DONE and not given
    monkeypatch.setattr(whole, "_said", lambda arguments: ["another device"])
    assert run(whole, *flags) == command.BAD_INPUT and not given
    assert "was measured with other devices: [], now ['another" in capfd.readouterr().err
