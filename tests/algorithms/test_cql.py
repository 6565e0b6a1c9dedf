"""CQL's critic loss and its learned multiplier against the oracle, drawn from the same keys."""

import jax
import numpy as np
import pytest

from enoto_jax.algorithms import bellman
from enoto_jax.algorithms.cql import cql, cql_penalty
from enoto_jax.recipes.building import build
from enoto_jax.types import InputError
from tests.algorithms import losses
from tests.algorithms.losses import (
    KEY,
    RULES,
    K,
    alpha_of,
    close,
    loss_of,
    oracle_cql_loss,
    penalty_inputs,
    q_data,
    soft_target,
)
from tests.helpers import refused_in_a_line, tiny
from tests.oracle import reference

MAKE, SHAPE = cql, losses.SHAPE


@pytest.mark.parametrize("clip", [None, (3.2, 4.2)])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("importance_sampling", [True, False])
def test_cql_loss(evaluate, batch, data, importance_sampling, reduction, clip):
    algorithm, state, exact = evaluate(
        cql,
        weight=1.7,
        candidates=K,
        importance_sampling=importance_sampling,
        reduction=reduction,
        clip=clip,
    )
    loss, metrics = loss_of(algorithm, "critic", state, batch)
    expected, gaps, td_loss = oracle_cql_loss(
        exact,
        data,
        1.7,
        importance_sampling=importance_sampling,
        reduction=reduction,
        **({} if clip is None else {"clip": clip}),
    )
    close(loss, expected)
    close(metrics["td_loss"], td_loss)
    close(metrics["gap"], gaps.mean())
    if clip is not None:  # both bounds bind
        for bounds in ((clip[0], np.inf), (-np.inf, clip[1])):
            _, one_sided, _ = oracle_cql_loss(
                exact, data, 1.7, importance_sampling=importance_sampling, clip=bounds
            )
            assert (abs(one_sided - gaps) > 1e-3).any()


def test_cql_defaults_are_enotos(evaluate, batch, data):
    """Weight 5, importance sampling, mean over critics, deterministic backup, fixed multiplier."""
    algorithm, state, exact = evaluate(cql, candidates=K)
    close(loss_of(algorithm, "critic", state, batch)[0], oracle_cql_loss(exact, data, 5.0)[0])
    assert "multiplier" not in algorithm.losses


def test_cql_penalty_beside_another_backup(evaluate, batch, data):
    algorithm, state, exact = evaluate(cql, candidates=K, backup=bellman.soft())
    backup_key, _, term_key = jax.random.split(KEY, 3)
    y, _ = soft_target(exact, data, backup_key, RULES["min_q"][1], alpha_of(exact))
    penalty, _ = reference.cql_penalty(**penalty_inputs(exact, data, term_key))
    expected = reference.critic_loss(q_data(exact, data), y) + 5.0 * penalty
    close(loss_of(algorithm, "critic", state, batch)[0], expected)


@pytest.mark.parametrize("logarithm", [None, 20.0], ids=["small", "clamped"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_cql_with_a_learned_multiplier(evaluate, batch, data, reduction, logarithm):
    """d3rlpy uses the mean, with threshold weight * lagrange; CORL uses the sum."""
    weight, gap_wanted = 1.7, 0.6
    algorithm, state, exact = evaluate(
        cql, weight=weight, candidates=K, reduction=reduction, lagrange=gap_wanted
    )
    if logarithm is not None:
        value = {"params": {"value": np.float32(logarithm)}}
        state = state.replace(params={**state.params, "multiplier": value})
    else:
        logarithm = float(state.params["multiplier"]["params"]["value"])
    _, gaps, td_loss = oracle_cql_loss(exact, data, weight)
    if reduction == "mean":
        term, multiplier_loss = reference.cql_lagrange_d3rlpy(
            logarithm, gaps.mean(), weight, weight * gap_wanted
        )
    else:
        term, multiplier_loss = reference.cql_lagrange_corl(logarithm, gaps, weight, gap_wanted)
    loss, metrics = loss_of(algorithm, "critic", state, batch)
    close(loss, td_loss + term)
    found, about = loss_of(algorithm, "multiplier", state, batch, seen={"critic": metrics})
    close(found, multiplier_loss)
    close(about["value"], reference.multiplier(logarithm))


@pytest.mark.parametrize("option", [{"lagrange": 1.0}, {"calibrate": True}])
def test_a_term_of_another_algorithm_has_neither_a_multiplier_nor_returns(spec, option):
    row = tiny("sac", online__algorithm__terms=(cql_penalty(**option),))
    with refused_in_a_line("cql_penalty: calibrate and lagrange work only as options of the alg"):
        build(row, spec)


def test_the_multiplier_learns_from_cqls_own_gap(evaluate, batch):
    other = cql_penalty(weight=0.0, candidates=K, clip=(50.0, 51.0))
    algorithm, state, _ = evaluate(candidates=K, lagrange=0.6, terms=(other,))
    assert loss_of(algorithm, "critic", state, batch)[1]["gap"] < 50.0


def test_an_unknown_reduction_is_refused(spec):
    with pytest.raises(InputError, match="reduction is 'max'; choose mean or sum"):
        cql(reduction="max").build(spec)
