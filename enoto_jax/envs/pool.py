"""Training environments in envpool's C++: `--envs_backend=envpool`, an optional package.

Its MuJoCo tasks match Gymnasium's -v4 up to rounding: a step from the same state differs by at most
1e-7 (docs/performance.md). Start states have the same distribution but are different draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from enoto_jax.envs.choice import env_choice
from enoto_jax.envs.gym import Env
from enoto_jax.envs.vector import Step, first_step
from enoto_jax.transforms import Transform
from enoto_jax.types import InputError, RunError, Transition, check_choice

# Environments whose steps were compared with Gymnasium's.
COMPARED = ("HalfCheetah-v4", "Hopper-v4", "Walker2d-v4")
BACKENDS = ("gymnasium", "envpool")


def check(backend: str, env: Env) -> None:
    """Refuse a backend that cannot run the environment.

    Raises:
      InputError: The backend is unknown, or it is envpool and the environment's physics were not
        compared or the package is not installed.
    """
    check_choice("--envs_backend", backend, BACKENDS)
    if backend == "gymnasium":
        return
    env_id = env_choice(env).text
    if env_id not in COMPARED:
        raise InputError(
            f"--envs_backend: envpool's physics are known to be Gymnasium's for "
            f"{', '.join(COMPARED)}, not for {env_id}; use --envs_backend=gymnasium"
        )
    try:
        import envpool  # noqa: F401
    except ImportError as error:
        raise InputError(
            "--envs_backend: envpool is not installed; pip install 'enoto_jax[envpool]'"
        ) from error


class PoolEnvs:
    """S environments side by side, as in `vector.SeedEnvs`; all are stepped at once, in threads.

    Each is a pool of its own, so that a seed's start states do not depend on the others.

    Args:
      env: One of COMPARED.
      seeds: S seeds, one for each environment's random numbers.
      transform: The transform of the training data; it maps actions and transitions.

    Raises:
      RunError: In `step`: an environment returned NaN or infinity.
    """

    def __init__(self, env: Env, seeds: Sequence[int], transform: Transform):
        self._env_id, self._transform = env_choice(env).text, transform
        self._seeds = [int(seed) for seed in seeds]
        self._pools: list[Any] = []
        self._count = 0

    def begin(self, number: int = 0) -> Step:
        """Begin new episodes, as `vector.SeedEnvs.begin` does."""
        import envpool

        self.close()
        self._count = number
        for seed in self._seeds:
            state = np.random.SeedSequence([seed, number]).generate_state(1)[0]
            own = int(state) % 2**31  # envpool's seeds are signed
            self._pools.append(envpool.make_gymnasium(self._env_id, num_envs=1, seed=own))
        self._observation = np.concatenate([p.reset()[0] for p in self._pools]).astype(np.float32)
        return first_step(self._observation, self._pools[0].action_space.shape[0], self._transform)

    def step(self, action: np.ndarray) -> Step:
        """Step every environment by its action, [S, A]."""
        before, action = self._observation, self._transform.world_action(action)
        self._count += 1
        for pool, own in zip(self._pools, action):
            pool.send(np.asarray(own, np.float64)[None])
        results = [pool.recv()[:4] for pool in self._pools]
        following, reward, terminated, truncated = map(np.concatenate, zip(*results))
        following = np.asarray(following, np.float32)
        for seed, seen, paid in zip(self._seeds, following, reward):
            if not (np.isfinite(seen).all() and np.isfinite(paid)):
                raise RunError(
                    f"{self._env_id} of seed {seed}, step {self._count}: NaN or infinity"
                )
        terminated = terminated.astype(bool)
        transition = Transition(
            observation=before,
            action=np.asarray(action, np.float32),
            reward=np.asarray(reward, np.float32),
            terminated=terminated,
            truncated=truncated.astype(bool) & ~terminated,
            next_observation=following,
        )
        # A pool resets itself one step late, and loses that step's action.
        ended, observation = terminated | truncated.astype(bool), following.copy()
        for i in np.flatnonzero(ended):
            observation[i] = self._pools[i].reset()[0][0]
        self._observation = observation
        seen = self._transform.observation(observation).astype(np.float32)
        return Step(self._transform.transitions(transition), seen, ended)

    def capture(self) -> None:
        """Return None: envpool cannot save an environment, so a resume begins new episodes."""

    def close(self) -> None:
        for pool in self._pools:
            pool.close()
        self._pools = []
