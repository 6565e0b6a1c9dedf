"""Measure the seconds from a process's start to a score, for ours and other libraries' scripts.

python -m experiments.benchmarks.time_to_score --data=FILE --peers=FOLDER --python=PYTHON

FILE is HalfCheetah data in D4RL's layout; FOLDER and PYTHON are those of
`experiments.benchmarks.peers`. Every contender trains on the whole file, evaluates with its own
code every --every updates in Gymnasium's HalfCheetah-v4, and scores with D4RL's reference returns.
One process runs at a time: a round is a seed, and runs each contender in turn, ours with an empty
compilation cache. A run ends once the mean of its last evaluations reaches the score, or at
--limit.

Two times are reported: to the first evaluation that reaches the score, and to the first at which
the mean of the last --last evaluations does. Both begin when the process is started and end when
the evaluation is written, so imports, data, compilation and earlier evaluations count. Every
evaluation is a row of --out, with its wall-clock seconds and the CPU seconds of the process. A run
that does not reach the score ends with a row without a score. The table covers all rows of --out;
--rounds=0 only prints it. `>` marks the duration of a run that did not reach the score; such a run
without its last row was cut off, and is counted as incomplete.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import flags

from enoto_jax.cli import command
from enoto_jax.types import InputError, RunError
from experiments.benchmarks.peer_scripts import Peer, cpu_seconds

FLAGS = flags.FLAGS
OURS = "ours"
POLL_S = 0.1
COLUMNS = ("case", "who", "seed", "updates", "wall_s", "cpu_s", "score")
HEAD = (
    f"{'case':8} {'who':38} {'first evaluation, s':>24} {'x ours':>7} {'mean of last, s':>24} "
    f"{'x ours':>7} reached"
)


class Case(NamedTuple):
    """What is compared.

    Attributes:
      ours: Our flags of `enoto train`.
      score: The score to reach on halfcheetah-medium.
      peers: Scripts; their arguments contain the {updates} between evaluations, the {episodes} of
        one, the {seed}, and the folder of {peers}.
    """

    ours: str
    score: float
    peers: tuple[Peer, ...]


SHIM = Path(__file__).parent / "peer_scripts" / "scored.py"

_OURS = "--task={data} --seeds=1 --seed={seed} --eval_every={updates} --eval_episodes={episodes}"
_OURS += " --final_episodes={episodes} --online_steps=0 --out={folder}/run"
_OURS += " --compilation_cache={folder}/compiled"
_LONG = "--budget=paper --offline_steps=1000000"
_TORCH = "--config_path={{peers}}/CORL/configs/offline/{}/halfcheetah/medium_v2.yaml --device=cpu"
_TORCH += " --seed={{seed}} --eval_freq={{updates}} --n_episodes={{episodes}}"
_SCAN = "--seed={seed} --eval-interval={updates} --eval-workers={episodes}"
_LOOP = "seed={seed} eval_interval={updates} eval_episodes={episodes}"

CASES = {
    "bc": Case(
        f"--method=bc {_LONG}",
        40.0,
        (
            Peer("CORL/algorithms/offline/any_percent_bc.py", _TORCH.format("bc")),
            Peer("unifloral/algorithms/bc.py", _SCAN),
        ),
    ),
    "td3_bc": Case(
        f"--method=td3_bc {_LONG}",
        45.0,
        (
            Peer("CORL/algorithms/offline/td3_bc.py", _TORCH.format("td3_bc")),
            Peer("unifloral/algorithms/td3_bc.py", _SCAN, per_step=2),
            Peer("JAX-CORL/algos/td3bc.py", _LOOP),
        ),
    ),
    "iql": Case(
        f"--method=iql {_LONG}",
        45.0,
        (
            Peer("CORL/algorithms/offline/iql.py", _TORCH.format("iql")),
            Peer("unifloral/algorithms/iql.py", _SCAN),
            Peer("JAX-CORL/algos/iql.py", _LOOP),
        ),
    ),
    "cql": Case(
        "--method=enoto_cql --budget=laptop --offline_steps=1000000"
        " --set=offline.algorithm.critic_rate=1e-3",
        45.0,
        (
            Peer("CORL/algorithms/offline/cql.py", _TORCH.format("cql")),
            Peer("unifloral/algorithms/cql.py", _SCAN),
            Peer("JAX-CORL/algos/cql.py", _LOOP),
        ),
    ),
}


def define() -> None:
    """Define the command's flags."""
    flags.DEFINE_string("data", None, "HDF5 file with D4RL's keys.", required=True)
    flags.DEFINE_string("peers", None, "Folder of the other libraries' checkouts.", required=True)
    flags.DEFINE_string("python", sys.executable, "Interpreter for their scripts.")
    flags.DEFINE_multi_enum("case", list(CASES), list(CASES), "What to compare; repeatable.")
    flags.DEFINE_list("only", [], "Prefixes of contenders' names: ours,CORL/,... All by default.")
    flags.DEFINE_float("score", None, "Score to reach, instead of the case's own.")
    flags.DEFINE_integer("every", 5000, "Updates between two evaluations.")
    flags.DEFINE_integer("episodes", 10, "Episodes per evaluation.")
    flags.DEFINE_integer("last", 3, "How many evaluations to average before comparing.")
    flags.DEFINE_integer("rounds", 3, "Seeds, each trained by every contender in turn.")
    flags.DEFINE_integer("seed", 0, "The first seed.")
    flags.DEFINE_float("limit", 1200.0, "Seconds after which a run is stopped.")
    flags.DEFINE_enum("clock", "wall", ["wall", "cpu"], "Which seconds are reported and limited.")
    flags.DEFINE_string("out", "time_to_score.csv", "CSV file; a row per evaluation is appended.")


class Time(NamedTuple):
    """Seconds to a score; with `never`, the duration of a run without it, which sorts last."""

    never: bool
    seconds: float

    def __str__(self) -> str:
        return f"{'>' if self.never else ''}{self.seconds:.{0 if self.seconds >= 100 else 1}f}"


class Run(NamedTuple):
    """One contender with one seed.

    Attributes:
      seconds: Time of each evaluation, by --clock; one more if it ended without the score.
      scores: Score of each evaluation.
    """

    seconds: list[float]
    scores: list[float]

    @property
    def cut_off(self) -> bool:
        """Whether the run has no row for its end; so has one that reached the score."""
        return len(self.seconds) == len(self.scores)

    def reached(self, score: float, last: int) -> Time:
        """Return when the mean of the last `last` evaluations first reaches the score."""
        for end in range(last, len(self.scores) + 1):
            if np.mean(self.scores[end - last : end]) >= score:
                return Time(False, self.seconds[end - 1])
        return Time(True, self.seconds[-1] if self.seconds else 0.0)


def main() -> None:
    """Run the rounds, and print the table."""
    if not Path(FLAGS.data).is_file():
        raise InputError(f"--data: there is no file {FLAGS.data}")
    if shutil.which(FLAGS.python) is None:
        raise InputError(f"--python: {FLAGS.python} is not a Python interpreter")
    if min(FLAGS.last, FLAGS.every, FLAGS.episodes) < 1 or FLAGS.rounds < 0:
        raise InputError("--last, --every and --episodes must be at least 1, --rounds at least 0")
    cases = {name: contenders(name) for name in FLAGS.case}
    if not all(cases.values()):
        raise InputError("nobody to compare; look at --peers and --only")
    for name, found in cases.items():
        for seed in range(FLAGS.seed, FLAGS.seed + FLAGS.rounds):
            for who, arguments in found.items():
                measure((name, who, seed), arguments, wanted(name))
    print(HEAD)
    for name in cases:
        print("\n".join(table(name, read(name), wanted(name))))


def wanted(name: str) -> float:
    """Return the score that a case must reach."""
    return CASES[name].score if FLAGS.score is None else FLAGS.score


def contenders(name: str) -> dict[str, str]:
    """Return name -> command line with {seed} and {folder}, of ours and of the scripts found."""
    case, peers = CASES[name], Path(FLAGS.peers).absolute()
    known = {
        "peers": peers,
        "data": Path(FLAGS.data).absolute(),
        "episodes": FLAGS.episodes,
        "seed": "{seed}",
        "folder": "{folder}",
    }
    ours = f"{sys.executable} -m enoto_jax.cli.main train {case.ours} {_OURS}"
    found = {OURS: ours.format(updates=FLAGS.every, **known)}
    for peer in case.peers:
        if (peers / peer.script).is_file():
            text = f"{FLAGS.python} {SHIM} {{data}} {{folder}}/scores.csv {{peers}}/{peer.script} "
            updates = FLAGS.every // peer.per_step
            found[peer.script] = (text + peer.arguments).format(updates=updates, **known)
    named = [who for who in found if not FLAGS.only or who.startswith(tuple(FLAGS.only))]
    return {who: found[who] for who in named}


def measure(name: tuple[str, str, int], text: str, score: float) -> None:
    """Train one contender until it reaches the score or the time is up, and add its rows to --out.

    Args:
      name: The case, the contender, and the seed.
      text: Its command line, with {seed} and {folder}.
      score: The run ends when the mean of --last evaluations reaches it.

    Raises:
      RunError: The contender has failed; the text is its last line.
    """
    run, by = Run([], []), ("wall", "cpu").index(FLAGS.clock)
    with tempfile.TemporaryDirectory() as folder, open(f"{folder}/words", "w+") as words:
        arguments = text.format(seed=name[-1], folder=folder).split()
        written = Path(folder, "run/evaluations.csv" if name[1] == OURS else "scores.csv")
        begun, where = time.monotonic(), None if name[1] == OURS else folder
        process = subprocess.Popen(arguments, stdout=words, stderr=words, cwd=where)
        try:
            while True:
                now = time.monotonic() - begun, cpu_seconds(process.pid)
                ended = process.poll() is not None
                for found in scores(written)[len(run.scores) :]:
                    run.scores.append(found)
                    run.seconds.append(now[by])
                    write((*name, FLAGS.every * len(run.scores), *now, found))
                if ended or now[by] > FLAGS.limit or not run.reached(score, FLAGS.last).never:
                    break
                time.sleep(POLL_S)
        finally:
            process.kill()
            process.wait()
        if ended and process.returncode:
            words.seek(0)
            raise RunError(f"{name[1]}: {words.read().strip().rpartition(chr(10))[2]}")
    if run.reached(score, FLAGS.last).never:
        run.seconds.append(now[by])
        write((*name, "", *now, ""))
    print(*name, f"{score:g} at {run.reached(score, 1)} s", file=sys.stderr, flush=True)


def scores(path: Path) -> list[float]:
    """Return the scores of all complete lines, without the online row that our runs end with."""
    if not path.is_file():
        return []
    lines = [x for x in path.read_text().splitlines(keepends=True) if x.endswith("\n")]
    return [float(row["score"]) for row in csv.DictReader(lines) if row.get("phase") != "online"]


def write(row: Sequence) -> None:
    """Add a row to --out."""
    new = not Path(FLAGS.out).exists()
    with open(FLAGS.out, "a", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([COLUMNS, row] if new else [row])


def read(case: str) -> dict[str, dict[int, Run]]:
    """Return a case's rows of --out as contender -> seed -> run, the last if it was tried twice."""
    runs: dict[str, dict[int, Run]] = {}
    before: dict[tuple[str, str], float] = {}
    path = Path(FLAGS.out)
    for row in csv.DictReader(path.read_text().splitlines() if path.is_file() else []):
        if row["case"] == case:
            key = row["who"], row["seed"]
            updates = float(row["updates"] or np.inf)  # the last row has none
            if updates <= before.get(key, 0):  # another try begins
                del runs[row["who"]][int(row["seed"])]
            before[key] = updates
            run = runs.setdefault(row["who"], {}).setdefault(int(row["seed"]), Run([], []))
            run.seconds.append(float(row[f"{FLAGS.clock}_s"]))
            if row["score"]:
                run.scores.append(float(row["score"]))
    return runs


def table(case: str, runs: Mapping[str, Mapping[int, Run]], score: float) -> list[str]:
    """Return a line per contender: medians over seeds, their range, and ratios to ours."""
    lines = []
    for who, own in runs.items():
        line = f"{case:8} {who:38}"
        for last in (1, FLAGS.last):
            times = sorted(run.reached(score, last) for run in own.values())
            line += f" {f'{_median(times)} ({times[0]} to {times[-1]})':>24}"
            times_ours = "" if who == OURS else ratio(own, runs.get(OURS, {}), score, last)
            line += f" {times_ours!s:>7}"
        cut = sum(run.cut_off and run.reached(score, FLAGS.last).never for run in own.values())
        incomplete = f", {cut} incomplete" if cut else ""
        reached = sum(not time.never for time in times)
        lines.append(f"{line} {reached} of {len(times)}{incomplete}")
    return lines


def ratio(
    theirs: Mapping[int, Run], ours: Mapping[int, Run], score: float, last: int
) -> Time | str:
    """Return the median of their seconds over ours, over shared seeds; "-" if ours is unknown."""
    pairs = [
        (theirs[seed].reached(score, last), ours[seed].reached(score, last))
        for seed in theirs.keys() & ours.keys()
    ]
    if not pairs or any(our.never for _, our in pairs):
        return "-"
    return _median([Time(their.never, their.seconds / our.seconds) for their, our in pairs])


def _median(times: Sequence[Time]) -> Time:
    """The median, or the upper of the two in the middle, so that a score never reached counts."""
    return sorted(times)[len(times) // 2]


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv))
