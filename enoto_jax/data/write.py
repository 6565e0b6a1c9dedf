"""Write data sets, in D4RL's layout or as Minari's, completely or not at all."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import mujoco
import numpy as np

from enoto_jax.atomic import written_whole
from enoto_jax.data.arrays import unscaled
from enoto_jax.envs.gym import known_warnings_ignored, make_env
from enoto_jax.types import InputError, Transition


def write_d4rl(
    path: Path,
    transitions: Transition,
    attributes: Mapping[str, Any],
    more: Mapping[str, np.ndarray | str] | None = None,
) -> None:
    """Write one HDF5 file in D4RL v2's layout; it appears under its name once it is complete.

    Args:
      path: The file's path; its folder is created.
      transitions: [M, ...], untransformed, in the order of the steps. The last one is marked as a
        time-out if its episode has not ended.
      attributes: Attributes of the file's root, e.g. env_id, ref_min_score, ref_max_score.
      more: Further data sets by path, such as infos/qpos or metadata/algorithm.
    """
    timeouts = transitions.truncated.copy()
    timeouts[-1] |= not transitions.terminated[-1]
    arrays = {
        "observations": transitions.observation,
        "actions": transitions.action,
        "rewards": transitions.reward,
        "next_observations": transitions.next_observation,
        "terminals": transitions.terminated,
        "timeouts": timeouts,
        **(more or {}),
    }
    with written_whole(path) as part, h5py.File(part, "w") as file:
        for name, array in arrays.items():
            if np.ndim(array):
                file.create_dataset(name, data=array, compression="gzip", shuffle=True)
            else:
                file[name] = _plain(array)
        for name, value in attributes.items():
            file.attrs[name] = _plain(value)


def recording_attributes(
    env_id: str, reference: tuple[float, float] | None, seed: int, versions: Mapping[str, str]
) -> dict[str, Any]:
    """Return the attributes of a recorded file.

    Args:
      env_id: Gymnasium id of the recorded environment, or "none".
      reference: Returns that score 0 and 100, or None.
      seed: Seed of the training that produced the policy or the buffer.
      versions: Versions of the packages used in training.
    """
    packages, known = [], {}
    if env_id != "none":
        packages, known = ["gymnasium"], {"env_id": env_id}
        with contextlib.closing(make_env(env_id)) as env:
            if isinstance(getattr(env.unwrapped, "model", None), mujoco.MjModel):
                packages.append("mujoco")
    return {
        **known,
        **dict(zip(("ref_min_score", "ref_max_score"), reference or ())),
        "seed": seed,
        **{f"{name}_version": metadata.version(name) for name in packages},
        "versions": json.dumps(versions),
    }


def write_minari(
    dataset_id: str,
    transitions: Transition,
    env_id: str,
    reference: tuple[float, float] | None,
    algorithm: str,
) -> None:
    """Write a data set with the minari package, to its own root (`$MINARI_DATASETS_PATH`).

    Args:
      dataset_id: A Minari id, such as `mine/hopper/medium-v0`.
      transitions: [M, ...], untransformed; every episode's last one is terminated or truncated.
      env_id: Gymnasium id of the environment that they come from, with a flat observation.
      reference: Returns of the random and the expert policy, or None.
      algorithm: Name of the algorithm that chose the actions.

    Raises:
      InputError: The minari package is missing, or refuses the data set.
    """
    try:
        import minari
        from minari.data_collector import EpisodeBuffer
    except ImportError as error:
        raise InputError("--minari: pip install 'minari[hdf5]' first") from error
    with known_warnings_ignored():
        env = gymnasium.make(env_id)
    space: Any = env.action_space
    # Ours lie in [-1, 1]; Minari stores actions in the environment's own units.
    actions = unscaled(transitions.action, (space.low, space.high))
    ends = np.flatnonzero(transitions.terminated | transitions.truncated) + 1
    episodes = [
        EpisodeBuffer(
            id=i,
            observations=np.concatenate(
                [transitions.observation[rows], transitions.next_observation[rows][-1:]]
            ).astype(env.observation_space.dtype),
            actions=actions[rows].astype(space.dtype),
            rewards=transitions.reward[rows].tolist(),
            terminations=transitions.terminated[rows].tolist(),
            truncations=transitions.truncated[rows].tolist(),
        )
        for i, rows in enumerate(slice(a, b) for a, b in zip([0, *ends], ends))
    ]
    low, high = reference or (None, None)
    try:
        minari.create_dataset_from_buffers(
            dataset_id,
            episodes,
            env,
            eval_env=env,
            algorithm_name=algorithm,
            author="enoto_jax",
            author_email="none",
            code_permalink="none",
            ref_min_score=low,
            ref_max_score=high,
            description=f"{algorithm} in {env_id}, made by enoto collect",
            requirements=[f"mujoco=={metadata.version('mujoco')}"],
        )
    except (ValueError, OSError) as error:
        raise InputError(f"--minari: {dataset_id}: {' '.join(str(error).split())}") from error
    finally:
        env.close()


def _plain(value: Any) -> Any:
    # Fixed-length text: a damaged heap of variable-length text can hang the HDF5 library.
    return np.bytes_(value) if isinstance(value, str) else value
