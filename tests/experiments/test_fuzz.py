"""A short run of the fuzzer: the only outcomes are acceptance and one-line refusals."""

import csv
from collections import Counter

import pytest

from enoto_jax.cli import command
from enoto_jax.cli.command import define_only
from experiments.robustness import fuzz, fuzz_targets

QUICK = ["d4rl", "antmaze", "virtual", "npz", "minari", "evaluations", "bundle"]
QUICK += ["environment", "arrays", "told"]
ROUNDS = 20


def test_data_sets_and_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz_targets, "quiet", None)  # pytest already turns warnings into errors
    fuzz_targets.make_corpus(tmp_path / "corpus", QUICK)
    results = [fuzz.run(tmp_path, 1, i, QUICK) for i in range(ROUNDS * len(QUICK))]
    bad = [result for result in results if result.outcome not in (fuzz.ACCEPTED, fuzz.REFUSED)]
    assert not bad, bad[0]
    counts = Counter(result.outcome for result in results)
    assert min(counts[fuzz.ACCEPTED], counts[fuzz.REFUSED]) > 10, counts


@pytest.mark.parametrize("name", fuzz_targets.TARGETS)
def test_what_is_mutated_is_good_before(tmp_path, name):
    (tmp_path / "input").mkdir()
    fuzz_targets.TARGETS[name].make(tmp_path / "input")
    fuzz_targets.TARGETS[name].use(tmp_path / "input")


def test_the_command_counts(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    define_only(fuzz)
    arguments = ["--cases=6", "--targets=npz,d4rl", "--out=out"]
    assert command.execute(fuzz.main, ["fuzz", *arguments]) == command.DONE
    with open("out/counts.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row["cases"]) for row in rows) == 6
    assert {row["target"] for row in rows} == {"npz", "d4rl"}
    assert command.execute(fuzz.main, ["fuzz", *arguments]) == command.BAD_INPUT
    assert "--out: out already exists" in capsys.readouterr().err


def test_findings_are_seen(tmp_path, monkeypatch):
    """Loaders that fail, refuse in two lines, or read or write outside their folder."""
    fuzz_targets.make_corpus(tmp_path / "corpus", ["npz"])

    def found(use):
        target = fuzz_targets.TARGETS["npz"]._replace(use=use)
        monkeypatch.setitem(fuzz_targets.TARGETS, "npz", target)
        return fuzz.run(tmp_path, 0, found.calls.pop(), ["npz"]).outcome

    found.calls = [3, 2, 1, 0]

    def raises(error):
        def use(folder):
            raise error

        return use

    assert found(raises(KeyError("x"))) == "KeyError"
    assert found(raises(fuzz.InputError("two\nlines"))).startswith("refused in other than one")
    assert found(raises(fuzz_targets.Leaked("read outside"))) == "read outside"
    assert found(lambda folder: (folder.parent / "x").touch()) == "wrote outside"
