"""Options that change an ensemble's cost: each can be built, and widths of equal arithmetic."""

import json

import pytest

from enoto_jax.cli import command
from enoto_jax.cli.command import define_only
from enoto_jax.recipes.building import build
from experiments.benchmarks import levers


@pytest.mark.parametrize("name", levers.LEVERS)
def test_every_lever_fits_both_phases(name):
    row = levers._row(levers.LEVERS[name])
    assert build(row, levers.SPEC).offline is not None
    assert row.offline.batch_size == 128


def test_the_width_of_narrower_critics_is_found(capsys):
    define_only(levers)
    arguments = ["levers", "--widths", "--only=critics of 2 x 64", "--json"]
    assert command.execute(levers.main, arguments) == command.DONE
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert line["width"] == 64 and line["width_arithmetic"] == line["arithmetic"]
    assert 0.25 < line["arithmetic"] < 0.5  # the actor keeps its width
