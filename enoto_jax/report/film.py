"""Films of policies, side by side, rendered without a screen."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import imageio.v2 as imageio
import mujoco
import numpy as np
from mujoco.rendering.classic import gl_context
from PIL import Image

from enoto_jax.atomic import written_whole
from enoto_jax.data.scores import normalised_score
from enoto_jax.envs.gym import MAX_STEPS, make_env, time_limit
from enoto_jax.report import pictures
from enoto_jax.runs import policies
from enoto_jax.runs.folder import config_of
from enoto_jax.types import InputError

MOMENTS = 6  # of each episode in a picture
# A renderer that fails may end its process, so it is tried in a separate one.
_TRY = (
    "import mujoco; model = mujoco.MjModel.from_xml_string('<mujoco/>'); "
    "r = mujoco.Renderer(model, 16, 16); r.update_scene(mujoco.MjData(model)); r.render()"
)


def use_renderer() -> None:
    """Choose a renderer for MuJoCo that works here, or test the one in MUJOCO_GL if it is set.

    Raises:
      InputError: No renderer works.
    """
    wished = os.environ.get("MUJOCO_GL")
    tried = [wished] if wished else ["egl", "osmesa", "glfw"]
    for name in tried:
        environment = {**os.environ, "MUJOCO_GL": name, "JAX_PLATFORMS": "cpu"}
        with tempfile.TemporaryDirectory() as place:  # MuJoCo writes a log if it fails
            how: dict[str, Any] = {"env": environment, "cwd": place, "capture_output": True}
            done = subprocess.run([sys.executable, "-c", _TRY], **how)
        if done.returncode == 0:
            os.environ["MUJOCO_GL"] = name
            importlib.reload(gl_context)  # it reads the variable when imported
            return
    raise InputError(
        f"no renderer: MuJoCo cannot render here with MUJOCO_GL={' or '.join(tried)}; install "
        "Debian's libegl1 or libosmesa6, or what the machine's graphics card needs"
    )


def before_and_after(
    folder: Path,
    path: Path,
    which: str = "latest",
    seed: int | None = None,
    fps: int = 25,
    height: int | None = None,
    start: int | None = None,
) -> Path:
    """Film an episode of the policy before fine-tuning and one after it, from the same start.

    Args:
      folder: The folder of a run with an online phase.
      path: The film to write, .mp4 or .gif; a .png shows a few moments of each episode.
      which: The policy after fine-tuning, "latest" or "best".
      seed: One of the run's seeds; the first by default.
      fps: Frames per second; the film runs in real time.
      height: Height of each picture in pixels; the environment's own by default.
      start: Seed of the episodes' start state; the run's seed by default.

    Raises:
      InputError: The run or the environment cannot be filmed, or not on this machine.
    """
    _check_writer(path)
    config = config_of(folder)
    seed = config["seeds"][0] if seed is None else seed
    if config["env"] == "none":
        raise InputError(f"{folder}: was trained without an environment to act in")
    shown = [policies.Policy(policies.kept(folder, kind, seed)) for kind in ("handover", which)]
    titles = ("before fine-tuning", f"after {shown[1].step:,} {_UNIT[shown[1].phase]}")
    headline = f"{config.get('method', 'a run')} on {config['task']}, seed {seed}"
    start = seed if start is None else start
    with drawing(config["env"]) as env:
        every = max(1, round(env.metadata.get("render_fps", fps) / fps))
        episodes = [_frames(env, policy, config, start, every, height) for policy in shown]
        if path.suffix == ".png":
            return _write_moments(path, dict(zip(titles, map(list, episodes))), config, headline)
        before, after = (_captioned(*both, config) for both in zip(titles, episodes))
        return _write(path, _side_by_side(list(before), after, headline), fps)


_UNIT = {"offline": "offline updates", "online": "online steps"}


@contextlib.contextmanager
def drawing(env_id: str) -> Iterator[gymnasium.Env]:
    """Make the environment ready to render, with a camera that follows the robot.

    Raises:
      InputError: The environment cannot render, or not on this machine.
    """
    with contextlib.closing(make_env(env_id)) as env:
        if "rgb_array" not in env.metadata.get("render_modes", ()):
            raise InputError(f"{env_id} cannot render images")
        env.reset(seed=0)  # some build their model here
        model = getattr(env.unwrapped, "model", None)
    is_mujoco = isinstance(model, mujoco.MjModel)
    if is_mujoco:
        use_renderer()
    with contextlib.closing(make_env(env_id, render_mode="rgb_array")) as env:
        if is_mujoco:
            inner: Any = env.unwrapped
            if hasattr(inner, "mujoco_renderer"):  # others have a camera of their own
                _aim(inner.mujoco_renderer, inner.model)
        yield env


def _aim(renderer: Any, model: mujoco.MjModel) -> None:
    """Follow the robot with the model's own camera, or else one close to it, with enough light."""
    camera = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, "track")
    if camera >= 0:
        renderer.camera_id = camera
        return
    moving = np.flatnonzero(model.body_weldid[model.geom_bodyid])
    if len(moving):
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        centre = data.geom_xpos[moving].mean(axis=0)
        away = np.linalg.norm(data.geom_xpos[moving] - centre, axis=1) + model.geom_rbound[moving]
        angle = np.radians(model.vis.global_.fovy) / 2
        renderer.camera_id = None  # a number would fix the camera
        renderer.default_cam_config = {
            "type": mujoco.mjtCamera.mjCAMERA_TRACKING,
            "trackbodyid": int(model.geom_bodyid[moving[0]]),
            "distance": 1.3 * away.max() / np.tan(angle),
            "elevation": -15.0,
        }
    if not model.nlight:
        model.vis.headlight.ambient[:], model.vis.headlight.diffuse[:] = 0.3, 0.7


class Frame(NamedTuple):
    """A picture of an episode, the return so far, the steps done, and whether it has ended."""

    picture: Image.Image
    total: float
    step: int
    ended: bool

    def caption(self, title: str, config: Mapping) -> str:
        amount = f"return {self.total:.0f}"
        if config.get("reference") is not None:
            amount += f", score {normalised_score(self.total, config['reference']):.1f}"
        return f"{title}: {amount}, step {self.step:,}{', ended' * self.ended}"


def _frames(
    env: gymnasium.Env,
    policy: policies.Policy,
    config: Mapping,
    start: int,
    every: int,
    height: int | None,
) -> Iterator[Frame]:
    """Yield every `every`-th frame of one episode, and its last one."""
    observation, _ = env.reset(seed=start)
    limit = config.get("eval_max_steps") or time_limit(env) or MAX_STEPS
    total, steps, ended = 0.0, 0, False
    waiting: list[np.ndarray] = []  # the rest of an action chunk
    while True:
        if steps % every == 0 or ended:
            yield Frame(_picture(env, height), total, steps, ended)
        if ended:
            return
        waiting = waiting or list(policy.actions(observation))
        observation, reward, terminated, truncated, _ = env.step(waiting.pop(0))
        total, steps = total + float(reward), steps + 1
        ended = terminated or truncated or steps >= limit


def _captioned(title: str, frames: Iterable[Frame], config: Mapping) -> Iterator[Image.Image]:
    for frame in frames:
        yield pictures.captioned(frame.picture, frame.caption(title, config))


def _write_moments(
    path: Path, episodes: Mapping[str, Sequence[Frame]], config: Mapping, headline: str
) -> Path:
    """Write a picture with a row of moments for each episode, from its start to its end."""
    rows = {}
    for title, frames in episodes.items():
        shown = np.linspace(0, len(frames) - 1, MOMENTS).round().astype(int)
        moments = [pictures.captioned(frames[i].picture, f"step {frames[i].step:,}") for i in shown]
        rows[frames[-1].caption(title, config)] = moments
    try:
        with written_whole(path) as part:
            pictures.stacked(rows, headline).save(part, "PNG")
    except OSError as error:
        raise InputError(f"--out: {path}: cannot be written: {error}") from error
    return path


def _side_by_side(
    left: Sequence[Image.Image], right: Iterable[Image.Image], headline: str
) -> Iterator[np.ndarray]:
    """Both films below a headline; the shorter one keeps showing its last picture."""
    shown = [left[0], left[0]]
    for pair in itertools.zip_longest(left, right):
        shown = [new or old for new, old in zip(pair, shown)]
        yield np.asarray(pictures.beside(shown, headline))


def _picture(env: gymnasium.Env, height: int | None) -> Image.Image:
    picture = Image.fromarray(np.asarray(env.render()))
    if height is None:
        return picture
    return picture.resize((round(picture.width * height / picture.height), height))


def _check_writer(path: Path) -> None:
    if path.suffix not in (".mp4", ".gif", ".png"):
        raise InputError(f"--out: {path}: give an .mp4 or a .gif, or a .png for a few moments")
    if path.suffix == ".mp4" and not can_write_mp4():
        raise InputError("--out: an .mp4 needs imageio-ffmpeg: pip install it, or give a .gif")


def can_write_mp4() -> bool:
    """Return whether the package that encodes .mp4 files is installed."""
    try:
        import imageio_ffmpeg  # noqa: F401
    except ImportError:
        return False
    return True


def _write(path: Path, shown: Iterator[np.ndarray], fps: int) -> Path:
    """Write the film, completely or not at all."""
    how: Any = {"duration": 1000 / fps, "loop": 0}
    if path.suffix == ".mp4":
        how = {"fps": fps, "macro_block_size": 2}
    try:
        with written_whole(path) as part, warnings.catch_warnings():
            # imageio starts ffmpeg by a fork, of which JAX warns.
            warnings.filterwarnings("ignore", message=".*os.fork")
            writer = imageio.get_writer(part, **how)
            for picture in shown:
                writer.append_data(picture)
            writer.close()
    except OSError as error:
        raise InputError(f"--out: {path}: cannot be written: {error}") from error
    return path
