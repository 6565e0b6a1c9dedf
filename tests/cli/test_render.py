"""Films of a run, and what dashboards receive at its end."""

import signal
import sys
import time
from pathlib import Path

import imageio.v3 as imageio
import jax
import numpy as np
import pytest

from enoto_jax import core, transforms
from enoto_jax.cli import command, render
from enoto_jax.cli.command import define_only
from enoto_jax.recipes import units
from enoto_jax.recipes.building import build
from enoto_jax.report import film
from enoto_jax.report.pictures import BAND, MARGIN
from enoto_jax.runs import dashboards, files, policies
from enoto_jax.runs.checkpoint import Checkpoints
from enoto_jax.runs.streams import stream
from enoto_jax.training import run
from enoto_jax.types import InputError
from tests.helpers import REACH, quick_compiling, reach_source, tiny

SEEDS = (3, 5)
SIGNALS = (signal.SIGINT, signal.SIGTERM)
BEFORE = [signal.getsignal(number) for number in SIGNALS]  # a background process ignores SIGINT
ROW = tiny("cql_to_sac")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with TensorBoard: its folder, and the state and returns of each evaluation."""
    pytest.importorskip("tensorboardX")
    folder, seen = tmp_path_factory.mktemp("runs") / "film", {}

    def watch(phase, step, state, returns):
        seen[phase, step] = (state, returns)

    source = reach_source("ReachDrawn-v0", reference=(-15.0, -3.0))
    about = {"method": "cql_to_sac"}
    with quick_compiling():
        run.train(
            ROW,
            source,
            folder,
            seeds=SEEDS,
            eval_episodes=1,
            watch=watch,
            about=about,
            log=("tensorboard",),
            signals=True,
        )
    return folder, seen


def test_a_finished_run_leaves_signals_to_its_process(finished):
    assert [signal.getsignal(number) for number in SIGNALS] == BEFORE


@pytest.mark.parametrize("which", policies.KINDS)
def test_the_policies_are_those_of_their_evaluations(finished, which):
    folder, seen = finished
    policy = policies.Policy(policies.kept(folder, which, seed=5))
    at = (policy.phase, policy.step)
    if which == "best":
        mean = {step: returns.mean() for step, (_, returns) in seen.items()}
        assert mean[at] == max(mean.values())
    else:
        assert at == (("online", 12) if which == "latest" else ("offline", 20))
    algorithm = getattr(build(ROW, REACH), policy.phase)
    state, _ = seen[at]
    one = jax.tree.map(lambda x: x[1], state)
    observation = np.float32([0.3, -0.4])
    np.testing.assert_allclose(
        policy.act(observation), algorithm.mode(one, observation), rtol=1e-4, atol=1e-6
    )


def test_from_scratch_the_first_policy_is_the_untrained_one(tmp_path, state_of):
    row = tiny("sac")
    algorithm = build(row, REACH).online
    recipe = units.to_json(row)
    config = {"env": "ReachDrawn-v0", "seeds": [4, 7], "restore": None, "recipe": recipe}
    files.write_json(tmp_path / "config.json", config)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    transform = transforms.transform()(REACH, None).to_json()
    about = {"phase": "online", "step": 3, "transform": transform}
    two = jax.tree.map(lambda x: np.stack([x, x]), state_of(algorithm))
    checkpoints.save(4, {"train": two}, about)
    checkpoints.close()
    policy = policies.Policy(policies.kept(tmp_path, "handover", 7))
    assert (policy.phase, policy.step) == ("online", 0)
    state = core.init(algorithm, stream(np.int32(7), "handover"))
    observation = np.float32([0.3, -0.4])
    expected = algorithm.mode(state, observation)
    np.testing.assert_allclose(policy.act(observation), expected, rtol=1e-4, atol=1e-6)


def test_each_episode_has_its_own_title(finished, tmp_path, monkeypatch):
    folder, _ = finished
    texts, captioned = [], film.pictures.captioned
    monkeypatch.setattr(
        film.pictures,
        "captioned",
        lambda picture, text: (texts.append(text), captioned(picture, text))[1],
    )
    film.before_and_after(folder, tmp_path / "film.gif", seed=5)
    for title in ("before fine-tuning", "after 12 online steps"):
        assert sum(text.startswith(f"{title}: return") for text in texts) == 11


def test_a_film_shows_both_episodes(finished, tmp_path, capsys):
    folder, _ = finished
    define_only(render)
    out = tmp_path / "new" / "film.gif"
    arguments = ["render", str(folder), f"--out={out}", "--which=last", "--seed=5", "--fps=25"]
    assert command.execute(render.main, arguments, positional="run") == command.DONE
    assert capsys.readouterr().out == f"{out}\n"
    assert [path.name for path in out.parent.iterdir()] == ["film.gif"]
    pictures = imageio.imread(out)
    # Every second one of steps 0 to 20, because the environment has 50 steps a second.
    assert pictures.shape[0] == 11 and pictures.shape[2] == 2 * 201 + MARGIN
    below = pictures[:, -5].mean(axis=-1)
    left, right = below[:, :201], below[:, -201:]
    assert (left.argmax(axis=1)[0]) == right.argmax(axis=1)[0]  # the same start
    assert all(len(np.unique(side.argmax(axis=1))) > 1 for side in (left, right))  # it moves


def test_a_picture_shows_moments_of_both_episodes(finished, tmp_path):
    folder, _ = finished
    picture = imageio.imread(film.before_and_after(folder, tmp_path / "moments.png", seed=5))
    height, width, _ = picture.shape
    assert width == film.MOMENTS * (201 + MARGIN) - MARGIN
    side = (height - BAND - MARGIN) // 2  # of an episode's row
    rows = [picture[top : top + side] for top in (BAND, BAND + side + MARGIN)]
    starts = [row[2 * BAND :, :201] for row in rows]
    np.testing.assert_array_equal(*starts)
    ends = [row[2 * BAND :, -201:] for row in rows]
    assert all((end != start).any() for start, end in zip(starts, ends))  # both move


def test_a_film_is_cut_where_evaluations_are(finished):
    folder, _ = finished
    config = files.read_config(folder / "config.json") | {"eval_max_steps": 4}
    policy = policies.Policy(policies.kept(folder, "latest", 5))
    with film.drawing("ReachDrawn-v0") as env:
        steps = [frame.step for frame in film._frames(env, policy, config, 5, 2, None)]
    assert steps == [0, 2, 4]


def test_dashboards_have_the_curve_and_the_film(finished):
    folder, _ = finished
    (events,) = (folder / "tensorboard").iterdir()
    found = events.read_bytes()
    assert (folder / "curve.png").read_bytes() in found
    assert (folder / "film.gif").read_bytes() in found


@pytest.mark.filterwarnings("ignore")  # wandb's own warnings
def test_wandb_offline_keeps_scalars_curve_and_film(finished, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    folder, _ = finished
    (sink,) = dashboards.sinks(["wandb"], tmp_path, {"method": "cql"})
    sink.log(4, {"offline/critic/loss": 1.5})
    sink.show("curve", folder / "curve.png")
    sink.show("film", folder / "film.gif")
    sink.close()
    kept = {path.suffix for path in (tmp_path / "wandb").rglob("media/*/*")}
    assert kept == {".png", ".gif"}
    (log,) = (tmp_path / "wandb").rglob("*.wandb")
    ends = time.monotonic() + 60.0  # wandb writes from a process of its own
    while b"offline/critic/loss" not in log.read_bytes():
        assert time.monotonic() < ends
        time.sleep(0.1)


def test_without_a_renderer_the_refusal_is_one_line(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "crayons")
    with pytest.raises(InputError, match="^no renderer: .*MUJOCO_GL=crayons; install") as refusal:
        film.use_renderer()
    assert "\n" not in str(refusal.value)


def test_mujoco_draws_where_there_is_a_renderer(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    try:
        film.use_renderer()
    except InputError as error:
        pytest.skip(str(error))
    with film.drawing("InvertedPendulum-v5") as env:
        env.reset(seed=0)
        assert len(np.unique(env.render())) > 20


@pytest.mark.parametrize(
    "arguments, said",
    [
        ((), "--run"),
        (("{run}", "--seed=4"), "trained seeds [3, 5], not 4"),
        (("{run}", "--out=film.avi"), "an .mp4 or a .gif"),
        (("{run}", "--which=handover"), "one of <latest|best>"),
        (("{run}/nothing",), "config.json"),
    ],
)
def test_bad_input(finished, capsys, arguments, said):
    define_only(render)
    arguments = [a.format(run=finished[0]) for a in arguments]
    code = command.execute(render.main, ["render", *arguments], positional="run")
    error = capsys.readouterr().err
    assert code == command.BAD_INPUT and said in error and error.count("\n") == 1


def test_an_mp4_needs_its_package(finished, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(InputError, match="imageio-ffmpeg"):
        film.before_and_after(finished[0], Path(tmp_path / "film.mp4"))
