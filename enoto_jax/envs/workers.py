"""Environments that several processes step together, for evaluations."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

from enoto_jax.envs.choice import EnvChoice, env_choice
from enoto_jax.envs.guard import Guard
from enoto_jax.envs.gym import Env, make_env, time_limit
from enoto_jax.types import InputError, RunError

_PATIENCE_S = 2.0  # how long to wait for a process to end


class Seen(NamedTuple):
    """The results of a step or reset of M environments.

    Attributes:
      observation: Observations [M, D].
      reward: Rewards [M].
      ended: Whether the episodes have ended, [M] bool.
      success: [M], 1 or 0 where this step reports success or failure, else NaN.
    """

    observation: np.ndarray
    reward: np.ndarray
    ended: np.ndarray
    success: np.ndarray


class Part:
    """M environments, stepped one after another.

    Args:
      env: Gymnasium id of all, or anything else that `env_choice` takes.
      names: The environments' names in messages.
    """

    def __init__(self, env: Env, names: Sequence[str]):
        self.envs = [Guard(make_env(env), name) for name in names]

    def reset(self, seeds: np.ndarray) -> Seen:
        """Begin episodes with the seeds [M]; rewards are 0 and no episode has ended."""
        for env in self.envs:
            env.count = 0
        observations = [env.reset(seed=int(x))[0] for env, x in zip(self.envs, seeds)]
        self._observation, count = np.asarray(observations, np.float32), len(seeds)
        nothing = np.zeros(count, bool), np.full(count, np.nan)
        return Seen(self._observation.copy(), np.zeros(count), *nothing)

    def step(self, action: np.ndarray, alive: np.ndarray) -> Seen:
        """Step the environments that are alive [M] by their actions [M, A]; others have ended."""
        reward, ended, success = np.zeros(len(alive)), ~alive, np.full(len(alive), np.nan)
        for i in np.flatnonzero(alive):
            self._observation[i], reward[i], *ends, info = self.envs[i].step(action[i])
            ended[i], success[i] = any(ends), info.get("success", np.nan)
        return Seen(self._observation.copy(), reward, ended, success)

    def close(self) -> None:
        """Close every environment, once."""
        envs, self.envs = self.envs, []
        for env in envs:
            env.close()


class Crew:
    """M environments in several processes, including the caller's; used like a `Part`.

    An environment depends only on its seed and actions, so any number of processes gives the same
    numbers. The other processes are started by `spawn`, which imports the user's script again, so
    the script must run everything under `if __name__ == "__main__"`.

    Args:
      env: Gymnasium id of all, or anything else that `env_choice` takes.
      names: The environments' names in messages.
      processes: How many processes; at most one per environment is used.

    Attributes:
      limit: The environments' time limit, None without one.

    Raises:
      InputError: On creation: an environment cannot be made, here or in another process.
      RunError: A process has ended, or, in `reset` and `step`, an environment fails.

    Any exception, Ctrl-C included, ends the other processes first.
    """

    def __init__(self, env: Env, names: Sequence[str], processes: int = 1):
        # Dealt out in turn, because episodes that end early are often neighbours.
        rows = np.arange(len(names))
        self._rows = [rows[k::processes] for k in range(min(processes, len(names)))]
        self._order = np.argsort(np.concatenate(self._rows))
        mine, *theirs = ([names[i] for i in own] for own in self._rows)
        choice, self._others = env_choice(env), []
        self._own = Part(choice, mine)
        self.limit = time_limit(self._own.envs[0])
        try:
            for part in theirs:
                self._others.append(_Elsewhere(choice, part))
            for other in self._others:
                other.answer()  # waits until its environments are made
        except BaseException:
            self.close()
            raise

    def reset(self, seeds: np.ndarray) -> Seen:
        return self._all("reset", seeds)

    def step(self, action: np.ndarray, alive: np.ndarray) -> Seen:
        return self._all("step", action, alive)

    def _all(self, what: str, *given: np.ndarray) -> Seen:
        mine, *theirs = ([x[own] for x in given] for own in self._rows)
        try:
            for other, part in zip(self._others, theirs):
                other.ask(what, *part)
            parts = [getattr(self._own, what)(*mine), *(other.answer() for other in self._others)]
        except BaseException:  # answers would no longer match requests
            self.close()
            raise
        return Seen(*(np.concatenate(x)[self._order] for x in zip(*parts)))

    def close(self) -> None:
        """Close every environment, and end the other processes."""
        self._own.close()
        for other in self._others:
            other.close()


class _Elsewhere:
    """A part in a process of its own."""

    def __init__(self, choice: EnvChoice, names: Sequence[str]):
        context = multiprocessing.get_context("spawn")  # a fork may hang with JAX's threads
        self._connection, theirs = context.Pipe()
        self._name = names[0]
        # The id may have been registered by hand, in this process only.
        arguments = (theirs, choice, names, gymnasium.registry.get(choice.name))
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        try:
            self._process.start()
        except Exception as error:  # its type depends on what cannot be pickled
            raise InputError(
                f"--eval_processes: {choice} cannot be made in another process ({error}); give or "
                "register a module's class or function, or evaluate in one process"
            ) from error
        theirs.close()

    def ask(self, *message: Any) -> None:
        try:
            self._connection.send(message)
        except OSError as error:
            raise self._ended() from error

    def answer(self) -> Seen | None:
        try:
            answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._ended() from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _ended(self) -> RunError:
        self._process.join(_PATIENCE_S)
        code = self._process.exitcode
        return RunError(
            f"{self._name}: its worker process has ended with exit code {code}; a script that "
            "evaluates in several processes must run under if __name__ == '__main__'"
        )

    def close(self) -> None:
        self._connection.close()
        self._process.join(_PATIENCE_S)
        self._process.kill()
        self._process.join()  # may take long on a busy machine


def _serve(
    connection: Connection, choice: EnvChoice, names: Sequence[str], spec: EnvSpec | None
) -> None:
    """Report that the environments are made, then answer requests until the connection closes."""
    os.setsid()  # signals to the run's process group are for the run alone
    if spec is not None:
        gymnasium.registry.setdefault(spec.id, spec)
    try:
        part = Part(choice, names)
        connection.send(None)
        while True:
            what, *given = connection.recv()
            connection.send(getattr(part, what)(*given))
    except (InputError, RunError) as error:
        connection.send(error)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
