"""What is fuzzed: valid input, the mutations that fit it, and how a user would read it."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from enoto_jax.data.formats import minari
from enoto_jax.types import InputError
from experiments.robustness import fuzz_bundle, fuzz_worlds
from experiments.robustness.fuzz_targets import commands, data_sets, folders, runs
from experiments.robustness.fuzz_targets.target import SECRET, Leaked, Target, everywhere

__all__ = ["TARGETS", "TURNS", "Leaked", "drawn", "make_case", "make_corpus", "outside", "quiet"]

TARGETS: dict[str, Target] = {
    **data_sets.TARGETS,
    **folders.TARGETS,
    **commands.TARGETS,
    **runs.TARGETS,
    "bundle": Target(
        fuzz_bundle.make, everywhere(fuzz_bundle.MUTATIONS, fuzz_bundle.NAME), fuzz_bundle.use
    ),
    "environment": Target(
        fuzz_worlds.make_environment,
        everywhere(fuzz_worlds.ENVIRONMENT, fuzz_worlds.NAME),
        fuzz_worlds.use_environment,
    ),
    "arrays": Target(
        fuzz_worlds.make_arrays,
        everywhere(fuzz_worlds.ARRAYS, fuzz_worlds.NAME),
        fuzz_worlds.use_arrays,
    ),
    "told": Target(
        fuzz_worlds.make_told, everywhere(fuzz_worlds.TOLD, fuzz_worlds.NAME), fuzz_worlds.use_told
    ),
}
# Data sets and policies come from strangers and are quick to try; a recipe takes a second to build.
TURNS = (
    *10 * ("d4rl", "antmaze", "virtual", "words", "npz", "minari", "bundle"),
    *10 * ("environment", "arrays", "told"),
    *10 * ("robomimic", "lerobot", "minari_arrow", "minari_parquet"),
    *2 * ("evaluations", "checkpoint"),
    "flags",
    "config",
)


def _no_download(dataset_id: str, folder: Path) -> None:
    raise InputError(f"{dataset_id}: nothing is fetched while fuzzing, to {folder}")


def quiet() -> None:
    """Forbid downloads, and make warnings errors, as they would be further lines on stderr."""
    minari._download = _no_download
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", ".*is out of date.*", DeprecationWarning)


def _rng(seed: int, number: int) -> np.random.Generator:
    return np.random.default_rng([seed, number])


def drawn(seed: int, number: int, targets: Sequence[str]) -> tuple[str, str]:
    """Return the target and the mutation of a case."""
    name = targets[number % len(targets)]
    choices = list(TARGETS[name].mutations)
    return name, choices[_rng(seed, number).integers(len(choices))]


def make_corpus(folder: Path, targets: Sequence[str]) -> None:
    """Write valid input of every target."""
    for name in dict.fromkeys(targets):
        (folder / name).mkdir(parents=True)
        TARGETS[name].make(folder / name)


def make_case(
    corpus: Path, folder: Path, seed: int, number: int, targets: Sequence[str]
) -> Callable[[], None]:
    """Write a case's input to `<folder>/input`, and what it must not reach to `<folder>/outside`.

    Returns:
      A call that reads the input as a user would.
    """
    name, mutation = drawn(seed, number, targets)
    rng = _rng(seed, number)
    rng.integers(2)
    inside = folder / "input"
    shutil.copytree(corpus / name, inside)
    _write_outside(folder / "outside")
    pattern, change = TARGETS[name].mutations[mutation]
    for _ in range(1 + (rng.random() < 0.2)):
        paths = sorted(path for path in inside.glob(pattern) if path.is_file())
        try:
            change(paths[rng.integers(len(paths))], rng)
        except Exception:  # from any library: it does not fit, as after another mutation
            continue
    return partial(TARGETS[name].use, inside)


def _write_outside(folder: Path) -> None:
    folder.mkdir(parents=True)
    arrays = data_sets.data(with_next=True)
    with h5py.File(folder / "secret.hdf5", "w") as file:
        for key, array in {**arrays, **folders.episode(0)}.items():
            file[key] = np.full(array.shape, SECRET, np.float32)
    (folder / "secret.bin").write_bytes(np.full(1000, SECRET, np.float32).tobytes())


def outside(folder: Path) -> list[tuple[str, int]]:
    """Return what is around a case's input, with times of modification (0 for folders)."""
    paths = (p for p in folder.parent.glob("*") if p == folder)
    around = [*paths, *folder.glob("*"), *(folder / "outside").rglob("*")]
    return sorted((str(p), 0 if p.is_dir() else p.stat().st_mtime_ns) for p in around)
