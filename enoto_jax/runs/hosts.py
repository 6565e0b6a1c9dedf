"""Several processes, mostly one per machine, as one run: who they are, what they tell each other.

Seeds never exchange a number, so every host compiles and runs the program of its own seeds, over
its own devices; together these are a map over all devices. What is written belongs to all seeds:
rows, scores and checkpoints are gathered, byte for byte, and the first host alone writes them. A
run's folder is therefore the one that a single process would have left, any number of hosts can go
on from it, and only the first host's disk matters.

With one process, everything here is the identity. The bytes travel in exchange.py; how a process
ends, or notices that another one is lost, is in watchdog.py.
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

HEARTBEAT_S = 20  # a host that has not been heard of for so long is lost


class Nothing:
    """Stands for what only the first host has: every call does nothing and returns None."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments, **named: None


def join(coordinator: str | None, count: int | None, index: int | None) -> None:
    """Become one of several hosts; before anything else asks JAX for its devices.

    Args:
      coordinator: Host:port of the first host; None: Slurm, Open MPI, Kubernetes or the TPU pod
        say it, or JAX_COORDINATOR_ADDRESS.
      count: How many processes there are; None: likewise, or JAX_NUM_PROCESSES.
      index: Which of them this is, from 0; None: likewise, or JAX_PROCESS_ID.

    Raises:
      InputError: Neither the arguments nor the surroundings say how many hosts there are, or the
        first host does not answer.
    """
    # A lost host must not end this process by an abort in the runtime, but by our own line.
    jax.config.update("jax_enable_recoverability", True)
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM for itself
    try:
        if count is None and "JAX_NUM_PROCESSES" in os.environ:
            count = int(os.environ["JAX_NUM_PROCESSES"])
        if index is None and "JAX_PROCESS_ID" in os.environ:
            index = int(os.environ["JAX_PROCESS_ID"])
        jax.distributed.initialize(coordinator, count, index, heartbeat_timeout_seconds=HEARTBEAT_S)
    except Exception as error:  # of many kinds, from Python and from the runtime
        raise InputError(
            f"--distributed: {error}; start it by srun or on a TPU pod, or give every process "
            "--coordinator=host:port --num_processes and its own --process_id"
        ) from error
    watchdog.start()


def leave(code: int) -> None:
    """End this process, once it has joined others, together with them if they end too.

    After success, or a save, the others wait for the first host to write: were they gone, it would
    take them for lost. It is watched meanwhile.
    """
    if jax.distributed.is_initialized():
        watchdog.leave(code)


def count() -> int:
    """How many processes train this run."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


def first() -> bool:
    """Whether this is the one that writes."""
    return count() == 1 or jax.process_index() == 0


@contextmanager
def quiet():
    """Only the first host talks; whatever goes wrong is raised through this, and told outside."""
    with ExitStack() as stack:
        if not first():
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(redirect_stdout(nowhere))
            stack.enter_context(redirect_stderr(nowhere))
        yield


def own(all_of_them: Sized) -> slice:
    """Which of the seeds (or of anything as long) are this host's.

    Raises:
      InputError: They do not divide evenly.
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
    """The largest of every host's values, place by place."""
    if count() == 1:
        return list(values)
    everyone = exchange(np.asarray(values, np.float64).view(np.uint8))
    return np.max(np.ascontiguousarray(everyone).view(np.float64), axis=0).tolist()


def any_of(wish: bool) -> bool:
    """Whether any host wishes it."""
    return bool(most([wish])[0])


class NowAndThen:
    """Ask all hosts the same question about twice a second, however often it is called.

    They all call it equally often, so they agree on how many calls are answered with no unasked.
    """

    def __init__(self) -> None:
        self._unasked, self._left, self._since = 0, 0, time.monotonic()

    def any_of(self, wish: bool) -> bool:
        """Whether any host wishes it; False where they are not asked this time."""
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
    """Host arrays [own seeds, ...] of every host as [S, ...], on all of them."""
    if count() == 1:
        return tree
    leaves, structure = jax.tree.flatten(jax.tree.map(np.ascontiguousarray, tree))
    each = [from_bytes(part, leaves) for part in gather_bytes(to_bytes(leaves))]
    return jax.tree.unflatten(structure, [np.concatenate(one) for one in zip(*each)])


def scatter(tree: Any) -> Any:
    """The first host's arrays [S, ...] as [own seeds, ...]; the others give shapes for it."""
    if count() == 1:
        return tree
    leaves, structure = jax.tree.flatten(jax.tree.map(np.ascontiguousarray, tree))
    data = to_bytes(leaves)
    broadcast(data)
    return jax.tree.unflatten(structure, [x[own(x)] for x in from_bytes(data, leaves)])


def from_first(function: Callable[[], Any]) -> Any:
    """What it returns on the first host, as JSON has it, on all of them.

    Raises:
      InputError, RunError: On all of them, as on the first.
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
    """What a loop goes on from, of every host's seeds together; packed as JSON has it."""
    position = pack(position)
    return position if count() == 1 else _together(gather_json(position))


def own_position(position: Any) -> Any:
    """The part of this host's seeds of an unpacked position."""
    if count() == 1:
        return position
    if isinstance(position, Mapping):
        return {key: own_position(value) for key, value in position.items()}
    return position[own(position)] if isinstance(position, (list, np.ndarray)) else position


def _together(parts: Sequence[Any]) -> Any:
    """Lists and packed arrays have the seeds as their first axis, numbers are equal everywhere."""
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
