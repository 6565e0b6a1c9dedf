"""What a resumed run keeps of its best policies."""

import numpy as np
import pytest

from enoto_jax.runs.saving import Saving
from enoto_jax.runs.timing import Timing
from enoto_jax.transforms import transform
from enoto_jax.types import Spec


def state():
    return {"x": np.zeros((1, 3), np.float32)}


@pytest.fixture
def start(tmp_path):
    """start() -> a new process's Saving, and the step that it resumes from; None without one."""
    made = []

    def start():
        if made:
            made[-1].checkpoints.close()
        made.append(Saving(tmp_path, 0, transform()(Spec(2, 1), None), Timing()))
        saved = made[-1].resume(lambda record: state(), lambda phase, step: None)
        return made[-1], saved and saved.place.step

    yield start
    made[-1].checkpoints.close()


def best(saving):
    saving.checkpoints.wait()
    record = saving.checkpoints.record("best")
    return record["step"], record["mean"]


def test_bests_that_a_resume_removes_do_not_push_out_the_one_before(start):
    saving, _ = start()
    for step, mean in ((10, 50.0), (20, 51.0)):
        saving.save_best("online", step, state, "score", mean)
    saving.save("online", 25, state(), {})
    for step, mean in ((30, 52.0), (40, 53.0), (50, 54.0)):
        saving.save_best("online", step, state, "score", mean)
    assert best(saving) == (50, 54.0)
    saving, step = start()  # killed before it was saved again
    assert step == 25 and best(saving) == (20, 51.0)
    saving.save_best("online", 30, state, "score", 50.5)
    assert best(saving) == (20, 51.0)


def test_a_damaged_best_gives_way_to_the_one_before(start, tmp_path, capsys):
    saving, _ = start()
    for step in (10, 20):
        saving.save_best("online", step, state, "score", step)
        saving.save("online", step + 5, state(), {})
    saving.checkpoints.wait()
    damaged = tmp_path / "checkpoints" / "best" / "21"
    record = damaged / "record" / "metadata"
    record.write_bytes(record.read_bytes()[:10])
    saving, step = start()
    assert step == 25 and best(saving) == (10, 10)
    told = capsys.readouterr().err
    assert told.startswith(f"{damaged} is damaged, moved aside: ") and told.count("\n") == 1
