"""Robot data as targets of the fuzzer: robomimic, LeRobot, and Minari's arrow and parquet."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

MINARI_ID = "fuzz/columns-v0"


def robomimic(folder: Path) -> None:
    """Write three demonstrations, the second of which fails."""
    with h5py.File(folder / "demo.hdf5", "w") as file:
        for number in range(3):
            rng, steps = np.random.default_rng(number), 4 + number
            group = file.create_group(f"data/demo_{number}")
            group["actions"] = rng.uniform(-1, 1, (steps, 2))
            group["rewards"] = np.float64((np.arange(steps) == steps - 1) & (number != 1))
            seen = rng.normal(size=(steps + 1, 3))
            for key, values in (("obs", seen[:-1]), ("next_obs", seen[1:])):
                group[f"{key}/object"] = values
                group[f"{key}/eye"] = np.zeros((steps, 2, 2, 3), np.uint8)


def lerobot(folder: Path) -> None:
    """Write two files, with an episode that is split across both."""
    rng, rows = np.random.default_rng(0), 15
    step = np.arange(rows) % 5
    columns = {
        "observation.state": _vectors(rng.normal(size=(rows, 3)).astype(np.float32)),
        "action": _vectors(rng.uniform(-40, 40, (rows, 2)).astype(np.float32)),
        "next.reward": pa.array(np.float32(step == 4)),
        "next.success": pa.array((step == 4) & (np.arange(rows) != 9)),
        "frame_index": pa.array(step),
        "episode_index": pa.array(np.arange(rows) // 5),
    }
    place, table = folder / "arm" / "data" / "chunk-000", pa.table(columns)
    place.mkdir(parents=True)
    pq.write_table(table[:8], place / "file-000.parquet")
    pq.write_table(table[8:], place / "file-001.parquet")
    info = {
        "codebase_version": "v3.0",
        "features": {
            "observation.state": {"dtype": "float32", "shape": [3]},
            "observation.images.top": {"dtype": "video", "shape": [4, 4, 3]},
            "action": {"dtype": "float32", "shape": [2]},
        },
        "total_frames": rows,
        "total_episodes": 3,
    }
    stats = {"action": {"min": [-40.0, -40.0], "max": [40.0, 40.0]}}
    (folder / "arm" / "meta").mkdir()
    (folder / "arm" / "meta" / "info.json").write_text(json.dumps(info))
    (folder / "arm" / "meta" / "stats.json").write_text(json.dumps(stats))


def minari(folder: Path, kind: str) -> None:
    """Write two episodes as arrow or parquet files."""
    place = folder / MINARI_ID / "data"
    for number in range(2):
        rng, rows = np.random.default_rng(number), 5 + number
        parts = [_vectors(rng.normal(size=(rows, size))) for size in (1, 2)]
        columns = {
            "observations": pa.StructArray.from_arrays(parts, names=["a", "b"]),
            "actions": _vectors(rng.uniform(-2, 2, (rows, 1)).astype(np.float32)),
            "rewards": pa.array(rng.normal(size=rows)),
            "terminations": pa.array(np.arange(rows) == rows - 2 + number),
            "truncations": pa.array(np.zeros(rows, bool)),
        }
        (place / str(number)).mkdir(parents=True)
        path, table = place / str(number) / f"part-0.{kind}", pa.table(columns)
        if kind == "parquet":
            pq.write_table(table, path)
            continue
        with pa.ipc.new_file(str(path), table.schema) as file:
            file.write_table(table)
    bounds = {"type": "Box", "dtype": "float32", "shape": [1], "low": [-2.0], "high": [2.0]}
    metadata = {
        "total_episodes": 2,
        "data_format": kind,
        "action_space": json.dumps(bounds),
        "observation_space": json.dumps({"type": "Dict", "subspaces": {"a": bounds}}),
    }
    (place / "metadata.json").write_text(json.dumps(metadata))


def _vectors(values: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
