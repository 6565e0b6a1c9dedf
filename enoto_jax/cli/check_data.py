"""Report what is in a data set and what is wrong with it; exit code 0 if it can be used, else 2.

enoto check-data my_robot.hdf5
enoto check-data minari:mujoco/hopper/medium-v0
enoto check-data hopper-medium-v2 --env=Hopper-v4 --out=hopper.png

enoto check-data arm.npz --env=Arm-v0 --action_low=0 --action_high=1

With --env, recorded states and actions are also replayed in that environment, one step each, to
show how much its physics differs from that of the recording. The last line is the verdict.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from enoto_jax.data import check, completed, contents, files, load_source, scaled
from enoto_jax.data.places import split
from enoto_jax.envs.d4rl import parity
from enoto_jax.report.data_picture import picture
from enoto_jax.types import InputError, plural

FLAGS = flags.FLAGS


def define() -> None:
    """Define the command's flags."""
    flags.DEFINE_string("task", None, "As in enoto train; may be given without the flag.")
    flags.DEFINE_string("env", None, "Gymnasium id: compare sizes and replay steps; or none.")
    for end in ("low", "high"):
        text = f"{end.capitalize()}est action in the data's units; or env, for the environment's."
        flags.DEFINE_string(f"action_{end}", None, text)
    flags.DEFINE_bool("table", False, "Print only a Markdown row for each data set.")
    flags.DEFINE_string("out", None, "Folder or .png, .pdf or .svg file for the plot.")


def main() -> None:
    """Print a report of every data set that --task names."""
    parts, bad = split(FLAGS.task), []
    if len(parts) > 1 and FLAGS.out and Path(FLAGS.out).suffix:
        raise InputError(
            f"--out: {FLAGS.out} is one file, but there are {len(parts)} data sets; give a folder"
        )
    for part in parts:
        report = check.inspect(
            part, env_id=FLAGS.env, action_low=FLAGS.action_low, action_high=FLAGS.action_high
        )
        print(contents.table_row(report) if FLAGS.table else "\n  ".join(_lines(report)))
        if not report.usable:
            bad.append(f"{report.name} ({sum(f.error for f in report.findings)})")
    if bad:
        raise InputError(f"not usable (number of errors): {', '.join(bad)}; see the errors above")
    if not FLAGS.table:
        source = completed(load_source(FLAGS.task), FLAGS.env)
        scaled(source, FLAGS.action_low, FLAGS.action_high)  # several must also fit together


def _lines(report: check.Report) -> list[str]:
    lines = [report.name, *contents.lines(report)]
    for finding in sorted(report.findings, key=lambda finding: not finding.error):
        lines.append(f"{'ERROR' if finding.error else 'note'}: {finding.text}")
    source = report.source
    # Only HDF5 files hold simulator states; the replay takes actions as they are recorded.
    hdf5 = source is not None and source.path is not None and source.path.suffix.lower() != ".npz"
    as_recorded = hdf5 and source.action_bounds is None
    if FLAGS.env not in (None, "none") and as_recorded:
        lines += [f"parity: {line}" for line in _replayed(source.path, FLAGS.env)]
    if FLAGS.out and report.arrays:
        lines.append(f"picture: {picture(report, _place(report.name))}")
    return [*lines, report.verdict]


def _place(name: str) -> Path:
    out = Path(FLAGS.out)
    return out if out.suffix else out / f"{name.replace('/', '-')}.png"


def _replayed(path: Path, env_id: str) -> list[str]:
    """Replay the recorded steps; return the one-step errors, one line per group."""
    try:
        with files.guarded(path):
            found = parity.replay(path, env_id)
    except InputError as error:
        return [f"none: {error}"]
    groups = found.groups | ({"reward": found.reward} if found.reward else {})
    skipped = plural(found.skipped, "row without its state", "rows without their state")
    lines = [f"{plural(found.steps, 'step')} replayed in {env_id}, {skipped}"]
    for name, errors in groups.items():
        lines.append(
            f"{name}: error {errors.median:.2g} median, {errors.percentile_90:.2g} 90 %, "
            f"{errors.worst:.2g} worst; change within a step {errors.change:.2g}"
        )
    if found.termination is not None:
        lines.append(f"termination agrees on {found.termination:.1%} of the steps")
    return lines
