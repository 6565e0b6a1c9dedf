"""What is fuzzed: good input, the mutations that fit it, and how a user's input gets in."""

from __future__ import annotations

import io
import json
import os
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from absl import flags

from enoto_jax import core
from enoto_jax.cli import command, compare, train
from enoto_jax.data import check, minari
from enoto_jax.data.loading import load_source
from enoto_jax.data.source import Source
from enoto_jax.recipes import registry, units
from enoto_jax.recipes.table import RECIPES
from enoto_jax.report import curves, stats
from enoto_jax.runs import files
from enoto_jax.runs.checkpoint import Checkpoints
from enoto_jax.runs.templates import abstract, template
from enoto_jax.training import resume
from enoto_jax.training.record import Record
from enoto_jax.training.seeds import SeedMap
from enoto_jax.transforms import transform
from enoto_jax.types import InputError, Spec
from experiments.robustness import fuzz_bundle, fuzz_robots, fuzz_worlds, mutations

SECRET = 0.40625  # every number outside; exact in all types of numbers with a fraction
SPEC = Spec(2, 1)
MINARI_ID = "fuzz/reach/medium-v0"


class Leaked(Exception):
    """Numbers of a file that the user did not name."""


class Target(NamedTuple):
    """One kind of input."""

    make: Callable[[Path], None]  # writes good input into a folder
    mutations: Mapping[str, tuple[str, mutations.Mutation]]  # name -> which files, what is done
    use: Callable[[Path], None]  # as a user would


def _no_download(dataset_id: str, folder: Path) -> None:
    raise InputError(f"{dataset_id}: nothing is fetched while fuzzing, to {folder}")


def quiet() -> None:
    """Warnings are more lines on stderr: none may come. And nothing is fetched."""
    minari._download = _no_download
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", ".*is out of date.*", DeprecationWarning)


def _rng(seed: int, number: int) -> np.random.Generator:
    return np.random.default_rng([seed, number])


def drawn(seed: int, number: int, targets: Sequence[str]) -> tuple[str, str]:
    """The target and the mutation of a case."""
    name = targets[number % len(targets)]
    choices = list(TARGETS[name].mutations)
    return name, choices[_rng(seed, number).integers(len(choices))]


def make_corpus(folder: Path, targets: Sequence[str]) -> None:
    """Good input of every target."""
    for name in dict.fromkeys(targets):
        (folder / name).mkdir(parents=True)
        TARGETS[name].make(folder / name)


def make_case(
    corpus: Path, folder: Path, seed: int, number: int, targets: Sequence[str]
) -> Callable[[], None]:
    """Writes a case's input to `<folder>/input`, and what it must not reach beside it."""
    name, mutation = drawn(seed, number, targets)
    rng = _rng(seed, number)
    rng.integers(2)
    inside = folder / "input"
    shutil.copytree(corpus / name, inside)
    _write_outside(folder / "outside")
    pattern, change = TARGETS[name].mutations[mutation]
    for _ in range(1 + (rng.random() < 0.2)):
        paths = sorted(path for path in inside.glob(pattern) if path.is_file())
        try:
            change(paths[rng.integers(len(paths))], rng)
        except Exception:  # of any library: it does not fit, as after another one
            continue
    return partial(TARGETS[name].use, inside)


def _write_outside(folder: Path) -> None:
    folder.mkdir(parents=True)
    arrays = data(with_next=True)
    with h5py.File(folder / "secret.hdf5", "w") as file:
        for key, array in {**arrays, **_episode(0)}.items():
            file[key] = np.full(array.shape, SECRET, np.float32)
    (folder / "secret.bin").write_bytes(np.full(1000, SECRET, np.float32).tobytes())


def outside(folder: Path) -> list[tuple[str, int]]:
    """What lies around a case's input."""
    paths = (p for p in folder.parent.glob("*") if p == folder)
    around = [*paths, *folder.glob("*"), *(folder / "outside").rglob("*")]
    return sorted((str(p), 0 if p.is_dir() else p.stat().st_mtime_ns) for p in around)


# Data sets.


def data(rows: int = 21, *, with_next: bool = False, kind: str = "f4") -> dict[str, np.ndarray]:
    """Three episodes of a point that walks: one falls, two are cut."""
    rng = np.random.default_rng(0)
    observations = np.cumsum(rng.normal(size=(rows, SPEC.observation_size)), axis=0)
    arrays = {
        "observations": observations.astype("f4"),
        "actions": rng.uniform(-1, 1, (rows, SPEC.action_size)).astype("f4"),
        "rewards": rng.normal(size=rows).astype(kind),
        "terminals": np.arange(rows) == 6,
        "timeouts": np.isin(np.arange(rows), (13, rows - 1)),
    }
    if with_next:
        arrays["next_observations"] = np.roll(arrays["observations"], -1, axis=0)
    return arrays


def _write_hdf5(path: Path, arrays: Mapping[str, np.ndarray], **attributes: Any) -> None:
    with h5py.File(path, "w") as file:
        for number, (key, array) in enumerate(arrays.items()):
            options = {"compression": "gzip", "shuffle": True} if number % 2 else {}
            file.create_dataset(key, data=array, **options)
        file.attrs.update(attributes)


def _d4rl(folder: Path) -> None:
    known = {"env_id": "InvertedPendulum-v4", "ref_min_score": -1.0, "ref_max_score": 1.0}
    _write_hdf5(folder / "set.hdf5", data(with_next=True), **known)


def _antmaze(folder: Path) -> None:
    arrays = data(kind="f8")
    arrays |= {f"infos/{k}": np.zeros((21, 15)) for k in ("qpos", "qvel")}
    _write_hdf5(folder / "antmaze-umaze-v2.hdf5", arrays)


def _virtual(folder: Path) -> None:
    arrays = data(with_next=True)
    _write_hdf5(folder / "rows.hdf5", arrays)
    with h5py.File(folder / "set.hdf5", "w") as file:
        for key, array in arrays.items():
            layout = h5py.VirtualLayout(array.shape, array.dtype)
            layout[...] = h5py.VirtualSource("rows.hdf5", key, array.shape, array.dtype)
            file.create_virtual_dataset(key, layout)


def _npz(folder: Path) -> None:
    np.savez(folder / "set.npz", **data(with_next=True))


def _words(folder: Path) -> None:
    """Names of other libraries, actions in units of their own, and an array that is not read."""
    arrays = data(with_next=True, kind="f8")
    ends = arrays["terminals"] | arrays.pop("timeouts")
    arrays["obs"], arrays["acts"] = arrays.pop("observations"), 2 * arrays.pop("actions")
    arrays |= {"masks": 1.0 - arrays.pop("terminals"), "dones_float": ends, "dones": ends}
    _write_hdf5(folder / "words.hdf5", arrays, action_low=-2.0, action_high=2.0)


def _use_file(folder: Path) -> None:
    """Loads the data set, and reports on it."""
    (path,) = (p for p in folder.iterdir() if p.name not in ("rows.hdf5", "neighbour.hdf5"))
    _use_task(str(path))


def _use_task(task: str) -> None:
    report = check.inspect(task, env_id="none", download=False)
    if report.source is not None:
        _look_for_secrets(report.arrays.values())
    texts = [finding.text for finding in report.findings]
    if any(not text.isprintable() for text in texts):
        raise AssertionError(f"a finding of other than one printable line: {texts}")
    source = load_source(task, download=False)
    loaded = source.load()
    if not report.usable or source.path is None:
        raise AssertionError(f"loaded, but reported as not usable: {texts}")
    _look_for_secrets(loaded.transitions[:6])


def _look_for_secrets(arrays: Any) -> None:
    for array in arrays:
        if array.dtype != bool and array.size and (np.asarray(array) == SECRET).all():
            raise Leaked("read outside")


# Minari.


def _episode(number: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(number)
    steps = 5 + number
    arrays = {
        "observations": rng.normal(size=(steps + 1, 2)),
        "actions": rng.uniform(-1, 1, (steps, 1)).astype("f4"),
        "rewards": rng.normal(size=steps),
        "terminations": np.arange(steps) == steps - 1 + number,
        "truncations": np.zeros(steps, bool),
    }
    return {f"episode_{number}/{key}": array for key, array in arrays.items()}


def _minari(folder: Path) -> None:
    place = folder / MINARI_ID / "data"
    place.mkdir(parents=True)
    _write_hdf5(place / "main_data.hdf5", {k: v for i in range(3) for k, v in _episode(i).items()})
    spec = {"id": "InvertedPendulum-v4", "max_episode_steps": 100, "kwargs": {}}
    bounds = {"type": "Box", "dtype": "float32", "shape": [1], "low": [-1.0], "high": [1.0]}
    metadata = {
        "total_episodes": 3,
        "total_steps": 18,
        "data_format": "hdf5",
        "env_spec": json.dumps(spec),
        "action_space": json.dumps(bounds),
        "dataset_id": MINARI_ID,
        "ref_min_score": 0.0,
        "ref_max_score": 10.0,
        "requirements": ["mujoco==3.2.3"],
        "minari_version": "0.5.4",
    }
    (place / "metadata.json").write_text(json.dumps(metadata))


def _use_minari(folder: Path, name: str = MINARI_ID) -> None:
    os.environ["MINARI_DATASETS_PATH"] = str(folder)
    _use_task("minari:" + name)


# Flags and configurations.


def _arguments(folder: Path) -> None:
    (folder / "arguments.json").write_text("[]")


def _flag(path: Path, rng: np.random.Generator) -> None:
    """Any flag of experiments.train, with a value that it does not expect."""
    command.define_only(train)
    names = sorted(f.name for f in flags.FLAGS.flags_by_module_dict()[train.__name__])
    names = [name for name in names if name not in ("out", "dry_run")]
    _append(path, f"--{names[rng.integers(len(names))]}={mutations.odd(rng)}")


def _task(path: Path, rng: np.random.Generator) -> None:
    forms = ("minari:{}", "minari:a/{}-v0", "{}.hdf5", "{}.npz", "{}-v2", "a.hdf5+{}", "{}+{}")
    value = str(mutations.odd(rng))
    _append(path, "--task=" + forms[rng.integers(len(forms))].replace("{}", value))


def _set(path: Path, rng: np.random.Generator) -> None:
    """Any hyper-parameter of any row."""
    methods = list(RECIPES)
    method = methods[rng.integers(len(methods))]
    known = [p for p, _, _ in units.leaves(RECIPES[method])]
    _append(path, f"--method={method}")
    _append(path, f"--set={known[rng.integers(len(known))]}={mutations.odd(rng)}")


def _append(path: Path, argument: str) -> None:
    path.write_text(json.dumps([*json.loads(path.read_text()), argument]))


def _use_arguments(folder: Path) -> None:
    arguments = json.loads((folder / "arguments.json").read_text())
    _call(train, "--budget=smoke", *arguments, f"--out={folder / 'out'}", "--dry_run")


def _call(program: Any, *arguments: str) -> None:
    """What the command line does, in this process; its exit code and its lines are the outcome."""
    command.define_only(program)
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = command.execute(program.main, ["program", *arguments])
    lines = err.getvalue().splitlines()
    if code == command.BAD_INPUT:
        raise InputError("\n".join(lines))
    if code != command.DONE:
        raise AssertionError(f"exit code {code}: {lines}")


def _config(folder: Path) -> None:
    for name in ("bc", "enoto_cql", "iql"):
        tree = {
            "method": name,
            "recipe": units.to_json(RECIPES[name]),
            "seeds": [0, 1],
            "eval_episodes": 2,
            "env": "none",
            "task_given": None,
            "restore": None,
        }
        tree["recipe"]["offline"]["batch_size"] = 8
        (folder / f"{name}.json").write_text(json.dumps(tree))


def _use_config(folder: Path) -> None:
    """The configuration that was changed, or the first one."""
    newest = max(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    _call(train, f"--config={newest}", f"--out={folder / 'out'}", "--dry_run")


# Folders of runs.

_ROW = registry.override(RECIPES["bc"], "algorithm.hidden", (8,))
_SEEDS = (0, 1)


def _run(folder: Path) -> None:
    """A finished run's folder, as far as it is read again, without any training."""
    tree = {
        "method": "bc",
        "recipe": units.to_json(_ROW),
        "seeds": list(_SEEDS),
        "task": "reach",
        "eval_episodes": 1,
        "env": "none",
        "restore": None,
        "data_hash": None,
    }
    files.write_json(folder / "config.json", tree)
    evaluations = files.CsvLog(folder / "evaluations.csv", files.EVALUATION_COLUMNS)
    rows = [("offline", 0), ("offline", 10), ("online", 0), ("online", 5), ("online", 10)]
    evaluations.append(
        dict(zip(files.EVALUATION_COLUMNS, (phase, step, step, seed, 1.5, 0.5, None, None, 1, 3.0)))
        for phase, step in rows
        for seed in _SEEDS
    )
    metrics = files.CsvLog(folder / "metrics.csv", files.METRIC_COLUMNS)
    for step in (5, 10):
        metrics.append(files.metric_rows(step, {"offline/actor/loss": [1.0, 2.0]}, _SEEDS))
    checkpoints = Checkpoints(folder / "checkpoints")
    for step in (5, 10):
        checkpoints.save(step, _template({}), _about(step))
    checkpoints.save(5, _template({}), {**_about(5), "mean": 1.0, "metric": "score"}, "best")
    checkpoints.wait()
    checkpoints.save_handover(_template({}), _about(10))
    checkpoints.close()


def _about(step: int) -> dict[str, Any]:
    position = {"sums": {"actor": {"loss": np.zeros(2, np.float32)}}, "since": 5}
    return {
        "phase": "offline",
        "step": step,
        "position": position,
        "wall_s": 1.0,
        "timing": {"save_s": 0.5},
        "transform": transform()(SPEC, None).to_json(),
    }


def _algorithm() -> core.Algorithm:
    return _ROW.offline.algorithm.build(SPEC)


def _template(record: Mapping[str, Any]) -> Any:
    del record
    return template(lambda: abstract(_algorithm()), len(_SEEDS))


def _use_evaluations(folder: Path) -> None:
    """What reads the scores of a run again: statistics and pictures."""
    stats.summary(stats.read_evaluations(folder))
    _call(compare, f"--runs={folder}", f"--out={folder / 'compare.png'}", "--offline")
    curves.curve(folder, folder / "curve.png")


def _use_run(folder: Path) -> None:
    """What goes on from a run: another one's offline state, then its own record."""
    with redirect_stderr(io.StringIO()):
        seeds = SeedMap(_SEEDS)
        resume.offline_state(folder, _algorithm(), seeds)
        source = Source("reach", "", SPEC, None, None, None)
        record = Record(folder, source, seeds, transform()(SPEC, None), 20)
        try:
            record.resume(_template)
        finally:
            record.close()


def _lost(path: Path, rng: np.random.Generator) -> None:
    """A file is gone, or a whole folder."""
    if rng.integers(3):
        path.unlink()
    else:
        shutil.rmtree(path.parent)


def _hostile_record(path: Path, rng: np.random.Generator) -> None:
    """A record that nobody's disk has damaged: of an older version, which had no checksums."""
    record = json.loads(path.read_text())
    record = mutations.replaced(record, rng)
    if isinstance(record, dict) and "version" in record:
        record.pop("checksums", None)
        record["version"] = 1
    path.write_text(json.dumps(record))


def _everywhere(table: Mapping[str, mutations.Mutation], pattern: str) -> dict:
    return {name: (pattern, change) for name, change in table.items()}


_HDF5 = _everywhere(mutations.HDF5, "*.hdf5")
TARGETS: dict[str, Target] = {
    "d4rl": Target(_d4rl, _HDF5, _use_file),
    "antmaze": Target(_antmaze, _HDF5, _use_file),
    "virtual": Target(_virtual, _HDF5, _use_file),
    "words": Target(_words, _HDF5, _use_file),
    "npz": Target(_npz, _everywhere(mutations.NPZ, "*.npz"), _use_file),
    "minari": Target(
        _minari,
        _everywhere(mutations.HDF5, f"{MINARI_ID}/data/main_data.hdf5")
        | {
            f"metadata: {k}": (f"{MINARI_ID}/data/metadata.json", v)
            for k, v in mutations.JSON.items()
        },
        _use_minari,
    ),
    "robomimic": Target(fuzz_robots.robomimic, _HDF5, _use_file),
    "lerobot": Target(
        fuzz_robots.lerobot,
        _everywhere(mutations.BYTES, "arm/data/chunk-000/*.parquet")
        | {f"description: {k}": ("arm/meta/*.json", v) for k, v in mutations.JSON.items()},
        _use_file,
    ),
    **{
        f"minari_{kind}": Target(
            partial(fuzz_robots.minari, kind=kind),
            _everywhere(mutations.BYTES, f"{fuzz_robots.MINARI_ID}/data/*/part-0.{kind}")
            | {
                f"metadata: {k}": (f"{fuzz_robots.MINARI_ID}/data/metadata.json", v)
                for k, v in mutations.JSON.items()
            },
            partial(_use_minari, name=fuzz_robots.MINARI_ID),
        )
        for kind in ("arrow", "parquet")
    },
    "flags": Target(
        _arguments,
        {"a flag": ("*.json", _flag), "--task": ("*.json", _task), "--set": ("*.json", _set)},
        _use_arguments,
    ),
    "config": Target(_config, _everywhere(mutations.JSON, "*.json"), _use_config),
    "evaluations": Target(
        _run,
        _everywhere(mutations.CSV, "evaluations.csv")
        | {f"config: {k}": ("config.json", v) for k, v in mutations.JSON.items()},
        _use_evaluations,
    ),
    "checkpoint": Target(
        _run,
        _everywhere(mutations.BYTES, "checkpoints/*/*/**/*")
        | {
            "files lost": ("checkpoints/*/*/**/*", _lost),
            "records": ("checkpoints/*/*/record/metadata", _hostile_record),
        }
        | {f"rows: {k}": ("[em]*s.csv", v) for k, v in mutations.CSV.items()}
        | {f"config: {k}": ("config.json", v) for k, v in mutations.JSON.items()},
        _use_run,
    ),
    "bundle": Target(
        fuzz_bundle.make, _everywhere(fuzz_bundle.MUTATIONS, fuzz_bundle.NAME), fuzz_bundle.use
    ),
    "environment": Target(
        fuzz_worlds.make_environment,
        _everywhere(fuzz_worlds.ENVIRONMENT, fuzz_worlds.NAME),
        fuzz_worlds.use_environment,
    ),
    "arrays": Target(
        fuzz_worlds.make_arrays,
        _everywhere(fuzz_worlds.ARRAYS, fuzz_worlds.NAME),
        fuzz_worlds.use_arrays,
    ),
    "told": Target(
        fuzz_worlds.make_told, _everywhere(fuzz_worlds.TOLD, fuzz_worlds.NAME), fuzz_worlds.use_told
    ),
}
# Data sets and policies come from strangers and are quick to try; a recipe takes a second to build.
TURNS = (
    *10 * ("d4rl", "antmaze", "virtual", "words", "npz", "minari", "bundle"),
    *10 * ("environment", "arrays", "told"),
    *10 * ("robomimic", "lerobot", "minari_arrow", "minari_parquet"),
    *2 * ("evaluations", "checkpoint"),
    "flags",
    "config",
)
