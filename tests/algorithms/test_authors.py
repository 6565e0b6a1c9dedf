"""FQL and Q-chunking against their authors' code: same weights, batch and noise, same numbers.

tests/golden/flows.npz contains what seohongpark/fql (commit
719d04417cb0b206deddbc7d761b3e710c3d750c) and ColinQiyangLi/qc
(48283b4f662bd1c127ec9fa80647b49759f10653) computed in float64, as recorded by record_flows.py in
the same folder.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from enoto_jax import core, targets
from enoto_jax.algorithms.fql import fql
from enoto_jax.algorithms.qc import qc
from enoto_jax.types import Transition

FOUND = np.load(Path(__file__).parents[1] / "golden" / "flows.npz", allow_pickle=False)
RATE = 1e-2
SHARED = {
    "hidden": (8, 7),
    "flow_steps": 4,
    "discount": 0.9,
    "tau": 0.1,
    "flow_rate": RATE,
    "critic_rate": RATE,
    "simultaneous": True,
}
BEST = {"candidates": 4, "whole_chunks": True}
MIN = {"target": targets.min_q(), "actor_value": targets.min_q()}
CASES = {
    "fql": (fql, {"alpha": 1.7, "actor_rate": RATE}),
    "fql_min": (
        fql,
        {"alpha": 0.3, "actor_rate": RATE, "target": targets.min_q(), "normalise": True},
    ),
    "qc": (qc, {"chunk": 3, **BEST}),
    "qc_min": (qc, {"chunk": 3, **BEST, **MIN}),
    "qc_fql": (fql, {"chunk": 3, "alpha": 1.7, "actor_rate": RATE, "whole_chunks": True}),
    "bfn": (qc, {"chunk": 1, **BEST}),
    "bfn_n": (qc, {"chunk": 1, "returns": 3, **BEST}),
    "fql_n": (fql, {"returns": 3, "alpha": 1.7, "actor_rate": RATE, "whole_chunks": True}),
}
pytestmark = pytest.mark.usefixtures("quick")


class Draws:
    """Replacement for JAX's draws: the authors' draws in order, which is our losses' order too."""

    def __init__(self, prefix):
        drawn = sorted(k for k in FOUND.files if k.startswith(f"{prefix}/noise/"))
        self._left = [FOUND[name] for name in drawn]

    def __call__(self, key, shape):
        drawn = self._left.pop(0)
        if drawn.shape != shape:  # the authors' K candidates are [B, K, A]
            drawn = np.swapaxes(drawn, 0, 1)
        assert drawn.shape == shape
        return jnp.asarray(drawn)


def batch_of(case):
    """The authors' batch in our losses' format; its rewards are already summed over sequences."""
    names = ("observations", "actions", "rewards", "masks", "next_observations")
    seen, action, reward, mask, after = (FOUND[f"{case}/batch/{name}"] for name in names)
    extras = {}
    if f"{case}/batch/valid" in FOUND:
        valid = FOUND[f"{case}/batch/valid"]
        extras = {"valid": valid, "learns": valid[:, -1]}
        if CASES[case][1].get("returns", 1) > 1:  # returns belong to the first action alone
            action, extras = action[:, 0], {"learns": valid[:, -1]}
        reward, mask, after = reward[:, -1], mask[:, -1], after[:, -1]
    numbers = (seen, action.reshape(len(seen), -1), reward, after, extras)
    seen, action, reward, after, extras = jax.tree.map(jnp.float32, numbers)
    over = jnp.asarray(mask == 0.0)
    return Transition(seen, action, reward, over, jnp.zeros_like(over), after, extras)


@pytest.fixture(params=CASES)
def case(request, spec):
    """(name, algorithm, its state at the authors' weights, batch)."""
    make, options = CASES[request.param]
    algorithm = make(**SHARED, **options).build(spec)
    # The authors average the loss over critics, so Adam's epsilon is N times larger relative to it.
    sums = optax.adam(RATE, eps=1e-8 * algorithm.critics)
    algorithm = algorithm._replace(optimisers={**algorithm.optimisers, "critic": sums})
    state = core.init(algorithm, jax.random.key(0))
    params = {k: put(tree, f"{request.param}/start/{k}") for k, tree in state.params.items()}
    target = put(state.targets["critic"], f"{request.param}/targets/critic")
    state = state.replace(params=params, targets={"critic": target})
    return request.param, algorithm, state, batch_of(request.param)


def put(tree, name):
    return ravel_pytree(tree)[1](jnp.asarray(FOUND[name]))


def close(found, name, **tolerance):
    np.testing.assert_allclose(ravel_pytree(found)[0], FOUND[name], err_msg=name, **tolerance)


def drawing(monkeypatch, prefix):
    draws = Draws(prefix)
    monkeypatch.setattr(jax.random, "normal", draws)
    monkeypatch.setattr(jax.random, "uniform", draws)


def test_losses_and_gradients(case, monkeypatch):
    name, algorithm, state, batch = case
    drawing(monkeypatch, f"{name}/1")
    values, about = {}, {}
    for network, loss in algorithm.losses.items():
        # The authors' loss is the mean over critics, ours the sum.
        share = 1 / algorithm.critics if network == "critic" else 1.0

        def shared(params, loss=loss, share=share):
            value, metrics = loss(params, state, batch, jax.random.key(0))
            return share * value, metrics

        gradient = jax.value_and_grad(shared, has_aux=True)
        (values[network], about[network]), found = gradient(state.params[network])
        close(found, f"{name}/1/gradient/{network}", rtol=2e-5, atol=2e-6)
    close(values["critic"], f"{name}/1/loss/critic", rtol=1e-5)
    close(values["flow"], f"{name}/1/loss/flow", rtol=1e-5)
    if "actor" in values:
        distance = about["actor"]["bc"]
        close(distance, f"{name}/1/loss/distance", rtol=1e-5)
        climb = values["actor"] - about["actor"]["alpha"] * distance
        expected = FOUND.get(f"{name}/1/loss/climb", -about["actor"]["q_policy"])
        np.testing.assert_allclose(climb, expected, rtol=1e-5)


def test_two_updates(case, monkeypatch):
    """Two Adam steps of up to 1e-2; the targets follow the critics from before each update."""
    name, algorithm, state, batch = case
    for number in (1, 2):
        drawing(monkeypatch, f"{name}/{number}")
        state, _ = core.update(algorithm, state, batch, jax.random.key(0))
        for network in algorithm.losses:
            close(
                state.params[network], f"{name}/{number}/params/{network}", rtol=0, atol=1e-3 * RATE
            )
        close(state.targets["critic"], f"{name}/{number}/lagged/critic", rtol=0, atol=1e-6)


def test_in_turn_the_numbers_differ_by_less_than_a_step(case, monkeypatch):
    """Later losses and the targets then see parameters that are one Adam step newer."""
    name, algorithm, state, batch = case
    turns = algorithm._replace(simultaneous=False)
    for number in (1, 2):
        drawing(monkeypatch, f"{name}/{number}")
        state, _ = core.update(turns, state, batch, jax.random.key(0))
        lag = ravel_pytree(state.targets["critic"])[0] - FOUND[f"{name}/{number}/lagged/critic"]
        assert 0.5 * 0.1 * RATE < abs(lag).max() < 2 * number * 0.1 * RATE
        for network, params in state.params.items():
            moved = ravel_pytree(params)[0] - FOUND[f"{name}/{number}/params/{network}"]
            assert abs(moved).max() < 2 * number * RATE
            # The first network of the first update is identical; the flow reads no other network.
            if (network, number) == ("critic", 1) or network == "flow":
                assert abs(moved).max() < 1e-3 * RATE
            elif number == 2:
                assert abs(moved).max() > 1e-3 * RATE
