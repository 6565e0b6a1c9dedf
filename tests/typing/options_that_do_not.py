"""Mistakes that a type checker detects; mypy warns about an `ignore` without an error."""

import enoto_jax as ej
from enoto_jax import exploration, targets

ej.cql(lagrage=1.0)  # type: ignore[call-arg]
ej.cql(n="ten")  # type: ignore[arg-type]
ej.sac(10)  # type: ignore[call-arg]
ej.sac(target=exploration.policy())  # type: ignore[arg-type]
ej.iql(hidden=256)  # type: ignore[arg-type]
ej.sac(n=2).n = 3  # type: ignore[misc]
targets.random_min_pair(M=2)  # type: ignore[call-arg]
ej.Phase(ej.sac(), stesp=100)  # type: ignore[call-arg]
