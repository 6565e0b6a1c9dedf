"""What the commands share: flags to a plan, exit codes, and one line for whatever is wrong."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import flags

from enoto_jax import core
from enoto_jax.data.source import Source, from_env, load_source, split
from enoto_jax.envs import pool
from enoto_jax.envs.gym import check_spec, env_spec
from enoto_jax.recipes import domains, registry, units
from enoto_jax.recipes.budgets import PRESETS, Preset
from enoto_jax.recipes.recipe import Recipe, build, switch
from enoto_jax.recipes.table import recipe
from enoto_jax.runs.files import read_config
from enoto_jax.training import deterministic, memory, run
from enoto_jax.training.record import Stopped, Watch
from enoto_jax.types import InputError, RunError

MOST_SEEDS = 10_000  # in one process
DONE, FAILED, BAD_INPUT, STOPPED = 0, 1, 2, 75
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "gymnasium", "mujoco", "numpy")


class Plan(NamedTuple):
    """Everything a run is determined by."""

    method: str
    recipe: Recipe
    source: Source
    env_id: str | None
    seeds: tuple[int, ...]
    eval_episodes: int
    restore: Path | None
    log: tuple[str, ...]
    keep: int
    eval_processes: int
    task_given: str | None
    arguments: tuple[str, ...]


def execute(main: Callable[[], None], argv: Sequence[str], positional: str | None = None) -> int:
    """Parse flags, run, and turn what happens into the contract's exit code.

    Args:
      main: the command.
      argv: its name and its arguments.
      positional: the flag that one argument without a name stands for; all of them for a list.
    """
    if "--help" in argv:
        print(main.__doc__, flags.FLAGS.get_help(), sep="\n")
        return DONE
    try:
        rest = flags.FLAGS(list(argv))[1:]
        if positional and rest and not flags.FLAGS[positional].present:
            several = isinstance(flags.FLAGS[positional].parser, flags.ListParser)
            count = len(rest) if several else 1
            flags.FLAGS[positional].parse(rest[:count] if several else rest[0])
            rest = rest[count:]
        if rest:
            raise InputError(f"{rest[0]!r} is not a flag; flags are written --name=value")
        main()
    except (InputError, flags.Error) as error:
        print(f"error: {_line(error)}", file=sys.stderr)
        return BAD_INPUT
    except RunError as error:
        print(f"error: {_line(error)}", file=sys.stderr)
        return FAILED
    except Stopped as stopped:
        print(f"stopped at {stopped}; the same command goes on from here", file=sys.stderr)
        return STOPPED
    except KeyboardInterrupt:
        print("stopped at once; the same command goes on from the checkpoint", file=sys.stderr)
        return FAILED
    return DONE


def _line(error: Exception) -> str:
    """One line, whatever it quotes."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(str(error).split()))


def new_folder(text: str) -> Path:
    """--out of a command that begins anew.

    Raises:
      InputError: it is there already.
    """
    if Path(text).exists():
        raise InputError(f"--out: {text} is there already; give a new folder")
    return Path(text)


def resolve(given: flags.FlagValues, paths: Mapping[str, str], arguments: Sequence[str]) -> Plan:
    """The plan that the flags describe, checked before anything compiles.

    Args:
      given: experiments.train's flags, parsed.
      paths: flag -> path of the recipe that it is short for.
      arguments: what they were parsed from; for config.json.
    """
    if given.preset not in PRESETS:
        raise InputError(f"--preset: no {given.preset!r}{units.nearest(given.preset, PRESETS)}")
    preset, saved = PRESETS[given.preset], {}
    if given.config:
        saved = _read_config(given.config)
        if not {"method", "recipe", "seeds", "eval_episodes", "env"} <= set(saved):
            raise InputError(f"--config: {given.config} is not a run's config.json")
        method, row = saved["method"], registry.from_json(saved["recipe"])
    else:
        method = given.method or "enoto_cql"
        row = recipe(method)
    wanted_env = given.env or saved.get("env")
    task = given.task or saved.get("task_given")
    source = _source(task, wanted_env, row)
    if not given.config:
        row = _with_preset(domains.for_task(row, method, source.name), preset)
    for flag, path in paths.items():
        if given[flag].value is not None:
            row = _override(f"--{flag}", row, path, given[flag].value)
    row = _decayed_at_the_end(row)
    row = with_settings(row, given["set"].value)
    seeds = saved.get("seeds", range(given.seed, given.seed + preset.seeds))
    if given.seeds is not None or given["seed"].present:
        count = len(seeds) if given.seeds is None else given.seeds
        if count > MOST_SEEDS:
            raise InputError(f"--seeds: {count} are too many; give at most {MOST_SEEDS}")
        seeds = range(given.seed, given.seed + count)
    episodes = saved.get("eval_episodes", preset.eval_episodes)
    if given.eval_episodes is not None:
        episodes = given.eval_episodes
    if len(seeds) < 1 or min(seeds) < 0 or episodes < 1:
        raise InputError("--seeds and --eval_episodes must be at least 1, --seed at least 0")
    env_id = None if wanted_env == "none" else wanted_env or source.env_id
    if env_id is None and wanted_env != "none":
        raise InputError(f"--env: {source.name} names no environment; give its id, or --env=none")
    if env_id is None and row.offline is None:
        raise InputError(f"--env=none: {method} has no offline phase, there is nothing to train")
    restored = given.restore or saved.get("restore")
    restore = Path(restored) if restored else None
    if restore is not None and row.offline is None:
        raise InputError(f"--restore: {method} starts from scratch and restores nothing")
    if restore is not None and not (restore / "config.json").exists():
        raise InputError(f"--restore: {restore} is not a run's folder: no config.json in it")
    return Plan(
        method,
        row,
        source,
        env_id,
        tuple(seeds),
        episodes,
        restore,
        tuple(given.log),
        given.keep,
        given.eval_processes,
        task,
        tuple(arguments),
    )


def _source(task: str | None, env_id: str | None, row: Recipe) -> Source:
    """The data set; a row that never reads one may be given an environment alone."""
    learns_from_data = row.offline is not None or row.online.replay.build().needs_data
    if task or learns_from_data or env_id in (None, "none"):
        return load_source(task)
    return from_env(env_id, env_spec(env_id))


def _with_preset(row: Recipe, preset: Preset) -> Recipe:
    known = {path: value for path, value, _ in units.leaves(row)}
    for phase in ("offline", "online"):
        path = f"{phase}.algorithm.n"
        if preset.ensemble is not None and known.get(path, 0) > 2:
            row = registry.override(row, path, preset.ensemble)
    for path, value in preset.overrides.items():
        if path in ("online.warmup", "online.random_steps"):
            value = min(value, known[path])
        if path in known or f"online.{path}" in known:
            row = registry.override(row, path, value)
    return row


def _decayed_at_the_end(row: Recipe) -> Recipe:
    """A learning rate that falls over the offline phase falls over its whole length."""
    known = {path: value for path, value, _ in units.leaves(row)}
    if known.get("offline.algorithm.decay_steps") is None:
        return row
    return registry.override(row, "offline.algorithm.decay_steps", row.offline.steps or 1)


def per_preset(method: str, path: str) -> list[str]:
    """A hyper-parameter's value in every preset, a line each."""
    lines = []
    for name, preset in PRESETS.items():
        row = _with_preset(recipe(method), preset)
        lines += [f"  --preset={name}: {v}" for p, v, _ in units.leaves(row) if p == path]
    return lines


def with_settings(row: Recipe, texts: Sequence[str]) -> Recipe:
    """The row with what --set says, each path=value.

    Raises:
      InputError: no path=value, an unknown path, or a value that does not fit it.
    """
    for text in texts:
        path, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--set: {text!r} is not path=value")
        row = _override("--set", row, path.strip(), value.strip())
    return row


def _override(flag: str, row: Recipe, path: str, value: Any) -> Recipe:
    try:
        return registry.override(row, path, value)
    except InputError as error:
        raise InputError(f"{flag}: {error}") from error


def _read_config(path: str) -> dict[str, Any]:
    try:
        return read_config(path)
    except InputError as error:
        raise InputError(f"--config: {error}") from error


def about(plan: Plan) -> dict[str, Any]:
    """What config.json says beside the settings: where they came from and what they ran on."""
    task = plan.task_given
    files = [str(Path(x).resolve()) if Path(x).is_file() else x for x in split(task)]
    return {
        "method": plan.method,
        "task_given": task and "+".join(files),
        "data_version": plan.source.version,
        "data_physics": plan.source.physics,
        "versions": versions(),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "command": shlex.join(["python", "-m", "experiments.train", *plan.arguments]),
    }


def versions() -> dict[str, str]:
    """Of Python and of the packages that results depend on."""
    found = {name: metadata.version(name) for name in _PACKAGES}
    return found | {"python": platform.python_version()}


def local(out: str) -> Path:
    """A folder to write to.

    Raises:
      InputError: an address: locks, CSV files and renames need a file system.
    """
    if "://" in out:
        raise InputError(
            f"--out: {out} is an address; runs need a folder: mount it, and give its path"
        )
    return Path(out)


def train(plan: Plan, folder: Path, watch: Watch | None = None, signals: bool = True) -> None:
    """Start or resume the run of this folder and bring it to its end."""
    summary = run.train(
        plan.recipe,
        plan.source,
        folder,
        seeds=plan.seeds,
        env=plan.env_id or "none",
        eval_episodes=plan.eval_episodes,
        restore=plan.restore,
        log=plan.log,
        about=about(plan),
        signals=signals,
        watch=watch,
        announce=describe(plan),
        keep=plan.keep,
        eval_processes=plan.eval_processes,
    )
    where = f" (in {plan.env_id})" if plan.env_id else ""  # a score names its physics
    print(f"{folder}: {_headline(summary)}{where}")


def _headline(summary: Mapping[str, Any]) -> str:
    if not summary:
        return "no evaluations"
    metric = summary["metric"].replace("_mean", "")
    parts = []
    online = summary.get("online")
    if online and online["handover"]["mean"] is not None:
        parts.append(f"{metric} at the hand-over {online['handover']['mean']:.1f}")
    final = summary["overall"]["final"]["mean"]
    parts.append(f"final {metric} {final:.1f}" if final is not None else f"no final {metric}")
    return ", ".join(parts)


def describe(plan: Plan) -> str:
    """A few lines on what will run."""
    row, source = plan.recipe, plan.source
    lines = [
        f"{plan.method}: {row.about}",
        f"data {source.name}, environment {plan.env_id or 'none'}, seeds {list(plan.seeds)}",
        f"precision {row.precision}; {deterministic.words()}",
    ]
    if not source.scored:
        lines.append("no reference returns for this task: RAW RETURNS are reported, not scores")
    if row.offline is None:
        lines.append(f"online {row.online.steps:,} steps: {row.online.algorithm.name}")
        return "\n".join(lines)
    lines.append(
        f"offline {row.offline.steps:,} updates: {row.offline.algorithm.name}; "
        f"online {row.online.steps:,} steps: {row.online.algorithm.name}"
    )
    return "\n".join(lines)


def dry_run(plan: Plan) -> None:
    """Print the resolved configuration, sizes and memory; train nothing."""
    built = build(plan.recipe, plan.source.spec)
    if plan.env_id is not None:
        check_spec(plan.env_id, plan.source.spec, plan.source.name)
        pool.check(plan.recipe.online.envs_backend, plan.env_id)
    print(describe(plan))
    print("\n".join(switch(plan.recipe)))
    for path, value, _ in units.leaves(plan.recipe):
        if not isinstance(value, units.Unit) and not hasattr(value, "algorithm"):
            print(f"  {path} = {value!r}")
    for name, algorithm in (("offline", built.offline), ("online", built.online)):
        if algorithm is not None:
            state = jax.eval_shape(lambda a=algorithm: core.init(a, jax.random.key(0)))
            print(f"{name}: {memory.tree_bytes(state.params) // 4:,} parameters a seed")
    rows = len(plan.source.load()) if plan.recipe.offline or built.replay.needs_data else 0
    spec = plan.source.spec
    parts = memory.estimate(plan.recipe, built, spec, len(plan.seeds), rows)
    for name, size in parts.items():
        print(f"memory, {name}: {size / 2**20:.1f} MiB")
    memory.check(parts, built.replay.capacity, memory.available())


def default_out(plan: Plan) -> Path:
    return Path("runs") / f"{plan.method}-{plan.source.name}".replace("/", "-")
