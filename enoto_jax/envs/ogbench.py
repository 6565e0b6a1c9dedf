"""OGBench's environments, an optional extra: registered by their ids, random numbers their own.

Their package draws from NumPy's global generator and from the action space besides the
environment's own generator. Here each environment keeps a global generator for itself, and a
seed sets all three, so that equal seeds begin equal episodes whatever runs beside them.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from enoto_jax.types import InputError

_IDS = re.compile(r"(pointmaze|antmaze|humanoidmaze|antsoccer|cube|scene|puzzle)(-[\w-]+)?-v0")


def register(env_id: str) -> bool:
    """Tell Gymnasium about OGBench's environments, if the id is one of theirs; whether it is.

    Raises:
      InputError: it is, and the package is not installed.
    """
    if not _IDS.fullmatch(env_id):
        return False
    if env_id not in gymnasium.registry:
        try:
            import ogbench  # noqa: F401  # registers them
        except ImportError as error:
            raise InputError(
                f"--env: {env_id} comes from ogbench; pip install 'enoto_jax[ogbench]'"
            ) from error
    return env_id in gymnasium.registry


class OwnRandomness(gymnasium.Wrapper):
    """An environment with a global generator of NumPy's of its own."""

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        self._global = np.random.RandomState(0).get_state()
        # A maze writes its model to a temporary file and leaves it there.
        path = Path(getattr(env.unwrapped, "fullpath", ""))
        if path.suffix == ".xml" and path.parent == Path(tempfile.gettempdir()):
            path.unlink(missing_ok=True)

    @contextmanager
    def _own(self) -> Iterator[None]:
        before = np.random.get_state()
        np.random.set_state(self._global)
        try:
            yield
        finally:
            self._global = np.random.get_state()
            np.random.set_state(before)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        if seed is not None:
            self._global = np.random.RandomState(seed).get_state()
            self.env.action_space.seed(seed)
            self.env.unwrapped.action_space.seed(seed)
        with self._own():
            return self.env.reset(seed=seed, options=options)

    def step(self, action):
        with self._own():
            return self.env.step(action)
