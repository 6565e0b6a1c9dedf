"""Train a row of the table: offline on a data set, then online in an environment.

enoto train --method enoto_cql --task hopper-medium-v2 --seeds 5 --out runs/hopper
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from absl import flags

from enoto_jax.cli import command
from enoto_jax.recipes import registry
from enoto_jax.recipes.budgets import PRESETS
from enoto_jax.runs import hosts
from enoto_jax.training import deterministic
from enoto_jax.training.seeds import use_cores

FLAGS = flags.FLAGS

# Flags that are short for a path of the recipe.
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


def define() -> None:
    """The command's flags."""
    flags.DEFINE_string("method", None, "Row of the table; default enoto_cql.")
    flags.DEFINE_string(
        "task",
        None,
        "D4RL id, minari:<id>, or path of an .hdf5, .h5 or .npz file; several joined by +. "
        "Default: the shipped data set.",
    )
    flags.DEFINE_string("env", None, "Gymnasium id; default: the task's own; none: no simulator.")
    flags.DEFINE_integer("seeds", None, "How many seeds are trained together.")
    flags.DEFINE_integer("seed", 0, "The first seed.")
    flags.DEFINE_string("preset", "paper", f"Budget: {', '.join(PRESETS)}.")
    flags.DEFINE_integer("offline_steps", None, "Gradient updates of the offline phase.")
    flags.DEFINE_integer("online_steps", None, "Environment steps of the online phase.")
    flags.DEFINE_integer("eval_every", None, "Steps between evaluations, in both phases.")
    flags.DEFINE_integer("eval_episodes", None, "Episodes per evaluation and seed.")
    flags.DEFINE_integer("batch_size", None, "Transitions per update, in both phases.")
    flags.DEFINE_integer("utd", None, "Updates per environment step.")
    flags.DEFINE_integer("warmup", None, "Environment steps before the first online update.")
    flags.DEFINE_integer("num_critics", None, "N, in both phases.")
    flags.DEFINE_string("target", None, "Online target rule.")
    flags.DEFINE_string("exploration", None, "Online exploration rule.")
    flags.DEFINE_string("replay", None, "Online replay.")
    flags.DEFINE_multi_string("set", [], "path=value: any other hyper-parameter; repeatable.")
    flags.DEFINE_string("precision", None, "float32, or bf16: hidden layers in bfloat16.")
    flags.DEFINE_bool("overlap", None, "Environments step while the device updates.")
    flags.DEFINE_string("envs_backend", None, "gymnasium or envpool: steps the training envs.")
    flags.DEFINE_bool("deterministic", False, "The same bits in every run on the same device.")
    flags.DEFINE_string("config", None, "A run's config.json, instead of method, preset and --set.")
    flags.DEFINE_string("out", None, "The run's folder; starting again on it resumes.")
    flags.DEFINE_string("restore", None, "Another run's folder: start from its hand-over.")
    flags.DEFINE_bool("distributed", False, "One run over all processes of this job.")
    flags.DEFINE_string("coordinator", None, "host:port of the first process, if by hand.")
    flags.DEFINE_integer("num_processes", None, "How many there are, if by hand.")
    flags.DEFINE_integer("process_id", None, "Which of them this is, if by hand.")
    flags.DEFINE_integer("keep", 2, "How many of the newest checkpoints are kept.")
    flags.DEFINE_integer("eval_processes", 1, "That step the environments of an evaluation.")
    flags.DEFINE_list("log", ["csv"], "csv (always), tensorboard, wandb.")
    flags.DEFINE_bool("dry_run", False, "Resolve, check and print everything; train nothing.")
    flags.DEFINE_string("explain", None, "Path of a hyper-parameter to explain; train nothing.")


def main() -> None:
    """Resolve the flags, then check, explain, print or train."""
    act(FLAGS, sys.argv[1:])


def act(given: flags.FlagValues, arguments: Sequence[str]) -> None:
    """The same for flags that another command has parsed from such arguments."""
    if given.distributed or given.coordinator:  # first: this must come before JAX has devices
        hosts.join(given.coordinator, given.num_processes, given.process_id)
    if given.deterministic:
        deterministic.switch_on()
    plan = command.resolve(given, PATHS, arguments)
    if not (given.distributed or given.coordinator):
        use_cores(len(plan.seeds))
    if given.explain:
        print(registry.describe_path(plan.recipe, given.explain))
        print("\n".join(command.per_preset(plan.method, given.explain)))
    elif given.dry_run:
        command.dry_run(plan)
    else:
        out = command.local(given.out) if given.out else command.default_out(plan)
        with hosts.quiet():
            command.train(plan, out)


def run(argv: Sequence[str] | None = None) -> None:
    """Parse the flags, train, and leave with the contract's exit code."""
    define()
    code = command.execute(main, argv or sys.argv)
    hosts.leave(code)
    sys.exit(code)


if __name__ == "__main__":
    run()
