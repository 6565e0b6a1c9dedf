"""Write the replay buffer of one of our own online runs as a data set in D4RL's layout.

The set that ships with the package was made so:

python -m experiments.train --method=sac --env=InvertedDoublePendulum-v5 --out=runs/sac ...
python -m experiments.make_dataset --run=runs/sac --rows=8000 --out=pendulum.hdf5

It is a medium-replay set: everything the agent did, from its first random steps on.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import h5py
import jax
import numpy as np
from absl import flags

from enoto_jax import core, registry, stats
from enoto_jax.checkpoint import Checkpoints
from enoto_jax.envs.gym import make_env, spec_of
from enoto_jax.recipes import build
from enoto_jax.train import online
from enoto_jax.types import InputError, Transition
from experiments import command

FLAGS = flags.FLAGS
RANDOM_EPISODES = 200


def define() -> None:
    """The command's flags."""
    flags.DEFINE_string("run", None, "A finished online run's folder.")
    flags.DEFINE_integer("rows", None, "How many of its first transitions; all by default.")
    flags.DEFINE_string("out", None, "The .hdf5 file to write.")
    flags.mark_flags_as_required(["run", "out"])


def main() -> None:
    """Read the run's checkpoint and write the file."""
    folder, out = Path(FLAGS.run), Path(FLAGS.out)
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"--run: {folder} is not a run's folder: {error}") from error
    transitions = first_seed(folder, config)
    rows = FLAGS.rows or len(transitions.reward)
    if not 1 <= rows <= len(transitions.reward):
        raise InputError(f"--rows: {rows}; {folder} holds {len(transitions.reward)} transitions")
    kept = jax.tree.map(lambda x: x[:rows], transitions)
    best = max(row["return_mean"] for row in stats.read_evaluations(folder))
    about = {
        "env_id": config["env"],
        "algorithm": "SAC (enoto_jax), whole replay buffer",
        "ref_min_score": random_return(config["env"]),
        "ref_max_score": float(best),
        "reference": f"mean of {RANDOM_EPISODES} random episodes; best evaluation of the run",
        "seed": config["seeds"][0],
        "versions": json.dumps(config["versions"]),
    }
    write(out, kept, about)
    print(f"{out}: {rows:,} transitions, {out.stat().st_size / 1e6:.2f} MB")


def first_seed(folder: Path, config: dict) -> Transition:
    """The ring of the run's first seed, in the order of the steps."""
    env = make_env(config["env"])
    spec = spec_of(env)
    env.close()
    row = registry.from_json(config["recipe"])
    built, count = build(row, spec), len(config["seeds"])
    checkpoints = Checkpoints(folder / "checkpoints")
    found = checkpoints.record()
    if found is None or found["phase"] != "online":
        raise InputError(f"--run: {folder} has no checkpoint of an online phase")
    if found["step"] > built.replay.capacity:
        raise InputError(f"--run: {folder} has overwritten its oldest transitions")
    begin = online.begin(built.online, built.replay, spec, row.online.batch_size)
    shapes = jax.eval_shape(lambda: begin(core.init(built.online, jax.random.key(0)), np.int32(0)))
    template = jax.tree.map(lambda x: np.zeros((count, *x.shape), x.dtype), shapes)
    ring = jax.tree.map(lambda x: x[:, : found["step"]], template.storage.ring)
    storage = template.storage._replace(ring=ring)
    saved = checkpoints.restore(template.replace(storage=storage))
    checkpoints.close()
    return jax.tree.map(lambda x: np.asarray(x)[0], saved.storage.ring)


def random_return(env_id: str) -> float:
    """Mean return of uniformly random actions."""
    env, rng, total = make_env(env_id), np.random.default_rng(0), 0.0
    for episode in range(RANDOM_EPISODES):
        env.reset(seed=episode)
        ended = False
        while not ended:
            action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
            _, reward, terminated, truncated, _ = env.step(action)
            total += float(reward)
            ended = terminated or truncated
    env.close()
    return total / RANDOM_EPISODES


def write(path: Path, transitions: Transition, about: dict) -> None:
    """One file in D4RL v2's layout, whole or not at all."""
    arrays = {
        "observations": transitions.observation,
        "actions": transitions.action,
        "rewards": transitions.reward,
        "next_observations": transitions.next_observation,
        "terminals": transitions.terminated,
        "timeouts": transitions.truncated.copy(),
    }
    arrays["timeouts"][-1] |= not arrays["terminals"][-1]  # the set's end cuts the last episode
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(part, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, compression="gzip", shuffle=True)
        for name, value in about.items():
            # Fixed-length text: a damaged heap of variable-length text can hang the HDF5 library.
            file.attrs[name] = np.bytes_(value) if isinstance(value, str) else value
    os.replace(part, path)


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv))
