"""A run: offline phase, hand-over, online phase, in a folder that it can be resumed from."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from enoto_jax import core, logging, units
from enoto_jax.checkpoint import Checkpoints
from enoto_jax.data.returns import returns_to_go
from enoto_jax.data.source import Source
from enoto_jax.data.transforms import Transform
from enoto_jax.envs.gym import check_spec
from enoto_jax.recipes import Built, Recipe, build, switch
from enoto_jax.sinks import check as check_sinks
from enoto_jax.sinks import sinks as open_sinks
from enoto_jax.train import memory, offline, online
from enoto_jax.train.evaluate import Evaluator
from enoto_jax.train.record import Record, Stopped
from enoto_jax.train.seeds import SeedMap, stream
from enoto_jax.types import InputError, Transition

# What must be the same for a start on a folder to be a resume.
IDENTITY = ("task", "env", "seeds", "eval_episodes", "recipe", "data_hash", "restore")


def train(
    recipe: Recipe,
    source: Source,
    out: str | os.PathLike,
    *,
    seeds: Sequence[int] = (0,),
    env: str | None = None,
    eval_episodes: int = 10,
    restore: str | os.PathLike | None = None,
    log: Sequence[str] = (),
    about: Mapping[str, Any] | None = None,
    signals: bool = False,
    announce: str = "",
) -> dict[str, Any]:
    """Train a recipe on a source; calling it again with the same `out` resumes.

    Args:
      recipe: a row of the table, or one's own.
      source: the data set, with its environment and reference returns.
      out: the run's folder.
      seeds: their numbers; trained together in one program.
      env: Gymnasium id; the source's own by default; "none" stops at the hand-over.
      eval_episodes: episodes per evaluation and seed.
      restore: another run's folder: start from its hand-over instead of an offline phase.
      log: "tensorboard", "wandb"; CSV files are always written.
      about: further entries of config.json.
      signals: SIGTERM and SIGINT save and raise Stopped.
      announce: printed once everything is checked and training begins.

    Returns:
      What summary.json says.

    Raises:
      InputError: units, data or environment do not fit, or the folder holds another run.
      Stopped: a signal came; everything is saved.
    """
    folder = Path(out)
    env_id = None if env == "none" else env or source.env_id
    restored = None if restore is None else Path(restore)
    built = build(recipe, source.spec)
    if env_id is not None:
        check_spec(env_id, source.spec, source.name)
    elif recipe.offline is None:
        raise InputError("--env: this row trains online only and has no environment; give one")
    offline_needed = recipe.offline is not None and restored is None
    dataset = source.load() if offline_needed or built.replay.needs_data else None
    config = {
        **(about or {}),
        "task": source.name,
        "env": env_id or "none",
        "seeds": [int(s) for s in seeds],
        "eval_episodes": eval_episodes,
        "restore": restored and str(restored.resolve()),
        "recipe": units.to_json(recipe),
        "data_hash": dataset and dataset.content_hash,
        "reference": source.reference,
    }
    _same_run(folder, json.loads(json.dumps(config)))
    if (folder / "summary.json").exists():
        return json.loads((folder / "summary.json").read_text())
    if min(seeds) < 0 or max(seeds) >= 2**31:
        raise InputError(f"--seed: seeds lie between 0 and {2**31 - 1}")
    check_sinks(log)
    seed_map = SeedMap(seeds)
    before, transform = None, None
    if restored is not None:
        before, transform = _restore(restored, built.offline, seed_map)
    transform = transform or recipe.transform.build()(source.spec, dataset)
    on_device = len(seeds) // len(seed_map.devices)
    rows = 0 if dataset is None else len(dataset)
    parts = memory.estimate(recipe, built, source.spec, on_device, rows)
    memory.check(parts, built.replay.capacity, memory.available())
    _writable(folder)
    if announce:
        print(announce, file=sys.stderr)
    record = Record(
        folder,
        source,
        seed_map,
        None if env_id is None else Evaluator(env_id, eval_episodes, seed_map, transform),
        open_sinks(log, folder, config),
        recipe.offline.steps if offline_needed else 0,
        transform,
    )
    if not (folder / "config.json").exists():
        logging.write_json(folder / "config.json", config)
    if signals:
        record.catch_signals()
    transitions = None if dataset is None else transform.transitions(dataset.transitions)
    try:
        _phases(recipe, built, source, env_id, before, transitions, record)
    except Stopped:
        record.close()
        raise
    return record.finish()


def _writable(folder: Path) -> None:
    """Make the folder before anything is computed for it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").touch()
        (folder / ".writable").unlink()
    except OSError as error:
        raise InputError(f"--out: cannot write to {folder}: {error.strerror}") from error


def _phases(
    recipe: Recipe,
    built: Built,
    source: Source,
    env_id: str | None,
    before: core.TrainState | None,
    data: Transition | None,
    record: Record,
) -> None:
    """Whatever is left to train, from the newest checkpoint on; `data` are host arrays [M, ...]."""
    seeds = record.seeds
    phase, step = record.resume() or ("offline", 0)
    resident = None if data is None else seeds.share(data)
    rows = len(data.reward) if built.replay.needs_data else 0
    begin = online.begin(built.online, built.replay, source.spec, recipe.online.batch_size, rows)
    if phase == "online":
        template = _template(lambda: begin(_abstract(built.online), np.int32(0)), seeds)
        ring = jax.tree.map(lambda x: x[:, :step], template.storage.ring)
        storage = template.storage._replace(ring=ring)
        saved = record.checkpoints.restore(template.replace(storage=storage))
        carried = seeds.put(online.unpack(saved, template))
    else:
        if before is None and recipe.offline is not None:
            extras = _extras(built.offline, data, {}, seeds)
            before = _offline(recipe, built, resident._replace(extras=extras), step, record)
        if env_id is None:
            return
        print("\n".join(switch(recipe)), file=sys.stderr)

        def start(seed, state):
            return begin(built.handover(stream(seed, "handover"), state, built.online), seed)

        carried, step = seeds.compile(start)(seeds.put(seeds.seeds), before), 0
    if built.replay.needs_data:
        masked = built.online.exploration.mask is not None
        mask = {"mask": np.ones((rows, built.online.critics), np.float32)} if masked else {}
        resident = resident._replace(extras=_extras(built.online, data, mask, seeds))
    else:
        resident = None
    online.train(recipe.online, built.online, built.replay, carried, resident, step, env_id, record)


def _offline(
    recipe: Recipe, built: Built, data: Transition, step: int, record: Record
) -> core.TrainState:
    """The end of the offline phase, kept for every row that shares it."""
    seeds = record.seeds
    if step > 0:
        template = _template(lambda: _abstract(built.offline), seeds)
        state = seeds.put(record.checkpoints.restore(template))
    else:
        make = seeds.compile(lambda seed: core.init(built.offline, stream(seed, "init")))
        state = make(seeds.put(seeds.seeds))
    if step < recipe.offline.steps:
        state = offline.train(recipe.offline, built.offline, state, data, step, record)
    record.save_handover(recipe.offline.steps, seeds.get(state))
    return state


def _abstract(algorithm: core.Algorithm) -> core.TrainState:
    return core.init(algorithm, jax.random.key(0))


def _template(make, seeds: SeedMap) -> Any:
    """Zeros [S, ...] shaped as `make` returns for one seed, without computing it."""
    count = len(seeds.seeds)
    shapes = jax.eval_shape(make)
    return jax.tree.map(lambda x: np.zeros((count, *x.shape), x.dtype), shapes)


def _extras(
    algorithm: core.Algorithm, data: Transition, others: dict[str, np.ndarray], seeds: SeedMap
) -> dict[str, Any]:
    """What an algorithm's batches carry beside the transitions, for the data set's rows."""
    if algorithm.monte_carlo is not None:
        others = {**others, "mc_return": returns_to_go(data, *algorithm.monte_carlo)}
    return seeds.share(others)


def _restore(
    folder: Path, algorithm: core.Algorithm, seeds: SeedMap
) -> tuple[core.TrainState, Transform | None]:
    """The offline state of another run, for these seeds, and the transform that it learned under.

    It is the one kept at that run's hand-over; of a run still in its offline phase, the newest.
    """
    have, want = _config(folder)["seeds"], seeds.seeds.tolist()
    checkpoints = Checkpoints(folder / "checkpoints")
    kept, newest = checkpoints.record(handover=True), checkpoints.record()
    found = kept or newest
    if found is None or found["phase"] != "offline":
        raise InputError(f"--restore: {folder} has no checkpoint of an offline phase")
    if missing := [s for s in want if s not in have]:
        raise InputError(f"--restore: {folder} trained seeds {have}, not {missing}")
    print(f"restored {folder}: offline, {found['step']:,} updates", file=sys.stderr)
    template = _template(lambda: _abstract(algorithm), SeedMap(have))
    state = checkpoints.restore(template, handover=kept is not None)
    checkpoints.close()
    transform = found.get("transform")
    rows = np.asarray([have.index(s) for s in want])
    state = seeds.put(jax.tree.map(lambda x: np.asarray(x)[rows], state))
    return state, transform and Transform.from_json(transform)


def _config(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / 'config.json'}: cannot be read: {error}") from error


def _same_run(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse a folder that holds a run of other settings, naming the first that differs."""
    if not (folder / "config.json").exists():
        return
    old = _config(folder)
    for name in IDENTITY:
        one, two = old.get(name), config[name]
        if one == two:
            continue
        while isinstance(one, Mapping) and isinstance(two, Mapping):
            key = next(k for k in {**one, **two} if one.get(k) != two.get(k))
            name, one, two = f"{name}.{key}", one.get(key), two.get(key)
        raise InputError(
            f"--out: {folder} holds another run: its {name} is {one!r}, now {two!r}; give another "
            "folder, or the flags that it was started with"
        )
