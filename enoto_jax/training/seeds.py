"""Seeds side by side: vmap on each device, `shard_map` over devices (used nowhere else).

With several hosts, each runs its own part of the seeds (see hosts.py).

A function is written for one seed. `SeedMap.compile` turns it into one program for all of them.
Arrays that belong to seeds have a leading S; each of P devices holds S / P of it. What seeds share
(the data set, a step number) is stored once per device. A seed's numbers depend only on the seed,
never on its place in the batch.

The older `jax.pmap` wraps `shard_map` as of jax 0.10.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from enoto_jax.runs import hosts

SEEDS, EACH = PartitionSpec("seeds"), PartitionSpec()  # one part per device, or all on each

# XLA's YNNPACK kernels multiply a batch of matrices more slowly than its own (docs/performance.md).
OWN_PRODUCTS = {"xla_cpu_experimental_ynn_fusion_type": ""}
UNOPTIMISED = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def use_cores(count: int) -> None:
    """Give JAX on a CPU as many devices as `count` seeds can use, at most one per core.

    Seeds on separate cores are faster than all cores on one seed's small products. Does nothing
    once JAX has created its devices, or if the user has set their number.
    """
    said = jax.config.values["jax_num_cpu_devices"] >= 0
    said = said or "device_count" in os.environ.get("XLA_FLAGS", "")
    if not said:
        with suppress(RuntimeError):
            devices = max(p for p in range(1, cores() + 1) if count % p == 0)
            jax.config.update("jax_num_cpu_devices", devices)


@functools.cache
def _own_products() -> dict[str, Any]:
    """OWN_PRODUCTS, or nothing if this jaxlib does not have the option."""
    with suppress(jax.errors.JaxRuntimeError):
        jax.jit(lambda: 0, compiler_options=OWN_PRODUCTS).lower().compile()
        return OWN_PRODUCTS
    return {}


class SeedMap:
    """Runs functions of one seed for all seeds at once.

    Args:
      seeds: Seed numbers [S]; with several hosts, each takes its part.
      devices: Local devices; the largest number of them that divides a host's seeds is used.

    Attributes:
      all: Seed numbers [S].
      seeds: This host's seed numbers; wherever arrays have an S, it counts these.
    """

    def __init__(self, seeds: Sequence[int], devices: Sequence[jax.Device] | None = None):
        self.all = np.asarray(seeds, np.int32)
        self.seeds = self.all[hosts.own(self.all)]
        devices = list(devices or jax.local_devices())
        count = max(p for p in range(1, len(devices) + 1) if len(self.seeds) % p == 0)
        self.devices = devices[:count]

    @property
    def on_cpu(self) -> bool:
        return self.devices[0].platform == "cpu"

    @functools.cached_property
    def _mesh(self) -> Mesh | None:
        return Mesh(np.asarray(self.devices), ("seeds",)) if len(self.devices) > 1 else None

    def _compiler_options(self, once: bool) -> dict[str, Any]:
        return _own_products() | (UNOPTIMISED if once else {}) if self.on_cpu else {}

    def compile(
        self,
        function: Callable,
        shared: Sequence[int] = (),
        donate: Sequence[int] = (),
        long: bool = False,
        once: bool = False,
    ) -> Callable:
        """Compile one program for all seeds.

        Args:
          function: A function of one seed; every output gains the seeds' axis.
          shared: Positions of the arguments that all seeds share.
          donate: Positions of the arguments whose memory is reused for the outputs.
          long: Whether one call does many updates; on a CPU the seeds then run one after the other
            inside the program, because one seed's parameters fit in the cache and those of several
            do not.
          once: Whether it is called only once; on a CPU it is then compiled without optimisation,
            which would take longer than running it.
        """
        in_turn = long and self.on_cpu

        def batched(*arguments):
            if in_turn:
                own = {i: x for i, x in enumerate(arguments) if i not in shared}
                return jax.lax.map(
                    lambda one: function(*({**dict(enumerate(arguments)), **one}).values()), own
                )
            axes = [None if i in shared else 0 for i in range(len(arguments))]
            return jax.vmap(function, in_axes=axes)(*arguments)

        compiler_options = self._compiler_options(once)
        options: dict[str, Any] = {
            "donate_argnums": tuple(donate),
            "compiler_options": compiler_options,
        }
        if self._mesh is None:
            return jax.jit(batched, **options)

        def spread(*arguments):
            specs = tuple(EACH if i in shared else SEEDS for i in range(len(arguments)))
            # Nothing crosses devices, so there is no variation over them to check.
            return jax.shard_map(
                batched, mesh=self._mesh, in_specs=specs, out_specs=SEEDS, check_vma=False
            )(*arguments)

        return jax.jit(spread, **options)

    def put(self, tree: Any) -> Any:
        """Copy host arrays [S, ...] to the devices."""
        return jax.device_put(tree, self._place(SEEDS))

    def share(self, tree: Any) -> Any:
        """Copy host arrays to every device, once each."""
        return jax.device_put(tree, self._place(EACH))

    def _place(self, spec: PartitionSpec) -> jax.Device | NamedSharding:
        return self.devices[0] if self._mesh is None else NamedSharding(self._mesh, spec)

    def get(self, tree: Any) -> Any:
        """Copy device arrays to host arrays [S, ...] of their own memory, safe from donation."""
        return jax.tree.map(lambda x: np.array(x, copy=True), tree)
