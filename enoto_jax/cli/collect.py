"""Record data sets as D4RL did: train SAC, then roll out random, medium and expert policies.

enoto collect --env=Hopper-v4 --out=data/hopper
enoto collect --env=Hopper-v4 --kinds=medium,expert --rows=1000000 --out=data/hopper
enoto collect --run=runs/hopper --kinds=replay --out=data/hopper
enoto collect --recipe=ogbench:cube-single-play-v0 --episodes=100 --out=data

The medium policy is the first whose return is --medium of the way from random to the best
evaluation, or to --reference. The expert is the best policy. A replay set is SAC's own buffer, up
to the medium policy or in full. --recipe records a data set in the way of OGBench instead, with the
scripted oracles of its package, or a planner in point mazes; it is not OGBench's own file.
Repeat the command to resume it; it makes only what is missing.
"""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags

from enoto_jax import core
from enoto_jax.cli import command, plans
from enoto_jax.data import minari, ogbench, ogbench_write
from enoto_jax.data.loading import from_env, load_source
from enoto_jax.data.write import write_d4rl, write_minari
from enoto_jax.envs import rollout
from enoto_jax.envs.gym import env_spec, make_env, spec_of
from enoto_jax.recipes import registry
from enoto_jax.recipes.recipe import build
from enoto_jax.recipes.table import recipe
from enoto_jax.report import stats
from enoto_jax.runs import provenance
from enoto_jax.runs.checkpoint import Checkpoints
from enoto_jax.runs.folder import OWN, config_of
from enoto_jax.runs.templates import abstract, template
from enoto_jax.training import carried, online, run
from enoto_jax.transforms import Transform
from enoto_jax.types import InputError, Transition, plural

FLAGS = flags.FLAGS
GROUPS = {
    "Where data come from": ("env", "run", "steps", "set", "seed"),
    "Which policies": ("medium", "reference", "eval_every", "eval_episodes"),
    "Which data sets": ("kinds", "rows", "out", "minari"),
    "By OGBench's recipe": ("recipe", "episodes", "validation"),
}
KINDS = ("random", "medium", "expert", "medium-expert", "medium-replay", "full-replay")
RANDOM_EPISODES = 100


def define() -> None:
    """The command's flags."""
    flags.DEFINE_string("env", None, "Gymnasium id to train and collect in.")
    flags.DEFINE_string("out", None, "The folder of the training and of the files.")
    flags.DEFINE_string("run", None, "A run to collect from, instead of training.")
    flags.DEFINE_list("kinds", None, f"Which sets: {', '.join(KINDS)}; of a run: replay, policy.")
    flags.DEFINE_integer("rows", 100_000, "Steps in each set that is rolled out.")
    flags.DEFINE_integer("steps", 1_000_000, "Environment steps of SAC's training.")
    flags.DEFINE_integer("eval_every", 5_000, "Steps between candidates for the policies.")
    flags.DEFINE_integer("eval_episodes", 10, "Episodes that evaluate a candidate.")
    flags.DEFINE_integer("seed", 0, "Random seed.")
    flags.DEFINE_string("minari", None, "Also write Minari data sets NAME/KIND-v0.")
    flags.DEFINE_float("medium", 1.0 / 3.0, "Fraction of the way from random to expert.")
    flags.DEFINE_float("reference", None, "The expert's return. Default: the run's best.")
    flags.DEFINE_multi_string("set", [], "path=value of SAC's recipe, as in enoto train.")
    flags.DEFINE_string("recipe", None, "ogbench: and a data set, pointmaze-medium-navigate-v0.")
    flags.DEFINE_integer("episodes", 200, "Episodes of a recipe's data set.")
    flags.DEFINE_integer("validation", 20, "Episodes of its validation file.")
    flags.mark_flags_as_required(["out"])


def main() -> None:
    """Train where needed, then write every file that is not there yet."""
    out = Path(FLAGS.out)
    if FLAGS.recipe:
        return _by_recipe(out)
    if FLAGS.run:
        return from_run(Path(FLAGS.run), out)
    if not FLAGS.env:
        raise InputError("--env: give a Gymnasium id, or --run the folder of a run")
    kinds = _kinds(KINDS)
    if FLAGS.rows < 1 or not 0.0 < FLAGS.medium < 1.0:
        raise InputError("--rows must be at least 1, and --medium lie between 0 and 1")
    training = _train(out)
    known = _references(out, training)
    for kind in kinds:
        path = out / f"{kind}.hdf5"
        if path.exists():
            print(f"{path} already exists", file=sys.stderr)
        else:
            _make(kind, path, training, known)
            print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
        if FLAGS.minari:
            _to_minari(f"{FLAGS.minari}/{kind}-v0", path)


def _by_recipe(out: Path) -> None:
    kind, _, name = FLAGS.recipe.partition(":")
    if f"{kind}:" != ogbench.PREFIX:
        raise InputError(f"--recipe: {FLAGS.recipe}; give ogbench: and the name of a data set")
    if FLAGS.env or FLAGS.run:
        raise InputError("--recipe: it has its own environment; leave out --env and --run")
    if min(FLAGS.episodes, FLAGS.validation) < 1 or FLAGS.seed < 0:
        raise InputError("--episodes and --validation must be at least 1, --seed at least 0")
    ogbench_write.record(name, out, FLAGS.episodes, FLAGS.validation, FLAGS.seed, say=print)


def _to_minari(name: str, path: Path) -> None:
    """One of the files as a Minari data set, if it is not there yet."""
    if (minari.root() / name).exists():
        print(f"minari:{name} already exists", file=sys.stderr)
        return
    source = load_source(path)
    kept = source.load().transitions
    write_minari(name, kept, source.env_id, source.reference, f"SAC, {path.stem}")
    print(f"minari:{name}: {plural(len(kept.reward), 'step')}")


class Training(NamedTuple):
    """A finished training: its folder, environment, and evaluations [(step, return)]."""

    folder: Path
    env_id: str
    candidates: list[tuple[int, float]]


def _kinds(known: tuple[str, ...]) -> list[str]:
    kinds = FLAGS.kinds or list(known)
    if unknown := [kind for kind in kinds if kind not in known]:
        raise InputError(f"--kinds: no {unknown[0]!r}; known: {', '.join(known)}")
    return kinds


def _train(out: Path) -> Training:
    """SAC from scratch, every evaluated policy kept; resumes."""
    source = from_env(FLAGS.env, env_spec(FLAGS.env))
    row = recipe("sac")
    settings = {
        "online.steps": FLAGS.steps,
        "online.eval_every": FLAGS.eval_every,
        "online.random_steps": 5_000,
        "online.replay.capacity": FLAGS.steps,
    }
    for path, value in settings.items():
        row = registry.override(row, path, value)
    row = plans.with_settings(row, FLAGS.set)
    algorithm: Any = row.online.algorithm
    folder, bounds = out / "sac", algorithm.log_std_range
    (out / "policies").mkdir(parents=True, exist_ok=True)

    def keep(phase: str, step: int, state: core.TrainState, returns: np.ndarray) -> None:
        actor = jax.tree.map(lambda x: x[0], state.params["actor"])
        path = out / "policies" / f"{step}.npz"
        policy = rollout.NumpyPolicy.from_params(actor, bounds)
        policy.save(path, mean_return=returns[0].mean())

    run.train(
        row,
        source,
        folder,
        seeds=[FLAGS.seed],
        eval_episodes=FLAGS.eval_episodes,
        about={"method": "sac"},
        signals=True,
        watch=keep,
        announce=f"training SAC in {FLAGS.env}",
    )
    rows = stats.read_evaluations(folder)
    trained = [(r["step"], r["return_mean"]) for r in rows if r["step"] > 0]
    return Training(folder, FLAGS.env, trained)


def _references(out: Path, training: Training) -> dict[str, Any]:
    """Returns of random and expert, and the steps of the chosen policies; kept in collect.json."""
    env = make_env(training.env_id)
    size = spec_of(env).action_size
    limit = env.spec.max_episode_steps or 1_000
    env.close()
    made = rollout.rollout(
        training.env_id, rollout.uniform(size), RANDOM_EPISODES * limit // 10, FLAGS.seed
    )
    random = float(made.returns.mean())
    best_step, best = max(training.candidates, key=lambda found: found[1])
    expert = best if FLAGS.reference is None else FLAGS.reference
    if expert <= random:
        raise InputError(
            f"--steps: the best return {best:.1f} is not above random's {random:.1f}; train longer"
        )
    wanted = random + FLAGS.medium * (expert - random)
    reached = [step for step, value in training.candidates if value >= wanted]
    if not reached:
        raise InputError(
            f"--medium: no policy reached {wanted:.1f} (best {best:.1f}); train longer or lower it"
        )
    known = {
        "random": random,
        "expert": expert,
        "medium_step": reached[0],
        "expert_step": best_step,
    }
    (out / "collect.json").write_text(json.dumps(known, indent=2) + "\n")
    return known


def _make(kind: str, path: Path, training: Training, known: dict[str, Any]) -> None:
    """One file."""
    about = {
        "env_id": training.env_id,
        "ref_min_score": known["random"],
        "ref_max_score": known["expert"],
        "seed": FLAGS.seed,
        **_simulator(),
        "versions": json.dumps(provenance.versions()),
    }
    if kind == "medium-expert":
        parts = [_rolled(part, training, known) for part in ("medium", "expert")]
        made = [(*part, dict(infos)) for part, infos, _ in parts]
        joined = [np.concatenate(x) for x in zip(*(m[:6] for m in made))]
        transitions = Transition._make([*joined, {}])
        # Where the first set's last episode was cut, the data go on elsewhere.
        cut = len(made[0][2]) - 1
        transitions.truncated[cut] |= not transitions.terminated[cut]
        more = {k: np.concatenate([m[-1][k] for m in made]) for k in made[0][-1]}
        write_d4rl(path, transitions, about, {f"infos/{k}": v for k, v in more.items()})
    elif kind.endswith("replay"):
        whole, _ = first_seed(training.folder)
        count = known["medium_step"] if kind == "medium-replay" else len(whole.reward)
        kept = _first(whole, count)
        write_d4rl(path, kept, about, {"metadata/algorithm": "SAC"})
    else:
        transitions, infos, metadata = _rolled(kind, training, known)
        more = {f"infos/{k}": v for k, v in infos.items()}
        write_d4rl(path, transitions, about, {**more, **metadata})


def _simulator() -> dict[str, str]:
    return {f"{name}_version": metadata.version(name) for name in ("mujoco", "gymnasium")}


def _first(transitions: Transition, rows: int) -> Transition:
    return jax.tree.map(lambda x: x[:rows], transitions)


def _rolled(kind: str, training: Training, known: dict[str, Any]) -> tuple:
    """Transitions, infos and metadata of a random, medium or expert roll-out."""
    seed = FLAGS.seed + 1 + KINDS.index(kind)
    act: rollout.ActFn
    if kind == "random":
        act, metadata = rollout.uniform(env_spec(training.env_id).action_size), {}
    else:
        step = known[f"{kind}_step"]
        policy = rollout.NumpyPolicy.load(training.folder.parent / "policies" / f"{step}.npz")
        act, metadata = policy.act, _d4rl_policy(policy, step)
    made = rollout.rollout(training.env_id, act, FLAGS.rows, seed)
    mean = made.returns.mean() if len(made.returns) else float("nan")
    count = plural(len(made.returns), "whole episode")
    print(f"{kind}: {count}, mean return {mean:.1f}", file=sys.stderr)
    return made.transitions, made.infos, metadata


def _d4rl_policy(policy: rollout.NumpyPolicy, step: int) -> dict[str, Any]:
    """The behaviour policy as D4RL v2's files hold it: torch's [out, in] weights."""
    layers = {f"fc{i}": layer for i, layer in enumerate(policy.trunk)}
    layers |= {"last_fc": policy.mean, "last_fc_log_std": policy.log_std}
    found = {f"metadata/policy/{n}/weight": kernel.T for n, (kernel, _) in layers.items()}
    found |= {f"metadata/policy/{n}/bias": bias for n, (_, bias) in layers.items()}
    return {
        **found,
        "metadata/algorithm": "SAC",
        "metadata/iteration": np.int32(step),
        "metadata/policy/nonlinearity": "relu",
        "metadata/policy/output_distribution": "tanh_gaussian",
    }


def from_run(folder: Path, out: Path) -> None:
    """The buffer or the final policy of a run of any row, as a data set."""
    transitions, (config, act) = first_seed(folder)
    env_id = config["env"]
    size = env_spec(env_id).action_size
    random = rollout.rollout(env_id, rollout.uniform(size), 10_000, 0).returns.mean()
    best = max(row["return_mean"] for row in stats.read_evaluations(folder))
    about = {
        "env_id": env_id,
        "ref_min_score": float(random),
        "ref_max_score": float(best),
        "reference": "mean of random episodes; best evaluation of the run",
        "seed": config["seeds"][0],
        **_simulator(),
        "versions": json.dumps(config["versions"]),
    }
    for kind in _kinds(("replay", "policy")):
        if kind == "replay":
            infos: dict[str, np.ndarray] = {}
            kept = _first(transitions, FLAGS.rows)
        else:
            kept, infos, _ = rollout.rollout(env_id, act, FLAGS.rows, FLAGS.seed)
        path = out / f"{kind}.hdf5"
        more = {f"infos/{k}": v for k, v in infos.items()}
        write_d4rl(path, kept, about, {**more, "metadata/algorithm": config.get("method", OWN)})
        rows = plural(len(kept.reward), "row")
        print(f"{path}: {rows}, {path.stat().st_size / 1e6:.2f} MB")


def first_seed(folder: Path) -> tuple[Transition, tuple[dict[str, Any], rollout.ActFn]]:
    """Of a finished run: its first seed's buffer in the world's numbers, config, and policy."""
    config = config_of(folder)
    spec = env_spec(config["env"])
    row = registry.from_json(config["recipe"])
    built = build(row, spec)
    checkpoints = Checkpoints(folder / "checkpoints")
    found = checkpoints.record()
    if found is None or found["phase"] != "online":
        raise InputError(f"--run: {folder} has no checkpoint of an online phase")
    if found["step"] > built.replay.capacity:
        raise InputError(f"--run: {folder} has overwritten its oldest transitions")
    if built.replay.prioritised:
        raise InputError(f"--run: {folder} keeps priorities of its data set; collect is for others")
    if built.online.open_loop is not None and "policy" in _kinds(("replay", "policy")):
        raise InputError(
            f"--run: {folder} acts in chunks; collect its buffer alone with --kinds=replay"
        )
    begin = online.begin(built.online, built.replay, spec, row.online.batch_size)
    shapes = template(lambda: begin(abstract(built.online), np.int32(0)), len(config["seeds"]))
    saved = checkpoints.restore(carried.saved_template(shapes, found["step"]))
    checkpoints.close()
    one = jax.tree.map(lambda x: np.asarray(x)[0], saved)
    transform = Transform.from_json(found["transform"])
    sample = jax.jit(
        lambda state, seed, seen: built.online.act(state, jax.random.key(seed), seen, 1)
    )
    state = jax.device_put(one.train)

    def act(observation, rng):
        seen = np.float32(transform.observation(observation))
        action = sample(state, np.uint32(rng.integers(2**32)), seen)[0]
        return transform.world_action(np.asarray(action)), np.nan

    return transform.world(one.storage.ring), (config, act)


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv))
