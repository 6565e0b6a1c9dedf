"""Write recorded episodes in OGBench's layout: one file for training and one for validation."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from enoto_jax.atomic import written_whole
from enoto_jax.envs.ogbench_recordings import Recorder, versions
from enoto_jax.types import plural

VALIDATION = 1_000_000  # number of the first validation episode


def record(
    name: str, folder: Path, episodes: int, validation: int, seed: int, say: Callable[[str], None]
) -> None:
    """Record NAME.npz and NAME-val.npz, unless they exist.

    Episodes are kept in a hidden folder next to a file until it is complete, so a recording that
    was stopped resumes with the next episode.

    Args:
      name: A name in `envs.ogbench_recordings.RECIPES`.
      folder: The folder to write to.
      episodes: Number of episodes in the training file.
      validation: Number of episodes in the validation file.
      seed: Seed of all random numbers.
      say: Called with one line about each file.

    Raises:
      InputError: The recipe does not exist, or the package is not installed.
    """
    recorder = Recorder(name, seed)
    for stem, first, count in ((name, 0, episodes), (f"{name}-val", VALIDATION, validation)):
        path, parts = folder / f"{stem}.npz", folder / f".{stem}-seed{seed}"
        if path.exists():
            say(f"{path} already exists")
            continue
        files = [parts / f"{number}.npz" for number in range(first, first + count)]
        for number, file in enumerate(files, first):
            if not file.exists():
                arrays: Any = recorder.episode(number)
                with written_whole(file) as part:
                    np.savez(part, **arrays)
        _join(files, path, f"recorded by enoto collect, seed {seed}; not a file of OGBench's own")
        shutil.rmtree(parts)
        size = f"{plural(count, 'episode')}, {path.stat().st_size / 1e6:.1f} MB"
        say(f"{path}: {size}; not OGBench's own file")


def _join(files: list[Path], path: Path, origin: str) -> None:
    loaded = []
    for file in files:
        with np.load(file) as arrays:
            loaded.append(dict(arrays))
    whole: Any = {name: np.concatenate([part[name] for part in loaded]) for name in loaded[0]}
    about: Any = {"origin": np.bytes_(origin), "physics": np.bytes_(versions())}
    with written_whole(path) as part:
        np.savez_compressed(part, **whole, **about)
