"""Flags and configurations of `enoto train`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from absl import flags

from enoto_jax.cli import command, train
from enoto_jax.recipes import units
from enoto_jax.recipes.table import RECIPES
from experiments.robustness import mutations
from experiments.robustness.fuzz_targets.target import Target, call, everywhere


def _arguments(folder: Path) -> None:
    (folder / "arguments.json").write_text("[]")


def _flag(path: Path, rng: np.random.Generator) -> None:
    """Append a flag of experiments.train, with a value that it does not expect."""
    command.define_only(train)
    names = sorted(f.name for f in flags.FLAGS.flags_by_module_dict()[train.__name__])
    names = [name for name in names if name not in ("out", "dry_run")]
    _append(path, f"--{names[rng.integers(len(names))]}={mutations.odd(rng)}")


def _task(path: Path, rng: np.random.Generator) -> None:
    forms = ("minari:{}", "minari:a/{}-v0", "{}.hdf5", "{}.npz", "{}-v2", "a.hdf5+{}", "{}+{}")
    value = str(mutations.odd(rng))
    _append(path, "--task=" + forms[rng.integers(len(forms))].replace("{}", value))


def _set(path: Path, rng: np.random.Generator) -> None:
    """Append a hyper-parameter of a random row, with a value that it does not expect."""
    methods = list(RECIPES)
    method = methods[rng.integers(len(methods))]
    known = [p for p, _, _ in units.leaves(RECIPES[method])]
    _append(path, f"--method={method}")
    _append(path, f"--set={known[rng.integers(len(known))]}={mutations.odd(rng)}")


def _append(path: Path, argument: str) -> None:
    path.write_text(json.dumps([*json.loads(path.read_text()), argument]))


def _use_arguments(folder: Path) -> None:
    arguments = json.loads((folder / "arguments.json").read_text())
    call(train, "--budget=smoke", *arguments, f"--out={folder / 'out'}", "--dry_run")


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
    """Dry-run the configuration that was changed last."""
    newest = max(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    call(train, f"--config={newest}", f"--out={folder / 'out'}", "--dry_run")


TARGETS = {
    "flags": Target(
        _arguments,
        {"a flag": ("*.json", _flag), "--task": ("*.json", _task), "--set": ("*.json", _set)},
        _use_arguments,
    ),
    "config": Target(_config, everywhere(mutations.JSON, "*.json"), _use_config),
}
