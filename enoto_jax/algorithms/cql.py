"""Conservative Q-learning (Kumar et al. 2020): SAC plus one term on the critics.

In its calibrated form (Cal-QL, Nakamoto et al. 2023), the term pushes a value no further down than
a return that was actually obtained from that state.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp
import optax

from enoto_jax.algorithms import bellman
from enoto_jax.algorithms.bellman import Backup, CriticTerm
from enoto_jax.algorithms.sac import sac
from enoto_jax.core import Algorithm
from enoto_jax.nets.ensembles import share
from enoto_jax.nets.networks import Scalar, positive
from enoto_jax.types import (
    Array,
    InputError,
    MonteCarlo,
    Params,
    Spec,
    Unit,
    check_choice,
    check_positive,
    plural,
)

MULTIPLIER = "multiplier"


class _Penalty(Unit):
    """Options of the conservative term."""

    weight: Annotated[float, "weight of the conservative term."] = 5.0
    candidates: Annotated[
        int, "actions per source (uniform, policy at s, policy at the next state)."
    ] = 10
    importance_sampling: Annotated[
        bool,
        "subtract each candidate's log-density (uniform: -A log 2), and leave out the data's "
        "action; otherwise use no densities and include the data's action (CORL).",
    ] = True
    reduction: Annotated[
        str, "how critics are combined: mean (d3rlpy: weight / N on each critic) or sum (CORL)."
    ] = "mean"
    clip: Annotated[
        tuple[float, float] | None,
        "bounds of the difference of every transition, before the mean over the batch.",
    ] = None
    lagrange: Annotated[
        float | None,
        "target gap tau: the weight is multiplied by a learned multiplier that rises while the "
        "mean gap exceeds tau; None keeps it fixed. d3rlpy's alpha_threshold is weight * tau.",
    ] = None
    subset: Annotated[
        int | None,
        "how many critics are penalised, resampled for every batch and weighted so that the term's "
        "mean is the same (WSRL); None: all.",
    ] = None
    penalty_rows: Annotated[
        int | None,
        "how many transitions of the batch the term is computed on, resampled for every batch; its "
        "mean is the same. None: all.",
    ] = None
    calibrate: Annotated[
        bool,
        "replace Q_i(s, a) by max(Q_i(s, a), return-to-go of s) for the policy's candidates; if "
        "the return is larger, nothing is pushed down (Cal-QL).",
    ] = False
    calibrate_random: Annotated[
        bool, "calibrate the uniform candidates too (an option of WSRL's code)."
    ] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("cql: reduction", self.reduction, ("mean", "sum"))
        for name in ("candidates", "subset", "penalty_rows"):
            if (count := getattr(self, name)) is not None:
                check_positive(f"cql: {name}", count)
        if self.clip is not None and not self.clip[0] < self.clip[1]:
            raise InputError(f"cql: clip is {self.clip}; give (low, high) with low < high")


class cql_penalty(_Penalty, CriticTerm):
    """weight * reduce_i mean_B [ log sum_a exp(Q_i(s, a) - log density(a)) - Q_i(s, data) ].

    The candidates are `candidates` actions from each of: uniform, the policy at s, the policy at
    the next state; all are evaluated at s. Policy samples carry no gradient. CQL, equation 4.
    The algorithm `cql` has it built in; only there do `calibrate` and `lagrange` work.
    """

    def bind(self, q, policy, spec):
        def term(params, state, batch, key, q_data):
            alone = self.lagrange is not None and MULTIPLIER not in state.params
            if alone or (self.calibrate and "mc_return" not in batch.extras):
                raise InputError(
                    "cql_penalty: calibrate and lagrange work only as options of the algorithm; "
                    "use cql(calibrate=..., lagrange=...)"
                )
            if self.penalty_rows is not None:
                rows = self._rows(key, len(batch.reward))
                batch = jax.tree.map(lambda x: x[rows], batch)
                q_data = q_data[:, rows]
            actions, densities = self._candidates(policy, spec, state, batch, key)
            entries = q(params, batch.observation, actions)  # [N, 3 K, B]
            about = {}
            if self.calibrate:
                first = 0 if self.calibrate_random else self.candidates
                free, bounded = entries[:, :first], entries[:, first:]
                about["bound_rate"] = jnp.mean(bounded < batch.extras["mc_return"])
                bounded = jnp.maximum(bounded, batch.extras["mc_return"])
                entries = jnp.concatenate([free, bounded], axis=1)
            if self.importance_sampling:
                entries = entries - densities
            else:
                entries = jnp.concatenate([entries, q_data[:, None]], axis=1)
            difference = jax.nn.logsumexp(entries, axis=1) - q_data
            if self.clip is not None:
                difference = jnp.clip(difference, *self.clip)
            gaps = jnp.mean(difference, axis=1)  # [N]
            n = gaps.shape[0]
            if self.subset is not None:
                gaps = gaps[self._drawn(key, n)]
            gap = jnp.mean(gaps)
            about["gap"] = gap
            # If K of the N critics learn, each of them still gets weight / N or weight.
            scale = self.weight * (share(params) if self.reduction == "mean" else n)
            if self.lagrange is None:
                return scale * gap, about
            multiplier = _multiplier(state.params[MULTIPLIER])
            return multiplier * scale * (gap - self.lagrange), about

        return term

    def _candidates(self, policy, spec, state, batch, key) -> tuple[Array, Array]:
        """Return actions [3 K, B, A] from the three sources, and their log-densities [3 K, B]."""
        uniform_key, current_key, next_key = jax.random.split(key, 3)
        shape = (self.candidates, *batch.action.shape)
        actions = [jax.random.uniform(uniform_key, shape, minval=-1.0, maxval=1.0)]
        densities = [jnp.full(shape[:-1], -spec.action_size * jnp.log(2.0))]
        for source_key, observation in (
            (current_key, batch.observation),
            (next_key, batch.next_observation),
        ):
            chosen = policy(state.params["actor"], observation)
            action, log_prob = chosen.sample(source_key, (self.candidates,))
            actions.append(action)
            densities.append(log_prob)
        return jnp.concatenate(actions), jnp.concatenate(densities)

    def _drawn(self, key, n: int) -> Array:
        assert self.subset is not None
        if self.subset > n:
            raise InputError(
                f"cql: subset is {self.subset}, but the ensemble has {plural(n, 'critic')}"
            )
        return jax.random.choice(jax.random.fold_in(key, 3), n, (self.subset,), replace=False)

    def _rows(self, key, size: int) -> Array:
        assert self.penalty_rows is not None
        if self.penalty_rows > size:
            raise InputError(
                f"cql: penalty_rows is {self.penalty_rows}, but a batch has "
                f"{plural(size, 'transition')}"
            )
        return jax.random.permutation(jax.random.fold_in(key, 4), size)[: self.penalty_rows]


def _multiplier(params: Params) -> Array:
    return jnp.clip(positive(params), 0.0, 1e6)


class cql(_Penalty, sac):
    """SAC with the conservative term."""

    lagrange_rate: Annotated[float, "Adam's learning rate of the multiplier's logarithm."] = 3e-4
    initial_multiplier: Annotated[float, "the multiplier at the start."] = 1.0
    sparse_reward: Annotated[
        float | None,
        "reward of a step without success, after the transform, if rewards are sparse; episodes "
        "with no other reward count as infinitely long.",
    ] = None
    backup: Annotated[Backup, "value of the next state."] = bellman.deterministic()  # d3rlpy's

    def build(self, spec: Spec) -> Algorithm:
        options = {f.name: getattr(self, f.name) for f in dataclasses.fields(_Penalty)}
        terms = (*self.terms, cql_penalty(**options))  # last, so that the dual sees its gap
        base = sac.build(dataclasses.replace(self, terms=terms), spec)
        if self.calibrate:
            base = base._replace(monte_carlo=MonteCarlo(self.discount, self.sparse_reward))
        if self.lagrange is None:
            return base
        if not self.initial_multiplier > 0.0:
            raise InputError(
                f"cql: initial_multiplier is {self.initial_multiplier}; it must be above 0"
            )

        def dual(params, seen):
            """-multiplier * weight * (mean gap - lagrange): ascent on the dual (CQL, eq. 30)."""
            multiplier = _multiplier(params)
            gap = jax.lax.stop_gradient(seen["critic"]["gap"])
            return -multiplier * self.weight * (gap - self.lagrange), {"value": multiplier}

        net = Scalar(float(jnp.log(self.initial_multiplier)))
        return base._replace(
            nets={**base.nets, MULTIPLIER: net},
            inputs={**base.inputs, MULTIPLIER: ()},
            duals={MULTIPLIER: dual},
            optimisers={**base.optimisers, MULTIPLIER: optax.adam(self.lagrange_rate)},
        )
