"""The online phase pushed by its caller: for a robot, or any world that is not a Gymnasium one.

    agent = Agent(recipe, source, restore="runs/offline", out="runs/robot")
    action = agent.act(observation)
    ...
    agent.observe(Transition(observation, action, reward, terminated, truncated, next_observation))

Every `act` is the same one dispatch as a step of the online loop: store what was observed, update,
choose the next action. Driven by the loop's environments it computes what the loop computes.
"""

from __future__ import annotations

import os
from pathlib import Path

import jax
import numpy as np

from enoto_jax import logging, units
from enoto_jax.checkpoint import Checkpoints
from enoto_jax.data.source import Source
from enoto_jax.recipes import Recipe, build, example_transition
from enoto_jax.train import online, restoring
from enoto_jax.train.seeds import SeedMap
from enoto_jax.types import Array, InputError, Transition


class Agent:
    """One seed of a recipe's online phase.

    Args:
      recipe: its online phase is run; steps and evaluations do not matter.
      source: sizes and, where the replay needs it, the data set; `from_arrays` makes one.
      restore: the folder of a run whose offline phase it starts from; None for rows without one.
      out: a folder to save in; an agent made again with the same one goes on from its last save.
      seed: of its random numbers, and of the restored run.

    Raises:
      InputError: units, data, or the restored run do not fit.
    """

    def __init__(
        self,
        recipe: Recipe,
        source: Source,
        restore: str | os.PathLike | None = None,
        out: str | os.PathLike | None = None,
        *,
        seed: int = 0,
    ):
        built, self._phase = build(recipe, source.spec), recipe.online
        seeds = SeedMap([seed], jax.local_devices()[:1])
        self._seeds, self._replay, self._spec = seeds, built.replay, source.spec
        if recipe.offline is not None and restore is None:
            raise InputError("restore: this row has an offline phase; give the folder of its run")
        before, self.transform = None, None
        if recipe.offline is not None:
            before, self.transform = restoring.offline_state(Path(restore), built.offline, seeds)
        dataset = source.load() if built.replay.needs_data else None
        self.transform = self.transform or recipe.transform.build()(source.spec, dataset)
        data, rows = None, 0
        if dataset is not None:
            data, rows = self.transform.transitions(dataset.transitions), len(dataset)
            extras = restoring.extras(built.online, data, seeds, stored=True)
            data = seeds.share(data)._replace(extras=extras)
        self._data = data
        begin = online.begin(built.online, built.replay, source.spec, self._phase.batch_size, rows)
        self._online = restoring.hand_over(built, begin, seeds, before)
        self.steps, self._checkpoints = 0, None
        if out is not None:
            self._open(Path(out), recipe, seed)
        self._first = self.steps
        nothing = example_transition(source.spec, built.online)._replace(extras={})
        self._newest = jax.tree.map(np.asarray, nothing)
        if self.steps:
            last = online.cut_off(self._online, self.steps, built.replay, seeds)
            self._newest = jax.tree.map(lambda x: x[0], last)
        self._starts, self._waiting = True, False
        # Compiled now, so that no step waits for it.
        step = online.compile_step(self._phase, built.online, built.replay, seeds)
        self._advance = step.lower(*self._arguments(self._newest.observation)).compile()
        self._mode = seeds.compile(built.online.mode)

    def act(self, observation: Array, explore: bool = True) -> np.ndarray:
        """The action [A] in [-1, 1] for an observation [D]; learns from what was observed before.

        Args:
          observation: the world's, not transformed.
          explore: by the exploration rule; otherwise deterministic, and nothing is learned.

        Raises:
          InputError: an observation of another size, or not finite.
        """
        observation = self._checked("observation", observation, self._spec.observation_size)
        seen = np.float32(self.transform.observation(observation))
        if not explore:
            action = self._mode(self._online.train, self._seeds.put(seen[None]))
        else:
            self._online, action = self._advance(*self._arguments(seen))
            self._starts = self._waiting = False
        return np.float32(self.transform.world_action(self._seeds.get(action)[0]))

    def observe(self, transition: Transition) -> None:
        """Hand in the step that followed the last `act`; its action may be another than advised.

        Args:
          transition: the world's numbers: observation [D], action [A], a reward, two flags, and the
            next observation [D] (the true successor, also at an episode's end).

        Raises:
          InputError: sizes that do not fit, numbers that are not finite, or a second transition
            before the next `act`; nothing is stored then.
        """
        if self._waiting:
            raise InputError("observe: the last transition still waits for the next act()")
        d, a = self._spec
        terminated = bool(transition.terminated)
        world = Transition(
            self._checked("observation", transition.observation, d),
            self._checked("action", transition.action, a),
            np.float32(self._checked("reward", np.reshape(transition.reward, 1), 1)[0]),
            np.bool_(terminated),
            np.bool_(bool(transition.truncated) and not terminated),
            self._checked("next_observation", transition.next_observation, d),
        )
        kept = self.transform.transitions(world)
        self._newest = jax.tree.map(lambda x, like: np.asarray(x, like.dtype), kept, world)
        self._starts = bool(world.terminated | world.truncated)
        self._waiting, self.steps = True, self.steps + 1

    def save(self) -> None:
        """Save everything; an agent made with the same `out` goes on from here.

        Raises:
          InputError: the agent has no `out`, or the newest transition was not learned from yet.
        """
        if self._checkpoints is None:
            raise InputError("save: give the agent a folder: Agent(..., out=...)")
        if self._waiting or not self.steps:
            raise InputError("save: call it right after an act() that followed an observe()")
        about = {"phase": "online", "step": self.steps, "transform": self.transform.to_json()}
        state = online.portable(self._online, self.steps, self._seeds)
        self._checkpoints.save(self.steps, state, about)
        self._checkpoints.wait()

    def _open(self, out: Path, recipe: Recipe, seed: int) -> None:
        """Make the folder, or go on from what it holds."""
        config = {"recipe": units.to_json(recipe), "seeds": [seed]}
        if (out / "config.json").exists() and restoring.config(out) != config:
            raise InputError(f"out: {out} holds another run or agent; give another folder")
        out.mkdir(parents=True, exist_ok=True)
        logging.write_json(out / "config.json", config)
        self._checkpoints = Checkpoints(out / "checkpoints")
        if (found := self._checkpoints.record()) is not None:
            whole = jax.tree.map(np.zeros_like, self._seeds.get(self._online))
            part = online.saved_template(whole, found["step"])
            saved = online.unpack(self._checkpoints.restore(part), whole)
            self._online, self.steps = self._seeds.put(saved), found["step"]

    def _arguments(self, observation: np.ndarray) -> tuple:
        put, share = self._seeds.put, self._seeds.share
        first = jax.tree.map(lambda x: np.asarray(x)[None], (self._newest, observation))
        starts = put(np.asarray([self._starts]))
        # The same transition a second time (act called twice) is neither stored nor learned again.
        learns = self._waiting and self.steps > self._first
        rounds = online.rounds(self._phase, self.steps) if learns else 0
        counts = (share(np.int32(self.steps)), share(np.int32(rounds)))
        return (self._online, put(self._seeds.seeds), *map(put, first), starts, *counts, self._data)

    @staticmethod
    def _checked(name: str, value: Array, size: int) -> np.ndarray:
        array = np.asarray(value, np.float32)
        if array.shape != (size,):
            raise InputError(f"{name} has shape {list(array.shape)}, [{size}] is needed")
        if not np.isfinite(array).all():
            raise InputError(f"{name} holds NaN or infinity; it was not used")
        return array
