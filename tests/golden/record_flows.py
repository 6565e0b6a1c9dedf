"""Record what the authors' FQL and Q-chunking code computes, for tests/algorithms/test_authors.py.

python tests/golden/record_flows.py --fql=CHECKOUT --qc=CHECKOUT

The checkouts are of seohongpark/fql and ColinQiyangLi/qc; the interpreter needs what their agents
import (jax, flax, optax, distrax, ml_collections). Their agents get weights, a batch and noise from
this script, compute in float64, and take two updates. flows.npz then contains, under the name of a
case and with our names of networks and layers: "start", "targets" and "batch"; for each update, the
draws "noise", the losses "loss", the "gradient" of their sum, and afterwards the parameters
"params" and the targets "lagged". Each network is one vector.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from unittest import mock

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

B, D, A, H, K, HIDDEN, RATE = 6, 3, 2, 3, 4, (8, 7), 1e-2
SHARED = {
    "actor_hidden_dims": HIDDEN,
    "value_hidden_dims": HIDDEN,
    "lr": RATE,
    "discount": 0.9,
    "tau": 0.1,
    "flow_steps": 4,
}
BEST = {"actor_type": "best-of-n", "actor_num_samples": K}
# By case: the repository, the agent's module, and its options.
CASES = {
    "fql": ("fql", {"alpha": 1.7}),
    "fql_min": ("fql", {"alpha": 0.3, "q_agg": "min", "normalize_q_loss": True}),
    "qc": ("acfql", {**BEST, "horizon_length": H}),
    "qc_min": ("acfql", {**BEST, "horizon_length": H, "q_agg": "min"}),
    "qc_fql": ("acfql", {"alpha": 1.7, "horizon_length": H}),
    "bfn": ("acfql", {**BEST, "horizon_length": 1}),
    "bfn_n": ("acfql", {**BEST, "horizon_length": H, "action_chunking": False}),
    "fql_n": ("acfql", {"alpha": 1.7, "horizon_length": H, "action_chunking": False}),
}
NETWORKS = {"critic": "critic", "flow": "actor_bc_flow", "actor": "actor_onestep_flow"}
LOSSES = {
    "critic": "critic/critic_loss",
    "flow": "actor/bc_flow_loss",
    "distance": "actor/distill_loss",
    "climb": "actor/q_loss",
}


class Draws:
    """Replacement for jax.random.normal and uniform that records what it returns."""

    def __init__(self, seed: int) -> None:
        self._rng, self.given = np.random.default_rng(seed), []

    def normal(self, key, shape):
        return self._next(self._rng.normal(size=shape))

    def uniform(self, key, shape):
        return self._next(self._rng.uniform(size=shape))

    def _next(self, drawn):
        self.given.append(np.float32(drawn))
        return jax.numpy.asarray(np.float64(self.given[-1]))


def batch_of(chunk: int | None) -> dict[str, np.ndarray]:
    """Return the agents' batch: transitions, or sequences with their sums, masks and validity."""
    rng = np.random.default_rng(1)

    def normal(*shape):
        return np.float64(np.float32(rng.normal(size=shape)))

    lead = (B,) if chunk is None else (B, chunk)
    batch = {
        "observations": normal(B, D),
        "actions": np.clip(normal(*lead, A), -1, 1),
        "rewards": normal(*lead),
        "masks": np.ones(lead),
        "next_observations": normal(*lead, D),
    }
    batch["masks"][1] = 0.0
    if chunk is not None:
        batch["valid"] = np.ones(lead)
        batch["valid"][2, 1:] = batch["valid"][4, 2:] = 0.0
    return batch


def random_tree(tree, seed: int):
    """Return random weights in the tree's shapes, as large as a trained network's."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: np.float64(np.float32(0.5 * rng.normal(size=x.shape))), tree)


def renamed(tree) -> dict:
    """Return a network's parameters under our layer names."""
    (layers,) = tree.values()
    last = max(name for name in layers if name.startswith("Dense"))
    ours = {"Dense": "layer", "LayerNorm": "norm"}

    def rename(name: str) -> str:
        kind, number = name.split("_")
        return "out" if name == last else f"{ours[kind]}_{number}"

    return {rename(name): layer for name, layer in layers.items()}


def flat(prefix: str, tree, which) -> dict[str, np.ndarray]:
    """Return a vector for each network, in the order of `jax.flatten_util.ravel_pytree`."""
    return {
        f"{prefix}/{ours}": np.float32(ravel_pytree(renamed(tree[f"modules_{theirs}"]))[0])
        for ours, theirs in which.items()
    }


def record(module, name: str, options: dict) -> dict[str, np.ndarray]:
    """Return a case's arrays."""
    config = module.get_config()
    config.update({**SHARED, **options})
    chunked = "horizon_length" in config
    batch = batch_of(config["horizon_length"] if chunked else None)
    agent_class = module.ACFQLAgent if chunked else module.FQLAgent
    single = (batch["observations"][0], batch["actions"][0, 0])
    several = (batch["observations"][:1], batch["actions"][:1])
    agent = agent_class.create(0, *(single if chunked else several), config)
    params = random_tree(dict(agent.network.params), 2)
    network = agent.network.replace(params=params, opt_state=agent.network.tx.init(params))
    agent = agent.replace(network=network)
    learning = {
        k: v for k, v in NETWORKS.items() if k != "actor" or not BEST.items() <= options.items()
    }
    target = {"critic": "target_critic"}
    found = {f"{name}/batch/{k}": x for k, x in batch.items()}
    found |= flat(f"{name}/start", params, learning)
    found |= flat(f"{name}/targets", params, target)
    for number in (1, 2):
        prefix, before, draws = f"{name}/{number}", agent, Draws(number)
        with draws_from(draws):
            agent, info = agent.update(batch)
        found |= {f"{prefix}/noise/{i}": x for i, x in enumerate(draws.given)}
        found |= {f"{prefix}/loss/{k}": np.asarray(info[v]) for k, v in LOSSES.items() if v in info}
        with draws_from(Draws(number)):
            grads = jax.grad(lambda p, a=before: a.total_loss(batch, p)[0])(before.network.params)
        found |= flat(f"{prefix}/gradient", grads, learning)
        found |= flat(f"{prefix}/params", agent.network.params, learning)
        found |= flat(f"{prefix}/lagged", agent.network.params, target)
    return found


@contextlib.contextmanager
def draws_from(draws: Draws):
    with (
        jax.disable_jit(),
        mock.patch.object(jax.random, "normal", draws.normal),
        mock.patch.object(jax.random, "uniform", draws.uniform),
    ):
        yield


def agents_of(checkout: Path, name: str):
    """Import a checkout's module, after removing the modules of other checkouts."""
    for loaded in [m for m in sys.modules if m.split(".")[0] in ("agents", "utils")]:
        del sys.modules[loaded]
    sys.path.insert(0, str(checkout))
    try:
        return __import__(f"agents.{name}", fromlist=[name])
    finally:
        sys.path.remove(str(checkout))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fql", type=Path, required=True)
    parser.add_argument("--qc", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("flows.npz"))
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    found = {}
    for agent, checkout in {"fql": args.fql, "acfql": args.qc}.items():
        module = agents_of(checkout, agent)
        for name, (of, options) in CASES.items():
            if of == agent:
                found |= record(module, name, options)
    np.savez_compressed(args.out, **found)
    print(len(found), "arrays,", args.out.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
