"""Sweeps: which runs a grid contains, what they share, and how Ray executes them."""

import json
import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from enoto_jax.cli import command, grid, sweep, worker
from enoto_jax.cli.command import define_only
from enoto_jax.recipes import units
from enoto_jax.runs import files
from enoto_jax.types import InputError
from tests.helpers import ROOT

# Ray forks from a process in which other tests have used JAX.
pytestmark = pytest.mark.filterwarnings(r"ignore:os\.fork\(\) was called:RuntimeWarning")

SMALL = (
    "--preset=smoke",
    "--set=algorithm.hidden=8",
    "--offline_steps=20",
    "--online_steps=12",
    "--warmup=4",
    "--eval_every=10",
    "--eval_episodes=1",
    "--batch_size=8",
    "--seeds=1",
)


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """call(*arguments) -> exit code, stdout, stderr of the command; its folder is tmp_path/out."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        define_only(sweep)
        capsys.readouterr()
        arguments = ["enoto_jax.cli.sweep", *SMALL, f"--out={tmp_path / 'out'}", *arguments]
        code = command.execute(sweep.main, arguments)
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def cells(tmp_path):
    """cells(*arguments) -> the cells of the grid."""

    def cells(*arguments):
        define_only(sweep)
        sweep.FLAGS(["enoto_jax.cli.sweep", *SMALL, *arguments])
        return grid.cells(tmp_path / "out")

    return cells


def test_a_grid(cells):
    found = cells("--method=sac,rlpd", "--seed_groups=2", "--seeds=3", "--vary=utd=1|2")
    assert [c.name for c in found[:4]] == [
        "sac-pendulum-replay-utd=1-s0",
        "sac-pendulum-replay-utd=1-s3",
        "sac-pendulum-replay-utd=2-s0",
        "sac-pendulum-replay-utd=2-s3",
    ]
    assert len(found) == 8 and not any(c.after for c in found)  # no method has an offline phase
    assert [c.plan.recipe.online.utd for c in found[:4]] == [1, 1, 2, 2]
    assert [c.plan.seeds for c in found[:2]] == [(0, 1, 2), (3, 4, 5)]
    assert [c.plan.method for c in found[::4]] == ["sac", "rlpd"]
    for cell in found:
        assert grid.resolve(cell.arguments).recipe == cell.plan.recipe


def test_equal_offline_phases_are_trained_once(cells, tmp_path):
    """Two methods have the same offline phase; a third method and another seed do not."""
    found = cells("--method=cql_n_to_sac_n,enoto_cql,td3_bc", "--seed_groups=2")
    shared = [c for c in found if c.name.startswith("offline-cql-")]
    assert found[:2] == shared and [c.plan.seeds for c in shared] == [(0,), (1,)]
    assert all(c.plan.recipe.online.steps == 0 for c in shared)
    for cell in found[2:]:
        one = {"td3_bc": None}.get(cell.plan.method, shared[cell.plan.seeds[0]].name)
        assert cell.after == one
        assert cell.plan.restore == (one and tmp_path / "out" / one)
        assert (f"--restore={tmp_path / 'out' / one}" in cell.arguments) if one else True
    # A different transform or batch size makes a different offline phase.
    found = cells("--method=cql_n_to_sac_n,enoto_cql", "--vary=offline.batch_size=8|16")
    assert [c.after for c in found[2:]] == [found[0].name, found[1].name] * 2
    # So does a different precision.
    found = cells("--method=cql_n_to_sac_n,enoto_cql", "--vary=precision=float32|bf16")
    assert [c.after for c in found[2:]] == [found[0].name, found[1].name] * 2


def test_a_shared_offline_phase_trains_nothing_online(cells):
    found = cells("--method=cql_n_to_sac_n,enoto_cql", "--set=online.steps=50")
    assert [c.plan.recipe.online.steps for c in found] == [0, 50, 50]


def test_the_budget_is_settled_where_the_sweep_begins(tmp_path, monkeypatch):
    """A worker on an accelerator must use the budget that this machine has planned."""
    define_only(sweep)
    sweep.FLAGS(["enoto_jax.cli.sweep", *SMALL[1:]])
    monkeypatch.setattr(grid.budgets, "fitting", lambda: "demo")
    (cell,) = grid.cells(tmp_path / "out")
    assert "--budget=demo" in cell.arguments
    monkeypatch.setattr(grid.budgets, "fitting", lambda: "paper")
    assert grid.resolve(cell.arguments).recipe == cell.plan.recipe


def test_a_run_that_has_begun_does_not_need_what_it_restored(cells, tmp_path):
    with pytest.raises(InputError, match="gone is not a run's folder"):
        cells("--method=cql", "--restore=gone")
    for seed in (0, 1):
        name = f"cql-pendulum-replay-s{seed}"
        (tmp_path / "out" / name / "checkpoints" / "handover" / "0").mkdir(parents=True)
    found = cells("--method=cql", "--restore=gone", "--seed_groups=2")
    assert [cell.plan.restore for cell in found] == [Path("gone")] * 2


def test_a_configuration_brings_its_method(cells, tmp_path):
    (one,) = cells("--method=td3_bc")
    config = {"method": "td3_bc", "seeds": [0], "eval_episodes": 1, "env": one.plan.env_id}
    (tmp_path / "c.json").write_text(
        json.dumps(config | {"recipe": units.to_json(one.plan.recipe)})
    )
    define_only(sweep)
    sweep.FLAGS(["enoto_jax.cli.sweep", f"--config={tmp_path / 'c.json'}"])
    (cell,) = grid.cells(tmp_path / "out")
    assert cell.name == one.name and cell.plan.recipe == one.plan.recipe


def test_a_grid_from_a_file(cells, tmp_path):
    file = tmp_path / "grid.yaml"
    file.write_text(
        "method: [sac, rlpd]\nseeds: 2\nset: [online.algorithm.discount=0.9]\n"
        "vary:\n  utd: [1, 2]\n  algorithm.hidden: ['8,8', '16']\n  warmup: 3\n"
    )
    define_only(sweep)
    sweep.FLAGS(["enoto_jax.cli.sweep", "--preset=smoke", "--seeds=1"])
    grid.read(file)
    found = grid.cells(tmp_path / "out")
    assert len(found) == 8
    assert found[0].name == "sac-pendulum-replay-utd=1-hidden=8,8-warmup=3-s0"
    assert found[0].plan.seeds == (0,)  # from the command line
    assert "--set=online.algorithm.discount=0.9" in found[0].arguments
    file.write_text("vary: ['utd=1|2', 'batch_size=8|16']\n")
    define_only(sweep)
    sweep.FLAGS(["enoto_jax.cli.sweep", "--preset=smoke", "--method=sac"])
    grid.read(file)
    assert len(grid.cells(tmp_path / "out")) == 4


def test_the_cluster_of_the_environment_variable_is_used(cells, monkeypatch):
    def init(address, **how):
        raise ConnectionError(f"nothing at {address}")

    cells("--method=sac")
    ray = SimpleNamespace(init=init, is_initialized=lambda: False)
    monkeypatch.setattr(sweep, "load_ray", lambda: ray)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.7:6379")
    with pytest.raises(InputError, match="--ray_address: nothing at 10.0.0.7:6379"):
        sweep.start_ray()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--vary=utd"], ["--vary", "'utd'", "path=a|b"]),
        (["--vary=online.udt=1|2"], ["online.udt", "online.utd"]),
        (["--vary=seed=0|1"], ["--vary", "seed", "--seed_groups"]),
        (["--vary=task=a|b"], ["--vary", "task", "--task"]),
        (["--search=good.yaml", "--dry_run"], ["--search", "--dry_run"]),
        (["--search=good.yaml", "--vary=utd=1|2"], ["--search", "--vary"]),
        (["--search=good.yaml", "--seed_groups=2"], ["--search", "--seed_groups"]),
        (["--search=good.yaml", "--task=a,b"], ["--task", "one task"]),
        (["--method=sac,sca"], ["sca", "sac"]),
        (["--method=sac,sac"], ["same"]),
        (["--seed_groups=0"], ["--seed_groups", "1"]),
        (["--retries=-1"], ["--retries"]),
        (["--out=s3://bucket/sweep"], ["--out", "s3://bucket/sweep", "mount"]),
        (["--grid=none.yaml"], ["--grid", "none.yaml"]),
        (["--grid=bad.yaml"], ["--grid", "metod", "method"]),
        (["--search=bad.yaml"], ["--search", "bad.yaml"]),
        (["--search=path.yaml"], ["online.udt", "online.utd"]),
        (["--search=good.yaml", "--env=none"], ["--env=none", "evaluations"]),
    ],
)
def test_bad_input(call, tmp_path, monkeypatch, arguments, words):
    monkeypatch.setattr(sweep, "start_ray", lambda: None)
    (tmp_path / "bad.yaml").write_text("metod: sac\n")
    (tmp_path / "path.yaml").write_text("samples: 2\nspace: {online.udt: {choice: [1]}}\n")
    (tmp_path / "good.yaml").write_text("samples: 2\nspace: {online.utd: {choice: [1]}}\n")
    if "--search" in arguments[0]:
        pytest.importorskip("ray")
    code, _, error = call(*arguments)
    assert code == command.BAD_INPUT
    assert error.count("\n") == 1 and all(word in error for word in words), error
    assert not (tmp_path / "out").exists()


def test_dry_run(call, tmp_path):
    code, told, _ = call("--method=cql_n_to_sac_n,enoto_cql", "--dry_run")
    assert code == command.DONE and not (tmp_path / "out").exists()
    assert told.count("enoto train") == 3
    assert told.count("after offline-cql-") == 2
    assert "3 runs, 2 from a shared offline phase" in told


# On Ray: one local cluster for all tests, and cheap work.


@pytest.fixture(scope="module")
def ray():
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("JAX_PLATFORMS", "cpu")
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        define_only(sweep)
        sweep.FLAGS(["enoto_jax.cli.sweep"])
        sweep.start_ray()
        yield ray
        ray.shutdown()


def test_a_finished_run_is_to_do_again_with_more_online_steps(cells, tmp_path):
    (cell,) = cells("--method=sac")
    folder = tmp_path / "out" / cell.name
    folder.mkdir(parents=True)
    files.write_json(folder / "config.json", {"recipe": units.to_json(cell.plan.recipe)})
    assert not grid.finished(cell, tmp_path / "out")
    (folder / "summary.json").write_text("{}")
    assert grid.finished(cell, tmp_path / "out")
    (longer,) = cells("--method=sac", "--online_steps=20")
    assert longer.name == cell.name and not grid.finished(longer, tmp_path / "out")
    with pytest.raises(InputError, match="its recipe.online.steps is 12, now 5"):
        cells("--method=sac", "--online_steps=5")


@pytest.fixture(scope="module")
def done(ray, tmp_path_factory):
    """Two trained runs and the offline phase that they share."""
    out = tmp_path_factory.mktemp("sweep") / "out"
    define_only(sweep)
    arguments = ["enoto_jax.cli.sweep", *SMALL, "--method=bc", "--vary=utd=1|2", f"--out={out}"]
    assert command.execute(sweep.main, arguments) == command.DONE
    return out, arguments


def test_every_run_is_trained_once(done):
    out, _ = done
    runs = sorted(path.name for path in out.iterdir() if path.is_dir() and path.name[0] != ".")
    assert len(runs) == 3 and runs[2].startswith("offline-bc-pendulum-replay-s0-")
    for run in runs:
        assert [row["event"] for row in worker.attempts(out / run)] == ["begun", "exit 0"]
        phases = {row["phase"] for row in files.read_csv(out / run / "evaluations.csv")}
        assert phases == ({"offline", "online"} if run == runs[2] else {"online"})
    first = [files.read_csv(out / run / "evaluations.csv")[0]["return_mean"] for run in runs[:2]]
    end = [r for r in files.read_csv(out / runs[2] / "evaluations.csv") if r["phase"] == "online"]
    assert first == [end[0]["return_mean"]] * 2  # they start from the end of the offline phase


def test_a_finished_sweep_starts_nothing(done, monkeypatch):
    _, arguments = done
    monkeypatch.setattr(sweep, "start_ray", lambda: pytest.fail("Ray was started"))
    define_only(sweep)
    assert command.execute(sweep.main, arguments) == command.DONE


def test_a_folder_of_another_run_is_refused(done, capsys):
    _, arguments = done
    define_only(sweep)
    assert command.execute(sweep.main, [*arguments, "--eval_every=5"]) == command.BAD_INPUT
    assert "holds another run" in capsys.readouterr().err


def work(arguments, folder, token, gpus, after=0):
    """Behave as a run in one of several situations, chosen by the seed in the folder's name."""
    if after:
        return after
    folder.mkdir(exist_ok=True)
    with open(folder / "attempts.csv", "a") as file:
        file.write("time,node,pid,event\n" if file.tell() == 0 else "")
        file.write(f"0,here,{os.getpid()},begun\n")
    seed, begun = folder.name[-1], len(worker.attempts(folder))
    if seed == "0" and begun == 1:
        os.kill(os.getpid(), signal.SIGKILL)  # the worker is lost
    if seed == "1" and begun < 3:
        raise worker.Failed("try again")
    if seed == "2":
        return command.BAD_INPUT
    if seed == "3":
        raise worker.Failed("always")
    return command.DONE


def patient(arguments, folder, token, gpus, after=0):
    """Wait for SIGINT, then end as a run that has saved."""
    told = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: told.set())
    (folder.parent / "running").touch()
    for _ in range(600):
        if told.is_set():
            return command.STOPPED
        time.sleep(0.1)
    return command.DONE


def run(tmp_path: Path, function, *arguments: str) -> sweep.Sweep:
    define_only(sweep)
    sweep.FLAGS(["enoto_jax.cli.sweep", *SMALL, "--method=sac", *arguments])
    found = sweep.Sweep(grid.cells(tmp_path), tmp_path, function)
    found.run()
    return found


def test_lost_and_failing_runs_begin_again_and_refused_ones_do_not(ray, tmp_path):
    found = run(tmp_path, work, "--seed_groups=4", "--retries=2", "--cpus_per_run=0.5")
    assert [found.codes[name] for name in sorted(found.codes)] == [0, 0, 2, 1]  # by seed
    begun = [len(worker.attempts(tmp_path / f"sac-pendulum-replay-s{seed}")) for seed in range(4)]
    assert begun == [2, 3, 1, 3]


def test_a_signal_stops_every_run(ray, tmp_path):
    def interrupt():
        while not (tmp_path / "running").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    found = run(tmp_path, patient, "--seed_groups=2")  # both may run, or one may still wait
    thread.join()
    assert set(found.codes.values()) == {command.STOPPED}
