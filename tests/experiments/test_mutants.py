"""The mutations fit the code, and one that no test catches is reported."""

import pytest

from enoto_jax.types import InputError
from experiments.robustness import mutants


def test_each_text_occurs_once_and_changes_something():
    mutants.check(mutants.MUTANTS)
    assert all(mutant.old != mutant.new for mutant in mutants.MUTANTS)
    assert len({mutant.name for mutant in mutants.MUTANTS}) == len(mutants.MUTANTS) == 9


def test_a_text_that_is_gone_is_told():
    gone = mutants.MUTANTS[0]._replace(old="no such line")
    with pytest.raises(
        InputError, match="reward: enoto_jax/algorithms/bellman.py holds the text 0"
    ):
        mutants.check([gone])


def test_a_test_outside_the_fast_tier_is_told():
    slow = mutants.MUTANTS[0]._replace(tests=("tests/training/test_seeds.py",))
    with pytest.raises(InputError, match=r"reward: .* is not in tests/fast\.txt"):
        mutants.check([slow])


def test_survivors_and_victims_are_told_apart(tmp_path, capsys):
    (tmp_path / "code_under_test.py").write_text("def half(x):\n    return x / 2\n")
    (tmp_path / "test_code.py").write_text(
        "import code_under_test as c\n\ndef test_half():\n    assert c.half(4) == 2\n"
    )
    (tmp_path / "setup.cfg").write_text("[tool:pytest]\npythonpath = .\n")
    wrong = mutants.Mutant("h", "wrong", "code_under_test.py", "x / 2", "x / 3", ("test_code.py",))
    assert mutants.caught(tmp_path, wrong)
    assert not mutants.caught(tmp_path, wrong._replace(new="x * 0.5"))
    told = capsys.readouterr().out
    assert "caught   h: wrong (FAILED test_code.py::test_half)" in told and "SURVIVED" in told
