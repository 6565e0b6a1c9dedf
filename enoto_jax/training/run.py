"""A run: offline phase, hand-over, online phase, in a folder that it can be resumed from."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from enoto_jax import core
from enoto_jax.data.source import Source
from enoto_jax.envs import pool
from enoto_jax.envs.gym import check_spec
from enoto_jax.recipes import registry, units
from enoto_jax.recipes.recipe import Built, Recipe, build, switch
from enoto_jax.runs import files, hosts, provenance
from enoto_jax.runs.dashboards import check as check_sinks
from enoto_jax.runs.dashboards import sinks as open_sinks
from enoto_jax.runs.lock import locked
from enoto_jax.training import deterministic, memory, offline, online, probe, resume
from enoto_jax.training.evaluate import Evaluator
from enoto_jax.training.record import Record, Watch
from enoto_jax.training.seeds import SeedMap, stream
from enoto_jax.types import InputError, RunError, Stopped, Transition

# What must be the same for a start on a folder to be a resume.
IDENTITY = (
    "task",
    "env",
    "seeds",
    "eval_episodes",
    "recipe",
    "data_hash",
    "restore",
    "deterministic",
)


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
    watch: Watch | None = None,
    keep: int = 2,
    eval_processes: int = 1,
) -> dict[str, Any]:
    """Train a recipe on a source; calling it again with the same `out` resumes.

    With more online steps it goes on, also when it had ended, as if it had had them from the start.

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
      watch: called after every evaluation with (phase, step, train state on the host [S, ...],
        returns [S, E]).
      keep: how many of the newest checkpoints are kept.
      eval_processes: that step the environments of an evaluation, see `envs.crew`.

    Returns:
      What summary.json says.

    Raises:
      InputError: units, data or environment do not fit, the folder holds another run, or another
        process is at work in it.
      RunError: an environment, the numbers or the disk failed; the last checkpoint stays.
      Stopped: a signal came; everything is saved.
    """
    folder = Path(out)
    env_id = None if env == "none" else env or source.env_id
    restored = None if restore is None else Path(restore)
    built = build(recipe, source.spec)
    if env_id is not None:
        check_spec(env_id, source.spec, source.name)
        pool.check(recipe.online.envs_backend, env_id)
    elif recipe.offline is None:
        raise InputError("--env: this row trains online only and has no environment; give one")
    offline_needed = recipe.offline is not None and restored is None
    dataset = source.load() if offline_needed or built.replay.needs_data else None
    before_hash = None if restored is None else resume.config(restored).get("data_hash")
    config = {
        **provenance.found(),
        **(about or {}),
        "task": source.name,
        "env": env_id or "none",
        "seeds": [int(s) for s in seeds],
        "eval_episodes": eval_episodes,
        "restore": restored and str(restored.resolve()),
        "recipe": units.to_json(recipe),
        "data_hash": dataset.content_hash if dataset else before_hash,
        "reference": source.reference,
        "deterministic": deterministic.is_on(),
    }
    summary = hosts.from_first(lambda: _summary(folder, config))
    if summary is not None:
        print(f"{folder} is finished; its files are not touched", file=sys.stderr)
        return summary
    if min(seeds) < 0 or max(seeds) >= 2**31:
        raise InputError(f"--seed: seeds lie between 0 and {2**31 - 1}")
    check_sinks(log)
    seed_map = SeedMap(seeds)
    before, transform = None, None
    if restored is not None:
        before, transform = resume.offline_state(restored, built.offline, seed_map)
    transform = transform or recipe.transform.build()(source.spec, dataset)
    on_device = len(seed_map.seeds) // len(seed_map.devices)
    rows = 0 if dataset is None else len(dataset)
    parts = memory.estimate(recipe, built, source.spec, on_device, rows)
    memory.check(parts, built.replay.capacity, memory.available())
    if keep < 1:
        raise InputError(f"--keep: {keep}; at least 1 checkpoint is kept")
    if eval_processes < 1:
        raise InputError(f"--eval_processes: {eval_processes}; at least 1 steps environments")
    learns_from_data = recipe.offline is not None or built.replay.needs_data
    sample = source.sample(probe.ROWS) if learns_from_data else None
    with ExitStack() as stack:
        hosts.from_first(lambda: _claim(folder, stack))
        if announce:
            print(announce, file=sys.stderr)
            print(memory.sizes(parts, dataset, folder), file=sys.stderr)
        if moved := resume.moved(folder, config):
            print(f"{folder} began with {moved}: not to the same bits any more", file=sys.stderr)
        evaluator = None
        if env_id is not None:
            evaluator = Evaluator(env_id, eval_episodes, seed_map, transform, eval_processes)
        record = Record(
            folder,
            source,
            seed_map,
            evaluator,
            open_sinks(log, folder, config) if hosts.first() else (),
            recipe.offline.steps if offline_needed else 0,
            transform,
            partial(probe.compile_probe, seeds=seed_map, transform=transform, sample=sample),
            watch,
            keep,
        )
        try:
            if hosts.first() and not _given(folder, recipe.online.steps):
                (folder / "summary.json").unlink(missing_ok=True)  # of fewer online steps
                files.write_json(folder / "config.json", config)
            if signals:
                record.catch_signals()
            transitions = None if dataset is None else transform.transitions(dataset.transitions)
            _phases(recipe, built, source, env_id, before, transitions, record)
            return record.finish()
        except (Stopped, RunError):
            record.close()
            raise
        except OSError as error:
            where = error.filename or folder
            raise RunError(f"{where}: cannot be written: {error.strerror or error}") from error


def finished(folder: Path, steps: int) -> bool:
    """Whether the folder's run has ended, and had at least so many online steps.

    Raises:
      InputError: its config.json cannot be read.
    """
    return (folder / "summary.json").exists() and _given(folder, steps)


def _given(folder: Path, steps: int) -> bool:
    """Whether the folder holds a run of at least so many online steps, or one that is damaged."""
    if not (folder / "config.json").exists():
        return False
    try:
        return resume.config(folder)["recipe"]["online"]["steps"] >= steps
    except (KeyError, TypeError):
        return True


def _summary(folder: Path, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """That of a run with nothing left to do; None if there is, or it has not begun."""
    same_run(folder, config)
    done = finished(folder, config["recipe"]["online"]["steps"])
    return json.loads((folder / "summary.json").read_text()) if done else None


def _claim(folder: Path, stack: ExitStack) -> None:
    """Make the folder, before anything is computed for it, and hold it until the stack unwinds."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").touch()
        (folder / ".writable").unlink()
    except OSError as error:
        raise InputError(f"--out: cannot write to {folder}: {error.strerror}") from error
    stack.enter_context(locked(folder))


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
    rows = len(data.reward) if built.replay.needs_data else 0
    begin = online.begin(built.online, built.replay, source.spec, recipe.online.batch_size, rows)

    @cache
    def whole() -> online.Online:
        return resume.template(lambda: begin(resume.abstract(built.online), np.int32(0)), seeds)

    def template(about):
        if about["phase"] == "offline":
            return resume.template(lambda: resume.abstract(built.offline), seeds)
        return online.saved_template(whole(), about["step"])

    phase, step, saved, position = record.resume(template) or ("offline", 0, None, None)
    resident = None if data is None else seeds.share(data)
    if phase == "online":
        empty = jax.tree.map(lambda x: x[hosts.own(x)], whole())
        carried = seeds.put(online.unpack(saved, empty))
    else:
        if before is None and recipe.offline is not None:
            extras = resume.extras(built.offline, data, seeds, stored=False)
            resident = resident._replace(extras=extras)
            before = _offline(recipe, built, resident, step, saved, position, record)
        if env_id is None:
            return
        print("\n".join(switch(recipe)), file=sys.stderr)

        carried, step, position = resume.hand_over(built, begin, seeds, before), 0, None
    if built.replay.needs_data:
        extras = resume.extras(built.online, data, seeds, stored=True)
        resident = resident._replace(extras=extras)
    else:
        resident = None
    parts = (recipe.online, built.online, built.replay, carried, resident)
    online.train(*parts, step, env_id, record, position)


def _offline(
    recipe: Recipe,
    built: Built,
    data: Transition,
    step: int,
    saved: core.TrainState | None,
    position: dict[str, Any] | None,
    record: Record,
) -> core.TrainState:
    """The end of the offline phase, kept for every row that shares it."""
    seeds = record.seeds
    if saved is None:
        init = partial(core.init, built.offline)
        make = seeds.compile(lambda seed: init(stream(seed, "init")), once=True)
        state = make(seeds.put(seeds.seeds))
    else:
        state = seeds.put(saved)
    if step < recipe.offline.steps or position is not None:
        state = offline.train(recipe.offline, built.offline, state, data, step, record, position)
    record.save_handover(recipe.offline.steps, seeds.get(state))
    return state


def same_run(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse a folder of a run of other settings than these, fewer online steps excepted.

    Raises:
      InputError: it names the first that differs.
    """
    if not (folder / "config.json").exists():
        return
    old, new = resume.config(folder), json.loads(json.dumps(config))
    old = {**old, "recipe": _completed(old.get("recipe"))}
    if not _given(folder, steps := new["recipe"]["online"]["steps"]):
        old["recipe"]["online"]["steps"] = steps
    for name in IDENTITY:
        one, two = old.get(name, new[name]), new[name]
        if one == two or (name == "data_hash" and one is None):  # older runs did not always know
            continue
        while isinstance(one, Mapping) and isinstance(two, Mapping):
            key = next(k for k in {**one, **two} if one.get(k) != two.get(k))
            name, one, two = f"{name}.{key}", one.get(key), two.get(key)
        raise InputError(
            f"--out: {folder} holds another run: its {name} is {one!r}, now {two!r}; give another "
            "folder, or the flags that it was started with"
        )


def _completed(recipe: Any) -> Any:
    """A recipe of an older version with the defaults of what it did not know yet."""
    try:
        return json.loads(json.dumps(units.to_json(registry.from_json(recipe))))
    except InputError:
        return recipe
