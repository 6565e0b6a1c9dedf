"""The online phase driven by the caller's own loop, for a robot without a Gymnasium environment.

    agent = Agent(recipe, source, restore="runs/offline", out="runs/robot")
    action = agent.act(observation)
    ...
    agent.observe(Transition(observation, action, reward, terminated, truncated, next_observation))

Every `act` is one dispatch, like a step of the online loop: store the last transition, update,
choose the next action. With the same environments, it computes exactly what the loop computes.

With a budget, `observe` passes the transition to a learning thread, and `act` uses the newest
finished parameters, so neither waits for an update. Actions then come from parameters that are a
few steps old, and updates for which there is no time are skipped.

All arguments are copied, so a caller may reuse its arrays at once. `act` and `observe` use the same
units of action: those of the restored run or the data, or those that you give.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import numpy as np

from enoto_jax.data.source import Source
from enoto_jax.deploy.behind import Behind
from enoto_jax.deploy.folder import hold
from enoto_jax.deploy.learner import Learner, begin
from enoto_jax.deploy.world import usual_bounds, world_of
from enoto_jax.envs.choice import env_choice
from enoto_jax.envs.gym import Env
from enoto_jax.recipes import plugins, units
from enoto_jax.recipes.recipe import Recipe
from enoto_jax.runs.checkpoint import Checkpoints
from enoto_jax.runs.folder import OWN
from enoto_jax.runs.provenance import versions
from enoto_jax.types import Array, InputError, RunError, Transition


class Agent:
    """One seed of a recipe's online phase, driven by your own loop.

    Args:
      recipe: The method. Only its online phase is used, without its steps, evaluations and overlap,
        and with the transform of the restored run.
      source: The sizes and, if the replay needs it, the data set; see `from_arrays`.
      restore: The run whose offline phase the agent starts from; None for methods without one.
      out: A folder to save in, locked until `close`, which saves too. A new agent with the same
        folder resumes from the last save.
      seed: The seed of the random numbers, and the seed that is taken from the restored run.
      budget_s: Target time in seconds of `act`, `observe` and `save`; a busy CPU can exceed it
        (docs/deploy.md). None: wait for the update.
      action_low: The robot's lowest action, a number or [A]. Without bounds or `env`, they are
        those of the restored run, as in `load_policy`, else the data's, else [-1, 1]. A line on
        stderr says if the bounds in use differ from the run's or the data's.
      action_high: The robot's highest action.
      env: Instead of the bounds, an environment that has them: an id, or anything else that
        `envs.env_choice` takes. It is created once and not stepped.

    Raises:
      InputError: Units, data, bounds, or the restored run do not fit; no save is intact; or the
        folder holds another agent, or is in use.
    """

    def __init__(
        self,
        recipe: Recipe,
        source: Source,
        restore: str | os.PathLike | None = None,
        out: str | os.PathLike | None = None,
        *,
        seed: int = 0,
        budget_s: float | None = None,
        action_low: Array | float | None = None,
        action_high: Array | float | None = None,
        env: Env | None = None,
    ):
        _check_arguments(source, seed, budget_s, {"restore": restore, "out": out})
        given = not (env is action_low is action_high is None)
        usual = usual_bounds(source, restore, given)
        self._world = world_of(source.spec, action_low, action_high, env, usual)
        start = begin(recipe, source, restore, seed)
        self.transform, self._chunks = start.transform, start.built.online.open_loop is not None
        self._checkpoints: Checkpoints | None = None
        self._closed = False
        config = {
            "recipe": units.to_json(recipe),
            "seeds": [int(seed)],
            "data_hash": start.data_hash,
            "action_bounds": [x.tolist() for x in (self._world.low, self._world.high)],
        }
        about = {
            "method": OWN,
            "task": source.name,
            "env": "none" if env is None else env_choice(env).text,
            "restore": None if restore is None else str(Path(restore).resolve()),
            "plugins": plugins.modules_of(recipe),
            "reference": source.reference,
            "versions": versions(),
        }
        with ExitStack() if out is None else hold(Path(out), config, about) as held:
            if out is not None:
                self._checkpoints = Checkpoints(Path(out) / "checkpoints")
                start = start.resumed(self._checkpoints)
            self._learner = Learner(start) if budget_s is None else Behind(start, budget_s)
            self._lock = held.pop_all()  # `close` releases it from now on
        self._saved = self.steps  # how many of the steps are saved

    @property
    def steps(self) -> int:
        """Number of observed transitions, including those before a resume."""
        return self._learner.steps

    @property
    def updates(self) -> int:
        """Number of learning steps, of UTD updates each, since the agent was created."""
        return self._learner.updates

    @property
    def skipped(self) -> int:
        """Number of learning steps that were skipped for lack of time, with a budget."""
        return self._learner.skipped

    @property
    def late(self) -> int:
        """Number of actions that were not ready within the budget."""
        return self._learner.late

    def act(self, observation: Array, explore: bool = True) -> np.ndarray:
        """Learn from the last transition, and return the action [A] for an observation [D].

        The action lies between the agent's bounds (see `action_low`). If it is not ready within
        the budget, the last action is returned, and counted in `late`.

        Args:
          observation: Raw, not transformed.
          explore: Use the exploration rule. False: act deterministically; it still learns from
            the last transition. Not for methods with chunks.

        Raises:
          InputError: An observation of the wrong size, or not finite; or explore=False with chunks.
          RunError: The action is NaN or infinite.
        """
        if not explore and self._chunks:
            raise InputError(
                "act: this method chooses several actions at once, always by its exploration rule; "
                "call act(observation), or load_policy(folder).actions(observation)"
            )
        row = self._world.observation(observation)
        seen = np.asarray(self.transform.observation(row), np.float32)
        inner = self.transform.world_action(self._learner.act(seen, explore))
        return self._world.action(np.asarray(inner, np.float32))

    def observe(self, transition: Transition) -> None:
        """Pass in the step after the last `act`; its action may differ from the returned one.

        Args:
          transition: Raw numbers: observation [D], action [A] in the units of `act`, a
            reward, two flags, and the next observation [D] (the true successor, also at an
            episode's end). All of it is copied.

        Raises:
          InputError: Sizes that do not fit, numbers that are not finite, an action outside the
            bounds, a second transition before the next `act`, or a closed agent. Nothing is
            stored then.
          RunError: With a budget: learning has failed. `act` continues with the last parameters.
        """
        if self._closed:
            raise InputError("observe: this agent is closed; make a new one, with the same out")
        if self._learner.waiting:
            raise InputError("observe: call act() once between two transitions")
        world = self._world.transition(transition)
        kept = self.transform.transitions(world)
        self._learner.observe(jax.tree.map(lambda x, like: np.asarray(x, like.dtype), kept, world))

    def save(self) -> None:
        """Save everything; a new agent with the same `out` resumes from here.

        With a budget, saving runs in the background, and `close` waits for it.

        Raises:
          InputError: The agent has no `out` or is closed, or the newest transition was not learned
            from yet.
          RunError: A parameter is NaN or infinite, it cannot be written, or an earlier save could
            not be.
        """
        if self._checkpoints is None or self._closed:
            raise InputError(
                "save: this agent has no folder, or is closed; make one with Agent(..., out=...)"
            )
        if not self.steps:
            raise InputError("save: call it right after an act() that followed an observe()")
        self._learner.save(self._checkpoints)
        self._saved = self.steps

    def settle(self) -> None:
        """Wait until everything observed is learned from; with a budget, between episodes.

        Raises:
          RunError: Learning has failed.
        """
        self._learner.settle()

    def close(self) -> None:
        """Learn from everything observed, save it if there is an `out`, and release the folder.

        A `with` block does this too, also when it ends with an exception or Ctrl-C.

        Raises:
          RunError: Learning or a save has failed.
        """
        if self._closed:
            return
        with ExitStack() as stack:  # does all of it, whatever fails
            stack.callback(self._lock.close)
            if self._checkpoints is not None:
                stack.callback(self._checkpoints.close)
            stack.callback(self._learner.close)
            self._closed = True
            self.settle()
            if self._checkpoints is not None and self.steps > self._saved:
                self._learner.finish()
                self._learner.save(self._checkpoints)

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, kind: Any, raised: BaseException | None, trace: Any) -> None:
        try:
            self.close()
        except RunError as error:
            if raised is None:
                raise
            raised.add_note(f"closing the agent failed too: {error}")


def _check_arguments(source: Any, seed: Any, budget_s: Any, folders: Mapping[str, Any]) -> None:
    """Refuse arguments of the wrong type; `build` checks the recipe."""
    if not isinstance(source, Source):
        raise InputError(
            f"source: {type(source).__name__}; give a Source, such as load_source(path)"
        )
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**31:
        raise InputError(f"seed: {seed!r}; give one whole number between 0 and {2**31 - 1}")
    if budget_s is not None and not (isinstance(budget_s, int | float) and budget_s > 0.0):
        raise InputError(f"budget_s is {budget_s!r}; give seconds, above 0, or None")
    for name, folder in folders.items():
        if folder is not None and not isinstance(folder, str | os.PathLike):
            raise InputError(f"{name}: {folder!r}; give the path of a folder")
