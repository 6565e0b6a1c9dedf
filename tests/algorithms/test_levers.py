"""Options that make ensembles cheaper: against the oracle or by hand, without effect if off."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from enoto_jax import core, targets
from enoto_jax.algorithms.agents import cql_agents
from enoto_jax.algorithms.cql import cql, cql_penalty
from enoto_jax.algorithms.edac import edac
from enoto_jax.algorithms.sac import sac
from enoto_jax.nets.cpu_kernels import Unstacked
from enoto_jax.nets.ensembles import Drawn, Noisy, PerCopy, SharedTrunk, ensemble
from enoto_jax.nets.networks import Critic, Features
from enoto_jax.training.unstack import restack, unstack
from enoto_jax.types import InputError
from tests.algorithms.losses import KEY, A, B, D, N, close
from tests.helpers import assert_same, differ
from tests.oracle import reference

SHAPE = {"n": N, "hidden": (8, 7), "discount": 0.9}
pytestmark = pytest.mark.usefixtures("quick")


def critic_loss(algorithm, state, batch, key=KEY):
    loss = jax.jit(algorithm.losses["critic"])
    return loss(state.params["critic"], state, batch, key)


# The conservative term on part of the batch.


def test_a_term_on_drawn_rows_is_the_term_of_those_rows(spec, state_of, batch):
    """Candidates are drawn for these rows only, from the same key."""
    part, whole = cql(candidates=2, penalty_rows=2, **SHAPE), cql(candidates=2, **SHAPE)
    term_key = jax.random.split(KEY, 3)[2]
    rows = np.asarray(jax.random.permutation(jax.random.fold_in(term_key, 4), B)[:2])
    state = state_of(part.build(spec))
    _, found = critic_loss(part.build(spec), state, batch)
    smaller = jax.tree.map(lambda x: x[rows], batch)
    _, expected = critic_loss(whole.build(spec), state, smaller)
    assert found["gap"] == pytest.approx(float(expected["gap"]), rel=1e-5)
    _, of_all = critic_loss(whole.build(spec), state, batch)
    assert found["td_loss"] == of_all["td_loss"] and found["gap"] != of_all["gap"]


def test_every_row_is_drawn_equally_often():
    """The term's mean over draws is therefore the term on the whole batch."""
    unit = cql_penalty(penalty_rows=2)
    keys = jax.random.split(KEY, 600)
    draws = np.asarray(jax.vmap(lambda key: unit._rows(key, B))(keys))
    assert all(len(set(rows)) == 2 for rows in draws.tolist())
    counts = np.bincount(draws.ravel(), minlength=B)
    assert np.abs(counts - 200).max() < 5 * np.sqrt(200 * 2 / 3)


def test_a_calibrated_term_takes_the_returns_of_its_rows(spec, state_of, batch):
    unit = cql(candidates=2, calibrate=True, clip=(-5.0, 5.0), **SHAPE)
    batch = batch._replace(extras={"mc_return": jnp.arange(B, dtype=jnp.float32)})
    state = state_of(unit.build(spec))
    value, _ = critic_loss(unit.build(spec), state, batch)
    same, found = critic_loss(dataclasses.replace(unit, penalty_rows=3).build(spec), state, batch)
    assert np.isfinite(same) and same != value and 0.0 <= found["bound_rate"] <= 1.0


@pytest.mark.parametrize("rows", [0, -1])
def test_rows_below_one_are_refused(rows):
    with pytest.raises(InputError, match=f"penalty_rows is {rows}; it must be at least 1"):
        cql(penalty_rows=rows)


def test_more_rows_than_a_batch_has_are_refused(spec, state_of, batch):
    algorithm = cql(penalty_rows=B + 1, **SHAPE).build(spec)
    with pytest.raises(InputError, match="penalty_rows is 7, but a batch has 6 transitions"):
        critic_loss(algorithm, state_of(algorithm), batch)


# K of N critics learn.


def drawn_at(algorithm, key):
    """The indices of the critics that an update with this key draws."""
    keys = jax.random.split(key, len(algorithm.losses))
    own = jax.random.fold_in(keys[list(algorithm.losses).index("critic")], 1)
    return sorted(np.asarray(jax.random.permutation(own, N)[: algorithm.learners["critic"]]))


@pytest.mark.parametrize("make", [sac, cql, edac])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_drawn_critics_take_the_step_that_they_take_when_all_learn(
    make, reduction, spec, state_of, batch
):
    """EDAC's term compares only the drawn critics, so only its other critics are checked."""
    options = dict(SHAPE)
    if make is cql:
        options |= {"candidates": 2, "reduction": reduction}
    elif reduction == "sum":
        pytest.skip("has no reduction")
    part, whole = make(learners=2, **options).build(spec), make(**options).build(spec)
    before = state_of(whole)
    # Each critic has its own Adam count.
    adam, rest = before.opt_states["critic"]
    own = adam._replace(count=jnp.full(N, 3, jnp.int32))
    start = before.replace(opt_states={**before.opt_states, "critic": (own, rest)})
    after, metrics = jax.jit(lambda state: core.update(part, state, batch, KEY))(start)
    expected, seen = jax.jit(lambda state: core.update(whole, state, batch, KEY))(before)
    chosen = drawn_at(part, KEY)
    assert len(chosen) == 2
    for i in range(N):
        found, old = (reference.member(x.params["critic"], i) for x in (after, start))
        if i not in chosen:
            assert_same(found, old)
        elif make is not edac:
            new = reference.member(expected.params["critic"], i)
            jax.tree.map(close, found, new)
            assert differ(found, old)
    assert after.opt_states["critic"][0].count.tolist() == [3 + (i in chosen) for i in range(N)]
    for i in set(range(N)) - set(chosen):
        for part_of in ("mu", "nu"):
            moments = (getattr(x.opt_states["critic"][0], part_of) for x in (after, start))
            assert_same(*(reference.member(x, i) for x in moments))
    assert set(metrics) == set(seen)


def test_critics_that_rest_cost_no_product_of_their_own(spec, state_of, batch):
    """By the compiler's count, the operations of the critics' loss fall with K."""

    def cost(learners):
        algorithm = cql(n=8, hidden=(32, 32), learners=learners).build(spec)
        state = jax.eval_shape(lambda: core.init(algorithm, KEY))
        update = jax.jit(lambda s, b, k: core.update(algorithm, s, b, k))
        found = update.lower(state, batch, KEY).compile().cost_analysis()
        return (found[0] if isinstance(found, list) else found)["flops"]

    whole, half, one = cost(None), cost(4), cost(1)
    assert half < 0.65 * whole and one < 0.5 * half


def test_all_learners_are_the_ordinary_ensemble(spec):
    assert sac(learners=N, **SHAPE).build(spec).learners == {}


def test_drawn_critics_have_their_own_targets_and_masks(spec, state_of, batch):
    """Per-critic targets [N, B] and bootstrap masks [B, N] follow the critics that learn."""
    mask = jnp.float32(np.random.default_rng(1).integers(0, 2, (B, N)))
    masked = batch._replace(extras={"mask": mask})
    algorithm = sac(target=targets.independent(), **SHAPE).build(spec)
    state = state_of(algorithm)
    index = jnp.int32([3, 1])
    copies = tuple(reference.member(state.params["critic"], int(i)) for i in index)
    loss = algorithm.losses["critic"]
    for each in (batch, masked):
        value, _ = loss(Drawn(Unstacked(copies), index, N), state, each, KEY)
        stacked = jax.tree.map(lambda x: x[index], state.params["critic"])
        again, _ = loss(Drawn(stacked, index, N), state, each, KEY)
        whole = [float(loss(state.params["critic"], state, _only(each, i), KEY)[0]) for i in (3, 1)]
        assert value == pytest.approx(float(again), rel=1e-5)
        if each is masked:
            assert value == pytest.approx(sum(whole), rel=1e-5)


def _only(batch, i):
    """The batch with a mask that lets only critic i learn."""
    mask = batch.extras.get("mask", jnp.ones((B, N)))
    return batch._replace(extras={"mask": mask * jax.nn.one_hot(i, N)})


def test_a_part_of_an_ensemble_learns_from_a_state_that_stays_stacked(spec, state_of, batch):
    algorithm = sac(learners=2, **SHAPE).build(spec)
    state = core.init(algorithm, KEY)
    parts = unstack(algorithm, state)
    assert not isinstance(parts.params["critic"], Unstacked)
    assert_same(restack(parts), state)
    after = jax.eval_shape(lambda state: core.update(algorithm, state, batch, KEY)[0], parts)
    assert jax.tree.structure(after) == jax.tree.structure(state)


@pytest.mark.parametrize("k", [0, N + 1])
def test_a_number_of_learners_that_cannot_be_is_refused(k, spec):
    with pytest.raises(InputError, match=f"learners is {k}; it must be 1 to n = {N}"):
        sac(learners=k, **SHAPE).build(spec)


def test_independent_agents_and_shared_trunks_learn_whole(spec):
    with pytest.raises(InputError, match="agents: all critics of an agent learn"):
        cql_agents(count=2, learners=1, n=2, hidden=(8,)).build(spec)
    with pytest.raises(InputError, match="learners needs critics without a shared trunk"):
        sac(learners=2, shared_layers=1, **SHAPE).build(spec)


# A shared trunk.


def whole_critics(params, shared):
    """The same critics without sharing, each with its own copy of the trunk, for the oracle."""
    heads = params["heads"]["params"]
    layers = {k: np.stack([v] * N) for k, v in _flat(params["trunk"]["params"]).items()}
    tree = {"params": {}}
    for path, value in layers.items():
        layer, leaf = path
        tree["params"].setdefault(layer, {})[leaf] = value
    for name, leaves in heads.items():
        kind, _, number = name.rpartition("_")
        moved = f"{kind}_{int(number) + shared}" if number.isdigit() else name
        tree["params"][moved] = leaves
    return tree


def _flat(tree):
    return {(layer, leaf): x for layer, leaves in tree.items() for leaf, x in leaves.items()}


@pytest.mark.parametrize("shared", [1, 2])
def test_critics_on_a_shared_trunk_are_critics_with_equal_first_layers(
    shared, spec, state_of, batch, double
):
    algorithm = sac(shared_layers=shared, **SHAPE).build(spec)
    state = state_of(algorithm)
    q = algorithm.q(state.params["critic"], batch.observation, batch.action)
    apart = whole_critics(double(state.params["critic"]), shared)
    close(q, reference.critics(apart, double(batch.observation), double(batch.action)))
    many = algorithm.q(
        state.params["critic"], batch.observation, jnp.stack([batch.action, -batch.action])
    )
    close(many[:, 0], q)
    own = algorithm.q(
        state.params["critic"],
        batch.observation,
        PerCopy(jnp.broadcast_to(batch.action, (N, B, A))),
    )
    close(own, q)


@pytest.mark.parametrize("make", [cql, edac])
def test_a_shared_trunk_is_unstacked_in_its_heads_and_learns_the_same(make, spec, state_of, batch):
    algorithm = make(shared_layers=1, **SHAPE).build(spec)
    state = state_of(algorithm)
    parts = unstack(algorithm, state)
    assert isinstance(parts.params["critic"]["heads"], Unstacked)
    assert isinstance(parts.opt_states["critic"][0].mu["heads"], Unstacked)
    assert not isinstance(parts.params["critic"]["trunk"], Unstacked)
    assert_same(restack(parts), state)
    update = jax.jit(lambda state: core.update(algorithm, state, batch, KEY)[0])
    jax.tree.map(close, restack(update(parts)), update(state))


def test_the_trunk_learns_from_every_head_and_heads_start_apart(spec, batch):
    algorithm = sac(shared_layers=1, **SHAPE).build(spec)
    state = core.init(algorithm, KEY)
    kernel = state.params["critic"]["heads"]["params"]["layer_0"]["kernel"]
    assert kernel.shape == (N, 8, 7) and len({float(x) for x in kernel[:, 0, 0]}) == N
    after = jax.jit(lambda state: core.update(algorithm, state, batch, KEY)[0])(state)
    assert differ(after.params["critic"]["trunk"], state.params["critic"]["trunk"])


@pytest.mark.parametrize("shared", [-1, 3])
def test_more_shared_layers_than_there_are_are_refused(shared, spec):
    with pytest.raises(InputError, match=f"shared_layers is {shared}; the critics have 2 hidden"):
        sac(shared_layers=shared, **SHAPE).build(spec)


# A shared head.


def test_critics_below_a_shared_head_are_critics_with_equal_output_layers(
    spec, state_of, batch, double
):
    algorithm = sac(shared_head=True, **SHAPE).build(spec)
    critic = state_of(algorithm).params["critic"]
    q = algorithm.q(critic, batch.observation, batch.action)
    head = jax.tree.map(lambda x: np.stack([x] * N), critic["head"]["params"])
    apart = double({"params": {**critic["trunks"]["params"], **head}})
    close(q, reference.critics(apart, double(batch.observation), double(batch.action)))
    assert q.shape == (N, B) and critic["head"]["params"]["out"]["kernel"].shape == (7, 1)
    both = jnp.stack([batch.action, -batch.action])
    close(algorithm.q(critic, batch.observation, both)[:, 0], q)
    own = PerCopy(jnp.broadcast_to(batch.action, (N, B, A)))
    close(algorithm.q(critic, batch.observation, own), q)


def test_a_shared_head_learns_from_every_critic(spec, state_of, batch):
    """Its gradient is the sum of the gradients of N equal, separate heads."""
    shared, apart = (sac(shared_head=x, **SHAPE).build(spec) for x in (True, False))
    state = state_of(shared)
    parts = state.params["critic"], state.targets["critic"]
    whole = [
        {
            "params": {
                **p["trunks"]["params"],
                **jax.tree.map(lambda x: jnp.stack([x] * N), p["head"]["params"]),
            }
        }
        for p in parts
    ]
    other = state.replace(
        params={**state.params, "critic": whole[0]}, targets={**state.targets, "critic": whole[1]}
    )
    gradients = [
        jax.jit(jax.grad(lambda p, x=x, s=s: x.losses["critic"](p, s, batch, KEY)[0]))(
            s.params["critic"]
        )
        for x, s in ((shared, state), (apart, other))
    ]
    one, many = gradients[0]["head"]["params"]["out"], gradients[1]["params"].pop("out")
    jax.tree.map(lambda x, each: close(x, each.sum(axis=0)), one, many)
    jax.tree.map(close, gradients[0]["trunks"], gradients[1])


@pytest.mark.parametrize("make", [cql, edac])
def test_a_shared_head_is_unstacked_in_its_trunks_and_learns_the_same(make, spec, state_of, batch):
    algorithm = make(shared_head=True, **SHAPE).build(spec)
    state = state_of(algorithm)
    parts = unstack(algorithm, state)
    assert isinstance(parts.params["critic"]["trunks"], Unstacked)
    assert not isinstance(parts.params["critic"]["head"], Unstacked)
    assert_same(restack(parts), state)
    update = jax.jit(lambda state: core.update(algorithm, state, batch, KEY)[0])
    jax.tree.map(close, restack(update(parts)), update(state))


@pytest.mark.parametrize("others", [{"shared_layers": 1}, {"learners": 2}])
def test_a_shared_head_alone(others, spec):
    with pytest.raises(
        InputError, match="shared_head cannot be combined with shared_layers or learners"
    ):
        sac(shared_head=True, **others, **SHAPE).build(spec)


# Dropout.


def test_dropout_is_before_the_norm_and_keeps_the_mean():
    """By hand: units equal to 1 become 0 (a quarter of them) or 4 / 3, with variance 1 / 3.

    Normalised, they are -sqrt(3) or sqrt(3) / 3, and ReLU keeps the latter. Dropout after the norm
    would leave nothing, because the norm maps equal units to 0.
    """
    wide = 4_000
    observation, action = jnp.ones((1, D)), jnp.ones((1, A))
    layers = {
        "layer_0": {"kernel": jnp.zeros((D + A, wide)), "bias": jnp.ones(wide)},
        "norm_0": {"scale": jnp.ones(wide), "bias": jnp.zeros(wide)},
        "out": {"kernel": jnp.full((wide, 1), 1.0 / wide), "bias": jnp.zeros(1)},
    }
    rngs = {"dropout": KEY}
    normed = Critic((wide,), True, dropout=0.25)
    found = normed.apply({"params": layers}, observation, action, rngs=rngs)[0]
    assert found == pytest.approx(0.75 / np.sqrt(3), rel=0.03)
    assert normed.apply({"params": layers}, observation, action)[0] == 0.0
    del layers["norm_0"]
    plain = Critic((wide,), dropout=0.25)
    found = plain.apply({"params": layers}, observation, action, rngs=rngs)[0]
    assert found == pytest.approx(1.0, rel=0.03) and found != 1.0


def test_critics_drop_apart_and_keys_make_the_masks():
    net, n = Critic((16,), dropout=0.5), 3
    critics = ensemble(net, n)
    observation, action = jnp.ones((B, D)), jnp.ones((B, A))
    one = net.init(KEY, observation, action)
    params = jax.tree.map(lambda x: jnp.stack([x] * n), one)  # equal critics
    noisy = critics.apply(Noisy(params, KEY), observation, action)
    assert noisy.shape == (n, B) and len(np.unique(np.round(noisy, 6))) > n * B / 2
    close(critics.apply(Noisy(params, KEY), observation, action), noisy)
    assert differ(critics.apply(Noisy(params, jax.random.key(2)), observation, action), noisy)
    plain = critics.apply(params, observation, action)
    close(plain, np.broadcast_to(net.apply(one, observation, action), (n, B)))
    parts = Unstacked(tuple(reference.member(params, i) for i in range(n)))
    close(critics.apply(Noisy(parts, KEY), observation, action), noisy)
    index = jnp.int32([2, 0])
    drawn = Drawn(jax.tree.map(lambda x: x[index], params), index, n)
    close(critics.apply(Noisy(drawn, KEY), observation, action), noisy[index])


@pytest.mark.parametrize(
    "options", [{}, {"shared_layers": 1}, {"shared_head": True}, {"learners": 2}]
)
def test_losses_drop_units_and_what_acts_does_not(options, spec, state_of, batch):
    options = {"layer_norm": True, "actor_value": targets.mean_q(), **options, **SHAPE}
    with_dropout, without = (sac(dropout=p, **options).build(spec) for p in (0.3, 0.0))
    state = core.init(with_dropout, KEY)
    assert_same(state, core.init(without, KEY))
    for name in ("critic", "actor"):
        losses = [
            jax.jit(algorithm.losses[name])(state.params[name], state, batch, key)[0]
            for algorithm in (with_dropout, without)
            for key in jax.random.split(KEY)
        ]
        assert len({float(x) for x in losses}) == 4
    q = [
        x.q(state.params["critic"], batch.observation, batch.action)
        for x in (with_dropout, without)
    ]
    close(*q)
    after, _ = jax.eval_shape(lambda s: core.update(with_dropout, s, batch, KEY), state)
    assert jax.tree.structure(after) == jax.tree.structure(state)


def test_dropout_works_unstacked(spec, state_of, batch):
    """The values are compared above; here a whole update accepts the unstacked copies."""
    algorithm = cql(dropout=0.3, layer_norm=True, candidates=2, **SHAPE).build(spec)
    parts = unstack(algorithm, state_of(algorithm))
    after = jax.eval_shape(lambda state: core.update(algorithm, state, batch, KEY)[0], parts)
    assert jax.tree.structure(after) == jax.tree.structure(parts)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_rate_of_dropout_that_cannot_be_is_refused(rate, spec):
    with pytest.raises(InputError, match=f"dropout is {rate}; it must be at least 0 and below 1"):
        sac(dropout=rate, **SHAPE).build(spec)


def test_a_trunk_of_its_own_has_dropout_too():
    net = SharedTrunk(Features((16,), dropout=0.5), ensemble(Critic(()), N))
    observation, action = jnp.ones((B, D)), jnp.ones((B, A))
    params = net.init(KEY, observation, action)
    noisy = net.apply(Noisy(params, KEY), observation, action)
    assert len(np.unique(np.round(noisy[0], 6))) > 1  # equal rows get different masks
    assert len(np.unique(np.round(net.apply(params, observation, action)[0], 6))) == 1
