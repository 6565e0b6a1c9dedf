"""EDAC: the gradient diversity term against the oracle, and its cost."""

import jax
import numpy as np
import pytest

from enoto_jax import core
from enoto_jax.algorithms.cql import cql_penalty
from enoto_jax.algorithms.edac import edac
from enoto_jax.algorithms.sac import sac
from enoto_jax.recipes import building, examples, registry, table
from enoto_jax.recipes.units import children
from enoto_jax.types import InputError
from experiments.benchmarks import flops
from tests.algorithms.losses import (
    KEY,
    RULES,
    N,
    along,
    alpha_of,
    close,
    loss_of,
    q_data,
    reads,
    soft_target,
)
from tests.oracle import methods, reference

MAKE, SHAPE = edac, {"n": N, "hidden": (8, 7), "discount": 0.9}
ETA = 1.7
pytestmark = pytest.mark.usefixtures("quick")


def similarity(exact, data):
    gradients = methods.action_gradients(exact.params["critic"], data.observation, data.action)
    return methods.edac_similarity(gradients)


def oracle_loss(exact, data, eta=ETA):
    y, _ = soft_target(exact, data, jax.random.split(KEY, 3)[0], RULES["min_q"][1], alpha_of(exact))
    return methods.edac_critic_loss(exact.params["critic"], data.observation, data.action, y, eta)


def test_critic_loss(evaluate, batch, data):
    algorithm, state, exact = evaluate(eta=ETA)
    loss, metrics = loss_of(algorithm, "critic", state, batch)
    close(loss, oracle_loss(exact, data))
    close(metrics["similarity"], similarity(exact, data))
    close(metrics["td_loss"], loss - ETA * metrics["similarity"])
    assert abs(metrics["similarity"]) > 0.01


def test_eta_is_1_by_default(evaluate, batch, data):
    algorithm, state, exact = evaluate()
    close(loss_of(algorithm, "critic", state, batch)[0], oracle_loss(exact, data, 1.0))


def test_gradient_against_finite_differences(evaluate, numbers, batch, data, double):
    """The term differentiates by actions, so its gradient takes second derivatives."""
    algorithm, state, exact = evaluate(eta=30.0)  # the term outweighs the rest
    gradient = jax.grad(lambda p: algorithm.losses["critic"](p, state, batch, KEY)[0])(
        state.params["critic"]
    )
    plain = jax.grad(lambda p: evaluate(sac)[0].losses["critic"](p, state, batch, KEY)[0])(
        state.params["critic"]
    )
    for seed in range(2):
        direction = double(numbers(state.params["critic"], 100 + seed))
        found, without = (
            sum(jax.tree.leaves(jax.tree.map(lambda g, d: np.sum(g * d), double(g), direction)))
            for g in (gradient, plain)
        )
        expected = along(exact, "critic", lambda e: oracle_loss(e, data, 30.0), direction)
        close(found, expected, 1e-4)
        assert abs(found - without) > 0.1


def test_critics_that_agree_score_n_and_opposite_pairs_less_than_none(evaluate, batch):
    algorithm, state, _ = evaluate()
    same = jax.tree.map(lambda x: np.repeat(x[:1], N, axis=0), state.params["critic"])

    def score(critic):
        changed = state.replace(params={**state.params, "critic": critic})
        return loss_of(algorithm, "critic", changed, batch)[1]["similarity"]

    close(score(same), N)
    # Two against two: 4 of the 12 ordered pairs agree and 8 disagree.
    head = np.asarray(same["params"]["out"]["kernel"]) * np.array([1, 1, -1, -1])[:, None, None]
    opposite = {"params": {**same["params"], "out": {**same["params"]["out"], "kernel": head}}}
    close(score(opposite), (4 - 8) / 3)


def test_a_critic_without_an_open_unit_gives_numbers(evaluate, batch, data, double):
    algorithm, state, _ = evaluate()
    critic = jax.tree.map(np.array, state.params["critic"])
    critic["params"]["layer_0"]["bias"][2] = -100.0
    state = state.replace(params={**state.params, "critic": critic})
    loss = algorithm.losses["critic"]
    (_, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(critic, state, batch, KEY)
    close(metrics["similarity"], similarity(double(state), data))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))


def test_it_reads_what_sac_n_reads(evaluate, batch):
    algorithm, state, _ = evaluate()
    assert reads(algorithm, state, "critic", batch) == {
        "params.actor",
        "params.temperature",
        "targets.critic",
    }


def test_all_critics_gradients_take_one_pass(spec):
    """Compared with SAC-N, the term adds one backward pass and its gradient, not N or N^2."""

    def flops(make):
        algorithm = make(n=12, hidden=(32, 32, 32)).build(spec)
        state = jax.eval_shape(lambda: core.init(algorithm, jax.random.key(0)))
        batch = examples.transition(spec, algorithm, 64)

        def gradient(state):
            loss = algorithm.losses["critic"]
            return jax.grad(loss, has_aux=True)(state.params["critic"], state, batch, KEY)

        return jax.jit(gradient).lower(state).compile().cost_analysis()["flops"]

    # SAC-N takes 4 passes per critic here (target, forward, two backward). EDAC takes 3 more; it
    # would take 4 if it did not share q_data's forward pass.
    assert flops(edac) / flops(sac) < 1.8


def test_beside_another_term(evaluate, batch, data):
    penalty = cql_penalty(candidates=2)
    algorithm, state, exact = evaluate(eta=ETA, terms=(penalty,))
    _, metrics = loss_of(algorithm, "critic", state, batch)
    assert {"similarity", "gap"} <= set(metrics)
    loss, _ = loss_of(algorithm, "critic", state, batch)
    close(loss, metrics["td_loss"] + ETA * similarity(exact, data) + metrics["gap"] * 5.0)
    td_loss = reference.critic_loss(
        q_data(exact, data),
        soft_target(exact, data, jax.random.split(KEY, 4)[0], RULES["min_q"][1], alpha_of(exact))[
            0
        ],
    )
    close(metrics["td_loss"], td_loss)


@pytest.mark.parametrize("option", ["n", "learners"])
def test_one_critic_is_refused(spec, option):
    row = registry.override(table.recipe("edac"), f"algorithm.{option}", 1)
    message = "critics that learn: it needs at least 2, --num_critics=2, and as many learners"
    with pytest.raises(InputError, match=message):
        building.build(row, spec)


def test_the_row_is_sac_ns_with_the_term(spec):
    for phase in ("offline", "online"):
        ours, sac_n = (getattr(table.recipe(name), phase) for name in ("edac", "sac_n"))
        assert children(ours.algorithm) == {**children(sac_n.algorithm), "eta": 1.0}
        assert str(ours.replay) == str(sac_n.replay)


# Golden numbers.

CASES = {
    "edac": (edac, {}),
    "eta_5": (edac, {"eta": 5.0, "layer_norm": True, "actor_layer_norm": True}),
}


@pytest.mark.parametrize("case", CASES)
def test_golden_numbers(golden, case):
    golden(case)


def test_operations_by_hand(spec):
    """Three more passes per critic, without the observation: here 3 * (2*2*4 + 2*4) each."""
    one, two = (flops.per_update(make(hidden=(4,)), spec, 10) for make in (sac, edac))
    assert two - one == 10 * 2 * 3 * (2 * 2 * 4 + 2 * 4)
