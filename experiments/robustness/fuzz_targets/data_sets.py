"""Flat data sets: HDF5 files of several kinds, and npz archives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from enoto_jax.data import check
from enoto_jax.data.loading import load_source
from experiments.robustness import mutations
from experiments.robustness.fuzz_targets.target import SECRET, SPEC, Leaked, Target, everywhere


def data(rows: int = 21, *, with_next: bool = False, kind: str = "f4") -> dict[str, np.ndarray]:
    """Return three episodes of a random walk: one terminates, two are truncated."""
    rng = np.random.default_rng(0)
    observations = np.cumsum(rng.normal(size=(rows, SPEC.observation_size)), axis=0)
    arrays = {
        "observations": observations.astype("f4"),
        "actions": rng.uniform(-1, 1, (rows, SPEC.action_size)).astype("f4"),
        "rewards": rng.normal(size=rows).astype(kind),
        "terminals": np.arange(rows) == 6,
        "timeouts": np.isin(np.arange(rows), (13, rows - 1)),
    }
    if with_next:
        arrays["next_observations"] = np.roll(arrays["observations"], -1, axis=0)
    return arrays


def write_hdf5(path: Path, arrays: Mapping[str, np.ndarray], **attributes: Any) -> None:
    with h5py.File(path, "w") as file:
        for number, (key, array) in enumerate(arrays.items()):
            options = {"compression": "gzip", "shuffle": True} if number % 2 else {}
            file.create_dataset(key, data=array, **options)
        file.attrs.update(attributes)


def _d4rl(folder: Path) -> None:
    known = {"env_id": "InvertedPendulum-v4", "ref_min_score": -1.0, "ref_max_score": 1.0}
    write_hdf5(folder / "set.hdf5", data(with_next=True), **known)


def _antmaze(folder: Path) -> None:
    arrays = data(kind="f8")
    arrays |= {f"infos/{k}": np.zeros((21, 15)) for k in ("qpos", "qvel")}
    write_hdf5(folder / "antmaze-umaze-v2.hdf5", arrays)


def _virtual(folder: Path) -> None:
    arrays = data(with_next=True)
    write_hdf5(folder / "rows.hdf5", arrays)
    with h5py.File(folder / "set.hdf5", "w") as file:
        for key, array in arrays.items():
            layout = h5py.VirtualLayout(array.shape, array.dtype)
            layout[...] = h5py.VirtualSource("rows.hdf5", key, array.shape, array.dtype)
            file.create_virtual_dataset(key, layout)


def _npz(folder: Path) -> None:
    np.savez(folder / "set.npz", **data(with_next=True))


def _words(folder: Path) -> None:
    """Write other libraries' names, actions in other units, and an array that is not read."""
    arrays = data(with_next=True, kind="f8")
    ends = arrays["terminals"] | arrays.pop("timeouts")
    arrays["obs"], arrays["acts"] = arrays.pop("observations"), 2 * arrays.pop("actions")
    arrays |= {"masks": 1.0 - arrays.pop("terminals"), "dones_float": ends, "dones": ends}
    write_hdf5(folder / "words.hdf5", arrays, action_low=-2.0, action_high=2.0)


def use_file(folder: Path) -> None:
    """Load the data set, and report on it."""
    (path,) = (p for p in folder.iterdir() if p.name not in ("rows.hdf5", "neighbour.hdf5"))
    use_task(str(path))


def use_task(task: str) -> None:
    report = check.inspect(task, env_id="none", download=False)
    if report.source is not None:
        _look_for_secrets(report.arrays.values())
    texts = [finding.text for finding in report.findings]
    if any(not text.isprintable() for text in texts):
        raise AssertionError(f"a finding of other than one printable line: {texts}")
    source = load_source(task, download=False)
    loaded = source.load()
    if not report.usable or source.path is None:
        raise AssertionError(f"loaded, but reported as not usable: {texts}")
    _look_for_secrets(loaded.transitions[:6])


def _look_for_secrets(arrays: Any) -> None:
    for array in arrays:
        if array.dtype != bool and array.size and (np.asarray(array) == SECRET).all():
            raise Leaked("read outside")


HDF5 = everywhere(mutations.HDF5, "*.hdf5")
TARGETS = {
    "d4rl": Target(_d4rl, HDF5, use_file),
    "antmaze": Target(_antmaze, HDF5, use_file),
    "virtual": Target(_virtual, HDF5, use_file),
    "words": Target(_words, HDF5, use_file),
    "npz": Target(_npz, everywhere(mutations.NPZ, "*.npz"), use_file),
}
