"""The scripts of other libraries that `experiments.benchmarks.peers` runs unchanged.

A case is one of our rows and the scripts that train the same algorithm with networks, batch and
candidates of the same sizes. A script's path begins with the name of its repository.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from enoto_jax.cli import plans
from enoto_jax.recipes.recipe import Recipe
from enoto_jax.recipes.table import recipe
from enoto_jax.types import Spec
from experiments.benchmarks.peer_scripts import script

SPEC = Spec(script.OBSERVATIONS, script.ACTIONS)


class Peer(NamedTuple):
    """A script of another library.

    Attributes:
      script: The script's path in the folder of checkouts, its repository first.
      arguments: Its command line; {updates} is the number of updates between two evaluations.
      per_step: Critic updates in what the script counts as one.
    """

    script: str
    arguments: str
    per_step: int = 1


class Case(NamedTuple):
    """What is compared.

    Attributes:
      method: Our row.
      sets: Our settings, as in --set, for sizes in which the scripts differ from the row.
      updates: The number of updates in one measurement.
      peers: The scripts to compare with.
    """

    method: str
    sets: tuple[str, ...]
    updates: int
    peers: tuple[Peer, ...]

    def row(self) -> Recipe:
        """Return our row; its batch of 256 is everyone's."""
        return plans.with_settings(recipe(self.method), self.sets)


_EPOCHS = "--env_name=d --num_updates_on_epoch={updates} --eval_every=1 --eval_episodes=1"
_SCAN = "--eval-interval={updates} --num-updates=1000000000 --eval-final-episodes=0"
_LOOP = "eval_interval={updates} eval_episodes=1 max_steps=1000000000 log_interval=1000000000"
_TORCH = "--device=cpu --buffer_size=100000"
_TORCH_LOOP = f"{_TORCH} --eval_freq={{updates}} --n_episodes=1"
_FLOW = (
    "--env_name=singletask --eval_interval={updates} --eval_episodes=1 --log_interval=1000000000 "
    "--buffer_size=100000 --offline_steps=1000000000"
)
_SMALL = "--agent.actor_hidden_dims=(256,256) --agent.value_hidden_dims=(256,256)"
_OURS_SMALL = "algorithm.hidden=256,256"
_BEST = "--agent.actor_type=best-of-n --agent.actor_num_samples"
_WHOLE = "algorithm.whole_chunks=True"
_QC = "qc/main.py"

CASES = {
    "sac_n": Case(
        "sac_n",
        (),
        40,
        (
            Peer("CORL/algorithms/offline/sac_n.py", f"{_TORCH} {_EPOCHS}"),
            Peer("sac-n-jax/sac_n_jax_flax.py", _EPOCHS),
            Peer("sac-n-jax/sac_n_jax_eqx.py", _EPOCHS),
            Peer("unifloral/algorithms/sac_n.py", _SCAN),
        ),
    ),
    "edac": Case(
        "edac",
        (),
        20,
        (
            Peer("CORL/algorithms/offline/edac.py", f"{_TORCH} {_EPOCHS}"),
            Peer("unifloral/algorithms/edac.py", _SCAN),
        ),
    ),
    "cql, 10 critics, 3 candidates": Case(
        "cql",
        ("algorithm.n=10", "algorithm.candidates=1"),
        20,
        (Peer("unifloral/algorithms/cql.py", _SCAN),),
    ),
    "cql, 2 critics, 30 candidates": Case(
        "cql", (), 20, (Peer("CORL/algorithms/offline/cql.py", _TORCH_LOOP),)
    ),
    "cql, the same with 2 x 256": Case(
        "cql", ("algorithm.hidden=256,256",), 40, (Peer("JAX-CORL/algos/cql.py", _LOOP),)
    ),
    "iql": Case(
        "iql",
        (),
        400,
        (
            Peer("CORL/algorithms/offline/iql.py", _TORCH_LOOP),
            Peer("JAX-CORL/algos/iql.py", f"{_LOOP} layer_norm=false"),
            Peer("unifloral/algorithms/iql.py", _SCAN),
        ),
    ),
    "td3_bc": Case(
        "td3_bc",
        (),
        400,
        (
            Peer("CORL/algorithms/offline/td3_bc.py", _TORCH_LOOP),
            Peer("unifloral/algorithms/td3_bc.py", _SCAN, per_step=2),
        ),
    ),
    "td3_bc, layer norm": Case(
        "td3_bc", ("algorithm.layer_norm=True",), 400, (Peer("JAX-CORL/algos/td3bc.py", _LOOP),)
    ),
    "awac": Case(
        "awac",
        (),
        200,
        (
            Peer(
                "CORL/algorithms/offline/awac.py",
                f"{_TORCH} --eval_frequency={{updates}} --n_test_episodes=1",
            ),
        ),
    ),
    "fql": Case("fql", (), 20, (Peer("fql/main.py", _FLOW),)),
    "fql, 2 x 256": Case("fql", (_OURS_SMALL,), 100, (Peer("fql/main.py", f"{_FLOW} {_SMALL}"),)),
    "qc_fql": Case("qc_fql", (_WHOLE,), 20, (Peer(_QC, _FLOW),)),
    "bfn": Case("bfn", (_WHOLE,), 20, (Peer(_QC, f"{_FLOW} --horizon_length=1 {_BEST}=4"),)),
    "qc, 8 candidates": Case(
        "qc", (_WHOLE, "algorithm.candidates=8"), 20, (Peer(_QC, f"{_FLOW} {_BEST}=8"),)
    ),
    "qc, 2 x 256": Case(
        "qc", (_WHOLE, _OURS_SMALL), 20, (Peer(_QC, f"{_FLOW} {_BEST}=32 {_SMALL}"),)
    ),
}


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process and its ended children, to a clock tick."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
