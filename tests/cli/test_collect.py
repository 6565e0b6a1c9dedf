"""`enoto_jax.cli.collect` from training to data sets, on a task that takes seconds."""

import json

import h5py
import numpy as np
import pytest

from enoto_jax import load_source
from enoto_jax.cli import collect, command
from enoto_jax.cli.command import define_only
from enoto_jax.data.write import recording_attributes
from enoto_jax.envs import rollout
from enoto_jax.training import run
from tests.helpers import quick_compiling, successor, tiny

ARGUMENTS = (
    "--env=InvertedPendulum-v5",
    "--seed=1",
    "--steps=60",
    "--eval_every=20",
    "--eval_episodes=2",
    "--rows=120",
    "--set=online.algorithm.hidden=16,16",
    "--set=online.batch_size=16",
    "--set=online.warmup=20",
    "--set=online.random_steps=20",
)
KINDS = ("random", "medium", "expert", "medium-expert", "medium-replay", "full-replay")


def call(*arguments) -> int:
    define_only(collect)
    return command.execute(collect.main, ["enoto_jax.cli.collect", *map(str, arguments)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data sets from a very short training, with medium halfway from random to expert."""
    out = tmp_path_factory.mktemp("collected")
    with quick_compiling():
        assert call(*ARGUMENTS, "--medium=0.5", f"--out={out}") == command.DONE
    return out


def test_every_set_loads_and_names_its_task(folder):
    random, expert = None, None
    known = json.loads((folder / "collect.json").read_text())
    for kind in KINDS:
        source = load_source(folder / f"{kind}.hdf5")
        assert source.env_id == "InvertedPendulum-v5" and source.scored
        random, expert = random or source.reference[0], expert or source.reference[1]
        assert source.reference == (random, expert) and random < expert
        rows = len(source.load())
        replays = {"full-replay": 60, "medium-replay": known["medium_step"]}
        assert rows == {"medium-expert": 240, **replays}.get(kind, 120)


def test_the_behaviour_policy_gave_the_stored_actions_their_density(folder):
    """The weights in the file, applied as in torch, reproduce its log-probabilities."""
    with h5py.File(folder / "expert.hdf5") as file:
        x, actions = file["observations"][:].astype(np.float64), file["actions"][:]
        log_probs, policy = file["infos/action_log_probs"][:], file["metadata/policy"]
        for name in ("fc0", "fc1"):
            x = np.maximum(x @ policy[f"{name}/weight"][:].T + policy[f"{name}/bias"][:], 0.0)
        mean, log_std = (
            x @ policy[f"{name}/weight"][:].T + policy[f"{name}/bias"][:]
            for name in ("last_fc", "last_fc_log_std")
        )
        assert policy["output_distribution"][()] == b"tanh_gaussian"
    u = np.arctanh(actions.astype(np.float64))
    density = -0.5 * ((u - mean) / np.exp(log_std)) ** 2 - log_std - 0.5 * np.log(2 * np.pi)
    expected = np.sum(density - np.log(1.0 - actions.astype(np.float64) ** 2), axis=1)
    inner = (np.abs(actions) < 0.999).all(axis=1)
    assert inner.sum() > 50
    np.testing.assert_allclose(log_probs[inner], expected[inner], atol=2e-3)


def test_positions_are_those_before_the_step(folder):
    """The pendulum's observation begins with the cart's position."""
    with h5py.File(folder / "random.hdf5") as file:
        np.testing.assert_allclose(file["infos/qpos"][:, 0], file["observations"][:, 0], atol=1e-6)


def test_a_second_start_makes_only_what_is_missing(folder):
    """The seed makes it reproducible: the removed file returns with identical data."""
    path, other = folder / "medium.hdf5", folder / "expert.hdf5"
    with h5py.File(path) as file:
        before = {key: file[key][:] for key in ("observations", "actions", "infos/qpos")}
    untouched = other.stat().st_mtime_ns
    path.unlink()
    assert call(*ARGUMENTS, "--medium=0.5", f"--out={folder}") == command.DONE
    with h5py.File(path) as file:
        for key, array in before.items():
            np.testing.assert_array_equal(file[key][:], array)
    assert other.stat().st_mtime_ns == untouched


def test_the_same_sets_for_minari(folder, tmp_path, monkeypatch):
    """The minari package writes them; our reader returns the same transitions, and ENOTO trains."""
    pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    how = ("--medium=0.5", f"--out={folder}", "--kinds=medium,random", "--minari=mine/pendulum")
    for _ in range(2):  # the second time everything exists already
        assert call(*ARGUMENTS, *how) == command.DONE
    source = load_source("minari:mine/pendulum/medium-v0")
    assert (source.env_id, source.scored) == ("InvertedPendulum-v5", True)
    assert source.reference == load_source(folder / "medium.hdf5").reference
    ours = load_source(folder / "medium.hdf5").load().transitions
    for one, two in zip(ours[:6], source.load().transitions[:6]):
        np.testing.assert_allclose(one, two, atol=1e-6)
    with quick_compiling():
        for name in ("enoto_cql", "iql"):
            summary = run.train(tiny(name), source, tmp_path / name, eval_episodes=1)
            assert summary["online"]["handover"]["mean"] is not None


def test_a_run_gives_its_buffer_and_its_policy(folder, tmp_path):
    out = tmp_path / "again"
    assert call(f"--run={folder / 'sac'}", "--rows=50", f"--out={out}") == command.DONE
    replay, policy = (load_source(out / f"{kind}.hdf5").load() for kind in ("replay", "policy"))
    whole = load_source(folder / "full-replay.hdf5").load()
    np.testing.assert_array_equal(
        replay.transitions.observation, whole.transitions.observation[:50]
    )
    assert len(policy) == 50 and np.abs(policy.transitions.action).max() <= 1.0
    source = load_source(out / "policy.hdf5")
    assert not source.scored and "MuJoCo" in source.physics


def test_a_run_gives_its_sets_a_score_only_on_request(folder, tmp_path):
    how = (f"--run={folder / 'sac'}", "--rows=20", "--kinds=replay", f"--out={tmp_path}")
    assert call(*how, "--reference=1000") == command.DONE
    assert load_source(tmp_path / "replay.hdf5").reference[1] == 1000
    assert call(*how, "--reference=-5") == command.BAD_INPUT


def test_a_recording_without_mujoco_names_no_version_of_it():
    about = recording_attributes("Reach-v0", None, 0, {})
    assert "mujoco_version" not in about and not [key for key in about if "score" in key]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--env: give a Gymnasium id"),
        (("--env=Reach-v0", "--kinds=best"), "--kinds: unknown kind 'best'"),
        (("--env=Reach-v0", "--medium=1.5"), "--medium lie between 0 and 1"),
        (("--run=nowhere",), "not a run's folder"),
    ],
)
def test_bad_input_is_one_line(arguments, message, tmp_path, capsys):
    assert call(*arguments, f"--out={tmp_path / 'out'}") == command.BAD_INPUT
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_rollout_is_what_the_environment_does():
    made = rollout.rollout("ReachShort-v0", rollout.uniform(1), 23, seed=0)
    steps = made.transitions
    np.testing.assert_allclose(
        steps.next_observation, successor(steps.observation, steps.action), atol=1e-6
    )
    assert np.flatnonzero(steps.truncated).tolist() == [4, 9, 14, 19]
    sums = [steps.reward[i : i + 5].sum() for i in (0, 5, 10, 15)]
    np.testing.assert_allclose(made.returns, sums, rtol=1e-5)
    assert set(made.infos) == {"action_log_probs"}
    np.testing.assert_allclose(made.infos["action_log_probs"], -np.log(2.0), rtol=1e-6)


def test_a_saved_policy_is_the_network(tmp_path):
    import jax

    from enoto_jax.nets.distributions import TanhNormal
    from enoto_jax.nets.networks import TanhGaussian

    net = TanhGaussian(2, (8, 8), log_std_range=(-1.0, 0.5))
    observation = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    params = net.init(jax.random.key(0), observation)
    made = rollout.NumpyPolicy.from_params(params, (-1.0, 0.5))
    made.save(tmp_path / "policy.npz", mean_return=3.0)
    policy = rollout.NumpyPolicy.load(tmp_path / "policy.npz")
    for one, two in zip(policy.moments(observation), net.apply(params, observation)):
        np.testing.assert_allclose(one, two, atol=1e-6)
    action, log_prob = policy.act(observation, np.random.default_rng(1))
    expected = TanhNormal(*net.apply(params, observation)).log_prob(action)
    np.testing.assert_allclose(log_prob, expected, atol=1e-3)
