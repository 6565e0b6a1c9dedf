"""Break the algorithm on purpose, one line at a time, and see whether the fast tests notice.

python -m experiments.robustness.mutants
python -m experiments.robustness.mutants --only=reward,ring

Each mutation replaces one text of one file in a copy of the tree, and runs there the tests of
`make test-fast` that should catch it. The exit code is 1 if a mutation survives. The texts are
checked first: each must occur exactly once.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from absl import flags

from enoto_jax.cli import command
from enoto_jax.types import InputError, RunError

FLAGS = flags.FLAGS
ROOT = Path(__file__).resolve().parents[2]
FAST = "tests/fast.txt"  # what `make test-fast` runs, one file or folder per line
COPIED = ("enoto_jax", "tests", "experiments", "setup.cfg", "pyproject.toml", "requirements.txt")
FAILED = 1  # pytest's exit code for tests that fail; others are its own errors


class Mutant(NamedTuple):
    """One mistake.

    Attributes:
      name: Short name, for --only.
      about: What the mistake is.
      path: The file of the package.
      old: The text to replace, which occurs once.
      new: The replacement.
      tests: The tests of the fast tier that should catch it.
    """

    name: str
    about: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTANTS = (
    Mutant(
        "reward",
        "the Bellman target subtracts the reward",
        "enoto_jax/algorithms/bellman.py",
        "return batch.reward + discount *",
        "return -batch.reward + discount *",
        ("tests/algorithms/test_losses.py",),
    ),
    Mutant(
        "done",
        "a time limit cuts the bootstrap",
        "enoto_jax/algorithms/bellman.py",
        "(1.0 - batch.terminated) * value",
        "(1.0 - (batch.terminated | batch.truncated)) * value",
        ("tests/algorithms/test_losses.py",),
    ),
    Mutant(
        "tau",
        "the targets follow at 1 - tau",
        "enoto_jax/core.py",
        "state.targets[name], algorithm.tau)",
        "state.targets[name], 1 - algorithm.tau)",
        ("tests/test_core.py",),
    ),
    Mutant(
        "temperature",
        "the hand-over resets the temperature",
        "enoto_jax/handover.py",
        "        state = offline.replace(**kept, frozen={}, step=jnp.int32(0))\n",
        "        anew = core.init(algorithm, key).params\n"
        '        reset = {k: anew[k] for k in anew if k == "temperature"}\n'
        '        kept["params"] = {**kept["params"], **reset}\n'
        "        state = offline.replace(**kept, frozen={}, step=jnp.int32(0))\n",
        ("tests/test_handover.py",),
    ),
    Mutant(
        "ucb",
        "the upper confidence bound takes the biased deviation",
        "enoto_jax/exploration.py",
        "jnp.std(q, axis=0, ddof=1))]",
        "jnp.std(q, axis=0))]",
        ("tests/test_exploration.py",),
    ),
    Mutant(
        "ring",
        "the ring writes one row too far",
        "enoto_jax/replay/ring.py",
        "x, position % capacity, 0)",
        "x, (position + 1) % capacity, 0)",
        ("tests/replay/test_replay.py",),
    ),
    Mutant(
        "pairs",
        "WeightedMinPair weighs the largest value most",
        "enoto_jax/targets.py",
        "np.arange(n - 1, -1, -1) / (n",
        "np.arange(n) / (n",
        ("tests/test_targets.py",),
    ),
    Mutant(
        "sunrise",
        "SUNRISE's weight lacks its + 0.5",
        "enoto_jax/exploration.py",
        "jax.nn.sigmoid(-self.temperature * spread) + 0.5",
        "jax.nn.sigmoid(-self.temperature * spread)",
        ("tests/test_exploration.py",),
    ),
    Mutant(
        "starts",
        "evaluations around the hand-over begin from different start states",
        "enoto_jax/training/record.py",
        'return HANDOVER if switch else 2 * step + (phase == "online")',
        'return 2 * step + (phase == "online")',
        ("tests/cli/test_whole_run.py",),
    ),
)


def define() -> None:
    """Define the command's flags."""
    flags.DEFINE_list("only", [], "Names of mutations. Default: all of them.")


def main() -> None:
    """Try every mutation in a copy of the tree."""
    if unknown := sorted(set(FLAGS.only) - {m.name for m in MUTANTS}):
        known = ", ".join(m.name for m in MUTANTS)
        raise InputError(f"--only: no {', '.join(unknown)}; known: {known}")
    chosen = [m for m in MUTANTS if not FLAGS.only or m.name in FLAGS.only]
    check(chosen)
    with tempfile.TemporaryDirectory() as place:
        tree = Path(place)
        copy(tree)
        survived = [mutant.name for mutant in chosen if not caught(tree, mutant)]
    if survived:
        raise RunError(f"{', '.join(survived)} survived: a test is missing")


def check(chosen: tuple[Mutant, ...] | list[Mutant]) -> None:
    """Check that each text occurs once, and that its tests belong to the fast tier.

    Raises:
      InputError: A text or a test does not.
    """
    fast = (ROOT / FAST).read_text().split()
    for mutant in chosen:
        count = (ROOT / mutant.path).read_text().count(mutant.old)
        if count != 1:
            raise InputError(
                f"{mutant.name}: {mutant.path} holds the text {count} times, not once; mend "
                "MUTANTS in experiments/robustness/mutants.py"
            )
        for test in mutant.tests:
            if not any(test == own or test.startswith(f"{own}/") for own in fast):
                raise InputError(f"{mutant.name}: {test} is not in {FAST}")


def copy(tree: Path) -> None:
    """Copy what the tests need of the tree, without its history."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "results", "paper")
            shutil.copytree(source, tree / name, ignore=ignored)
        else:
            shutil.copy(source, tree / name)


def caught(tree: Path, mutant: Mutant) -> bool:
    """Return whether the tests fail with the mutation, which is undone afterwards.

    Raises:
      RunError: Pytest could not run them.
    """
    path = tree / mutant.path
    whole = path.read_text()
    path.write_text(whole.replace(mutant.old, mutant.new))
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", "-n", "0", "-x", *mutant.tests],
            cwd=tree,
            capture_output=True,
            text=True,
        )
    finally:
        path.write_text(whole)
    if ran.returncode not in (0, FAILED):
        raise RunError(f"{mutant.name}: pytest did not run: {ran.stdout[-500:]!r}")
    failed = [line for line in ran.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    told = failed[0].split(" - ")[0] if failed else "no test failed"
    outcome = "caught" if ran.returncode == FAILED else "SURVIVED"
    print(f"{outcome:8} {mutant.name}: {mutant.about} ({told})", flush=True)
    return ran.returncode == FAILED


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv))
