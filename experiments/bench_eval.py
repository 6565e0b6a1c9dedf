"""How long a step of an evaluation takes, and how many processes pay (--eval_processes).

python -m experiments.bench_eval --method=iql --env=Hopper-v4 --seeds=2 --processes=1,2

An untrained policy acts in all seeds' episodes, as experiments.train evaluates it. In every round,
in turn: the policy's call alone, then whole steps with each number of processes. Medians are
reported, in milliseconds per step of all seeds and episodes; `times` is one process over so many.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from typing import Any

import jax
import numpy as np
from absl import flags

from enoto_jax.data.transforms import transform
from enoto_jax.envs.gym import make_env, spec_of
from enoto_jax.recipes import Recipe, build
from enoto_jax.train.evaluate import Evaluator
from enoto_jax.train.seeds import SeedMap, use_cores
from enoto_jax.types import InputError, Spec
from experiments import bench, command, rates

FLAGS = flags.FLAGS
HEAD = "row                   S    E processes   policy     step  ms  times"


def define() -> None:
    """The command's flags."""
    bench.define_rows(["iql"], rounds=3)
    flags.DEFINE_bool("json", False, "JSON lines instead of a table.")
    flags.DEFINE_string("env", "HalfCheetah-v4", "Gymnasium id.")
    flags.DEFINE_integer("eval_episodes", 10, "Episodes per seed, side by side.")
    flags.DEFINE_list("processes", ["1", "2"], "That step the environments; the first is 1.")


def main() -> None:
    """Measure every combination of the flags."""
    if bench.numbers("processes")[:1] != [1] or min(bench.numbers("processes")) < 1:
        raise InputError("--processes: give 1 first, as the others are compared with it")
    if FLAGS.eval_episodes < 1:
        raise InputError(f"--eval_episodes: {FLAGS.eval_episodes}; give at least 1")
    use_cores(max(bench.numbers("seeds"), default=1))
    with contextlib.closing(make_env(FLAGS.env)) as env:
        spec = spec_of(env)
    if not FLAGS.json:
        print(HEAD)
    for method, row, seeds in bench.rows():
        for line in measure(row, seeds, spec):
            _report({"method": method, **line})


def measure(row: Recipe, seeds: int, spec: Spec) -> list[dict[str, Any]]:
    """A line for each number of processes: medians over the rounds, and of a round's ratios."""
    seed_map, episodes = SeedMap(range(seeds)), FLAGS.eval_episodes
    algorithm = build(row, spec).online
    state, mode = rates.fresh(algorithm, seed_map), seed_map.compile(algorithm.mode)
    clock = rates.Clock(1, FLAGS.seconds)
    seen = np.zeros((seeds, episodes, spec.observation_size), np.float32)
    world, counts = transform()(spec, None), bench.numbers("processes")
    evaluators = [Evaluator(FLAGS.env, episodes, seed_map, world, count) for count in counts]

    def step_s(evaluator: Evaluator, number: int) -> float:
        """Seconds of a step, of as many as --seconds allow, or the longest episode has."""
        asked = []

        def stop() -> bool:
            asked.append(time.perf_counter())
            return len(asked) > 1 and asked[-1] - asked[0] > FLAGS.seconds

        stopped = evaluator(mode, state, number, stop) is None
        return (time.perf_counter() - asked[0]) / (len(asked) - stopped)

    for evaluator in evaluators:  # every process is there now
        step_s(evaluator, 0)
    policies, steps = [], []
    for number in range(FLAGS.rounds):
        policies.append(1.0 / clock.rate(lambda: seed_map.get(mode(state, seen)), 1))
        steps.append([step_s(evaluator, number) for evaluator in evaluators])
    for evaluator in evaluators:
        evaluator.close()
    about = {"env_id": FLAGS.env, "device": jax.devices()[0].device_kind}
    return [
        {
            "seeds": seeds,
            "eval_episodes": episodes,
            "processes": count,
            "policy": round(1e3 * float(np.median(policies)), 3),
            "step": round(1e3 * float(np.median([own[i] for own in steps])), 3),
            "times": rates.median(own[0] / own[i] for own in steps),
            **about,
        }
        for i, count in enumerate(counts)
    ]


def _report(line: dict[str, Any]) -> None:
    if FLAGS.json:
        print(json.dumps(line), flush=True)
        return
    print(
        f"{line['method']:20} {line['seeds']:2} {line['eval_episodes']:4} {line['processes']:9}"
        f"{line['policy']:9.2f}{line['step']:9.2f}      {line['times']:.2f}",
        flush=True,
    )


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv))
