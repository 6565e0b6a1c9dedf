"""Film a run: one episode before fine-tuning and one after, side by side, from the same start.

enoto render runs/hopper
enoto render runs/hopper --fps=50
enoto render runs/hopper --out=hopper.gif --which=best --seed=1
enoto render runs/hopper --out=hopper.png
"""

from __future__ import annotations

import os
from pathlib import Path

from absl import flags

RENDERER = os.environ.pop("MUJOCO_GL", None)  # a bad value would break MuJoCo's import

from enoto_jax.cli.which import Which  # noqa: E402
from enoto_jax.report import film  # noqa: E402
from enoto_jax.types import InputError  # noqa: E402

FLAGS = flags.FLAGS


def define() -> None:
    """Define the command's flags."""
    flags.DEFINE_string("run", None, "The run's folder; may be given without the flag.")
    flags.DEFINE_string(
        "out", None, "The film, .mp4 or .gif, or moments of it, .png. Default: RUN/film."
    )
    flags.DEFINE_integer("seed", None, "Which of the run's seeds acts. Default: its first.")
    flags.DEFINE_integer("start", None, "Seed of the start state. Default: --seed.", lower_bound=0)
    flags.DEFINE_flag(Which("The policy after fine-tuning.", ("latest", "best")))
    flags.DEFINE_integer("fps", 25, "Frames per second.", lower_bound=1)


def main() -> None:
    """Film --run."""
    if FLAGS.run is None:
        raise InputError("--run: give a run's folder")
    if RENDERER:
        os.environ["MUJOCO_GL"] = RENDERER
    folder = Path(FLAGS.run)
    suffix = "mp4" if film.can_write_mp4() else "gif"
    out = Path(FLAGS.out) if FLAGS.out else folder / f"film.{suffix}"
    start = FLAGS.start
    print(film.before_and_after(folder, out, FLAGS.which, FLAGS.seed, FLAGS.fps, start=start))
