"""Train a method: offline on a data set, then online in an environment.

enoto train --budget=smoke
enoto train --method=iql --task=hopper-medium-v2 --seeds=5 --out=runs/hopper
enoto train --method=enoto_cql --target=mean_q --set=online.algorithm.tau=0.01 --dry_run

Repeat the command with the same folder to resume a stopped run.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from enoto_jax.cli import command, compiled, hints, plans, show
from enoto_jax.data.places import split
from enoto_jax.envs.pool import BACKENDS
from enoto_jax.nets.networks import PRECISIONS
from enoto_jax.recipes.budgets import BUDGETS
from enoto_jax.runs import hosts
from enoto_jax.training import deterministic, run
from enoto_jax.training.record import Watch
from enoto_jax.training.seeds import use_cores

FLAGS = flags.FLAGS
unknown_flag = hints.unknown_flag

# Flags that abbreviate a path of the recipe.
PATHS = {
    "offline_steps": "offline.steps",
    "online_steps": "online.steps",
    "eval_every": "eval_every",
    "batch_size": "batch_size",
    "utd": "online.utd",
    "warmup": "online.warmup",
    "num_critics": "algorithm.n",
    "target": "online.algorithm.target",
    "exploration": "online.algorithm.exploration",
    "replay": "online.replay",
    "precision": "precision",
    "overlap": "online.overlap",
    "envs_backend": "online.envs_backend",
}

GROUPS = {
    "What is trained": (
        "method",
        "task",
        "env",
        "seeds",
        "seed",
        "restore",
        "config",
        "action_low",
        "action_high",
        "plugin",
    ),
    "Length and evaluations": (
        "budget",
        "offline_steps",
        "online_steps",
        "warmup",
        "eval_every",
        "eval_episodes",
        "final_episodes",
        "eval_max_steps",
    ),
    "Replace parts of the method": (
        "num_critics",
        "target",
        "exploration",
        "replay",
        "batch_size",
        "utd",
        "set",
    ),
    "Output": ("out", "log", "keep", "compilation_cache"),
    "Speed and precision": (
        "precision",
        "deterministic",
        "overlap",
        "envs_backend",
        "eval_processes",
    ),
    "Several machines": ("distributed", "coordinator", "num_processes", "process_id"),
    "Instead of training": ("dry_run", "explain"),
}


def define() -> None:
    """Define the command's flags."""
    text, number, switch = flags.DEFINE_string, flags.DEFINE_integer, flags.DEFINE_bool
    choice = flags.DEFINE_enum
    text("method", None, "The method; see enoto methods. Default: enoto_cql.")
    text(
        "task",
        None,
        "D4RL id, minari:ID, ogbench:ID, file or LeRobot folder; several joined by +. "
        "Default: the bundled set.",
    )
    text("env", None, "Gymnasium id, or none. Default: the data set's own.")
    text("action_low", None, "Lowest action of the data, if not -1: numbers, or env.")
    text("action_high", None, "Highest action of the data, if not 1.")
    flags.DEFINE_multi_string("plugin", [], "A module that registers units or methods. Repeatable.")
    number("seeds", None, "How many seeds are trained together.")
    number("seed", 0, "The first seed.")
    text("restore", None, "A run whose offline phase this one starts from.")
    text("config", None, "A run's config.json, in place of method, budget and --set.")
    text(
        "budget",
        None,
        f"{', '.join(BUDGETS)}. Default: by device.",
        short_name="preset",  # its old name
    )
    number("offline_steps", None, "Gradient updates of the offline phase.")
    number("online_steps", None, "Environment steps of the online phase.")
    number("warmup", None, "Environment steps before the first online update.")
    number("eval_every", None, "Updates or steps between two evaluations.")
    number("eval_episodes", None, "Episodes of each seed in an evaluation.")
    number("final_episodes", None, "Episodes at the hand-over and at the end.")
    number("eval_max_steps", None, "Longest evaluation episode without a time limit.")
    number("num_critics", None, "N, the size of the ensemble in both phases.")
    text("target", None, "Target rule of the online phase.")
    text("exploration", None, "Exploration rule of the online phase.")
    text("replay", None, "Where the batches of the online phase come from.")
    number("batch_size", None, "Transitions in an update, in both phases.")
    number("utd", None, "Updates after each environment step.")
    flags.DEFINE_multi_string("set", [], "path=value: any other hyper-parameter. Repeatable.")
    text("out", None, "The run's folder. Default: runs/METHOD-TASK.")
    flags.DEFINE_list("log", ["csv"], "csv (always), tensorboard, wandb.")
    number("keep", 2, "How many of the newest checkpoints are kept.")
    text(
        "compilation_cache",
        None,
        "Folder for compiled programs, or none.",
    )
    choice("precision", None, PRECISIONS, "Precision of the hidden layers.")
    switch("deterministic", False, "Make runs on one device bit-for-bit equal.")
    switch("overlap", None, "Step the environments while the device updates.")
    choice("envs_backend", None, BACKENDS, "What steps the training environments.")
    number("eval_processes", 1, "Processes that step environments in evaluations.")
    switch("distributed", False, "Make all processes of this job one run.")
    text("coordinator", None, "host:port of the first process, if set by hand.")
    number("num_processes", None, "How many processes there are, if set by hand.")
    number("process_id", None, "Which of them this is, if set by hand.")
    switch("dry_run", False, "Check and print everything; train nothing.")
    text("explain", None, "A hyper-parameter's path or its end, or a unit.")


def main() -> None:
    """Resolve the flags, then check, explain, print or train."""
    act(FLAGS, sys.argv[1:])


def act(given: flags.FlagValues, arguments: Sequence[str]) -> None:
    """Resolve flags that another command has parsed, then check, explain, print or train."""
    if given.distributed or given.coordinator:  # first, because it must precede JAX's devices
        hosts.join(given.coordinator, given.num_processes, given.process_id)
    if given.deterministic:
        deterministic.switch_on()
    plan = plans.resolve(given, PATHS, arguments)
    if not (given.distributed or given.coordinator):
        use_cores(len(plan.seeds))
    if given.explain:
        path = PATHS.get(given.explain, given.explain)
        text, found = hints.explain(plan.recipe, path, list(given))
        print("\n".join([text, *(x for path in found for x in show.per_budget(plan, path))]))
    elif given.dry_run:
        show.dry_run(plan)
    else:
        compiled.keep(given.compilation_cache)
        with hosts.quiet():
            start(plan, plan.out)


def start(plan: plans.Plan, folder: Path, watch: Watch | None = None, signals: bool = True) -> None:
    """Start or resume the run in this folder and train it to its end."""
    options = plan.options | {"about": about(plan), "announce": show.describe(plan)}
    options |= {"signals": signals, "watch": watch}
    summary = run.train(plan.recipe, plan.source, folder, **options)
    print(show.ending(plan, folder, summary))


def about(plan: plans.Plan) -> dict[str, Any]:
    """Return what config.json records in addition to the settings: where they came from."""
    task = plan.task_given
    files = [str(Path(x).resolve()) if Path(x).is_file() else x for x in split(task)]
    bounds = zip(("action_low", "action_high"), plan.action_bounds, strict=True)
    return {
        **{name: value for name, value in bounds if value is not None},
        "method": plan.method,
        "task_given": task and "+".join(files),
        "data_version": plan.source.version,
        "data_physics": plan.source.physics,
        "command": shlex.join(["enoto", "train", *plan.arguments]),
    }


def run_command() -> None:
    """Parse the flags, train, and leave with the contract's exit code."""
    define()
    code = command.execute(main, sys.argv)
    hosts.leave(code)
    sys.exit(code)


if __name__ == "__main__":
    run_command()
