"""End one of several hosts: together with the others, or because one of them is lost.

All code that bypasses JAX's public interface is here, for these reasons:

* `jax._src.distributed` has the runtime's client. Only the client can list the hosts that are alive
  and wait at a barrier with a timeout; the public functions wait for a lost host forever.
* `os._exit`: the runtime's own exit handlers wait for all hosts, and abort if one is missing. The
  exit code, which schedulers read, would be lost.
* A SIGABRT handler through ctypes: the runtime aborts from its own C++ threads when the first host
  is lost. Python's handlers run only in the main thread, which may be waiting for that host.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

import jax
from jax._src import distributed  # see above

GRACE_S = 3.0  # for the main thread to end with its own message
WRITING_S = 3600.0  # for the first host to write the last checkpoint
AGAIN = "repeat the command on all hosts to resume from the last checkpoint"

_watching = threading.Event()
_ends_with = 1  # exit code that replaces the runtime's abort


def start() -> None:
    """Watch the other hosts in a thread until this process leaves."""
    ctypes.CDLL(None).signal(signal.SIGABRT, _ABORTED)
    _watching.set()
    threading.Thread(target=_watch, name="hosts", daemon=True).start()


def leave(code: int) -> None:
    """End this process, together with the others if they end too; see hosts.leave."""
    global _ends_with
    client, ends_well = distributed.global_state.client, code in (0, 75)
    if not ends_well:
        _watching.clear()
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        client.wait_at_barrier("the end", int(1000 * (WRITING_S if ends_well else GRACE_S)))
    except Exception:  # the others may have gone, or may never come
        if ends_well and not _first():
            _end([0])
    else:
        _watching.clear()
        _ends_with = code
        with suppress(Exception):  # the first host stays until the others have heard
            if not _first():
                client.key_value_set(f"heard {jax.process_index()}", "")
            for index in range(1, jax.process_count() if _first() else 0):
                client.blocking_key_value_get(f"heard {index}", int(1000 * GRACE_S))
    os._exit(code)  # without the runtime's exit handlers


def _first() -> bool:
    return jax.process_index() == 0


def _watch() -> None:
    """End this process when another one is lost, even while it waits for data from it."""
    client, everyone = distributed.global_state.client, list(range(jax.process_count()))
    while _watching.is_set():
        try:
            lost = sorted(set(everyone) - set(client.get_live_nodes(everyone)))
        except Exception:  # the first host keeps the list
            lost = [0]
        if lost:
            time.sleep(GRACE_S)
            if _watching.is_set():
                _end(lost)
        time.sleep(1.0)


def _end(lost: Sequence[int]) -> None:
    os.write(2, f"error: host {', '.join(map(str, lost))} is lost; {AGAIN}\n".encode())
    os._exit(1)  # the main thread may wait in an exchange forever


def _aborted(number: int) -> None:
    """Replace the runtime's abort, which follows the loss of the first host, by our own exit."""
    del number
    if _ends_with == 1:
        _end([0])
    os._exit(_ends_with)  # returning from this handler would continue the abort


_ABORTED = ctypes.CFUNCTYPE(None, ctypes.c_int)(_aborted)  # kept: C holds no reference to it
