"""Data sets in folders: Minari's in three formats, and those of robots."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import numpy as np

from experiments.robustness import fuzz_robots, mutations
from experiments.robustness.fuzz_targets.data_sets import HDF5, use_file, use_task, write_hdf5
from experiments.robustness.fuzz_targets.target import Target, everywhere

MINARI_ID = "fuzz/reach/medium-v0"


def episode(number: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(number)
    steps = 5 + number
    arrays = {
        "observations": rng.normal(size=(steps + 1, 2)),
        "actions": rng.uniform(-1, 1, (steps, 1)).astype("f4"),
        "rewards": rng.normal(size=steps),
        "terminations": np.arange(steps) == steps - 1 + number,
        "truncations": np.zeros(steps, bool),
    }
    return {f"episode_{number}/{key}": array for key, array in arrays.items()}


def _minari(folder: Path) -> None:
    place = folder / MINARI_ID / "data"
    place.mkdir(parents=True)
    write_hdf5(place / "main_data.hdf5", {k: v for i in range(3) for k, v in episode(i).items()})
    spec = {"id": "InvertedPendulum-v4", "max_episode_steps": 100, "kwargs": {}}
    bounds = {"type": "Box", "dtype": "float32", "shape": [1], "low": [-1.0], "high": [1.0]}
    metadata = {
        "total_episodes": 3,
        "total_steps": 18,
        "data_format": "hdf5",
        "env_spec": json.dumps(spec),
        "action_space": json.dumps(bounds),
        "dataset_id": MINARI_ID,
        "ref_min_score": 0.0,
        "ref_max_score": 10.0,
        "requirements": ["mujoco==3.2.3"],
        "minari_version": "0.5.4",
    }
    (place / "metadata.json").write_text(json.dumps(metadata))


def _use_minari(folder: Path, name: str = MINARI_ID) -> None:
    os.environ["MINARI_DATASETS_PATH"] = str(folder)
    use_task("minari:" + name)


TARGETS = {
    "minari": Target(
        _minari,
        everywhere(mutations.HDF5, f"{MINARI_ID}/data/main_data.hdf5")
        | {
            f"metadata: {k}": (f"{MINARI_ID}/data/metadata.json", v)
            for k, v in mutations.JSON.items()
        },
        _use_minari,
    ),
    "robomimic": Target(fuzz_robots.robomimic, HDF5, use_file),
    "lerobot": Target(
        fuzz_robots.lerobot,
        everywhere(mutations.BYTES, "arm/data/chunk-000/*.parquet")
        | {f"description: {k}": ("arm/meta/*.json", v) for k, v in mutations.JSON.items()},
        use_file,
    ),
    **{
        f"minari_{kind}": Target(
            partial(fuzz_robots.minari, kind=kind),
            everywhere(mutations.BYTES, f"{fuzz_robots.MINARI_ID}/data/*/part-0.{kind}")
            | {
                f"metadata: {k}": (f"{fuzz_robots.MINARI_ID}/data/metadata.json", v)
                for k, v in mutations.JSON.items()
            },
            partial(_use_minari, name=fuzz_robots.MINARI_ID),
        )
        for kind in ("arrow", "parquet")
    },
}
