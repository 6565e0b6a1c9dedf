"""Transforms: from what the world measures to what an agent sees, and back for its actions.

A transform is fitted to a data set once and then belongs to the run. It is applied to the training
data of both phases and saved with every checkpoint. Evaluations apply it only to observations and
actions; their rewards are always the environment's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import numpy as np

from enoto_jax.types import InputError, Spec, Transition, Unit


class Transform(NamedTuple):
    """Affine maps; the agent's value is (the world's - shift) / scale.

    Attributes:
      observation_shift: [D].
      observation_scale: [D].
      action_shift: [A].
      action_scale: [A].
      reward_scale: The agent's reward is reward_scale * r + reward_shift.
      reward_shift: Added after the scaling.
      action_limit: The world's actions are clipped to [-action_limit, action_limit].
    """

    observation_shift: np.ndarray
    observation_scale: np.ndarray
    action_shift: np.ndarray
    action_scale: np.ndarray
    reward_scale: float
    reward_shift: float
    action_limit: float

    def observation(self, world: np.ndarray) -> np.ndarray:
        """Return the agent's observation [..., D]."""
        return (world - self.observation_shift) / self.observation_scale

    def action(self, world: np.ndarray) -> np.ndarray:
        """Return the agent's action [..., A] for one of the world's, which is clipped first."""
        clipped = np.clip(world, -self.action_limit, self.action_limit)
        return (clipped - self.action_shift) / self.action_scale

    def world_action(self, action: np.ndarray) -> np.ndarray:
        """Return the world's action [..., A], clipped, for the agent's."""
        world = action * self.action_scale + self.action_shift
        return world.clip(-self.action_limit, self.action_limit)  # NumPy and JAX both have it

    def reward(self, world: np.ndarray) -> np.ndarray:
        """Return the agent's reward [...]."""
        return np.float32(self.reward_scale) * world + np.float32(self.reward_shift)

    def transitions(self, world: Transition) -> Transition:
        """Return the agent's transitions [...] for the world's; unchanged ones are not copied."""
        if self.changes_nothing:
            return world
        return world._replace(
            observation=self.observation(world.observation),
            action=self.action(world.action),
            reward=self.reward(world.reward),
            next_observation=self.observation(world.next_observation),
        )

    def world(self, agent: Transition) -> Transition:
        """Return the world's transitions [...] for the agent's; the inverse of `transitions`."""
        if self.changes_nothing:
            return agent
        observations = (
            np.float32(x * self.observation_scale + self.observation_shift)
            for x in (agent.observation, agent.next_observation)
        )
        return agent._replace(
            observation=next(observations),
            action=np.float32(self.world_action(agent.action)),
            reward=np.float32((agent.reward - self.reward_shift) / self.reward_scale),
            next_observation=next(observations),
        )

    @property
    def changes_nothing(self) -> bool:
        """Whether the agent's values are the world's."""
        shifts = (self.observation_shift, self.action_shift, self.reward_shift)
        scales = (self.observation_scale, self.action_scale, self.reward_scale, self.action_limit)
        return all(np.all(x == 0) for x in shifts) and all(np.all(x == 1) for x in scales)

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers, without rounding."""
        return {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in self._asdict().items()
        }

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> Transform:
        """Read what `to_json` returned.

        Raises:
          InputError: It is something else.
        """
        try:
            fields: dict[str, Any] = {
                k: np.float32(v) if isinstance(v, list) else float(v)  # type: ignore[arg-type]
                for k, v in tree.items()
            }
            return cls(**fields)
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"the checkpoint's transform cannot be read: {error}") from error


_ROUNDING = 1e-9  # relative difference below which returns are equal
_OFF = (
    "switch that off with --set=transform.{} (in Python: override), and give a scale yourself with "
    "transform.reward_scale"
)


class FitTransform(Unit):
    """Fits a transform to a data set."""

    def __call__(self, spec: Spec, dataset: Any) -> Transform:
        """Return the transform for these sizes and this `data.Dataset`, or None without one.

        Raises:
          InputError: The data do not have what the options ask for.
        """
        raise NotImplementedError


class transform(FitTransform):
    """Standardised observations and actions, scaled and shifted rewards, clipped actions."""

    observations: Annotated[
        bool, "standardise observations by the data's mean and standard deviation (TD3+BC, CORL)."
    ] = False
    actions: Annotated[bool, "standardise actions too (LAPO)."] = False
    epsilon: Annotated[
        float, "added to a standard deviation: 1e-3 in TD3+BC and CORL, 1e-6 in LAPO."
    ] = 1e-3
    reward_scale: Annotated[float, "factor of every reward."] = 1.0
    reward_shift: Annotated[
        float, "added to every reward after the factor (-1 for IQL in AntMaze)."
    ] = 0.0
    return_range: Annotated[
        float | None,
        "scale rewards so that the returns of the data's episodes span this much (1000 in IQL); "
        "None: do not.",
    ] = None
    reward_over_largest: Annotated[bool, "divide rewards by the data's largest one (LAPO)."] = False
    action_limit: Annotated[
        float,
        "actions are clipped to [-limit, limit], slightly below 1 for policies whose density is "
        "infinite there.",
    ] = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.action_limit <= 1.0:
            raise InputError(
                f"transform.action_limit is {self.action_limit}; it must be above 0 and at most 1"
            )
        finite = np.isfinite([self.reward_scale, self.reward_shift]).all()
        if not finite or self.reward_scale == 0.0:
            raise InputError(
                f"transform: reward_scale is {self.reward_scale} and reward_shift "
                f"{self.reward_shift}; both must be finite, and the scale not 0"
            )
        if self.return_range is not None and not self.return_range > 0.0:
            raise InputError(f"transform.return_range is {self.return_range}; it must be above 0")
        if not self.epsilon >= 0.0:
            raise InputError(f"transform.epsilon is {self.epsilon}; it must be 0 or more")

    def __call__(self, spec: Spec, dataset: Any) -> Transform:
        learned = (
            self.observations
            or self.actions
            or self.return_range is not None
            or self.reward_over_largest
        )
        if learned and dataset is None:
            raise InputError(
                "transform: it is fitted to data, and this run reads none; switch off "
                "transform.observations, transform.actions, transform.return_range and "
                "transform.reward_over_largest"
            )
        scale = self.reward_scale
        if self.return_range is not None:
            returns = dataset.episode_returns
            spread = float(np.ptp(returns))
            if spread <= _ROUNDING * np.abs(returns).max():
                raise InputError(
                    f"transform.return_range: {_same_return(returns)}, so rewards cannot be "
                    f"scaled by their range; {_OFF.format('return_range=none')}"
                )
            scale *= self.return_range / spread
        if self.reward_over_largest:
            largest = float(dataset.transitions.reward.max())
            if largest <= 0.0:
                raise InputError(
                    f"transform.reward_over_largest: no reward is above 0 (the largest is "
                    f"{largest:g}), so rewards cannot be divided by the largest; "
                    f"{_OFF.format('reward_over_largest=false')}"
                )
            scale /= largest
        data = None if dataset is None else dataset.transitions
        return Transform(
            *_moments(
                self.observations, data and data.observation, spec.observation_size, self.epsilon
            ),
            *_moments(self.actions, data and data.action, spec.action_size, self.epsilon),
            scale,
            self.reward_shift,
            self.action_limit,
        )


def _same_return(returns: np.ndarray) -> str:
    if len(returns) == 1:
        return "the data are a single episode (are its ends marked?)"
    return f"all {len(returns)} episodes have the same return, {returns[0]:g}"


def _moments(
    wanted: bool, values: np.ndarray | None, size: int, epsilon: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation + epsilon of every column, or 0 and 1."""
    if not wanted or values is None:
        return np.zeros(size, np.float32), np.ones(size, np.float32)
    mean = values.mean(axis=0, dtype=np.float64)
    deviation = values.std(axis=0, dtype=np.float64) + epsilon
    return mean.astype(np.float32), deviation.astype(np.float32)
