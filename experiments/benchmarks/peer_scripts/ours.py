"""Our side of `experiments.benchmarks.peers`: train a row, with the same turns as script.py.

python -m experiments.benchmarks.peer_scripts.ours METHOD SEEDS UPDATES [PATH=VALUE ...]
"""

from __future__ import annotations

import sys

import jax

from enoto_jax.cli import plans
from enoto_jax.recipes.building import build
from enoto_jax.recipes.table import recipe
from enoto_jax.training.seeds import SeedMap, use_cores
from enoto_jax.types import InputError
from experiments.benchmarks import rates
from experiments.benchmarks.peer_scripts import SPEC, script


def main(method: str, seeds: int, updates: int, sets: list[str]) -> None:
    """Train blocks of `updates` updates, for ever.

    Raises:
      InputError: `updates` is not a multiple of the updates in one call of the program.
    """
    turns = script.Turns()
    use_cores(seeds)
    ours = plans.with_settings(recipe(method), sets)
    built, seed_map = build(ours, SPEC), SeedMap(range(seeds))
    run, once, _ = rates.offline_updates(built, ours.offline, seed_map, SPEC, script.ROWS)
    if updates % once:
        raise InputError(f"UPDATES: {updates} is no multiple of {once}")
    while True:
        turns.end()
        turns.begin()
        for _ in range(updates // once):
            done = run()
        jax.block_until_ready(done)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
