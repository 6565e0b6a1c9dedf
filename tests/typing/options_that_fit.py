"""Options of units as an editor and a type checker know them; this file passes mypy."""

from typing import assert_type

import enoto_jax as ej
from enoto_jax import exploration, handover, replay, targets

critics: int = ej.cql(n=10, target=targets.min_q()).n
assert_type(ej.cql(n=10).target, targets.TargetRule)
assert_type(ej.sac(hidden=(64, 64)).hidden, tuple[int, ...])
assert_type(exploration.sunrise(ucb=None, temperature=10.0).ucb, float | None)
assert_type(ej.cql().build(ej.Spec(3, 1)), ej.Algorithm)


class shrunken_min(targets.TargetRule):
    """A custom rule, whose options are checked too."""

    factor: float = 0.9


assert_type(shrunken_min(factor=0.5).factor, float)
enoto = ej.Recipe(
    "ENOTO-CQL",
    offline=ej.Phase(ej.cql(n=10), steps=100),
    handover=handover.carry(),
    online=ej.Phase(
        ej.sac(n=10, target=shrunken_min(), exploration=exploration.sunrise()),
        steps=100,
        replay=replay.append(),
    ),
)
