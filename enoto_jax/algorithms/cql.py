"""Conservative Q-learning (Kumar et al. 2020): SAC plus one term on the critics."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from enoto_jax import distributions
from enoto_jax.algorithms import backups
from enoto_jax.algorithms.sac import sac
from enoto_jax.core import Algorithm
from enoto_jax.networks import Scalar
from enoto_jax.types import InputError, Spec

MULTIPLIER = "multiplier"


def cql_penalty(
    *,
    weight: float = 5.0,
    candidates: int = 10,
    importance_sampling: bool = True,
    reduction: str = "mean",
    clip: tuple[float, float] | None = None,
    lagrange: float | None = None,
):
    """weight * reduce_i mean_B [ log sum_a exp(Q_i(s, a) - log density(a)) - Q_i(s, data) ].

    The candidates are `candidates` actions from each of: uniform, the policy at s, the policy at
    the next state; all are judged at s. Policy samples carry no gradient. CQL, equation 4.

    Args:
      weight: of the penalty.
      candidates: actions per source.
      importance_sampling: subtract each candidate's log-density (uniform: -A log 2), and leave the
        data's own action out; otherwise no densities and the data's Q is an entry too (CORL).
      reduction: over critics: "mean" (d3rlpy: weight / N per critic) or "sum" (CORL).
      clip: bounds of the difference of every transition, before the mean over the batch.
      lagrange: target gap tau: weight is multiplied by a learned multiplier that rises while the
        mean gap exceeds tau; None keeps it fixed. d3rlpy's alpha_threshold is weight * tau.
    """
    if reduction not in ("mean", "sum"):
        raise InputError(f"cql: reduction is {reduction!r}; choose 'mean' or 'sum'")
    reduce = jnp.mean if reduction == "mean" else jnp.sum

    def build(q, policy, spec: Spec, member):
        del member

        def term(params, state, batch, key, q_data):
            uniform_key, current_key, next_key = jax.random.split(key, 3)
            shape = (candidates, *batch.action.shape)
            uniform = jax.random.uniform(uniform_key, shape, minval=-1.0, maxval=1.0)
            actions, densities = [uniform], [jnp.full(shape[:-1], -spec.action_size * jnp.log(2.0))]
            for source_key, observation in (
                (current_key, batch.observation),
                (next_key, batch.next_observation),
            ):
                moments = policy(state.params["actor"], observation)
                action, log_prob = distributions.sample(source_key, *moments, (candidates,))
                actions.append(action)
                densities.append(log_prob)
            entries = q(params, batch.observation, jnp.concatenate(actions))  # [N, 3 K, B]
            if importance_sampling:
                entries = entries - jnp.concatenate(densities)
            else:
                entries = jnp.concatenate([entries, q_data[:, None]], axis=1)
            difference = jax.nn.logsumexp(entries, axis=1) - q_data
            if clip is not None:
                difference = jnp.clip(difference, *clip)
            gap = jnp.mean(difference, axis=1)  # [N]
            about = {"gap": jnp.mean(gap)}
            if lagrange is None:
                return weight * reduce(gap), about
            value = state.params[MULTIPLIER]["params"]["value"]
            multiplier = jnp.clip(jnp.exp(value), 0.0, 1e6)
            return multiplier * weight * reduce(gap - lagrange), about

        return term

    return build


def _multiplier_loss(weight: float, lagrange: float):
    """-multiplier * weight * (mean gap - lagrange): gradient ascent on the dual (CQL, eq. 30)."""

    def loss(params, state, batch, key, seen):
        del state, batch, key
        multiplier = jnp.clip(jnp.exp(params["params"]["value"]), 0.0, 1e6)
        gap = jax.lax.stop_gradient(seen["critic"]["gap"])
        return -multiplier * weight * (gap - lagrange), {"value": multiplier}

    return loss


def cql(
    spec: Spec,
    *,
    weight: float = 5.0,
    candidates: int = 10,
    importance_sampling: bool = True,
    reduction: str = "mean",
    clip: tuple[float, float] | None = None,
    lagrange: float | None = None,
    lagrange_rate: float = 3e-4,
    initial_multiplier: float = 1.0,
    backup: backups.Backup | None = None,
    terms: tuple = (),
    **options,
) -> Algorithm:
    """SAC with the conservative term; every other option is sac's.

    Args:
      spec: sizes of observations and actions.
      weight: of the conservative term.
      candidates: actions per source (uniform, policy at s, policy at the next state).
      importance_sampling: subtract the candidates' log-densities.
      reduction: of the term over critics: mean (d3rlpy) or sum (CORL).
      clip: bounds of a transition's difference, or None.
      lagrange: target gap of the learned multiplier, or None: fixed weight.
      lagrange_rate: Adam's learning rate of the multiplier's logarithm.
      initial_multiplier: the multiplier at the start.
      backup: value of the next state; deterministic without entropy by default (d3rlpy).
      terms: further losses on the critics, beside the conservative one.
      **options: see sac.
    """
    penalty = cql_penalty(
        weight=weight, candidates=candidates, importance_sampling=importance_sampling,
        reduction=reduction, clip=clip, lagrange=lagrange,
    )  # fmt: skip
    terms = (penalty, *terms)
    base = sac(spec, terms=terms, backup=backup or backups.deterministic(), **options)
    if lagrange is None:
        return base
    net = Scalar(float(jnp.log(initial_multiplier)))
    return base._replace(
        nets={**base.nets, MULTIPLIER: net},
        inputs={**base.inputs, MULTIPLIER: ()},
        # After the critic: it reads the gap that the critic's loss has just measured.
        losses={**base.losses, MULTIPLIER: _multiplier_loss(weight, lagrange)},
        optimisers={**base.optimisers, MULTIPLIER: optax.adam(lagrange_rate)},
    )


cql.extends = sac  # where `options` are described
