"""A recipe: an offline phase, a hand-over, an online phase; and what is built from it.

The table of methods is in `table.py`, and `building.py` checks that the parts fit together.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, NamedTuple

from enoto_jax import core, replay, transforms
from enoto_jax.handover import Handover, Learned
from enoto_jax.types import Key, Transition


@dataclasses.dataclass(frozen=True)
class Phase:
    """An algorithm with its data and its budget."""

    algorithm: Annotated[core.AlgorithmConfig, "networks, losses and how to act."]
    steps: Annotated[int, "gradient updates (offline) or environment steps (online)."]
    batch_size: Annotated[
        int, "B, transitions per gradient update (of each agent, if there are several)."
    ] = 256
    replay: Annotated[replay.Replay, "where online batches come from; ignored offline."] = (
        replay.online_only()
    )
    warmup: Annotated[int, "environment steps before the first online update."] = 0
    utd: Annotated[int, "gradient updates per environment step."] = 1
    catch_up: Annotated[
        int,
        "gradient updates per warm-up step, in units of utd, all done when the warm-up ends.",
    ] = 0
    random_steps: Annotated[int, "number of first environment steps with uniform actions."] = 0
    eval_every: Annotated[int, "steps of this phase between two evaluations."] = 1_000
    overlap: Annotated[
        bool,
        "the environments step while the device updates; actions then come from parameters that "
        "are one environment step's updates older (online).",
    ] = False
    envs_backend: Annotated[
        str, "library that steps the training environments, gymnasium or envpool (online)."
    ] = "gymnasium"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One method: an entry of the table."""

    about: Annotated[str, "one line for the table in the docs."]
    offline: Annotated[Phase | None, "the first phase, or None: online from scratch."]
    handover: Annotated[Handover, "what the online phase starts from."]
    online: Annotated[Phase, "the second phase."]
    transform: Annotated[
        transforms.FitTransform,
        "transform of observations, actions and rewards, fitted to the data set; for both phases.",
    ] = transforms.transform()
    precision: Annotated[
        str, "precision of the networks' products, float32 or bf16; all else is float32."
    ] = "float32"


class Built(NamedTuple):
    """A recipe's units, made and checked to fit together."""

    offline: core.Algorithm | None
    handover: Handover
    online: core.Algorithm
    replay: replay.Replay


def hand_over(
    built: Built, key: Key, before: core.TrainState | None, data: Transition | None
) -> core.TrainState:
    """Return the state that the online phase starts from; only some hand-overs use the data set."""
    if not built.handover.needs_data:
        return built.handover(key, before, built.online)
    learned = None
    if before is not None and data is not None and built.offline is not None:
        learned = Learned(built.offline, data)
    return built.handover(key, before, built.online, learned)


def switch(recipe: Recipe) -> list[str]:
    """Describe what changes from the offline to the online phase, one change per line."""
    if recipe.offline is None:
        return []
    old, new = recipe.offline.algorithm, recipe.online.algorithm
    lines = [f"hand-over: {recipe.handover}", f"  loss: {old.name} -> {new.name}"]
    for name, default in (("target", "min_q()"), ("exploration", "policy()")):
        before, after = (str(getattr(unit, name, default)) for unit in (old, new))
        lines.append(f"  {name}: {after}" + (f" (was {before})" if before != after else ""))
    replay = f"  replay: {recipe.online.replay}, first update after {recipe.online.warmup:,} steps"
    burst = recipe.online.catch_up * recipe.online.warmup * recipe.online.utd
    return [*lines, replay + (f", {burst:,} at once" if burst else "")]
