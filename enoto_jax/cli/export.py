"""Export a run's policy as one .zip file that runs without the training code.

enoto export runs/hopper --out=hopper.zip
enoto export runs/hopper --out=hopper.zip --which=best --seed=3
enoto export runs/hopper --out=hopper.zip --onnx

The file holds policy.py and its arrays, which need only NumPy; StableHLO for CPU, CUDA and TPU;
about.json with sizes, bounds, score, recipe and versions; and checksums.
"""

from __future__ import annotations

from absl import flags

from enoto_jax.cli.which import Which
from enoto_jax.deploy import export
from enoto_jax.types import InputError

FLAGS = flags.FLAGS


def define() -> None:
    """Define the command's flags."""
    flags.DEFINE_string("run", None, "The run's folder; may be given without the flag.")
    flags.DEFINE_string("out", None, "The .zip file.")
    flags.DEFINE_integer("seed", None, "Which of the run's seeds. Default: its first.")
    flags.DEFINE_flag(Which("Which checkpoint."))
    flags.DEFINE_bool("onnx", False, "Add policy.onnx, by jax2onnx.")


def main() -> None:
    """Write the bundle and say what is in it."""
    if not FLAGS.run or not FLAGS.out:
        raise InputError("give the folder of a run, and --out=NAME.zip")
    about = export.export(FLAGS.run, FLAGS.out, seed=FLAGS.seed, which=FLAGS.which, onnx=FLAGS.onnx)
    print(f"{FLAGS.out}: {about['phase']} step {about['step']:,}, seed {about['seed']}")
    print(f"  {_scored(about['evaluation'])}")
    numpy = about["numpy"]
    if isinstance(numpy, str):
        print(f"  NumPy cannot run it: {numpy}; use its StableHLO")
    else:
        print(f"  NumPy and JAX differ by at most {numpy['largest_difference']:.1e}")
    print(f"  {about['bytes'] / 1e6:.2f} MB in {about['seconds']:.1f} s, {about['content']}")


def _scored(found: dict | None) -> str:
    if found is None:
        return "never evaluated"
    name = "return_mean" if found["score"] is None else "score"
    where = f"{found['phase']} step {found['step']:,}"
    return f"{name.removesuffix('_mean')} {found[name]:.1f} in the evaluation at {where}"
