"""Folders of runs: their scores, and their checkpoints."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np

from enoto_jax import core
from enoto_jax.cli import compare
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
from experiments.robustness import mutations
from experiments.robustness.fuzz_targets.target import SPEC, Target, call, everywhere

_ROW = registry.override(RECIPES["bc"], "algorithm.hidden", (8,))
_SEEDS = (0, 1)


def _run(folder: Path) -> None:
    """Write the files of a finished run that are read again, without any training."""
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
    """Read the scores of a run again, for statistics and pictures."""
    stats.summary(stats.read_evaluations(folder))
    call(compare, f"--runs={folder}", f"--out={folder / 'compare.png'}", "--offline")
    curves.curve(folder, folder / "curve.png")


def _use_run(folder: Path) -> None:
    """Continue from a run: another run from its offline state, then the run itself."""
    with redirect_stderr(io.StringIO()):
        seeds = SeedMap(_SEEDS)
        resume.restored(folder, _SEEDS).state(_algorithm(), seeds)
        source = Source("reach", "", SPEC, None, None, None)
        record = Record(folder, source, seeds, transform()(SPEC, None), 20)
        try:
            record.resume(_template)
        finally:
            record.close()


def _lost(path: Path, rng: np.random.Generator) -> None:
    """Remove a file, or a whole folder."""
    if rng.integers(3):
        path.unlink()
    else:
        shutil.rmtree(path.parent)


def _hostile_record(path: Path, rng: np.random.Generator) -> None:
    """Change a record on purpose, and make it one of the older version without checksums."""
    record = json.loads(path.read_text())
    record = mutations.replaced(record, rng)
    if isinstance(record, dict) and "version" in record:
        record.pop("checksums", None)
        record["version"] = 1
    path.write_text(json.dumps(record))


TARGETS = {
    "evaluations": Target(
        _run,
        everywhere(mutations.CSV, "evaluations.csv")
        | {f"config: {k}": ("config.json", v) for k, v in mutations.JSON.items()},
        _use_evaluations,
    ),
    "checkpoint": Target(
        _run,
        everywhere(mutations.BYTES, "checkpoints/*/*/**/*")
        | {
            "files lost": ("checkpoints/*/*/**/*", _lost),
            "records": ("checkpoints/*/*/record/metadata", _hostile_record),
        }
        | {f"rows: {k}": ("[em]*s.csv", v) for k, v in mutations.CSV.items()}
        | {f"config: {k}": ("config.json", v) for k, v in mutations.JSON.items()},
        _use_run,
    ),
}
