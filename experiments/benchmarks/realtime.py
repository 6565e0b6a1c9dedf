"""Fine-tune a run in a loop with a fixed rate, and measure how long `act` and `observe` block.

python -m experiments.benchmarks.realtime runs/hopper --hz=50 --steps=1000

An Agent starts from the run's hand-over and learns in the run's own environment, one step per tick.
The output compares the times of act and observe with the budget (one tick by default), and counts
late actions and the updates that were done and skipped. --blocking learns inside act, for
comparison.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import jax
import numpy as np
from absl import flags

from enoto_jax import Agent, Transition
from enoto_jax.cli import command, plans
from enoto_jax.data.loading import from_env, load_source
from enoto_jax.envs.gym import make_env, spec_of
from enoto_jax.recipes import registry
from enoto_jax.runs.folder import config_of
from enoto_jax.types import InputError

FLAGS = flags.FLAGS


def define() -> None:
    """Define the command's flags."""
    flags.DEFINE_string("run", None, "Folder of a run; may be given without the flag.")
    flags.DEFINE_float("hz", 50.0, "Ticks per second.")
    flags.DEFINE_integer("steps", 1_000, "How many ticks.")
    flags.DEFINE_float("budget_ms", None, "Budget of act and observe; one tick by default.")
    flags.DEFINE_bool("blocking", False, "Learn inside act, without a budget.")
    flags.DEFINE_multi_string("set", [], "path=value of the recipe, as in experiments.train.")
    flags.DEFINE_string("out", None, "A folder to save in, every --save_every ticks.")
    flags.DEFINE_integer("save_every", 500, "Ticks between saves.")


def main() -> None:
    """Drive the agent, and print the times."""
    if not FLAGS.run or FLAGS.hz <= 0 or FLAGS.steps < 1 or FLAGS.save_every < 1:
        raise InputError("give the folder of a run, and --hz, --steps, --save_every above 0")
    run, tick = Path(FLAGS.run), 1.0 / FLAGS.hz
    config = config_of(run)
    run = Path(config["restore"] or run)  # a restored run begins where the other ended
    row = registry.from_json(config["recipe"])
    row = plans.with_settings(row, FLAGS.set)
    env = make_env(config["env"])
    replay = row.online.replay
    needed = replay.needs_data and config.get("task_given")
    source = load_source(needed) if needed else from_env(config["env"], spec_of(env))
    budget_s = None if FLAGS.blocking else (FLAGS.budget_ms or 1e3 * tick) / 1e3
    restore = None if row.offline is None else run
    agent = Agent(
        row,
        source,
        restore,
        FLAGS.out,
        seed=config["seeds"][0],
        budget_s=budget_s,
        action_low=-1.0,  # `make_env` rescales
        action_high=1.0,
    )
    begun = time.monotonic()
    times, missed = drive(agent, env, FLAGS.steps, tick)
    took = time.monotonic() - begun
    agent.close()
    limit = 1e3 * (budget_s or tick)
    print(f"{FLAGS.steps} ticks at {FLAGS.hz:g} Hz on {jax.devices()[0].device_kind}")
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"         median     99 %   99.9 %      max   ms, over the budget of {limit:.1f}")
    for name, seconds in times.items():
        ms = 1e3 * np.asarray(seconds)
        figures = " ".join(f"{x:8.3f}" for x in (*np.percentile(ms, [50, 99, 99.9]), ms.max()))
        print(f"{name:7} {figures}   {np.mean(ms > limit):.2%}")
    print(f"late actions {agent.late}, ticks that ended late {missed}")
    rate = agent.updates / took
    print(f"updates {agent.updates} ({rate:.1f} a second), skipped {agent.skipped}")


def drive(agent: Agent, env, steps: int, tick: float) -> tuple[dict[str, list[float]], int]:
    """Return the seconds of every act, observe and save, and how many ticks ended late."""
    times, missed = {"act": [], "observe": [], "save": []}, 0
    observation, _ = env.reset(seed=0)
    due = time.monotonic()
    for step in range(1, steps + 1):
        due += tick
        begun = time.perf_counter()
        action = agent.act(observation)
        times["act"].append(time.perf_counter() - begun)
        following, reward, terminated, truncated, _ = env.step(action)
        moved = Transition(observation, action, reward, terminated, truncated, following)
        begun = time.perf_counter()
        agent.observe(moved)
        times["observe"].append(time.perf_counter() - begun)
        if FLAGS.out and not FLAGS.blocking and step % FLAGS.save_every == 0:
            begun = time.perf_counter()
            agent.save()
            times["save"].append(time.perf_counter() - begun)
        observation = env.reset()[0] if terminated or truncated else following
        rest = due - time.monotonic()
        missed += rest < 0
        time.sleep(max(rest, 0.0))
        due = max(due, time.monotonic())  # later ticks do not catch up
    env.close()
    return {name: found for name, found in times.items() if found}, missed


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv, positional="run"))
