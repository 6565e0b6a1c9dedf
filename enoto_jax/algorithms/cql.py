"""Conservative Q-learning (Kumar et al. 2020): SAC plus one term on the critics.

Calibrated (Cal-QL, Nakamoto et al. 2023), the term pushes a value down no further than a return
that was really had from that state.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from enoto_jax.algorithms import backups
from enoto_jax.algorithms.sac import sac
from enoto_jax.core import Algorithm
from enoto_jax.nets import distributions
from enoto_jax.nets.networks import Scalar
from enoto_jax.types import InputError, MonteCarlo, Spec

MULTIPLIER = "multiplier"


def cql_penalty(
    *,
    weight: float = 5.0,
    candidates: int = 10,
    importance_sampling: bool = True,
    reduction: str = "mean",
    clip: tuple[float, float] | None = None,
    lagrange: float | None = None,
    subset: int | None = None,
    calibrate: bool = False,
    calibrate_random: bool = False,
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
      subset: critics, drawn anew for every batch without replacement, that the term falls on, so
        much harder that its mean is the same; None: on all.
      calibrate: replace Q_i(s, a) by max(Q_i(s, a), return-to-go of s) for the policy's candidates;
        where the return is larger, nothing is pushed down (Cal-QL).
      calibrate_random: the same for the uniform candidates.
    """
    if reduction not in ("mean", "sum"):
        raise InputError(f"cql: reduction is {reduction!r}; choose 'mean' or 'sum'")
    if subset is not None and subset < 1:
        raise InputError(f"cql: subset is {subset}; it must be at least 1")

    def build(q, policy, spec: Spec, each):
        del each

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
            about = {}
            if calibrate:
                first = 0 if calibrate_random else candidates
                free, bounded = entries[:, :first], entries[:, first:]
                about["bound_rate"] = jnp.mean(bounded < batch.extras["mc_return"])
                bounded = jnp.maximum(bounded, batch.extras["mc_return"])
                entries = jnp.concatenate([free, bounded], axis=1)
            if importance_sampling:
                entries = entries - jnp.concatenate(densities)
            else:
                entries = jnp.concatenate([entries, q_data[:, None]], axis=1)
            difference = jax.nn.logsumexp(entries, axis=1) - q_data
            if clip is not None:
                difference = jnp.clip(difference, *clip)
            gaps = jnp.mean(difference, axis=1)  # [N]
            n = gaps.shape[0]
            if subset is not None:
                if subset > n:
                    raise InputError(f"cql: subset is {subset}, but there are {n} critics")
                drawn = jax.random.choice(jax.random.fold_in(key, 3), n, (subset,), replace=False)
                gaps = gaps[drawn]
            gap = jnp.mean(gaps)
            about["gap"] = gap
            scale = weight if reduction == "mean" else weight * n
            if lagrange is None:
                return scale * gap, about
            value = state.params[MULTIPLIER]["params"]["value"]
            multiplier = jnp.clip(jnp.exp(value), 0.0, 1e6)
            return multiplier * scale * (gap - lagrange), about

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
    subset: int | None = None,
    calibrate: bool = False,
    calibrate_random: bool = False,
    sparse_reward: float | None = None,
    discount: float = 0.99,
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
      subset: critics that the term falls on, drawn anew for every batch (WSRL); None: on all.
      calibrate: bound the policy's candidates from below by the return-to-go (Cal-QL).
      calibrate_random: bound the uniform candidates too (an option of WSRL's code).
      sparse_reward: reward of a step without success, after the transform, where rewards are
        sparse; episodes that have no other are taken to go on for ever.
      discount: gamma.
      backup: value of the next state; deterministic without entropy by default (d3rlpy).
      terms: further losses on the critics, beside the conservative one.
      **options: see sac.
    """
    penalty = cql_penalty(
        weight=weight,
        candidates=candidates,
        importance_sampling=importance_sampling,
        reduction=reduction,
        clip=clip,
        lagrange=lagrange,
        subset=subset,
        calibrate=calibrate,
        calibrate_random=calibrate_random,
    )
    terms = (penalty, *terms)
    base = sac(
        spec, terms=terms, backup=backup or backups.deterministic(), discount=discount, **options
    )
    if calibrate:
        base = base._replace(monte_carlo=MonteCarlo(discount, sparse_reward))
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
