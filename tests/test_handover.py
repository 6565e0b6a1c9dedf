"""Hand-overs: what the online phase keeps from the offline one, bit for bit, and refusals."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from enoto_jax import core, handover, targets
from enoto_jax.algorithms.agents import cql_agents
from enoto_jax.algorithms.bc import bc
from enoto_jax.algorithms.br import br
from enoto_jax.algorithms.cql import cql
from enoto_jax.algorithms.iql import iql
from enoto_jax.algorithms.pex import pex
from enoto_jax.algorithms.sac import sac
from enoto_jax.exploration import policy
from enoto_jax.nets.initialisers import torch_init
from enoto_jax.nets.networks import Linear
from enoto_jax.recipes import registry
from enoto_jax.training import probe
from enoto_jax.training.run import train
from enoto_jax.types import InputError
from tests.helpers import assert_same, quick_compiling, reach_source, tiny

KEY = jax.random.key(0)
SHAPE = {"n": 4, "hidden": (8, 7)}


@pytest.fixture(scope="module", autouse=True)
def quick():
    with quick_compiling():
        yield


@pytest.fixture(scope="module")
def offline(spec, state_of):
    """The final state of an offline phase with a learned multiplier and a frozen policy."""
    state = state_of(cql(lagrange=1.0, **SHAPE).build(spec))
    return state.replace(frozen={"actor": state.params["actor"]}, step=np.int32(70))


@pytest.fixture(scope="module")
def online(spec):
    return sac(actor_rate=1e-2, **SHAPE).build(spec)


def test_carry_keeps_every_number_that_the_online_phase_uses(offline, online):
    state = handover.carry()(KEY, offline, online)
    for part in ("params", "targets", "opt_states"):
        kept = getattr(state, part)
        assert_same(kept, {name: getattr(offline, part)[name] for name in kept})
    assert set(state.params) == set(state.opt_states) == {"actor", "critic", "temperature"}
    assert set(state.targets) == {"critic"}
    moments = state.opt_states["critic"][0]
    assert moments.count == 3 and any(np.any(x) for x in jax.tree.leaves(moments.nu))


def test_carry_drops_the_multiplier_and_frozen_parameters_and_counts_anew(offline, online):
    state = handover.carry()(KEY, offline, online)
    assert "multiplier" in offline.params and "multiplier" in offline.opt_states
    assert "multiplier" not in state.params and "multiplier" not in state.opt_states
    assert state.frozen == {}
    assert state.step == 0 and state.step.dtype == jnp.int32
    assert offline.step == 70 and offline.frozen  # the offline state is not changed


def test_carry_draws_nothing(offline, online):
    assert_same(
        handover.carry()(KEY, offline, online),
        handover.carry()(jax.random.key(1), offline, online),
    )


def test_the_carried_state_is_what_the_online_phase_expects(offline, online):
    expected = jax.eval_shape(lambda key: core.init(online, key), KEY)
    assert handover.differences(expected, handover.carry()(KEY, offline, online)) == ""


def test_carry_works_on_shapes_alone_and_under_vmap(offline, online):
    shapes = jax.eval_shape(lambda state: handover.carry()(KEY, state, online), offline)
    assert shapes.params["temperature"]["params"]["value"].shape == ()
    two = jax.tree.map(lambda x: np.stack([x, x + 1]), offline)
    carried = jax.vmap(lambda state: handover.carry()(KEY, state, online))(two)
    kernel = two.params["actor"]["params"]["mean"]["kernel"]
    np.testing.assert_array_equal(carried.params["actor"]["params"]["mean"]["kernel"], kernel)
    np.testing.assert_array_equal(carried.step, [0, 0])


# Refusals.


def refusal(offline, online):
    with pytest.raises(InputError) as caught:
        handover.carry()(KEY, offline, online)
    message = str(caught.value)
    assert message.startswith("carry: ") and "\n" not in message
    return message


def test_carry_from_nothing_is_refused(online):
    assert refusal(None, online).endswith("there is no offline phase to carry from; use fresh")


def test_another_number_of_critics_is_named(spec, offline):
    message = refusal(offline, sac(n=2, hidden=(8, 7)).build(spec))
    assert "the two phases' networks differ: " in message
    assert "critic" in message and "float32[4, 8], expected float32[2, 8]" in message
    assert message.count(";") == 3 and " more" in message


def test_another_width_is_named(spec, offline):
    message = refusal(offline, sac(n=4, hidden=(8, 9)).build(spec))
    assert "params.actor.params.layer_1.bias is float32[7], expected float32[9]" in message


def test_another_depth_is_named(spec, offline):
    message = refusal(offline, sac(n=4, hidden=(8, 7, 7)).build(spec))
    assert "params.actor.params.layer_2.kernel is missing" in message
    message = refusal(offline, sac(n=4, hidden=(8,)).build(spec))
    assert "params.actor.params.layer_1.kernel is not used" in message


def test_layer_norm_is_named(spec, offline):
    assert "params.critic.params.norm_0.bias is missing" in refusal(
        offline, sac(layer_norm=True, **SHAPE).build(spec)
    )


def test_a_network_that_the_offline_phase_lacks_is_named(spec, state_of, online):
    message = refusal(state_of(online), cql(lagrange=1.0, **SHAPE).build(spec))
    assert "the offline phase has no params of multiplier, which the online algorithm" in message
    message = refusal(state_of(online), online._replace(tracked=("actor", "critic")))
    assert "the offline phase has no targets of actor, which the online algorithm" in message


# Independent agents merged into one.


AGENTS = {"n": 2, "hidden": (8, 7)}


@pytest.fixture(scope="module")
def team(spec, state_of):
    return state_of(cql_agents(count=3, **AGENTS).build(spec))


@pytest.fixture(scope="module")
def merged(spec, team):
    """The online state, and a fresh state from the same key."""
    online = br(policies=3, **AGENTS).build(spec)

    def both(team):
        return handover.merge_actors()(KEY, team, online), core.init(online, KEY)

    return jax.jit(both)(team)


def test_merged_actors_are_the_members_and_the_critics_one_ensemble(team, merged):
    state, fresh = merged
    members = state.params["actor"]["params"]["members"]
    assert_same(members, team.params["actor"]["params"])
    pairs = jax.tree.map(lambda x: np.concatenate(list(x)), team.params["critic"])
    assert_same(state.params["critic"], pairs)  # an agent's two critics stay adjacent
    assert_same(state.targets, {"critic": pairs})  # not the agents' own targets
    assert_same(state.opt_states, fresh.opt_states)
    for name in ("temperature", "ratio"):
        assert_same(state.params[name], fresh.params[name])
    assert state.params["temperature"]["params"]["value"] == 0 and state.step == 0
    assert handover.differences(fresh, state) == ""


def test_the_merged_policy_is_what_was_evaluated_offline(spec, team, merged, batch):
    offline, online = (
        cql_agents(count=3, **AGENTS).build(spec),
        br(policies=3, **AGENTS).build(spec),
    )
    before, after = (
        algorithm.mode(state, batch.observation)
        for algorithm, state in ((offline, team), (online, merged[0]))
    )
    np.testing.assert_allclose(before, after, rtol=1e-6, atol=1e-7)


def test_merging_what_does_not_fit_is_refused(spec, team, offline):
    merge, fitting = handover.merge_actors(), br(policies=3, **AGENTS).build(spec)
    with pytest.raises(InputError, match="merge_actors: there is no offline phase to merge"):
        jax.eval_shape(lambda: merge(KEY, None, fitting))
    for online in (
        br(policies=2, **AGENTS).build(spec),
        br(policies=3, n=2, hidden=(8, 9)).build(spec),
    ):
        with pytest.raises(InputError, match="merge_actors: the offline agents do not fit .*: par"):
            jax.eval_shape(lambda online=online: merge(KEY, team, online))
    with pytest.raises(InputError, match="merge_actors: the offline agents do not fit"):
        jax.eval_shape(lambda: merge(KEY, offline, online))  # one policy, not several agents
    alone = offline.replace(params={"actor": offline.params["actor"]})
    with pytest.raises(InputError, match="merge_actors: the offline phase has no params of critic"):
        jax.eval_shape(lambda: merge(KEY, alone, online))


# `fresh`, and descriptions of differences.


def test_fresh_starts_anew_whatever_came_before(offline):
    net = Linear(4, torch_init())
    algorithm = core.Algorithm(
        {"a": net},
        {"a": (jnp.zeros(3),)},
        {},
        {"a": optax.adam(0.1)},
        ("a",),
        0.1,
        None,
        None,
        None,
        None,
        1,
        policy(),
    )
    expected = core.init(algorithm, KEY)
    for before in (None, offline):
        assert_same(handover.fresh()(KEY, before, algorithm), expected)
    other = handover.fresh()(jax.random.key(1), None, algorithm).params["a"]["params"]
    assert (other["kernel"] != expected.params["a"]["params"]["kernel"]).all()


def test_differences_in_words():
    one = {"a": np.zeros(3, np.float32), "b": {"c": np.zeros((2, 1), np.float32)}}
    assert handover.differences(one, one) == ""
    assert handover.differences(one, {"a": one["a"]}) == "b.c is missing"
    assert handover.differences({"a": one["a"]}, one) == "b.c is not used"
    other = {"a": np.zeros(3, np.int32), "b": {"c": np.zeros((2, 2), np.float32)}}
    assert handover.differences(one, other) == (
        "a is int32[3], expected float32[3]; b.c is float32[2, 2], expected float32[2, 1]"
    )


def test_only_the_first_three_differences_are_told():
    many = {name: np.zeros(1) for name in "abcde"}
    assert handover.differences(many, {}) == (
        "a is missing; b is missing; c is missing; and 2 more"
    )
    assert "more" not in handover.differences(dict(list(many.items())[:3]), {})


# Policy expansion.


@pytest.fixture(scope="module")
def expanded(spec, state_of):
    offline, online = state_of(iql(**SHAPE).build(spec)), pex(**SHAPE).build(spec)
    return offline, jax.jit(lambda s: handover.expand_policy()(KEY, s, online))(offline)


def test_expand_policy_freezes_the_old_policy_and_keeps_the_values(expanded):
    offline, state = expanded
    assert_same(state.frozen, {"offline_actor": offline.params["actor"]})
    for name in ("critic", "value"):
        assert_same(state.params[name], offline.params[name])
    assert_same(state.targets, offline.targets)
    assert state.step == 0


def test_expand_policy_starts_a_new_policy_and_new_optimisers(spec, expanded):
    offline, state = expanded
    online = pex(**SHAPE).build(spec)
    start = jax.jit(lambda: core.init(online, KEY))()
    assert_same(state.params["actor"], start.params["actor"])
    assert_same(state.opt_states, start.opt_states)
    assert offline.opt_states["critic"][0].count == 3  # the new optimisers do not continue it


@pytest.mark.parametrize(
    ("make", "online", "message"),
    [
        (None, pex, "expand_policy: there is no offline phase to expand; use fresh"),
        (iql, iql, "the online algorithm has no place for a frozen policy; choose pex"),
        (bc, pex, "expand_policy: the offline phase has no params of critic, value, which"),
        (cql, pex, "expand_policy: the offline phase has no params of value, which"),
    ],
)
def test_expand_policy_refuses(spec, state_of, make, online, message):
    shape = SHAPE if make is not bc else {"hidden": (8, 7)}
    offline = None if make is None else state_of(make(**shape).build(spec))
    algorithm = online(**SHAPE).build(spec)
    with pytest.raises(InputError, match=message):
        jax.eval_shape(lambda: handover.expand_policy()(KEY, offline, algorithm))


def test_expand_policy_refuses_networks_of_another_shape(spec, state_of):
    offline, online = state_of(iql(n=4, hidden=(8, 6)).build(spec)), pex(**SHAPE).build(spec)
    with pytest.raises(InputError, match="expand_policy: the two phases' networks differ: .*8, 6"):
        jax.eval_shape(lambda: handover.expand_policy()(KEY, offline, online))


# Critics distilled into fewer.


def teachers_and_students(spec, state_of, m):
    offline = sac(n=4, hidden=(8, 7)).build(spec)
    online = sac(n=m, hidden=(8, 7), critic_hidden=(32, 32)).build(spec)
    before = state_of(offline)
    return before, online, handover.Learned(offline, None)


@pytest.mark.parametrize(("n", "m"), [(10, 2), (10, 3), (4, 5), (2, 2), (5, 1)])
def test_students_have_the_teachers_mean_and_mean_pairwise_distance(n, m):
    def distance(q):
        pairs = [abs(q[i] - q[j]) for i in range(len(q)) for j in range(i)]
        return np.mean(pairs, axis=0)

    q = np.random.default_rng(n).normal(size=(n, 2, 6))
    found = np.float64(handover.spread_out(jnp.float32(q), m))
    np.testing.assert_allclose(found.mean(0), q.mean(0), rtol=1e-4, atol=1e-5)
    if m > 1:
        np.testing.assert_allclose(distance(found), distance(q), rtol=1e-4, atol=1e-5)
        steps = np.diff(found, axis=0)
        np.testing.assert_allclose(steps, np.broadcast_to(steps[0], steps.shape), rtol=1e-3)
    if m == 2:
        rule = targets.weighted_min_pair()(KEY, jnp.float32(q))
        np.testing.assert_allclose(found.min(0), rule, rtol=1e-4, atol=1e-5)


def test_three_values_by_hand():
    q = jnp.float32([[6.0], [1.0], [2.0]])  # mean 3; distances 5, 4, 1
    close = np.testing.assert_allclose
    close(handover.spread_out(q, 2)[:, 0], [3 - 10 / 6, 3 + 10 / 6], rtol=1e-5)
    close(handover.spread_out(q, 3)[:, 0], [3 - 2.5, 3.0, 3 + 2.5], rtol=1e-5)


@pytest.fixture(scope="module")
def distilled(spec, state_of, batch):
    """Teachers, and two wider students after a short fit to a few rows."""
    before, online, learned = teachers_and_students(spec, state_of, 2)
    learned = learned._replace(data=batch)
    fit = handover.distil(steps=1_500, batch_size=16, rate=3e-3)
    state = jax.jit(lambda key, s, data: fit(key, s, online, learned._replace(data=data)))(
        KEY, before, batch
    )
    return before, state, online, learned.algorithm


def test_students_learn_values_and_spread_at_recorded_own_and_uniform_actions(distilled, batch):
    before, state, online, offline = distilled
    uniform = jax.random.uniform(jax.random.key(9), batch.action.shape, minval=-1.0, maxval=1.0)
    for action in (batch.action, online.mode(state, batch.observation), uniform):
        q = offline.q(before.params["critic"], batch.observation, action)
        students = online.q(state.params["critic"], batch.observation, action)
        wanted = handover.spread_out(q, 2)
        scale = float(jnp.std(wanted))
        assert float(jnp.sqrt(jnp.mean(jnp.square(students - wanted)))) < 0.3 * scale
        lower = jnp.corrcoef(students.min(0), targets.weighted_min_pair()(KEY, q))[0, 1]
        assert lower > 0.95


@pytest.mark.parametrize(("m", "width", "alike"), [(2, 7, True), (3, 7, True), (2, 6, False)])
def test_students_as_large_as_the_teachers_start_as_the_first_of_them(
    m, width, alike, spec, state_of, batch
):
    offline = sac(n=3, hidden=(8, 7)).build(spec)
    online = sac(n=m, hidden=(8, 7), critic_hidden=(8, width)).build(spec)
    before, fit = state_of(offline), handover.distil(steps=1, rate=0.0)
    learned = handover.Learned(offline, batch)
    state = jax.jit(lambda s: fit(KEY, s, online, learned))(before)
    action = batch.action
    students = online.q(state.params["critic"], batch.observation, action)
    first = offline.q(before.params["critic"], batch.observation, action)[:m]
    assert np.allclose(students, first, rtol=1e-5) == alike


def test_all_but_the_critics_is_kept_and_targets_are_copies(distilled):
    before, state, online, _ = distilled
    for name in ("actor", "temperature"):
        assert_same(state.params[name], before.params[name])
        assert_same(state.opt_states[name], before.opt_states[name])
    assert_same(state.targets["critic"], state.params["critic"])
    fresh = jax.eval_shape(lambda: core.init(online, KEY))
    assert handover.differences(fresh, state) == "" and state.step == 0
    moments = jax.tree.leaves(state.opt_states["critic"])
    assert not any(np.any(x) for x in moments)  # fresh Adam


def test_distil_refuses_what_it_cannot_learn_from(spec, state_of, batch):
    before, online, learned = teachers_and_students(spec, state_of, 2)
    fit = handover.distil(steps=1)
    for offline, seen in ((None, learned), (before, None)):
        with pytest.raises(InputError, match="distil: there is no offline phase, or no data"):
            fit(KEY, offline, online, seen)

    def refused(match, *arguments):
        with pytest.raises(InputError, match=match):
            jax.eval_shape(lambda: fit(KEY, before, *arguments))

    blind = handover.Learned(learned.algorithm._replace(q=None), batch)
    refused("both phases need critics", online, blind)
    wide = sac(n=2, hidden=(8, 9)).build(spec)
    refused("the two phases' networks differ: params.actor", wide, learned._replace(data=batch))
    frozen = pex(n=2, hidden=(8, 7)).build(spec)
    refused("the online algorithm's frozen policy; choose expand_policy", frozen, learned)
    with pytest.raises(InputError, match="steps is 0"):
        handover.distil(steps=0)


def test_a_row_with_a_distilled_ensemble_runs_from_its_data_and_is_restored(tmp_path, monkeypatch):
    """N critics offline, two online. Restoring from another run's hand-over gives the same run.

    The probe also measures between evaluations, here after the second update.
    """
    monkeypatch.setattr(probe, "AFTER", (2,))
    row = tiny("enoto_cql", online__algorithm__n=2)
    row = registry.override(row, "handover", "distil")
    row = registry.override(row, "handover.steps", 3)
    source = reach_source()
    options = {"seeds": (0,), "eval_episodes": 1}
    train(row, source, tmp_path / "whole", **options)
    train(row, source, tmp_path / "again", restore=tmp_path / "whole", **options)

    def written(folder, name):
        with open(tmp_path / folder / name) as file:
            return list(csv.DictReader(file))

    rows = written("whole", "metrics.csv")
    online = [row for row in rows if row["name"].startswith("online/")]
    assert written("again", "metrics.csv") == online
    looked = {int(row["step"]) for row in rows if row["name"] == "online/data/target"}
    assert looked == {0, 4, 5, 8, 12}  # evaluations, and two updates after step 3
    assert "offline/data/target" in {row["name"] for row in rows}
    assert {row["step"] for row in rows if row["name"] == "online/critic/loss"} == {"4", "8", "12"}
