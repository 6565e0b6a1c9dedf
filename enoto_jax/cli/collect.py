"""Record data sets as D4RL did: train SAC, then roll out random, medium and expert policies.

enoto collect --env=Hopper-v4 --out=data/hopper
enoto collect --env=Hopper-v4 --kinds=medium,expert --rows=1000000 --out=data/hopper
enoto collect --run=runs/hopper --kinds=replay --out=data/hopper
enoto collect --recipe=ogbench:cube-single-play-v0 --episodes=100 --out=data

The medium policy is the first whose return is --medium of the way from random to the best
evaluation, or to --reference. The expert is the best policy. A replay set is SAC's own buffer, up
to the medium policy or in full. Sets of a --run have its own reference returns, if it has any, or
--reference; without these they have no scores. --recipe records a data set in the way of OGBench
instead, with the scripted oracles of its package, or a planner in point mazes; it is not OGBench's
own file.
Repeat the command to resume it; it makes only what is missing.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from absl import flags

from enoto_jax.cli import plans
from enoto_jax.data.formats import minari, ogbench, ogbench_write
from enoto_jax.data.loading import load_source
from enoto_jax.data.write import write_minari
from enoto_jax.recipes import registry
from enoto_jax.recipes.recipe import Recipe
from enoto_jax.recipes.table import recipe
from enoto_jax.training import behaviour, buffer
from enoto_jax.types import InputError, plural

FLAGS = flags.FLAGS
GROUPS = {
    "Where data come from": ("env", "run", "steps", "set", "seed"),
    "Which policies": ("medium", "reference", "eval_every", "eval_episodes"),
    "Which data sets": ("kinds", "rows", "out", "minari"),
    "By OGBench's recipe": ("recipe", "episodes", "validation"),
}


def define() -> None:
    """Define the command's flags."""
    flags.DEFINE_string("env", None, "Gymnasium id to train and collect in.")
    flags.DEFINE_string("out", None, "The folder of the training and of the files.")
    flags.DEFINE_string("run", None, "A run to collect from, instead of training.")
    flags.DEFINE_list(
        "kinds", None, f"Which sets: {', '.join(behaviour.KINDS)}; of a run: replay, policy."
    )
    flags.DEFINE_integer("rows", 100_000, "Steps in each set that is rolled out.")
    flags.DEFINE_integer("steps", 1_000_000, "Environment steps of SAC's training.")
    flags.DEFINE_integer("eval_every", 5_000, "Steps between candidates for the policies.")
    flags.DEFINE_integer("eval_episodes", 10, "Episodes that evaluate a candidate.")
    flags.DEFINE_integer("seed", 0, "Random seed.")
    flags.DEFINE_string("minari", None, "Also write Minari data sets NAME/KIND-v0.")
    flags.DEFINE_float("medium", 1.0 / 3.0, "Fraction of the way from random to expert.")
    flags.DEFINE_float("reference", None, "The expert's return. Default: SAC's best.")
    flags.DEFINE_multi_string("set", [], "path=value of SAC's recipe, as in enoto train.")
    flags.DEFINE_string("recipe", None, "ogbench: and a data set, pointmaze-medium-navigate-v0.")
    flags.DEFINE_integer("episodes", 200, "Episodes of a recipe's data set.")
    flags.DEFINE_integer("validation", 20, "Episodes of its validation file.")
    flags.mark_flags_as_required(["out"])


def main() -> None:
    """Train if needed, then write every file that does not exist yet."""
    out = Path(FLAGS.out)
    if FLAGS.recipe:
        return _by_recipe(out)
    if FLAGS.run:
        kinds = _kinds(buffer.KINDS)
        how = (kinds, FLAGS.rows, FLAGS.seed, print, FLAGS.reference)
        return buffer.record(Path(FLAGS.run), out, *how)
    if not FLAGS.env:
        raise InputError("--env: give a Gymnasium id, or --run the folder of a run")
    kinds = _kinds(behaviour.KINDS)
    if FLAGS.rows < 1 or not 0.0 < FLAGS.medium < 1.0:
        raise InputError("--rows must be at least 1, and --medium lie between 0 and 1")
    training = behaviour.train(_sac(), FLAGS.env, out, FLAGS.seed, FLAGS.eval_episodes)
    known = behaviour.references(training, FLAGS.medium, FLAGS.reference)
    say = partial(print, file=sys.stderr)
    for kind in kinds:
        path = out / f"{kind}.hdf5"
        if path.exists():
            say(f"{path} already exists")
        else:
            behaviour.record(kind, path, training, known, FLAGS.rows, say)
            print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
        if FLAGS.minari:
            _to_minari(f"{FLAGS.minari}/{kind}-v0", path)


def _by_recipe(out: Path) -> None:
    kind, _, name = FLAGS.recipe.partition(":")
    if f"{kind}:" != ogbench.PREFIX:
        raise InputError(f"--recipe: {FLAGS.recipe}; give ogbench: and the name of a data set")
    if FLAGS.env or FLAGS.run:
        raise InputError("--recipe: a recipe has its own environment; leave out --env and --run")
    if min(FLAGS.episodes, FLAGS.validation) < 1 or FLAGS.seed < 0:
        raise InputError("--episodes and --validation must be at least 1, --seed at least 0")
    ogbench_write.record(name, out, FLAGS.episodes, FLAGS.validation, FLAGS.seed, say=print)


def _to_minari(name: str, path: Path) -> None:
    """Write one of the files as a Minari data set, if that does not exist yet."""
    if (minari.root() / name).exists():
        print(f"minari:{name} already exists", file=sys.stderr)
        return
    source = load_source(path)
    kept = source.load().transitions
    write_minari(name, kept, source.env_id, source.reference, f"SAC, {path.stem}")
    print(f"minari:{name}: {plural(len(kept.reward), 'step')}")


def _kinds(known: tuple[str, ...]) -> list[str]:
    kinds = FLAGS.kinds or list(known)
    if unknown := [kind for kind in kinds if kind not in known]:
        raise InputError(f"--kinds: unknown kind {unknown[0]!r}; known: {', '.join(known)}")
    return kinds


def _sac() -> Recipe:
    row = recipe("sac")
    settings = {
        "online.steps": FLAGS.steps,
        "online.eval_every": FLAGS.eval_every,
        "online.random_steps": 5_000,
        "online.replay.capacity": FLAGS.steps,
    }
    for path, value in settings.items():
        row = registry.override(row, path, value)
    return plans.with_settings(row, FLAGS.set)
