"""Seeds trained together, on one device and on several: each computes what it would alone.

Several devices need a separate process, in which the CPU acts as four devices.
"""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from enoto_jax import core
from enoto_jax.recipes import registry
from enoto_jax.recipes.building import build
from enoto_jax.runs.streams import STREAMS, stream
from enoto_jax.training import memory, offline, online
from enoto_jax.training.seeds import SeedMap
from tests.helpers import (
    REACH,
    assert_same,
    python,
    quick_compiling,
    reach_source,
    tiny,
)

ALL = (4, 2, 7, 0)
ALONE = (1, 2)  # positions of seeds that also train alone, for comparison
CALLS, WARMUP = 4, 1
# With one seed or several, XLA may order sums differently, and Adam divides tiny numbers.
CLOSE = {"rtol": 1e-3, "atol": 1e-4}


def tree() -> dict[str, np.ndarray]:
    return {
        "numbers": np.arange(24, dtype=np.float32).reshape(4, 3, 2),
        "flags": np.arange(4) % 2 == 0,
        "one": np.arange(4, dtype=np.int32),
    }


def train(seeds: SeedMap) -> dict:
    """Do a few updates of both phases with the loops' own programs; return the results."""
    row = registry.override(
        tiny("enoto_cql", algorithm__hidden=(8,), online__warmup=WARMUP), "online.replay", "append"
    )
    row = registry.override(row, "online.replay.capacity", 16)
    built, transitions = build(row, REACH), reach_source().load().transitions
    data = seeds.share(transitions)
    numbers = seeds.put(seeds.seeds)
    state = seeds.compile(lambda s: core.init(built.offline, stream(s, "init")))(numbers)
    begin = online.begin(built.online, built.replay, REACH, row.online.batch_size)

    counts = (seeds.share(np.int32(0)), seeds.share(np.int32(2)))
    blocks = offline.compile_blocks(built.offline, row.offline.batch_size, 2, seeds)
    blocks = blocks.lower(state, numbers, *counts, data).compile()
    state, sums = blocks(state, numbers, *counts, data)
    found = {"offline": seeds.get(state), "sums": seeds.get(sums)}

    def start(seed, state):
        return begin(built.handover(stream(seed, "handover"), state, built.online), seed)

    carried = seeds.compile(start)(numbers, state)
    step = online.compile_step(row.online, built.online, built.replay, seeds)
    actions = []
    for t in range(CALLS):
        # Each seed has its own transitions, the same ones when it trains alone.
        now = jax.tree.map(lambda x, t=t: x[seeds.seeds + t], transitions)
        parts = (now, now.next_observation, np.full(len(seeds.seeds), t == 0))
        counts = (np.int32(t), np.bool_(t > WARMUP))
        arguments = (numbers, *map(seeds.put, parts), *map(seeds.share, counts), data)
        if t == 0:
            step = step.lower(carried, *arguments).compile()
        carried, action = step(carried, *arguments)
        actions.append(seeds.get(action))
    return {**found, "online": seeds.get(carried), "actions": np.stack(actions, axis=1)}


def program(out: Path) -> None:
    """Run in the other process: write the results for each placement of seeds on devices."""
    devices = jax.devices()
    assert len(devices) == 4
    found = {}
    with quick_compiling(out.parent / "compiled"):
        for count in (4, 2):
            seeds = SeedMap(ALL, devices[:count])
            put, shared = seeds.put(tree()), seeds.share(tree())
            found[f"there and back, {count}"] = seeds.get(put)
            found[f"each device's own, {count}"] = [
                {f"{d.device.id}": np.asarray(d.data) for d in x.addressable_shards}
                for x in (put["numbers"], shared["numbers"])
            ]
            found[f"{count}"] = train(seeds)
        for place in ALONE:
            found[f"alone, {place}"] = train(SeedMap([ALL[place]], devices[:1]))
    leaves = jax.tree_util.tree_leaves_with_path(found)
    named = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    np.savez(out, **named)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    out = tmp_path_factory.mktemp("seeds") / "found.npz"
    four = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=4"
    process = python("-W", "error", "-m", "tests.training.test_seeds", out, env={"XLA_FLAGS": four})
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors[-3000:]
    with np.load(out, allow_pickle=False) as file:
        return unflatten_dict(dict(file), sep="/")


def seed_of(result: dict, place: int) -> dict:
    return jax.tree.map(lambda x: x[place], result)


@pytest.mark.parametrize("devices", [2, 4])
@pytest.mark.parametrize("place", ALONE)
def test_a_seed_computes_what_it_computes_alone(found, devices, place):
    together, alone = seed_of(found[f"{devices}"], place), seed_of(found[f"alone, {place}"], 0)
    assert_same(together, alone, **CLOSE)


def test_the_comparison_would_show_a_mixed_up_seed(found):
    for one in range(4):
        for other in range(one):
            for part in ("offline", "sums", "online", "actions"):
                mine, theirs = (seed_of(found["4"][part], place) for place in (one, other))
                with pytest.raises(AssertionError):
                    assert_same(mine, theirs, **CLOSE)


def test_learning_is_compared(found):
    assert found["4"]["offline"]["step"].tolist() == [4] * 4
    assert found["4"]["online"]["train"]["step"].tolist() == [CALLS - 1 - WARMUP] * 4


@pytest.mark.parametrize("count", [2, 4])
def test_there_and_back(found, count):
    assert_same(found[f"there and back, {count}"], tree())


@pytest.mark.parametrize("count", [2, 4])
def test_every_device_has_its_seeds_and_all_of_what_is_shared(found, count):
    own, shared = found[f"each device's own, {count}"].values()
    assert len(own) == len(shared) == count
    parts = np.split(tree()["numbers"], count)
    for device in range(count):
        np.testing.assert_array_equal(own[f"{device}"].reshape(parts[device].shape), parts[device])
        np.testing.assert_array_equal(
            shared[f"{device}"].reshape(tree()["numbers"].shape), tree()["numbers"]
        )


def test_one_device():
    seeds = SeedMap(ALL, jax.local_devices()[:1])
    assert_same(seeds.get(seeds.put(tree())), tree())
    assert_same(jax.device_get(seeds.share(tree())), tree())
    double = seeds.compile(lambda x, y: x * y, shared=(1,), donate=(0,))
    given = seeds.put(tree()["numbers"])
    kept = seeds.get(given)
    result = double(given, seeds.share(np.float32(2.0)))
    assert_same(seeds.get(result), 2 * tree()["numbers"])
    assert_same(kept, tree()["numbers"])  # the host's copy outlives the donated memory


def test_in_turn_is_the_same_as_side_by_side():
    seeds = SeedMap(ALL, jax.local_devices()[:1])

    def function(x, shared, seed):
        return {"x": x @ shared, "seed": seed}

    shared = seeds.share(np.arange(6, dtype=np.float32).reshape(2, 3))
    arguments = (seeds.put(tree()["numbers"]), shared, seeds.put(seeds.seeds))
    long, short = (seeds.compile(function, shared=(1,), long=long) for long in (True, False))
    assert_same(seeds.get(long(*arguments)), seeds.get(short(*arguments)), rtol=1e-6)
    assert long(*arguments)["seed"].tolist() == list(ALL)


@pytest.mark.parametrize("seeds, used", [(1, 1), (2, 2), (3, 3), (4, 4), (5, 1), (6, 3), (8, 4)])
def test_as_many_devices_as_divide_the_seeds(seeds, used):
    assert len(SeedMap(range(seeds), ["device"] * 4).devices) == used


def test_all_devices_on_a_cpu_take_from_one_memory():
    row = tiny("enoto_cql")

    def parts(platform, devices):
        seeds = SeedMap(range(4), [SimpleNamespace(platform=platform)] * devices)
        return memory.estimate(build(row, REACH), REACH, seeds, rows=100)

    one = parts("cpu", 1)
    assert parts("cpu", 4) == {**one, "data set": 4 * one["data set"]}
    quarter = {name: size // 4 for name, size in one.items()}
    assert parts("gpu", 4) == {**quarter, "data set": one["data set"]}


def test_streams_of_a_seed_differ():
    keys = [jax.random.key_data(stream(np.int32(s), n)).tolist() for s in (0, 1) for n in STREAMS]
    assert len({tuple(key) for key in keys}) == 2 * len(STREAMS)


CORES = """
import os, jax
from enoto_jax.training.seeds import SeedMap, use_cores
cores = len(os.sched_getaffinity(0))
use_cores({count})
assert jax.local_device_count() == {devices}, jax.local_devices()
use_cores(1)  # too late to change anything
assert len(SeedMap(range({count})).devices) == {spread}
"""


@pytest.mark.parametrize(
    ("count", "devices", "spread", "env"),
    [
        (2, "min(2, cores)", "min(2, cores)", {}),
        (4, "3", "2", {"JAX_NUM_CPU_DEVICES": "3"}),  # the user's setting takes precedence
    ],
)
def test_a_seed_has_a_core_of_its_own(count, devices, spread, env):
    text = CORES.format(count=count, devices=devices, spread=spread)
    process = python("-W", "error", "-c", text, env=env)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors[-2000:]


if __name__ == "__main__":
    program(Path(sys.argv[1]))
