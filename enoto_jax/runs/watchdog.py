"""How one of several hosts ends: together with the others, or because one of them is lost.

What reaches behind JAX's public interface stands here and nowhere else, for these reasons:

* `jax._src.distributed` has the runtime's client. Only it knows which hosts are alive, and a
  barrier that gives up after a time; the public functions wait for a lost host for ever.
* `os._exit`: the runtime's own exit handlers wait for all hosts, and abort where one is missing.
  The exit code would be lost, which schedulers read.
* A SIGABRT handler by ctypes: the runtime aborts from its own C++ threads when the first host is
  gone. A handler of Python's runs in the main thread only, which may be waiting for that host.
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

GRACE_S = 3.0  # for the main thread to end with a line of its own
WRITING_S = 3600.0  # for the first host to write the last checkpoint
AGAIN = "give all hosts the same command again, it goes on from the last checkpoint"

_watching = threading.Event()
_ends_with = 1  # what the runtime's abort becomes


def start() -> None:
    """Watch the other hosts, from a thread, until this process leaves."""
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
        with suppress(Exception):  # the first host answers until the others have heard of it
            if not _first():
                client.key_value_set(f"heard {jax.process_index()}", "")
            for index in range(1, jax.process_count() if _first() else 0):
                client.blocking_key_value_get(f"heard {index}", int(1000 * GRACE_S))
    os._exit(code)  # not even for the exit handlers of the runtime


def _first() -> bool:
    return jax.process_index() == 0


def _watch() -> None:
    """End this process when another one is lost, also while it waits for that one's numbers."""
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
    os._exit(1)  # the main thread may never come back from the exchange that it waits in


def _aborted(number: int) -> None:
    """Without its first host the runtime aborts, whatever it is asked for; end as we do."""
    del number
    if _ends_with == 1:
        _end([0])
    os._exit(_ends_with)  # returning from this handler would go on with the abort


_ABORTED = ctypes.CFUNCTYPE(None, ctypes.c_int)(_aborted)  # kept: C holds no reference to it
