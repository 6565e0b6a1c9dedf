"""Amounts as text."""

from enoto_jax.types import plural


def test_amounts_agree_with_their_words():
    assert [plural(n, "row") for n in (0, 1, 2, 1_000)] == [
        "0 rows",
        "1 row",
        "2 rows",
        "1,000 rows",
    ]
    assert plural(1, "row repeats", "rows repeat") == "1 row repeats"
    assert plural(3, "row repeats", "rows repeat") == "3 rows repeat"
