"""Measure a step of an evaluation, and how many processes are worth it (--eval_processes).

python -m experiments.benchmarks.evaluations --method=iql --env=Hopper-v4 --seeds=2 --processes=1,2

An untrained policy acts in all seeds' episodes, as experiments.train evaluates it. Every round
takes each number of processes in turn. Medians are reported, in milliseconds per step of all seeds
and episodes: `step` is a whole step, `policy` the policy's call in it, and `times` the time with
one process over the time with this number.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import jax
import numpy as np
from absl import flags

from enoto_jax.cli import command
from enoto_jax.recipes.building import build
from enoto_jax.recipes.recipe import Recipe
from enoto_jax.training.evaluate import Evaluator
from enoto_jax.training.seeds import SeedMap
from enoto_jax.transforms import transform
from enoto_jax.types import InputError, Spec
from experiments.benchmarks import rates, updates

FLAGS = flags.FLAGS
HEAD = "row                   S    E processes   policy     step  ms  times"


def define() -> None:
    """Define the command's flags."""
    updates.define_rows(["iql"], rounds=3)
    flags.DEFINE_bool("json", False, "JSON lines instead of a table.")
    flags.DEFINE_string("env", "HalfCheetah-v4", "Gymnasium id.")
    flags.DEFINE_integer("eval_episodes", 10, "Parallel episodes per seed.")
    flags.DEFINE_list(
        "processes", ["1", "2"], "Numbers of processes that step environments; the first is 1."
    )


def main() -> None:
    """Measure every combination of the flags."""
    if updates.numbers("processes")[:1] != [1] or min(updates.numbers("processes")) < 1:
        raise InputError("--processes: give 1 first, as the others are compared with it")
    if FLAGS.eval_episodes < 1:
        raise InputError(f"--eval_episodes: {FLAGS.eval_episodes}; give at least 1")
    spec = updates.env_spec()
    if not FLAGS.json:
        print(HEAD)
    for method, row, seeds in updates.rows():
        for line in measure(row, seeds, spec):
            _report({"method": method, **line})


def measure(row: Recipe, seeds: int, spec: Spec) -> list[dict[str, Any]]:
    """Return a line per number of processes: medians of the times, and of each round's ratio."""
    seed_map, episodes = SeedMap(range(seeds)), FLAGS.eval_episodes
    algorithm = build(row, spec).online
    state, mode = rates.fresh(algorithm, seed_map), seed_map.compile(algorithm.mode)
    world, counts = transform()(spec, None), updates.numbers("processes")
    evaluators = [Evaluator(FLAGS.env, episodes, seed_map, world, count) for count in counts]

    def times(evaluator: Evaluator, number: int) -> tuple[float, float]:
        """Seconds per step and per policy call, in an evaluation of at most --seconds."""
        asked, calls = [], []

        def stop() -> bool:
            asked.append(time.perf_counter())
            return len(asked) > 1 and asked[-1] - asked[0] > FLAGS.seconds

        def policy(state, seen) -> np.ndarray:
            action = seed_map.get(mode(state, seen))
            calls.append(time.perf_counter() - asked[-1])
            return action

        evaluator(policy, state, number, stop)
        return (time.perf_counter() - asked[0]) / len(calls), sum(calls) / len(calls)

    for evaluator in evaluators:  # starts every process
        times(evaluator, 0)
    found = np.asarray([[times(e, number) for e in evaluators] for number in range(FLAGS.rounds)])
    for evaluator in evaluators:
        evaluator.close()
    step_ms, policy_ms = np.moveaxis(np.median(1e3 * found, axis=0), -1, 0).round(3).tolist()
    about = {"env_id": FLAGS.env, "device": jax.devices()[0].device_kind}
    return [
        {
            "seeds": seeds,
            "eval_episodes": episodes,
            "processes": count,
            "policy": policy_ms[i],
            "step": step_ms[i],
            "times": rates.median(found[:, 0, 0] / found[:, i, 0]),
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
