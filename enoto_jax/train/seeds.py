"""Seeds side by side: vmap inside a device, pmap across devices. pmap is used nowhere else.

Across hosts each runs its own part of the seeds so (see hosts.py).

A function is written for one seed. `SeedMap.compile` turns it into one program for all of them.
Arrays that belong to seeds have a leading S on the host; on P > 1 devices they lie as [P, S / P].
What seeds share (the data set, a step number) lies once per device. A seed's numbers come from its
own seed alone, never from its place in the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from enoto_jax.train import hosts
from enoto_jax.types import Array, Key

# Independent streams of random numbers of one seed.
STREAMS = ("init", "offline", "handover", "online", "act")

UNOPTIMISED = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def stream(seed: Array, name: str) -> Key:
    """The key of one named stream of one seed; fold a step number in before use."""
    return jax.random.fold_in(jax.random.key(seed), STREAMS.index(name))


class SeedMap:
    """Runs functions of one seed for all seeds at once.

    Args:
      seeds: seed numbers [S]; of several hosts each takes its part.
      devices: local devices to spread over; as many as divide a host's seeds are used.

    Attributes:
      all: seed numbers [S].
      seeds: those of this host; wherever arrays have an S, it counts these.
    """

    def __init__(self, seeds: Sequence[int], devices: Sequence[jax.Device] | None = None):
        self.all = np.asarray(seeds, np.int32)
        self.seeds = self.all[hosts.own(self.all)]
        devices = list(devices or jax.local_devices())
        count = max(p for p in range(1, len(devices) + 1) if len(self.seeds) % p == 0)
        self.devices = devices[:count]

    def compile(
        self,
        function: Callable,
        shared: Sequence[int] = (),
        donate: Sequence[int] = (),
        long: bool = False,
        once: bool = False,
    ) -> Callable:
        """One program for all seeds.

        Args:
          function: of one seed; every output gains the seeds' axis.
          shared: positions of the arguments that all seeds share.
          donate: positions of the arguments whose memory is reused for the outputs.
          long: one call is many updates; on a CPU the seeds then run one after the other inside
            the program, because one seed's parameters fit the cache and several seeds' do not.
          once: it is called once; on a CPU, where optimising would take longer than running, it
            is compiled without.
        """
        on_cpu = self.devices[0].platform == "cpu"
        in_turn = long and on_cpu

        def batched(*arguments):
            if in_turn:
                own = {i: x for i, x in enumerate(arguments) if i not in shared}
                return jax.lax.map(
                    lambda one: function(*({**dict(enumerate(arguments)), **one}).values()), own
                )
            axes = [None if i in shared else 0 for i in range(len(arguments))]
            return jax.vmap(function, in_axes=axes)(*arguments)

        if len(self.devices) == 1:
            options = UNOPTIMISED if once and on_cpu else None
            return jax.jit(batched, donate_argnums=tuple(donate), compiler_options=options)
        return jax.pmap(batched, devices=self.devices, donate_argnums=tuple(donate))

    def put(self, tree: Any) -> Any:
        """Host arrays [S, ...] to the devices."""
        count = len(self.devices)
        if count == 1:
            return jax.device_put(tree, self.devices[0])
        split = jax.tree.map(lambda x: np.reshape(x, (count, -1, *np.shape(x)[1:])), tree)
        return jax.device_put(split, self._one_each())

    def share(self, tree: Any) -> Any:
        """Host arrays to every device, once each."""
        if len(self.devices) == 1:
            return jax.device_put(tree, self.devices[0])
        return jax.tree.map(
            lambda x: jax.make_array_from_callback(
                (len(self.devices), *np.shape(x)), self._one_each(), lambda _: np.asarray(x)[None]
            ),
            tree,
        )

    def _one_each(self) -> NamedSharding:
        """The leading axis is spread over the devices, which is how pmap takes its arguments."""
        return NamedSharding(Mesh(np.asarray(self.devices), ("seeds",)), PartitionSpec("seeds"))

    def get(self, tree: Any) -> Any:
        """Device arrays to host arrays [S, ...] of their own memory, safe from donation."""
        return jax.tree.map(lambda x: np.array(self.view(x), copy=True), tree)

    def view(self, array: jax.Array) -> np.ndarray:
        """A device array as [S, ...], on a CPU in the device's own memory: to read at once."""
        host = np.asarray(array)
        return host if len(self.devices) == 1 else host.reshape(-1, *host.shape[2:])
