"""Custom algorithms that break the contract are refused before anything is compiled."""

from typing import Annotated

import jax.numpy as jnp
import optax
import pytest

from enoto_jax import core
from enoto_jax.algorithms import contract
from enoto_jax.algorithms.bc import bc
from enoto_jax.algorithms.sac import sac
from enoto_jax.exploration import Exploration, policy
from enoto_jax.handover import Handover, fresh
from enoto_jax.recipes.building import build
from enoto_jax.recipes.recipe import Phase, Recipe
from enoto_jax.replay import Replay, online_only
from enoto_jax.targets import TargetRule, min_q
from enoto_jax.types import Spec
from tests.helpers import refused_in_a_line

SPEC = Spec(3, 2)
PLAIN = bc(hidden=(4,)).build(SPEC)
LOSS = PLAIN.losses["actor"]


def test_an_algorithm_that_keeps_its_promises_passes():
    contract.check("bc", PLAIN, SPEC)


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"losses": {"actor": LOSS, "acter": LOSS}},
            "losses and duals has 'acter', which is not in nets",
        ),
        ({"inputs": {}}, "nets has 'actor', which is not in inputs"),
        ({"optimisers": {}}, "losses and duals has 'actor', which is not in optimisers"),
        ({"losses": {}}, "optimisers has 'actor', which is not in losses and duals"),
        ({"losses": {}, "optimisers": {}}, "losses is empty"),
        ({"tracked": ("critic",)}, "tracked has 'critic'"),
        ({"q": lambda params, s, a: s}, "q has 'critic', which is not in losses and duals"),
        ({"delays": {"critic": 2}}, "delays has 'critic'"),
        ({"delays": {"actor": 0}}, "delays has 0 for actor"),
        ({"tau": 5.0}, "tau is 5.0; it must lie between 0 and 1"),
        ({"exploration": policy}, "exploration is <class .*policy'>; give a rule"),
        (
            {"act": lambda s, k, o, n: jnp.zeros(2)},
            r"act.* returns float32\[2\]; it must return float32\[3, 2\]",
        ),
        (
            {"mode": lambda s, o: jnp.zeros(2)},
            r"mode .* returns float32\[2\]; it must return float32\[2, 2\]",
        ),
        ({"mode": lambda s, o: o[..., :2] > 0}, "mode .* returns bool"),
        ({"mode": lambda s, o: None}, "mode .* returns a NoneType"),
        ({"evaluates": lambda s, k, o: o}, "evaluates .* returns"),
    ],
)
def test_a_broken_promise_is_named(changes, message):
    with refused_in_a_line(message):
        contract.check("own", PLAIN._replace(**changes), SPEC)


def test_critics_of_another_number_are_refused():
    algorithm = sac(n=2, hidden=(4,)).build(SPEC)._replace(critics=3)
    with refused_in_a_line(r"q of 2 rows returns float32\[2, 2\]; it must return float32\[3, 2\]"):
        contract.check("own", algorithm, SPEC)


class odd_rule(Exploration):
    what: Annotated[str, "what is odd."] = ""

    def act(self, key, algorithm, state, memory, observation):
        action = super().act(key, algorithm, state, memory, observation)
        return action[:1] if self.what == "act" else action

    @property
    def masks(self):
        return self.what == "mask"

    def draw_mask(self, key, n):
        return jnp.ones(n + 1)

    @property
    def needs(self):
        return ("critics",) if self.what == "needs" else ()


class odd_replay(online_only):
    what: Annotated[str, "what is odd."] = ""

    def sample(self, stored, data, key, batch_size, inserted):
        size = batch_size // 2 if self.what == "sample" else batch_size
        return super().sample(stored, data, key, size, inserted)

    def insert(self, stored, transition, count, monte_carlo):
        after = super().insert(stored, transition, count, monte_carlo)
        return after.ring if self.what == "insert" else after


class odd_handover(Handover):
    def __call__(self, key, offline, algorithm, learned=None):
        return core.init(algorithm, key).params


def row(rule: Exploration = policy(), kept: Replay = online_only(), hand: Handover = fresh()):
    phase = Phase(bc(hidden=(4,), exploration=rule), steps=10, batch_size=8, replay=kept)
    return Recipe("own units", None, hand, phase)


@pytest.mark.parametrize(
    "recipe, message",
    [
        (
            row(odd_rule(what="act")),
            r"odd_rule.act returns float32\[1\]; it must return float32\[2\]",
        ),
        (
            row(odd_rule(what="mask")),
            r"draw_mask returns float32\[1\]; it must return float32\[0\]",
        ),
        (row(odd_rule(what="needs")), "odd_rule: needs is 'critics'; choose q or moments"),
        (row(kept=odd_replay(what="sample")), r"odd_replay.sample returns rewards \[4\]; .* of 8"),
        (
            row(kept=odd_replay(what="insert")),
            "odd_replay.insert changes the structure of what is stored",
        ),
        (row(hand=odd_handover()), "odd_handover must return the online algorithm's state: dict"),
    ],
)
def test_odd_units_are_refused_when_a_recipe_is_built(recipe, message):
    with refused_in_a_line(message):
        build(recipe, SPEC)


@pytest.mark.parametrize(
    "recipe, spec, message",
    [
        ("enoto_cql", SPEC, "recipe: str; give one"),
        (row(), (3, 2), r"spec: \(3, 2\); give a source's"),
        (row(), Spec(0, 2), "spec: Spec.*; give a source's"),
        (
            Recipe("a", None, fresh(), PLAIN),
            SPEC,
            "online: a value of type Algorithm should be Phase",
        ),  # type: ignore[arg-type]
    ],
)
def test_arguments_of_another_kind_are_refused(recipe, spec, message):
    with refused_in_a_line(message):
        build(recipe, spec)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"target": min_q}, r"sac: target is <class .*; give a unit, such as min_q\(\)"),
        ({"target": "min_q"}, "sac: target is 'min_q'; give a unit"),
        ({"discount": 99.0}, "sac: discount is 99.0; it must lie between 0 and 1"),
        ({"discount": float("nan")}, "sac: discount is nan"),
        ({"tau": 5.0}, "sac: tau is 5.0"),
        ({"actor_rate": -3e-4}, "sac: actor_rate is -0.0003; a learning rate must be 0 or more"),
        ({"log_std_range": (2.0, -5.0)}, "sac: log_std_range is"),
        ({"initial_temperature": 0.0}, "initial_temperature 0.0; give"),
        ({"policies": 0}, "policies is 0"),
        ({"hidden": 256}, "hidden is 256"),
        ({"n": 2.0}, "num_critics is 2.0"),
    ],
)
def test_options_that_cannot_work_are_refused(options, message):
    with refused_in_a_line(message):
        sac(**options).build(SPEC)


class counting(TargetRule):
    def __call__(self, key, q):
        return jnp.argmin(q, axis=0)


def test_a_target_rule_that_returns_indices_is_refused():
    online = Phase(sac(hidden=(4,), target=counting()), steps=10, batch_size=8)
    with refused_in_a_line(
        "--target: counting returns int32; a rule must return floating-point values"
    ):
        build(Recipe("own rule", None, fresh(), online), SPEC)


def test_a_frozen_network_needs_no_loss():
    two = {"actor": PLAIN.nets["actor"], "kept": PLAIN.nets["actor"]}
    inputs = dict.fromkeys(two, PLAIN.inputs["actor"])
    contract.check("own", PLAIN._replace(nets=two, inputs=inputs), SPEC)
    learned = {"actor": optax.adam(1e-3), "kept": optax.adam(1e-3)}
    with refused_in_a_line("optimisers has 'kept', which is not in losses and duals"):
        contract.check("own", PLAIN._replace(nets=two, inputs=inputs, optimisers=learned), SPEC)
