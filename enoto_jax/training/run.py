"""A run: offline phase, hand-over and online phase, in a folder from which it can be resumed."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import jax
import numpy as np

from enoto_jax import core
from enoto_jax.data import contents
from enoto_jax.data.returns import chunk_notes
from enoto_jax.data.source import Dataset, Source
from enoto_jax.envs import pool
from enoto_jax.envs.choice import EnvChoice, env_choice
from enoto_jax.envs.gym import Checked, check_spec
from enoto_jax.recipes import plugins, units
from enoto_jax.recipes.building import build
from enoto_jax.recipes.recipe import Built, Recipe, switch
from enoto_jax.runs import folder as run_folder
from enoto_jax.runs import hosts, provenance, starts
from enoto_jax.runs.dashboards import sinks as open_sinks
from enoto_jax.runs.saving import Place, Saved
from enoto_jax.runs.streams import stream
from enoto_jax.runs.templates import abstract, template
from enoto_jax.training import deterministic, memory, offline, online, probe, resume
from enoto_jax.training.carried import Online, saved_template, unpack
from enoto_jax.training.evaluate import Evaluator
from enoto_jax.training.finish import finish
from enoto_jax.training.record import Looks, Record
from enoto_jax.training.seeds import SeedMap
from enoto_jax.training.settings import Options, Settings
from enoto_jax.types import InputError, RunError, Stopped, Transition


class Setup(NamedTuple):
    """A run's parts, checked to fit together.

    Attributes:
      recipe: The recipe to train.
      built: The recipe's units.
      source: The data source.
      settings: How the recipe is trained.
      env: The environments to make; None without a simulator.
      known: The environment's own action bounds and the order of its observations, or None.
      dataset: The data set; None if nothing in this run learns from it.
      start: The offline state that this run starts from; None if it restores none.
    """

    recipe: Recipe
    built: Built
    source: Source
    settings: Settings
    env: EnvChoice | None
    known: Checked | None
    dataset: Dataset | None
    start: resume.Restored | None

    @property
    def begins_offline(self) -> bool:
        """Whether this run has an offline phase of its own."""
        return self.recipe.offline is not None and self.settings.restore is None

    @property
    def data_lines(self) -> list[str]:
        """The lines about its data that a run prints before it trains."""
        if self.dataset is None:
            observed = self.known.observed if self.known else ""
            return [observed] if observed else []
        return contents.opening_lines(self.source, self.dataset, *(self.known or ()))

    def sizes(self, seeds: SeedMap) -> dict[str, int]:
        """Estimate the bytes that each part of the run takes; see `memory.estimate`."""
        rows = 0 if self.dataset is None else len(self.dataset)
        return memory.estimate(self.built, self.source.spec, seeds, rows)

    @property
    def config(self) -> dict[str, Any]:
        """The contents of config.json."""
        restored, modules = self.settings.restored, plugins.modules_of(self.recipe)
        data_hash = self.dataset and self.dataset.content_hash
        if data_hash is None and self.start is not None:  # what the restored phase learned from
            data_hash = starts.data_hash_of(self.start.folder)
        # Without an environment, the data's.
        bounds = self.known.bounds if self.known else self.source.action_bounds
        return {
            **provenance.found(),
            **(self.settings.about or {}),
            "task": self.source.name,
            "env": "none" if self.env is None else self.env.text,
            "action_bounds": bounds and [bound.tolist() for bound in bounds],
            "seeds": list(self.settings.numbers),
            "eval_episodes": self.settings.eval_episodes,
            "final_episodes": self.settings.final_episodes,
            "eval_max_steps": self.settings.eval_max_steps,
            "plugins": list(dict.fromkeys((*self.settings.plugins, *modules))),
            "restore": restored and str(restored.resolve()),
            "restored_step": self.start and self.start.step,
            "recipe": units.to_json(self.recipe),
            "data_hash": data_hash,
            "reference": self.source.reference,
            "deterministic": deterministic.is_on(),
        }


def train(
    recipe: Recipe, source: Source, out: str | os.PathLike, **options: Unpack[Options]
) -> dict[str, Any]:
    """Train a recipe on a source; calling it again with the same `out` resumes.

    With more online steps the run continues, even after it has ended, as if it had been given them
    from the start. `enoto_jax.train` also takes names, and returns the run itself.

    Args:
      recipe: A row of the table, or a recipe of your own.
      source: The data set, with its environment and reference returns.
      out: The run's folder.
      **options: Seeds, env, eval_episodes and more: see `settings.Settings`.

    Returns:
      The contents of summary.json.

    Raises:
      InputError: Units, data and environment do not fit together, the folder holds another run, or
        another process is using it.
      RunError: An environment, the numbers or the disk failed; the last checkpoint is kept.
      Stopped: A signal came; everything is saved.
    """
    folder = Path(out)
    setup = set_up(recipe, source, Settings.of(options), folder)
    config = setup.config
    summary = hosts.from_first(lambda: run_folder.summary(folder, config))
    if summary is not None:
        print(f"{folder} is finished; its files are not touched", file=sys.stderr)
        return summary
    seeds = SeedMap(setup.settings.numbers)
    size, start, before = _size(setup, seeds), setup.start, None
    if start is not None and start.folder != folder:  # read before anything is written
        before = start.state(setup.built.offline, seeds)
    with ExitStack() as stack:
        hosts.from_first(lambda: run_folder.claim(folder, stack))
        if setup.settings.announce:
            lines = [setup.settings.announce, *setup.data_lines, size, f"folder {folder}"]
            print(*lines, sep="\n", file=sys.stderr)
        if moved := run_folder.moved(folder, config):
            print(
                f"{folder} began with {moved}: results may differ in the last bits", file=sys.stderr
            )
        record = _open(setup, folder, seeds)
        try:
            if hosts.first():
                run_folder.begin(folder, config)
            if setup.settings.signals:
                record.signals.catch()
            _phases(setup, before, record)
            return finish(record)
        except (Stopped, RunError, KeyboardInterrupt):
            record.close()
            raise
        except OSError as error:
            where = error.filename or folder
            raise RunError(f"{where}: cannot be written: {error.strerror or error}") from error


def set_up(recipe: Recipe, source: Source, settings: Settings, folder: Path) -> Setup:
    """Check that the recipe, the source and the environment fit together, and load the data."""
    if settings.restore is not None and recipe.offline is None:
        raise InputError("--restore: this method starts from scratch and restores nothing")
    built, env = build(recipe, source.spec), settings.env_of(source)
    choice, known = None, None
    if env is not None:
        choice = env_choice(env)
        known = check_spec(choice, source.spec, source.name)
        pool.check(recipe.online.envs_backend, choice)
    elif recipe.offline is None:
        raise InputError("--env: this method trains online only and has no environment; give one")
    start = None
    if settings.restored is not None:
        if env is None:
            raise InputError(
                "--env=none: a run that restores another one trains online only; give an "
                "environment, or leave out --restore"
            )
        where = starts.handed_over(folder, settings.restored)
        resume.check_transform(where, recipe.transform)
        start = resume.restored(where, settings.numbers)
    setup = Setup(recipe, built, source, settings, choice, known, None, start)
    needed = setup.begins_offline or built.replay.needs_data or built.handover.needs_data
    dataset = source.load() if needed else None
    if setup.begins_offline and built.offline.chunk is not None:
        found = chunk_notes(dataset.transitions, built.offline.chunk, source.name)
        dataset = replace(dataset, notes=(*dataset.notes, *found))
    return setup._replace(dataset=dataset)


def _size(setup: Setup, seeds: SeedMap) -> str:
    """Return the run's size in words.

    Raises:
      InputError: The run does not fit in memory.
    """
    parts = setup.sizes(seeds)
    memory.check(parts, setup.built.replay.capacity, memory.available())
    return memory.size_line(parts, setup.dataset)


def _open(setup: Setup, folder: Path, seeds: SeedMap) -> Record:
    """Open the run's files and the environments of its evaluations."""
    recipe, built, source, settings, env, *_ = setup
    transform = setup.start and setup.start.transform
    transform = transform or recipe.transform(source.spec, setup.dataset)
    learns_from_data = recipe.offline is not None or built.replay.needs_data
    sample = source.sample(probe.ROWS) if learns_from_data else None
    evaluator = None
    if env is not None:
        how = (settings.eval_episodes, seeds, transform, settings.eval_processes)
        evaluator = Evaluator(env, *how, settings.eval_max_steps)
    return Record(
        folder,
        source,
        seeds,
        transform,
        recipe.offline.steps if setup.begins_offline else 0,
        Looks(evaluator, sample, settings.watch, settings.final_episodes, recipe.online.steps),
        open_sinks(settings.log, folder, setup.config) if hosts.first() else (),
        settings.keep,
    )


def _phases(setup: Setup, before: core.TrainState | None, record: Record) -> None:
    """Train whatever is left, starting from the newest checkpoint.

    Args:
      setup: The run's parts.
      before: The other run's offline state, on the devices; None once this run has its own.
      record: The run's record.
    """
    recipe, built, source, _, env, _, dataset, start = setup
    seeds, data = record.seeds, None
    if dataset is not None:
        data = record.transform.transitions(dataset.transitions)
    rows = len(data.reward) if built.replay.needs_data else 0
    begin = online.begin(built.online, built.replay, source.spec, recipe.online.batch_size, rows)

    @cache
    def whole() -> Online:
        return template(lambda: begin(abstract(built.online), np.int32(0)), len(seeds.all))

    def saved_shapes(about):
        if about["phase"] == "offline":
            return template(lambda: abstract(built.offline), len(seeds.all))
        return saved_template(whole(), about["step"])

    saved = record.resume(saved_shapes)
    resident = None if data is None else seeds.share(data)
    if saved is not None and saved.phase == "online":
        empty = jax.tree.map(lambda x: x[hosts.own(x)], whole())
        carried, place = seeds.put(unpack(saved.state, empty)), saved.place
    else:
        state = None
        if setup.begins_offline:
            extras = resume.extras(built.offline, data, seeds, stored=False)
            resident = resident._replace(extras=extras)
            state = _offline(recipe, built, resident, saved, record)
        elif start is not None:  # kept, because the other run may train on, move or be deleted
            if saved is not None:
                state = seeds.put(saved.state)
            else:
                state = start.state(built.offline, seeds) if before is None else before
            record.saving.save_handover(start.step, seeds.get(state))
        if env is None:
            return
        print("\n".join(switch(recipe)), file=sys.stderr)
        carried, place = resume.hand_over(built, begin, seeds, state, resident), Place()
    if built.replay.needs_data:
        extras = resume.extras(built.online, data, seeds, stored=True)
        resident = resident._replace(extras=extras)
    else:
        resident = None
    parts = (recipe.online, built.online, built.replay, carried, resident)
    online.train(*parts, env, record, place)


def _offline(
    recipe: Recipe, built: Built, data: Transition, saved: Saved | None, record: Record
) -> core.TrainState:
    """Train to the end of the offline phase; keep its state for every row that shares it."""
    seeds, place = record.seeds, Place()
    if saved is None:
        init = partial(core.init, built.offline)
        make = seeds.compile(lambda seed: init(stream(seed, "init")), once=True)
        state = make(seeds.put(seeds.seeds))
    else:
        state, place = seeds.put(saved.state), saved.place
    if place.step < recipe.offline.steps or place.position is not None:
        state = offline.train(recipe.offline, built.offline, state, data, record, place)
    record.saving.save_handover(recipe.offline.steps, seeds.get(state))
    return state
