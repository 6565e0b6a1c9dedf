"""What must hold for every method of the table, whatever its units.

Each method trains three seeds together, two of them with the same number. Those two must agree to
the last bit, and the third must differ.
"""

import math
from collections import Counter
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from enoto_jax import core, handover
from enoto_jax.data.returns import ends, next_actions, returns_to_go
from enoto_jax.data.source import Dataset
from enoto_jax.recipes import examples, registry, units
from enoto_jax.recipes.building import build
from enoto_jax.recipes.recipe import Recipe
from enoto_jax.recipes.table import RECIPES
from enoto_jax.runs.checkpoint import Checkpoints
from enoto_jax.runs.streams import stream
from enoto_jax.training import offline, online
from enoto_jax.training.carried import Online, portable, unpack
from enoto_jax.training.seeds import SeedMap
from enoto_jax.types import InputError, Spec, Transition
from tests.helpers import assert_same, differ, quick_compiling, tiny

SPEC = Spec(3, 2)
SEEDS = SeedMap([3, 3, 4], jax.local_devices()[:1])
WARMUP, CALLS = 3, 6


def transitions(*lead: int) -> Transition:
    rng = np.random.default_rng(7)
    ends = rng.integers(0, 6, lead)
    return Transition(
        observation=rng.normal(size=(*lead, 3)).astype(np.float32),
        action=rng.uniform(-1, 1, (*lead, 2)).astype(np.float32),
        reward=rng.normal(size=lead).astype(np.float32),
        terminated=ends == 0,
        truncated=ends == 1,
        next_observation=rng.normal(size=(*lead, 3)).astype(np.float32),
    )


DATA, FRESH = transitions(40), transitions(CALLS)


def known_to(algorithm: core.Algorithm) -> Transition:
    """The data set with the extras that the algorithm's batches need."""
    extras = {}
    if algorithm.monte_carlo is not None:
        extras["mc_return"] = returns_to_go(DATA, *algorithm.monte_carlo)
    if algorithm.next_actions:
        extras["next_action"] = next_actions(DATA)
    if algorithm.chunk is not None:
        extras["ends"] = ends(DATA)
    return DATA._replace(extras=extras)


def counted(algorithm: core.Algorithm) -> tuple[core.Algorithm, Counter]:
    """The algorithm with losses that count how often they are traced."""
    traces = Counter()

    def count(name, loss):
        def counting(*arguments):
            traces[name] += 1
            return loss(*arguments)

        return counting

    losses = {name: count(name, loss) for name, loss in algorithm.losses.items()}
    return algorithm._replace(losses=losses), traces


@pytest.fixture(scope="module", autouse=True)
def quick():
    with quick_compiling():
        yield


class Offline(NamedTuple):
    algorithm: core.Algorithm
    start: core.TrainState  # all states are host arrays [S, ...]
    two: core.TrainState  # after two updates
    four: core.TrainState
    four_at_once: core.TrainState  # four updates from the start, in one call
    sums: Any  # of the metrics over four updates
    traces: tuple[Counter, Counter]  # after the first call, and in total


class Online(NamedTuple):
    algorithm: core.Algorithm
    start: core.TrainState
    states: list[Online]  # after call 0, 1, ...
    last_again: Online  # the last call repeated from a checkpoint
    actions: np.ndarray  # [CALLS, S, A]
    mode: np.ndarray  # [S, E, A], or [S, E, h * A] for chunks
    traces: tuple[Counter, Counter]


class Row(NamedTuple):
    recipe: Recipe
    offline: Offline | None
    online: Online


def train_offline(recipe: Recipe) -> Offline:
    plain = recipe.offline.algorithm.build(SPEC)
    algorithm, traces = counted(plain)
    known = known_to(plain)
    numbers, data = SEEDS.put(SEEDS.seeds), SEEDS.share(known)
    init = SEEDS.compile(lambda seed: core.init(plain, stream(seed, "init")))
    start = SEEDS.get(init(numbers))
    program = offline.compile_blocks(algorithm, recipe.offline.batch_size, 2, SEEDS)

    def run(state, step: int, blocks: int):
        step, blocks = SEEDS.share(np.int32(step)), SEEDS.share(np.int32(blocks))
        return program(state, numbers, step, blocks, data)

    state, _ = run(SEEDS.put(start), 0, 1)
    two, once = SEEDS.get(state), Counter(traces)
    state, _ = run(state, 2, 1)
    at_once, sums = run(SEEDS.put(start), 0, 2)
    assert_same(SEEDS.get(data), known)  # shared, so it must not be donated
    return Offline(plain, start, two, *map(SEEDS.get, (state, at_once, sums)), (once, traces))


def train_online(recipe: Recipe, before: core.TrainState | None, folder) -> Online:
    built = build(recipe, SPEC)
    rows = len(DATA.reward) if built.replay.needs_data else 0
    begin = online.begin(built.online, built.replay, SPEC, recipe.online.batch_size, rows)

    def switch(seed, state):
        return begin(built.handover(stream(seed, "handover"), state, built.online), seed)

    numbers = SEEDS.put(SEEDS.seeds)
    carried = SEEDS.compile(switch)(numbers, SEEDS.put(before))
    start = SEEDS.get(carried.train)
    data = SEEDS.share(known_to(built.online)) if built.replay.needs_data else None
    algorithm, traces = counted(built.online)
    step = online.compile_step(recipe.online, algorithm, built.replay, SEEDS)

    def arguments(t: int):
        # All seeds get the same transitions; only their keys differ. Call 0 has no transition.
        now = jax.tree.map(lambda x: np.stack([x[t - 1] * (t > 0)] * 3).astype(x.dtype), FRESH)
        ended = (now.terminated | now.truncated) | (t == 0)
        parts = (now, np.stack([FRESH.observation[t]] * 3), ended)
        counts = (np.int32(t), np.bool_(t > WARMUP))
        return (numbers, *map(SEEDS.put, parts), *map(SEEDS.share, counts), data)

    states, actions, once = [], [], Counter()
    for t in range(CALLS):
        carried, action = step(carried, *arguments(t))
        states.append(SEEDS.get(carried))
        actions.append(SEEDS.get(action))
        once = Counter(traces) if t == 0 else once
    checkpoints = Checkpoints(folder)
    saving = portable(SEEDS.put(states[-2]), CALLS - 2, SEEDS)
    checkpoints.save(CALLS - 2, saving, {"phase": "online", "step": CALLS - 2})
    checkpoints.wait()
    template = jax.tree.map(np.zeros_like, states[-2])
    ring = jax.tree.map(lambda x: x[:, : CALLS - 2], template.storage.ring)
    saved = checkpoints.restore(template.replace(storage=template.storage._replace(ring=ring)))
    checkpoints.close()
    restored = unpack(saved, template)
    assert_same(restored, states[-2])
    again, _ = step(SEEDS.put(restored), *arguments(CALLS - 1))
    mode = SEEDS.compile(algorithm.mode)
    observations = np.stack([5.0 * DATA.observation] * 3)
    modes = SEEDS.get(mode(carried.train, SEEDS.put(observations)))
    return Online(
        built.online, start, states, SEEDS.get(again), np.stack(actions), modes, (once, traces)
    )


@pytest.fixture(scope="module")
def offline_of():
    """offline_of(recipe) -> its offline phase, trained once for all methods that share it."""
    done = {}

    def get(recipe: Recipe) -> Offline:
        name = str(recipe.offline.algorithm)
        if name not in done:
            done[name] = train_offline(recipe)
        return done[name]

    return get


@pytest.fixture(scope="module", params=sorted(RECIPES))
def row(request, offline_of, tmp_path_factory) -> Row:
    # With one layer, most of enoto_iql's actions lie on the bounds.
    layers = 2 if request.param == "enoto_iql" else 1
    recipe = tiny(request.param, layers, online__warmup=WARMUP)
    before = None if recipe.offline is None else offline_of(recipe)
    folder = tmp_path_factory.mktemp(request.param)
    return Row(recipe, before, train_online(recipe, before and before.four, folder))


@pytest.fixture
def offline_row(row) -> Row:
    if row.offline is None:
        pytest.skip("trains online only")
    return row


def one(tree, seed: int = 0):
    return jax.tree.map(lambda x: np.asarray(x)[seed], tree)


def test_offline_shapes(offline_row):
    algorithm, found = offline_row.offline.algorithm, offline_row.offline
    assert set(found.four.params) == set(algorithm.nets) == set(found.four.opt_states)
    assert set(found.four.targets) == set(algorithm.tracked)
    assert found.four.step.tolist() == [4, 4, 4]
    n = getattr(offline_row.recipe.offline.algorithm, "n", 0)
    lead = (3, n) if algorithm.batches == 1 else (3, algorithm.batches, n)
    critics = jax.tree.leaves(found.four.params.get("critic", ()))
    assert {x.shape[: len(lead)] for x in critics} == ({lead} if n else set())
    assert ("critic" in algorithm.tracked) == (n > 0)
    assert all(x.shape == (3,) for x in jax.tree.leaves(found.sums))
    assert set(found.sums) == {*algorithm.losses, *algorithm.duals}


def test_offline_numbers_are_finite_and_move(offline_row):
    found = offline_row.offline
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((found.four, found.sums)))
    for name in found.algorithm.nets:
        assert differ(found.start.params[name], found.two.params[name]), name
    for name in found.algorithm.tracked:
        assert differ(found.start.targets[name], found.two.targets[name]), name


def test_offline_same_seed_same_numbers(offline_row):
    found = offline_row.offline
    assert_same(one(found.four, 0), one(found.four, 1))
    assert_same(found.four, found.four_at_once)
    assert differ(one(found.four.params, 0), one(found.four.params, 2))
    assert differ(one(found.start.params, 0), one(found.start.params, 2))


def test_offline_is_traced_once(offline_row):
    once, in_all = offline_row.offline.traces
    assert set(in_all) == set(offline_row.offline.algorithm.losses)
    assert in_all == once


def test_online_is_traced_once(row):
    """A delayed network is traced twice: once for the shapes of its metrics."""
    once, in_all = row.online.traces
    delays = row.online.algorithm.delays
    expected = {name: 1 + (delays.get(name, 1) > 1) for name in row.online.algorithm.losses}
    assert in_all == once == expected


def test_update_leaves_its_inputs_alone(row):
    """Only traced, because only the containers could change, never an array."""
    found = row.online
    state = one(found.states[-1].train)
    before = jax.tree.leaves(state)
    policy = build(row.recipe, SPEC).replay
    batch = examples.batch(SPEC, found.algorithm, policy, row.recipe.online.batch_size)
    batch = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), batch)
    after, _ = jax.eval_shape(lambda: core.update(found.algorithm, state, batch, jax.random.key(0)))
    assert all(x is y for x, y in zip(before, jax.tree.leaves(state), strict=True))
    assert handover.differences(state, after) == ""


def test_handover_gives_what_the_online_phase_needs(row):
    expected = jax.eval_shape(lambda: core.init(row.online.algorithm, jax.random.key(0)))
    assert handover.differences(expected, one(row.online.start)) == ""
    assert row.online.start.step.tolist() == [0, 0, 0]


def test_handover_carries_everything_that_is_used(offline_row):
    if offline_row.recipe.handover.name != "carry":
        pytest.skip("does not carry; see test_handover")
    before, start = offline_row.offline.four, offline_row.online.start
    if offline_row.recipe.handover == handover.expand_policy():
        kept = {name: x for name, x in start.params.items() if name != "actor"}
        assert kept.keys() == {"critic", "value"}
        assert_same(kept, {name: before.params[name] for name in kept})
        assert_same(start.targets, before.targets)
        assert_same(start.frozen["offline_actor"], before.params["actor"])
        assert differ(start.params["actor"], before.params["actor"])
        assert differ(one(start.params["actor"], 0), one(start.params["actor"], 2))
        return
    for part in ("params", "targets", "opt_states"):
        have, kept = getattr(before, part), getattr(start, part)
        assert kept.keys() <= have.keys()
        assert_same(kept, {name: have[name] for name in kept})


def test_online_learns_when_it_is_told_to(row):
    states = [state.train for state in row.online.states]
    # t environment steps precede call t.
    utd = row.recipe.online.utd
    assert [state.step[0] for state in states] == [utd * max(0, t - WARMUP) for t in range(CALLS)]
    assert_same(states[WARMUP].params, row.online.start.params)
    assert_same(states[-1].frozen, row.online.start.frozen)
    for name in row.online.algorithm.optimisers:
        delay = row.online.algorithm.delays.get(name, 1)
        moved = states[WARMUP + math.ceil(delay / row.recipe.online.utd)]
        assert differ(states[WARMUP].params[name], moved.params[name]), name


def test_online_moves_each_network_as_often_as_its_delay_says(row):
    """Measured by Adam's own step count; networks without one are not trained."""
    algorithm, utd = row.online.algorithm, row.recipe.online.utd

    def steps(state: core.TrainState, name: str) -> int:
        return int(one(state.opt_states[name])[0].count)

    for name in algorithm.optimisers:
        counts = [steps(state.train, name) for state in row.online.states[WARMUP:]]
        assert np.diff(counts).sum() == utd * (CALLS - 1 - WARMUP) // algorithm.delays.get(name, 1)


def test_online_stores_what_happened(row):
    stored = row.online.states[-1].storage.ring
    for name in Transition._fields[:6]:
        kept = getattr(stored, name)
        assert kept.shape[:2] == (3, 64)
        for seed in range(3):
            np.testing.assert_array_equal(
                kept[seed, : CALLS - 1], getattr(FRESH, name)[: CALLS - 1], err_msg=name
            )
        assert not kept[:, CALLS - 1 :].any()


def test_online_numbers_are_finite(row):
    found = row.online
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(found.states[-1]))
    assert set(found.states[-1].totals) == set(found.algorithm.losses)


def test_online_same_seed_same_numbers(row):
    last = row.online.states[-1]
    assert_same(one(last, 0), one(last, 1))
    assert differ(one(last.train.params, 0), one(last.train.params, 2))


def test_online_goes_on_from_a_checkpoint_as_if_nothing_had_happened(row):
    assert_same(row.online.states[-1], row.online.last_again)


def test_actions_stay_in_their_range(row):
    """The environment's actions do; the agent's are unbounded if the data's are standardised."""
    actions, mode = row.online.actions, row.online.mode
    assert actions.shape == (CALLS, 3, 2)
    chunk = row.online.algorithm.chunk
    length = 1 if chunk is None else chunk.length
    assert mode.shape == (3, len(DATA.reward), 2 * length)
    mode = mode.reshape(*mode.shape[:2], length, 2)
    transform = row.recipe.transform(SPEC, Dataset(DATA, content_hash=""))
    for chosen in (actions, mode):
        world = transform.world_action(chosen)
        assert (np.abs(world) <= 1.0).all() and np.ptp(world) > 0.0
        if not row.recipe.transform.actions:
            limit = np.float32(transform.action_limit)
            np.testing.assert_array_equal(world, np.clip(chosen, -limit, limit))
    np.testing.assert_array_equal(actions[:, 0], actions[:, 1])
    # Explored, not repeated: samples differ between seeds and steps, unless clipped to the same
    # bound.
    free = actions[:, [0, 2]][np.abs(actions[:, [0, 2]]) < 1.0]
    assert len(np.unique(free)) == free.size > actions[:, [0, 2]].size / 2


@pytest.mark.parametrize("utd, delay", [(10, 20), (4, 3), (1, 4)])
def test_a_delay_that_does_not_divide_utd_is_refused(utd, delay):
    row = tiny("rlpd", online__utd=utd, online__algorithm__actor_delay=delay)
    message = f"actor_delay is {delay}, which does not divide online.utd, {utd}.*actor_delay={utd}$"
    with pytest.raises(InputError, match=message):
        build(row, SPEC)


def test_independent_agents_are_refused_online():
    row = registry.override(tiny("br"), "online.algorithm", "cql_agents")
    with pytest.raises(InputError, match="cql_agents trains only offline, .*; choose br$"):
        build(registry.override(row, "online.replay", "append"), SPEC)


@pytest.mark.parametrize("name", ["online_only", "append", "mixed"])
def test_calibration_online_is_refused_where_no_returns_are_kept(name):
    row = tiny("cal_ql", online__replay=name)
    with pytest.raises(InputError, match=f"{name} does not keep; choose --replay=whole_episodes"):
        build(row, SPEC)
    assert build(registry.override(row, "online.algorithm.calibrate", False), SPEC)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_the_row_itself_fits_together_at_full_size(name):
    """Only shapes are computed."""
    built = build(RECIPES[name], SPEC)
    options = units.children(RECIPES[name].online.algorithm)
    n = options.get("n", 0) * (options.get("policies", 1) if built.replay.feedback else 1)
    params = jax.eval_shape(lambda: core.init(built.online, jax.random.key(0))).params
    critics = jax.tree.leaves(params.get("critic", ()))
    assert {x.shape[0] for x in critics} == ({n} if n else set())
    assert built.online.critics == n
    assert (built.offline is None) == (RECIPES[name].offline is None)
