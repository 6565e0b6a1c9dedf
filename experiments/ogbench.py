"""Print the tables of the study on OGBench's point maze, and draw a figure for each task.

python -m experiments.ogbench
python -m experiments.ogbench runs --figures=figures

Each run is in the folder TASK/METHOD; a task's name begins with "task". Differences are of seeds
whose runs were evaluated alike and are equally long. The tables show finished runs only, and list
the others.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import flags

from enoto_jax.cli import command
from enoto_jax.report import curves, paired, runs, stats
from enoto_jax.report.evaluations import SUCCESS
from enoto_jax.types import InputError
from experiments.cells import cell

FLAGS = flags.FLAGS
RESULTS = Path(__file__).parent / "results" / "ogbench"
QUANTITIES = {"handover": "hand-over", "final": "end", "area": "mean online"}
# The plan's comparisons: each method against the ones listed.
QUESTIONS = {
    "fql_n10_wmp": ("fql", "fql_min", "fql_n10_mean", "fql_n10_min"),
    "enoto_fql": ("fql_n10_wmp", "fql"),
    "enoto_rebrac": ("rebrac_n10", "rebrac"),
}
TASKS = 3  # the fewest that a mean is taken over
MEAN = "mean of the tasks"
PerSeed = dict[str, dict[int, float]]  # quantity -> seed -> success in per cent


def define() -> None:
    """Define the command's flags."""
    flags.DEFINE_string("runs", str(RESULTS), "The folder above the tasks.")
    flags.DEFINE_string("figures", None, "Folder for a figure of each task; none: no figures.")


def main() -> None:
    """Print the tables, and draw the figures if --figures is given."""
    found = load(Path(FLAGS.runs))
    print(page(found))
    if FLAGS.figures:
        for path in draw(found, Path(FLAGS.figures)):
            print(path, file=sys.stderr)


def load(root: Path) -> dict[str, dict[str, runs.Run]]:
    """Return task -> method -> run, for all runs with at least one evaluation, finished or not.

    Raises:
      InputError: There is no such run, or a run cannot be read.
    """
    found: dict[str, dict[str, runs.Run]] = {}
    for path in sorted(root.glob("task*/*/evaluations.csv")):
        if path.read_text().count("\n") > 1:
            found.setdefault(path.parent.parent.name, {})[path.parent.name] = runs.read(path.parent)
    if not found:
        raise InputError(f"{root}: contains no runs; expected folders task*/METHOD")
    return found


def success(run: runs.Run) -> PerSeed:
    """Return each seed's success in per cent: at the hand-over, at the end, and the online mean."""
    rows = [
        {**row, "score": np.nan, "return_mean": 100 * row[SUCCESS]}
        for row in run.rows
        if np.isfinite(row[SUCCESS])
    ]
    online = stats.summary(rows)["online"] or {}
    return {
        name: {int(seed): value for seed, value in online[name]["per_seed"].items()}
        for name in QUANTITIES
        if name in online and None not in online[name]["per_seed"].values()
    }


def over_tasks(known: Mapping[str, Mapping[str, PerSeed]], methods: Sequence[str]) -> dict:
    """Return each method's mean, seed by seed, over the tasks that all of them have finished.

    Returns:
      method -> quantity -> seed -> success in per cent; empty below `TASKS` tasks.
    """
    tasks = [task for task, own in known.items() if set(methods) <= own.keys()]
    if len(tasks) < TASKS:
        return {}
    means: dict[str, PerSeed] = {}
    for method in methods:
        for name in QUANTITIES:
            each = [known[task][method].get(name, {}) for task in tasks]
            seeds = set.intersection(*(set(own) for own in each))
            if seeds:
                mean = {seed: float(np.mean([own[seed] for own in each])) for seed in sorted(seeds)}
                means.setdefault(method, {})[name] = mean
    return means


def differences(
    found: Mapping[str, Mapping[str, runs.Run]], known: Mapping[str, Mapping[str, PerSeed]]
) -> Iterator[tuple[str, paired.Difference]]:
    """Yield the plan's comparisons as (task, difference), for each task and for their mean."""
    for ours, others in QUESTIONS.items():
        for theirs in others:
            both = {
                task: {x: _only(own[x], _alike(found[task], ours, theirs)) for x in (ours, theirs)}
                for task, own in known.items()
                if {ours, theirs} <= own.keys()
            }
            shared = [
                bool(paired.handover(found[task][ours]) & paired.handover(found[task][theirs]))
                for task in both
            ]
            way = paired.HANDOVER if shared and all(shared) else paired.SEED
            for task, own in {**both, MEAN: over_tasks(both, (ours, theirs))}.items():
                for name, words in QUANTITIES.items():
                    one, two = (own.get(x, {}).get(name, {}) for x in (ours, theirs))
                    if seeds := sorted(one.keys() & two.keys()):
                        per_seed = {seed: one[seed] - two[seed] for seed in seeds}
                        yield task, paired.Difference(ours, theirs, words, way, per_seed)


def _alike(own: Mapping[str, runs.Run], ours: str, theirs: str) -> set[int]:
    """The seeds of two methods that were evaluated alike, after equally many online steps."""
    one, two = own[ours], own[theirs]
    return {seed for seed in one.seeds & two.seeds if paired.alike(one, two, seed)}


def _only(values: PerSeed, seeds: set[int]) -> PerSeed:
    return {name: {s: x for s, x in own.items() if s in seeds} for name, own in values.items()}


def page(found: Mapping[str, Mapping[str, runs.Run]]) -> str:
    """Return the tables in Markdown: success in per cent."""
    known = {
        task: {name: success(run) for name, run in own.items() if run.finished}
        for task, own in found.items()
    }
    methods = list(dict.fromkeys(name for own in known.values() for name in own))
    lines = [
        f"| task | method | {' | '.join(QUANTITIES.values())} |",
        "| --- | --- |" + " --- |" * 3,
    ]
    for task, own in {**known, MEAN: over_tasks(known, methods)}.items():
        for method, values in own.items():
            cells = [
                cell(list(values[x].values()), ".0f", "seeds ") if x in values else ""
                for x in QUANTITIES
            ]
            lines.append(f"| {task} | `{method}` | {' | '.join(cells)} |")
    lines += ["", "| task | difference | of | paired by | success | |", "| --- |" + " --- |" * 5]
    for task, one in differences(found, known):
        lines.append(
            f"| {task} | `{one.ours}` - `{one.theirs}` | {one.quantity} | {one.paired_by} | "
            f"{cell(list(one.values), '+.0f', 'seeds ')} | {one.verdict} |"
        )
    left = [
        f"{task}/{x}" for task, own in found.items() for x, run in own.items() if not run.finished
    ]
    return "\n".join([*lines, *(["", f"Not finished: {', '.join(left)}."] if left else [])])


def draw(found: Mapping[str, Mapping[str, runs.Run]], folder: Path) -> Iterator[Path]:
    """Draw a figure for each task: success of all finished runs over the online phase."""
    folder.mkdir(parents=True, exist_ok=True)
    for task, own in found.items():
        finished = {name: [run.rows] for name, run in own.items() if run.finished}
        if finished:
            path = folder / f"{task}.png"
            curves.compare(finished, path, title=task, metric=SUCCESS)
            yield path


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv, positional="runs"))
