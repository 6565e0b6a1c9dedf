"""A run on two processes connected by gloo writes one process's files, even after a loss."""

import csv
import json
import signal
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from enoto_jax.runs import exchange, hosts, progress, watchdog
from enoto_jax.runs.packing import unpack
from enoto_jax.types import InputError
from experiments.robustness import hosttest
from tests.helpers import assert_same, python

SHORT = (
    "--method=bc",
    "--preset=smoke",
    "--set=algorithm.hidden=8",
    "--offline_steps=1000",
    "--online_steps=1600",
    "--warmup=20",
    "--eval_every=100",
    "--eval_episodes=1",
    "--batch_size=8",
    "--seeds=4",
)


def tree(seeds: int) -> dict[str, np.ndarray]:
    """Arrays with unusual values and sizes that a state may contain."""
    return {
        "odd": np.tile(np.float32([-0.0, np.nan, 1e-45]), (seeds, 1)) + 0,
        "flags": np.arange(seeds) % 2 == 0,
        "none": np.zeros((seeds, 0), np.int32),
        "large": np.arange(3000 * seeds, dtype=np.int32).reshape(seeds, -1),
    }


def program(index: int) -> None:
    """Run in each of two processes, which environment variables identify."""
    exchange.CHUNK = 4096  # small, so that several exchanges are needed
    hosts.join(None, None, None)
    assert (hosts.count(), hosts.first()) == (2, index == 0)
    whole = tree(4)
    mine = {name: x[hosts.own(x)] for name, x in whole.items()}
    assert [len(x) for x in mine.values()] == [2] * 4
    bits = {"odd": mine["odd"].view(np.uint32), **{k: mine[k] for k in ("flags", "none", "large")}}
    want = {**whole, "odd": whole["odd"].view(np.uint32)}
    assert_same(hosts.gather(bits), want)
    gathered = hosts.gather(mine)
    assert gathered["odd"].tobytes() == whole["odd"].tobytes()
    given = whole if index == 0 else {name: np.zeros_like(x) for name, x in whole.items()}
    scattered = hosts.scatter(given)
    assert all(scattered[name].tobytes() == mine[name].tobytes() for name in mine)
    position = {"action": mine["large"], "environments": {"states": [index, "x"]}, "since": 7}
    together = json.loads(json.dumps(hosts.gather_position(position)))
    assert together["environments"] == {"states": [0, "x", 1, "x"]} and together["since"] == 7
    assert_same(hosts.own_position(unpack(together))["action"], mine["large"])
    assert hosts.gather_position({"environments": None if index else [1, 2]}) == {
        "environments": None
    }
    assert hosts.most([index, -index]) == [1, 0] and hosts.any_of(index == 1)
    assert hosts.from_first(lambda: {"it": index}) == {"it": 0}

    def refuse():
        raise InputError(f"--out: of host {index}")

    try:
        hosts.from_first(refuse)
    except InputError as error:
        print(error, flush=True)
    try:
        hosts.own(range(3))
    except InputError as error:
        print(error, flush=True)
    hosts.leave(75)


def by_variables(index: int, port: int) -> dict[str, str]:
    address = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}"}
    return {**address, "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(index)}


def by_slurm(index: int, port: int) -> dict[str, str]:
    """The variables that srun sets; the port follows from the job id."""
    job = {"SLURM_JOB_ID": str(port), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    return {**job, "SLURM_PROCID": str(index), "SLURM_LOCALID": "0"}


@pytest.mark.parametrize("surroundings", [by_variables, by_slurm])
def test_what_hosts_tell_each_other(surroundings):
    port = hosttest.free_port()
    both = [
        python("-m", "tests.runs.test_hosts", index, env=surroundings(index, port))
        for index in (0, 1)
    ]
    for process in both:
        told, errors = process.communicate(timeout=300)
        assert process.returncode == 75, errors[-3000:]
        assert "--out: of host 0" in told and "multiple of 2" in told


def test_one_process_is_the_identity():
    arrays = {"x": np.arange(3)}
    assert hosts.gather(arrays) is arrays and hosts.scatter(arrays) is arrays
    assert hosts.own_position(arrays) is arrays and hosts.own(range(3)) == slice(0, 3)
    assert hosts.first() and hosts.most([2.0]) == [2.0] and hosts.NowAndThen().any_of(True)


class Left(Exception):
    """Raised instead of ending this process."""


@pytest.mark.parametrize("code", [0, 75, 1])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("lost", [True, False])
def test_leaving(monkeypatch, capfd, code, first, lost):
    """After a save, the other hosts wait under the watchdog for as long as host 0 may write."""
    asked = []

    def wait_at_barrier(name, milliseconds):
        asked.append((milliseconds / 1000, watchdog._watching.is_set()))
        if lost:
            raise RuntimeError("the others do not come")

    def leave(with_code):
        raise Left(with_code)

    client = SimpleNamespace(wait_at_barrier=wait_at_barrier)
    monkeypatch.setattr(hosts.jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(watchdog.distributed, "global_state", SimpleNamespace(client=client))
    monkeypatch.setattr(watchdog, "_first", lambda: first)
    monkeypatch.setattr(watchdog.os, "_exit", leave)
    monkeypatch.setattr(watchdog, "_watching", watchdog.threading.Event())
    monkeypatch.setattr(watchdog, "_ends_with", 1)
    watchdog._watching.set()
    without_the_first = lost and not first and code != 1
    with pytest.raises(Left, match="^1$" if without_the_first else f"^{code}$"):
        hosts.leave(code)
    assert asked == [(watchdog.GRACE_S, False) if code == 1 else (watchdog.WRITING_S, True)]
    assert watchdog._ends_with == (1 if lost else code)
    assert ("error: host 0 is lost" in capfd.readouterr().err) == without_the_first


def test_nothing_says_how_many_hosts_there_are():
    process = python("-m", "experiments.train", "--distributed", "--preset=smoke")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    assert errors.startswith("error: --distributed") and "--coordinator=host:port" in errors


def test_the_files_of_one_process_also_after_a_stop_and_a_loss(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    stop = hosttest.Blow(signal.SIGTERM, (1,), "offline")  # host 0 gets no signal
    loss = hosttest.Blow(signal.SIGKILL, (1,), "online")
    assert hosttest.disturb(tmp_path / "out", [[stop, loss]], seed=0, arguments=SHORT) == []
    with open(tmp_path / "out" / "hosts.csv", newline="") as file:
        stopped, lost = csv.DictReader(file)
    assert (stopped["exit_codes"], lost["exit_codes"]) == ("75 75", "1 -9")
    # The hand-over ends one phase and starts the other.
    phase, step = stopped["resumed_from"].split()
    saved = progress.at(phase, int(step))
    names = {saved, "online step 0"} if saved == "offline update 1,000" else {saved}
    assert any(f"stopped at {name};" in stopped["last_line"] for name in names)
    assert "is lost; repeat the command on all hosts" in lost["last_line"]


if __name__ == "__main__":
    program(int(sys.argv[1]))
