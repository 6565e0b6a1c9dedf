"""Kill a node of a Ray cluster in the middle of a sweep, and compare with an undisturbed sweep.

python -m experiments.robustness.nodetest --out=runs/nodetest

Ray's own test cluster, two nodes on this machine with one core each, trains a sweep of eight small
runs twice. The second time, one node is killed while it trains online. All eight runs must finish
exactly once, with the files of the undisturbed sweep, bit for bit apart from clocks. The table is
`<out>/nodes.csv`. The exit code is 1 if something differs.
"""

from __future__ import annotations

import csv
import sys
import threading
import time
from pathlib import Path

from absl import flags

from enoto_jax.cli import command, grid, sweep, worker
from enoto_jax.runs import saving
from enoto_jax.runs.files import read_csv
from enoto_jax.training import offline
from enoto_jax.types import RunError
from experiments.robustness import crashtest

FLAGS = flags.FLAGS
SWEEP = (
    "--method=td3_bc",
    "--vary=online.utd=1|2|3",
    "--seed_groups=2",
    "--preset=smoke",
    "--set=algorithm.hidden=8,8",
    "--offline_steps=200",
    "--online_steps=400",
    "--warmup=50",
    "--eval_every=100",
    "--eval_episodes=1",
    "--batch_size=16",
    "--seeds=1",
)
COLUMNS = ("run", "begun", "ended", "nodes", "differences")


def define() -> None:
    """Define the sweep's flags."""
    sweep.define()


def main() -> None:
    """Run the sweep undisturbed, and with a node killed, and compare."""
    out = command.new_folder(FLAGS.out or "runs/nodetest").resolve()
    differences = kill_a_node(out, SWEEP)
    if differences:
        raise RunError(f"{out}: {'; '.join(differences)}")


def kill_a_node(out: Path, arguments: tuple[str, ...]) -> list[str]:
    """Run both sweeps, and return what differs between them."""
    ray = sweep.load_ray()
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        True,
        head_node_args={"num_cpus": 1, "include_dashboard": False, "object_store_memory": 2**27},
    )
    try:
        node = cluster.add_node(num_cpus=1, object_store_memory=2**27)
        FLAGS(["sweep", *arguments, f"--ray_address={cluster.address}", "--out=" + str(out)])
        names = train(out / "peace")
        lost: list[str] = []
        killer = threading.Thread(target=_kill, args=(cluster, node, out / "fire", lost))
        killer.start()
        train(out / "fire")
        killer.join()
    finally:
        ray.shutdown()
        cluster.shutdown()
    print(f"killed while on it: {', '.join(lost)}")
    return compare(out, names)


def compare(out: Path, names: list[str]) -> list[str]:
    """Write the table, and return what is wrong in it."""
    rows = [(name, *_attempts(out / "fire" / name), _compare(out, name)) for name in names]
    with open(out / "nodes.csv", "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    wrong = [f"{row[0]}: {row[4]}" for row in rows if row[4] != "none"]
    return wrong + [f"{row[0]}: ended {row[2]} times" for row in rows if row[2] != 1]


def train(folder: Path) -> list[str]:
    """Run a sweep with frequent saves, and return the names of its runs."""
    cells = grid.cells(folder)
    folder.mkdir(parents=True)
    codes = sweep.Sweep(cells, folder, quick_cell).run()
    if any(codes.values()):
        raise RunError(f"{folder}: {codes}")
    return [cell.name for cell in cells]


def quick_cell(*arguments) -> int:
    """Do what a worker does, with frequent saves."""
    saving.SAVE_EVERY_S, saving.SAVE_SHARE, offline.PATIENCE_S = 0.5, 0.2, 0.2
    return worker.run_cell(*arguments)


def _kill(cluster, node, folder: Path, lost: list[str]) -> None:
    """Kill the node once a run on it is online and has saved."""
    while not lost:
        time.sleep(0.05)
        for attempts in folder.glob("*/attempts.csv"):
            run, last = attempts.parent, worker.attempts(attempts.parent)[-1:]
            here = (
                last
                and last[0]["event"] == "begun"
                and last[0]["node"].endswith(f"/{node.node_id[:6]}")
            )
            saved = any((run / "checkpoints" / "latest").glob("[0-9]*"))
            evaluated = read_csv(run / "evaluations.csv") if here and saved else []
            if evaluated and evaluated[-1]["phase"] == "online" and int(evaluated[-1]["step"]) > 0:
                lost.append(run.name)
    cluster.remove_node(node, allow_graceful=False)


def _attempts(folder: Path) -> tuple[int, int, str]:
    """How often a run began and ended, and on which nodes it began."""
    rows = worker.attempts(folder)
    begun = [row for row in rows if row["event"] == "begun"]
    return len(begun), len(rows) - len(begun), " ".join(row["node"] for row in begun)


def _compare(out: Path, name: str) -> str:
    return "; ".join(crashtest.compare(out / "peace" / name, out / "fire" / name)) or "none"


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv))
