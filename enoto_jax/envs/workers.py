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

_PATIENCE_S = 2.0  # with a process that ends


class Seen(NamedTuple):
    """What M environments show.

    Attributes:
      observation: [M, D].
      reward: [M].
      ended: [M] bool.
      success: [M], 1 or 0 where this step tells success or the opposite, NaN where it does not.
    """

    observation: np.ndarray
    reward: np.ndarray
    ended: np.ndarray
    success: np.ndarray


class Part:
    """M environments, stepped in turn.

    Args:
      env: Gymnasium id of all, or what else `env_choice` takes.
      names: Of each, for messages.
    """

    def __init__(self, env: Env, names: Sequence[str]):
        self.envs = [Guard(make_env(env), name) for name in names]

    def reset(self, seeds: np.ndarray) -> Seen:
        """Begin the episodes of seeds [M]; their rewards are 0 and none has ended."""
        for env in self.envs:
            env.count = 0
        observations = [env.reset(seed=int(x))[0] for env, x in zip(self.envs, seeds)]
        self._observation, count = np.asarray(observations, np.float32), len(seeds)
        nothing = np.zeros(count, bool), np.full(count, np.nan)
        return Seen(self._observation.copy(), np.zeros(count), *nothing)

    def step(self, action: np.ndarray, alive: np.ndarray) -> Seen:
        """Step those that are alive [M] by their actions [M, A]; the others have ended."""
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
    """M environments in several processes, the caller's among them; used as a `Part`.

    What an environment does depends on its seed and actions alone, so that any number of processes
    gives the same numbers. The others are started by `spawn`, which imports one's own script once
    more: it must run nothing but under `if __name__ == "__main__"`.

    Args:
      env: Gymnasium id of all, or what else `env_choice` takes.
      names: Of each, for messages.
      processes: How many; no more than there are environments are used.

    Attributes:
      limit: The environments' time limit, None without one.

    Raises:
      InputError: At once: an environment that cannot be made, here or in another process.
      RunError: A process has ended; in `reset` and `step`: an environment fails.

    Whatever is raised, Ctrl-C included, ends the other processes first.
    """

    def __init__(self, env: Env, names: Sequence[str], processes: int = 1):
        # Dealt out like cards: episodes that end early often lie side by side.
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
                other.answer()  # that its environments are made
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
        except BaseException:  # answers would no longer be those to what is asked
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
        context = multiprocessing.get_context("spawn")  # a fork beside JAX's threads may hang
        self._connection, theirs = context.Pipe()
        self._name = names[0]
        # Gymnasium knows by now what the others may not: it may have been registered by hand.
        arguments = (theirs, choice, names, gymnasium.registry.get(choice.name))
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        try:
            self._process.start()
        except Exception as error:  # of several kinds, by what of its registration cannot be sent
            raise InputError(
                f"--eval_processes: {choice} cannot be made in another process ({error}); give or "
                "register a class or a function of a module, or evaluate in one process"
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
            f"{self._name}: the process that steps it has ended, exit code {code}; a script that "
            "evaluates in several runs under if __name__ == '__main__'"
        )

    def close(self) -> None:
        self._connection.close()
        self._process.join(_PATIENCE_S)
        self._process.kill()
        self._process.join()  # a busy machine takes its time


def _serve(
    connection: Connection, choice: EnvChoice, names: Sequence[str], spec: EnvSpec | None
) -> None:
    """Say that the environments are made, and answer until nobody asks any more."""
    os.setsid()  # what is signalled to the run's group is the run's to answer
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
