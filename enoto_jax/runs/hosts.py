"""Run several processes, usually one per machine, as one run: their identity and communication.

Seeds never exchange a number, so every host compiles and runs the program of its own seeds on its
own devices; together these form a map over all devices. Files belong to all seeds: rows, scores and
checkpoints are gathered, byte for byte, and only the first host writes them. A run's folder is
therefore the one that a single process would have written, any number of hosts can resume it, and
only the first host's disk matters.

With one process, everything here is the identity. The transfer of bytes is in exchange.py. How a
process ends, or detects that another one is lost, is in watchdog.py.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence, Sized
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import jax
import numpy as np

from enoto_jax.runs import watchdog
from enoto_jax.runs.exchange import (
    broadcast,
    exchange,
    from_bytes,
    gather_bytes,
    gather_json,
    to_bytes,
)
from enoto_jax.runs.files import plain
from enoto_jax.runs.packing import pack, unpack
from enoto_jax.types import InputError, RunError, plural

HEARTBEAT_S = 20  # a host without a heartbeat for this long is lost


class Nothing:
    """A placeholder for what only the first host has: every call does nothing and returns None."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments, **named: None


def join(coordinator: str | None, count: int | None, index: int | None) -> None:
    """Join a run of several hosts; call it before anything asks JAX for devices.

    Args:
      coordinator: Host:port of the first host; None: as given by Slurm, Open MPI, Kubernetes, the
        TPU pod or JAX_COORDINATOR_ADDRESS.
      count: Number of processes; None: likewise, or JAX_NUM_PROCESSES.
      index: Index of this process, from 0; None: likewise, or JAX_PROCESS_ID.

    Raises:
      InputError: Neither the arguments nor the environment give the number of hosts, or the first
        host does not answer.
    """
    # A lost host must end this process with our own message, not with an abort in the runtime.
    jax.config.update("jax_enable_recoverability", True)
    jax.config.update("jax_enable_preemption_service", False)  # it would handle SIGTERM itself
    try:
        if count is None and "JAX_NUM_PROCESSES" in os.environ:
            count = int(os.environ["JAX_NUM_PROCESSES"])
        if index is None and "JAX_PROCESS_ID" in os.environ:
            index = int(os.environ["JAX_PROCESS_ID"])
        jax.distributed.initialize(coordinator, count, index, heartbeat_timeout_seconds=HEARTBEAT_S)
    except Exception as error:  # of many types, from Python and from the runtime
        raise InputError(
            f"--distributed: {error}; start it by srun or on a TPU pod, or give every process "
            "--coordinator=host:port --num_processes and its own --process_id"
        ) from error
    watchdog.start()


def leave(code: int) -> None:
    """End this process if it has joined others, together with them if they end too.

    After success, or a save, the others wait until the first host has written its files; if they
    left earlier, it would consider them lost. Meanwhile they watch the first host.
    """
    if jax.distributed.is_initialized():
        watchdog.leave(code)


def count() -> int:
    """Return how many processes train this run."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


def first() -> bool:
    """Return whether this is the process that writes."""
    return count() == 1 or jax.process_index() == 0


@contextmanager
def quiet():
    """Silence all hosts but the first inside the block; exceptions pass through."""
    with ExitStack() as stack:
        if not first():
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(redirect_stdout(nowhere))
            stack.enter_context(redirect_stderr(nowhere))
        yield


def own(all_of_them: Sized) -> slice:
    """Return which of the seeds (or of anything with the same length) belong to this host.

    Raises:
      InputError: The seeds do not divide evenly among the hosts.
    """
    each, left = divmod(len(all_of_them), count())
    if left:
        raise InputError(
            f"--seeds: {plural(len(all_of_them), 'seed')} for {count()} hosts; give a multiple of "
            f"{count()}"
        )
    begin = 0 if count() == 1 else each * jax.process_index()
    return slice(begin, begin + each)


def most(values: Sequence[float]) -> list[float]:
    """Return the elementwise maximum of every host's values."""
    if count() == 1:
        return list(values)
    everyone = exchange(np.asarray(values, np.float64).view(np.uint8))
    return np.max(np.ascontiguousarray(everyone).view(np.float64), axis=0).tolist()


def any_of(wish: bool) -> bool:
    """Return whether any host passes True."""
    return bool(most([wish])[0])


class NowAndThen:
    """Ask all hosts a question about twice a second, however often it is called.

    All hosts call it equally often, so they agree on which calls are answered without asking.
    """

    def __init__(self) -> None:
        self._unasked, self._left, self._since = 0, 0, time.monotonic()

    def any_of(self, wish: bool) -> bool:
        """Return whether any host passes True; False if the hosts are not asked this time."""
        if count() == 1:
            return wish
        if self._left > 0:
            self._left -= 1
            return False
        now = time.monotonic()
        each = (now - self._since) / (self._unasked + 1)
        found, each = most([wish, each])
        self._unasked = self._left = min(int(0.5 / max(each, 1e-3)), 2 * self._unasked + 1)
        self._since = now
        return bool(found)


def gather(tree: Any) -> Any:
    """Gather every host's arrays [own seeds, ...] as [S, ...], on all hosts."""
    if count() == 1:
        return tree
    leaves, structure = jax.tree.flatten(jax.tree.map(np.ascontiguousarray, tree))
    each = [from_bytes(part, leaves) for part in gather_bytes(to_bytes(leaves))]
    return jax.tree.unflatten(structure, [np.concatenate(one) for one in zip(*each)])


def scatter(tree: Any) -> Any:
    """Split the first host's arrays [S, ...] into each host's [own seeds, ...].

    The other hosts pass arrays of the same shapes.
    """
    if count() == 1:
        return tree
    leaves, structure = jax.tree.flatten(jax.tree.map(np.ascontiguousarray, tree))
    data = to_bytes(leaves)
    broadcast(data)
    return jax.tree.unflatten(structure, [x[own(x)] for x in from_bytes(data, leaves)])


def from_first(function: Callable[[], Any]) -> Any:
    """Call a function on the first host and return its result, converted to JSON, on all hosts.

    Raises:
      InputError, RunError: The function raised it on the first host; it is raised on all hosts.
    """
    if count() == 1:
        return function()
    answer = {}
    if first():
        try:
            answer = {"value": plain(function())}
        except (InputError, RunError) as error:
            answer = {type(error).__name__: str(error)}
    answer = gather_json(answer)[0]
    for kind in (InputError, RunError):
        if kind.__name__ in answer:
            raise kind(answer[kind.__name__])
    return answer["value"]


def gather_position(position: Any) -> Any:
    """Gather a loop's position over all hosts' seeds, packed for JSON."""
    position = pack(position)
    return position if count() == 1 else _together(gather_json(position))


def own_position(position: Any) -> Any:
    """Return the part of an unpacked position that belongs to this host's seeds."""
    if count() == 1:
        return position
    if isinstance(position, Mapping):
        return {key: own_position(value) for key, value in position.items()}
    return position[own(position)] if isinstance(position, (list, np.ndarray)) else position


def _together(parts: Sequence[Any]) -> Any:
    """Join positions: lists and packed arrays along the seeds' axis, numbers are equal anyway."""
    one = parts[0]
    if any(part is None for part in parts):
        return None
    if isinstance(one, list):
        return [x for part in parts for x in part]
    if not isinstance(one, Mapping):
        return one
    if "base64" in one:
        return pack(np.concatenate([unpack(part) for part in parts]))
    return {key: _together([part[key] for part in parts]) for key in one}
