"""SIGTERM and SIGINT ask a run to stop; a second one ends the process."""

import signal

import pytest

from tests.helpers import python

SLEEP = """
import time
from enoto_jax.runs.signals import Signals
run = Signals()
run.catch()
print("ready", flush=True)
while not run.stop:
    time.sleep(0.01)
print("saving", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_first_signal_is_answered_and_a_second_stops_at_once(number):
    process = python("-c", SLEEP)
    for word in ("ready", "saving"):
        assert process.stdout.readline() == f"{word}\n"
        process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == -number
    assert err == "stopping after this step; a second signal stops at once\n"
