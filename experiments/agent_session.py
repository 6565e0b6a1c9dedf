"""Measure what a session of an `Agent` does to a policy that solves Pendulum-v1, per replay.

python -m experiments.agent_session --run=runs/pendulum --data=data/replay.hdf5

For each replay, an agent continues every seed of the run. Its policy is evaluated as it was trained
offline, and then every --every steps of the session.
"""

from __future__ import annotations

import sys
from pathlib import Path

import gymnasium
import numpy as np
from absl import flags

import enoto_jax
from enoto_jax.cli import command
from enoto_jax.data.source import Source
from enoto_jax.recipes import registry
from enoto_jax.recipes.recipe import Recipe
from enoto_jax.runs.folder import config_of
from enoto_jax.types import Transition

FLAGS = flags.FLAGS
ENV = "Pendulum-v1"


def define() -> None:
    """Define the command's flags."""
    flags.DEFINE_string("run", None, "Folder of a run with an offline phase.", required=True)
    flags.DEFINE_string("data", None, "The data set that it was trained on.", required=True)
    flags.DEFINE_list("replays", ["online_only", "append"], "Online replays to compare.")
    flags.DEFINE_multi_string("set", [], "path=value: any other option of the recipe.")
    flags.DEFINE_integer("steps", 2000, "Steps of a session.")
    flags.DEFINE_integer("every", 500, "Steps between evaluations.")
    flags.DEFINE_integer("episodes", 20, "Episodes per evaluation, always with the same starts.")


def main() -> None:
    """Print a row of returns for each replay and seed."""
    config = config_of(Path(FLAGS.run))
    source = enoto_jax.load_source(FLAGS.data)
    print("replay,seed," + ",".join(f"step {i}" for i in range(0, FLAGS.steps + 1, FLAGS.every)))
    for replay in FLAGS.replays:
        recipe = registry.from_json(config["recipe"])
        for change in (f"online.replay={replay}", *FLAGS.set):
            recipe = enoto_jax.override(recipe, *change.split("=", 1))
        for seed in config["seeds"]:
            returns = session(recipe, source, seed)
            print(f"{replay},{seed}," + ",".join(f"{x:.0f}" for x in returns), flush=True)


def session(recipe: Recipe, source: Source, seed: int) -> list[float]:
    """Return the deterministic policy's mean returns: at step 0 and after every --every steps."""
    world, returns = gymnasium.make(ENV), []
    with enoto_jax.Agent(recipe, source, restore=FLAGS.run, seed=seed, env=ENV) as agent:
        observation, _ = world.reset(seed=seed)
        for step in range(FLAGS.steps + 1):
            if step % FLAGS.every == 0:
                returns.append(evaluate(agent))
            action = agent.act(observation)
            following, reward, terminated, truncated, _ = world.step(action)
            agent.observe(Transition(observation, action, reward, terminated, truncated, following))
            observation = world.reset()[0] if terminated or truncated else following
    world.close()
    return returns


def evaluate(agent: enoto_jax.Agent) -> float:
    """Return the mean return of --episodes whole episodes."""
    world, returns = gymnasium.make(ENV), []
    for episode in range(FLAGS.episodes):
        observation, _ = world.reset(seed=1_000 + episode)
        total, over = 0.0, False
        while not over:
            action = agent.act(observation, explore=False)
            observation, reward, terminated, truncated, _ = world.step(action)
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    world.close()
    return float(np.mean(returns))


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv))
