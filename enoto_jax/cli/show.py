"""What `enoto train` prints before a run, instead of one, and after it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from enoto_jax import core
from enoto_jax.cli.plans import Plan
from enoto_jax.recipes import domains, units
from enoto_jax.recipes.budgets import BUDGETS, decayed_at_the_end, with_budget
from enoto_jax.recipes.recipe import switch
from enoto_jax.recipes.table import recipe
from enoto_jax.report import stats
from enoto_jax.runs.progress import duration
from enoto_jax.training import deterministic, memory, run
from enoto_jax.training.seeds import SeedMap
from enoto_jax.training.settings import Settings
from enoto_jax.types import InputError, plural


def describe(plan: Plan) -> str:
    """Describe in a few lines what will run."""
    row, source = plan.recipe, plan.source
    lines = [
        f"{plan.method}: {row.about}",
        f"data {source.name}, environment {plan.env_id or 'none'}, seeds {list(plan.seeds)}",
        f"precision {row.precision}; {deterministic.words()}",
    ]
    if plan.chosen:
        device = "a CPU" if plan.chosen == "laptop" else "an accelerator"
        other = "; --budget=paper is the paper's own" if plan.chosen != "paper" else ""
        lines.append(
            f"budget {plan.chosen}, which fits {device}: {BUDGETS[plan.chosen].about}{other}"
        )
    if plan.env_id is not None and not source.scored:
        lines.append("no reference returns for this task: RAW RETURNS are reported, not scores")
    online = f"online {plural(row.online.steps, 'step')}: {row.online.algorithm.name}"
    if row.offline is None:
        return "\n".join([*lines, online])
    offline = f"offline {plural(row.offline.steps, 'update')}: {row.offline.algorithm.name}"
    return "\n".join([*lines, f"{offline}; {online if plan.env_id else 'offline only'}"])


def dry_run(plan: Plan) -> None:
    """Print the resolved configuration, sizes and memory; train nothing."""
    setup = run.set_up(plan.recipe, plan.source, Settings.of(plan.options), plan.out)
    built = setup.built
    print(describe(plan), *setup.data_lines, sep="\n")
    print("\n".join(switch(plan.recipe)))
    for path, value, _ in units.leaves(plan.recipe):
        if not isinstance(value, units.Unit) and not hasattr(value, "algorithm"):
            print(f"  {path} = {value!r}")
    for name, algorithm in (("offline", built.offline), ("online", built.online)):
        if algorithm is not None:
            state = jax.eval_shape(lambda a=algorithm: core.init(a, jax.random.key(0)))
            print(f"{name}: {memory.tree_bytes(state.params) // 4:,} parameters per seed")
    parts = setup.sizes(SeedMap(plan.seeds))
    for name, size in parts.items():
        print(f"memory, {name}: {size / 2**20:.1f} MiB")
    memory.check(parts, built.replay.capacity, memory.available())


def per_budget(plan: Plan, path: str) -> list[str]:
    """Return a hyper-parameter's value in every budget, one line each; none for your own recipe."""
    try:
        own = domains.for_task(recipe(plan.method), plan.method, plan.source.name)
    except InputError:
        return []
    lines = []
    for name, budget in BUDGETS.items():
        row = decayed_at_the_end(own, with_budget(own, budget))
        lines += [f"  --budget={name}: {v}" for p, v, _ in units.leaves(row) if p == path]
    return lines


def ending(plan: Plan, folder: Path, summary: Mapping[str, Any]) -> str:
    """Describe a run's result: its score with every seed, its duration, and the next command."""
    where = f" (in {plan.env_id})" if plan.env_id else ""  # a score names its physics
    lines = [f"{folder}: {stats.headline(summary)}{where}"]
    timing, picture = folder / "timing.json", folder / "curve.png"
    if timing.exists():
        took = json.loads(timing.read_text())["wall_s"]
        lines.append(f"  took {duration(took)}" + f"; curve: {picture}" * picture.exists())
    if plan.env_id is None:  # nothing was evaluated, so there is nothing to report
        lines.append(f"  next: enoto export {folder} --out={folder}.zip")
    elif summary:
        lines.append(f"  next: enoto report {folder} --out={folder / 'report.html'}")
    return "\n".join(lines)
