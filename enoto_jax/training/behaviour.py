"""Record data sets as D4RL did: train SAC, then roll out its policies at several levels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from enoto_jax import core
from enoto_jax.data.loading import from_env
from enoto_jax.data.write import recording_attributes, write_d4rl
from enoto_jax.envs import rollout
from enoto_jax.envs.gym import env_spec, make_env, spec_of
from enoto_jax.recipes.recipe import Recipe
from enoto_jax.report import stats
from enoto_jax.runs import provenance
from enoto_jax.training import run
from enoto_jax.training.buffer import first_rows, first_seed
from enoto_jax.types import InputError, Transition, plural

KINDS = ("random", "medium", "expert", "medium-expert", "medium-replay", "full-replay")
RANDOM_EPISODES = 100


class Training(NamedTuple):
    """A finished training of SAC.

    Attributes:
      folder: The run's folder; `../policies` has every evaluated policy.
      env_id: Gymnasium id.
      candidates: (environment step, mean return) of every evaluation after the first.
      seed: The training seed; the data sets are recorded with later seeds.
    """

    folder: Path
    env_id: str
    candidates: list[tuple[int, float]]
    seed: int


def train(row: Recipe, env_id: str, out: Path, seed: int, eval_episodes: int) -> Training:
    """Train SAC from scratch and keep every evaluated policy; resumes.

    Args:
      row: The recipe for SAC.
      env_id: Gymnasium id.
      out: The folder in which `sac` and `policies` are created.
      seed: The training seed.
      eval_episodes: Episodes per evaluation.

    Raises:
      InputError: The environment cannot be made, or `out` holds another run.
    """
    algorithm: Any = row.online.algorithm
    folder, bounds = out / "sac", algorithm.log_std_range
    (out / "policies").mkdir(parents=True, exist_ok=True)

    def keep(phase: str, step: int, state: core.TrainState, returns: np.ndarray) -> None:
        actor = jax.tree.map(lambda x: x[0], state.params["actor"])
        policy = rollout.NumpyPolicy.from_params(actor, bounds)
        policy.save(_policy(folder, step), mean_return=returns[0].mean())

    run.train(
        row,
        from_env(env_id, env_spec(env_id)),
        folder,
        seeds=[seed],
        eval_episodes=eval_episodes,
        about={"method": "sac"},
        signals=True,
        watch=keep,
        announce=f"training SAC in {env_id}",
    )
    rows = stats.read_evaluations(folder)
    trained = [(r["step"], r["return_mean"]) for r in rows if r["step"] > 0]
    return Training(folder, env_id, trained, seed)


def _policy(folder: Path, step: int) -> Path:
    return folder.parent / "policies" / f"{step}.npz"


def references(training: Training, medium: float, expert: float | None) -> dict[str, Any]:
    """Choose the medium and the expert policy, and measure the random one.

    Args:
      training: The finished training, with its candidate policies.
      medium: The medium policy's return, as a fraction of the way from random's to the expert's, in
        (0, 1).
      expert: The expert's return; None uses that of the best evaluation.

    Returns:
      The returns "random" and "expert" and the steps "medium_step" and "expert_step", which are
      also written to `collect.json`.

    Raises:
      InputError: SAC is no better than random, or no policy reaches the medium return.
    """
    env = make_env(training.env_id)
    size = spec_of(env).action_size
    limit = env.spec.max_episode_steps or 1_000
    env.close()
    made = rollout.rollout(
        training.env_id, rollout.uniform(size), RANDOM_EPISODES * limit // 10, training.seed
    )
    random = float(made.returns.mean())
    best_step, best = max(training.candidates, key=lambda found: found[1])
    expert = best if expert is None else expert
    if expert <= random:
        raise InputError(
            f"--steps: the best return {best:.1f} is not above random's {random:.1f}; train longer"
        )
    wanted = random + medium * (expert - random)
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
    (training.folder.parent / "collect.json").write_text(json.dumps(known, indent=2) + "\n")
    return known


def record(
    kind: str,
    path: Path,
    training: Training,
    known: dict[str, Any],
    rows: int,
    say: Callable[[str], None],
) -> None:
    """Write one data set in D4RL's layout.

    Args:
      kind: One of `KINDS`.
      path: The HDF5 file.
      training: The source of the policies and the replay buffer.
      known: The result of `references`.
      rows: Steps of a rolled-out set; "medium-expert" has twice as many.
      say: Called with a line about each policy's return.
    """
    reference = (known["random"], known["expert"])
    about = recording_attributes(training.env_id, reference, training.seed, provenance.versions())
    if kind.endswith("replay"):
        whole = first_seed(training.folder).buffer
        kept = first_rows(whole, known["medium_step"]) if kind == "medium-replay" else whole
        write_d4rl(path, kept, about, {"metadata/algorithm": "SAC"})
        return
    parts = [_rolled(part, training, known, rows, say) for part in kind.split("-")]
    transitions, infos, metadata = parts[0] if len(parts) == 1 else _joined(*parts)
    write_d4rl(path, transitions, about, {f"infos/{k}": v for k, v in infos.items()} | metadata)


def _joined(first: tuple, second: tuple) -> tuple:
    """Join two sets, without the policies' weights; the step at the joint is marked as a cut."""
    columns = zip(*(made[0][:6] for made in (first, second)), strict=True)
    transitions = Transition._make([*map(np.concatenate, columns), {}])
    cut = len(first[0].reward) - 1
    transitions.truncated[cut] |= not transitions.terminated[cut]
    infos = {k: np.concatenate([value, second[1][k]]) for k, value in first[1].items()}
    return transitions, infos, {}


def _rolled(
    kind: str, training: Training, known: dict[str, Any], rows: int, say: Callable[[str], None]
) -> tuple[Transition, dict[str, np.ndarray], dict[str, Any]]:
    """Roll out the random, medium or expert policy; return transitions, infos and metadata."""
    act: rollout.ActFn
    if kind == "random":
        act, metadata = rollout.uniform(env_spec(training.env_id).action_size), {}
    else:
        step = known[f"{kind}_step"]
        policy = rollout.NumpyPolicy.load(_policy(training.folder, step))
        act, metadata = policy.act, _d4rl_policy(policy, step)
    made = rollout.rollout(training.env_id, act, rows, training.seed + 1 + KINDS.index(kind))
    mean = made.returns.mean() if len(made.returns) else float("nan")
    say(f"{kind}: {plural(len(made.returns), 'whole episode')}, mean return {mean:.1f}")
    return made.transitions, made.infos, metadata


def _d4rl_policy(policy: rollout.NumpyPolicy, step: int) -> dict[str, Any]:
    """The behaviour policy as in D4RL v2's files, with torch's [out, in] weights."""
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
