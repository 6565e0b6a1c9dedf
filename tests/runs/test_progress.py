"""One line on a terminal, plain lines elsewhere, and estimates of the remaining time."""

import io

import pytest

from enoto_jax.runs import progress
from enoto_jax.runs.timing import Timing


@pytest.fixture
def spent(monkeypatch):
    """A run's timing whose clock, `wall`, returns the `seconds` that tests set."""
    timing = Timing()
    timing.seconds = 0.0
    monkeypatch.setattr(timing, "wall", lambda: timing.seconds)
    monkeypatch.setattr(progress, "monotonic", lambda: timing.seconds)
    return timing


def worked(spent, seconds):
    spent.seconds += seconds
    spent.totals["update_s"] += seconds


class Terminal(io.StringIO):
    def isatty(self):
        return True


def screen(out: io.StringIO) -> list[str]:
    """The lines that a terminal would show; a carriage return restarts the line."""
    lines = out.getvalue().split("\n")
    return [line.rsplit("\r", 1)[-1].replace("\x1b[K", "") for line in lines]


def test_before_the_online_phase_its_length_is_not_known(spent):
    out = io.StringIO()
    bar = progress.Progress("offline", 2000, 0, progress.Clock(spent, 500, last=False), stream=out)
    spent.totals["update_s"] += 5.0
    bar.advance(100)
    said = "offline: about 1 min 35 s left, and 4 evaluations; then the online phase"
    assert out.getvalue().splitlines()[0] == said


def test_off_a_terminal_plain_lines_now_and_then(spent):
    out = io.StringIO()
    bar = progress.Progress("online", 1000, 100, progress.Clock(spent, 1000), stream=out)
    for _ in range(30):  # 30 s, with a line at 10, 20 and 30
        worked(spent, 1.0)
        bar.advance(10)
    bar.note("compiled in 3.2 s")
    bar.score("score 44.6")
    bar.close()
    bar.close()
    estimate, *lines = out.getvalue().splitlines()
    assert estimate == "online: about 80 s left, and 1 evaluation"
    assert lines == [
        "online  20%, 200/1,000 steps, 10/s, 01:20 left, 00:10 elapsed",
        "online  30%, 300/1,000 steps, 10/s, 01:10 left, 00:20 elapsed",
        "online  40%, 400/1,000 steps, 10/s, 01:00 left, 00:30 elapsed",
        "compiled in 3.2 s",
        "online  40%, 400/1,000 steps, 10/s, 01:00 left, 00:30 elapsed, score 44.6",
    ]
    assert "\r" not in out.getvalue()


def test_it_is_written_to_stderr(capsys, spent):
    bar = progress.Progress("offline", 10, 0, progress.Clock(spent, 10))
    bar.score("score 1.0")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "offline   0%, 0/10 updates, ?/s, ? left, 00:00 elapsed, score 1.0\n"


def test_neither_compilation_nor_evaluations_slow_the_rate(spent):
    out = io.StringIO()
    how = progress.Clock(spent, eval_every=500)
    bar = progress.Progress("offline", 2000, 0, how, stream=out)
    spent.totals["compile_s"] += 60.0
    spent.totals["update_s"] += 5.0
    bar.advance(500)
    spent.totals["eval_s"] += 7.0
    spent.seconds = 72.0
    bar.score("score 1.0")
    # 1,500 updates at 100/s, and 3 evaluations of 7 s each.
    assert out.getvalue().splitlines() == [
        "offline: about 15 s left, and 3 evaluations",
        "offline: about 36 s left with 3 evaluations; the whole run takes about 1 min 48 s",
        "offline  25%, 500/2,000 updates, 100/s, 00:36 left, 01:12 elapsed, score 1.0",
    ]


def test_the_online_estimate_waits_for_the_warm_up(spent):
    out = io.StringIO()
    how = progress.Clock(spent, eval_every=1000, steady=101)
    bar = progress.Progress("online", 1000, 0, how, stream=out)
    spent.totals["eval_s"] += 10.0
    bar.score("score 1.0")
    for step in range(1, 302):
        spent.totals["env_s"] += 0.001 if step <= 101 else 0.1  # learning starts after step 101
        bar.advance()
    bar.close()
    first, estimate, last = out.getvalue().splitlines()
    assert "?/s, ? left" in first
    # At step 201 of 1,000, after 100 steps of 0.1 s: 79.9 s and one evaluation.
    assert estimate.startswith("online: about 1 min 30 s left with 1 evaluation; the whole run")
    assert "301/1,000 steps, 10/s, 01:20 left" in last


@pytest.mark.parametrize(
    "columns, shown, lost",
    [
        (100, ["|#", "200/1,000 steps", "10/s", "01:20 left", "elapsed", "score 44.6"], []),
        (80, ["200/1,000 steps", "10/s", "01:20 left", "elapsed", "score 44.6"], ["|"]),
        (40, ["online  20%", "01:20 left", "score 44.6"], ["|", "elapsed", "10/s"]),
        (24, ["online  20%", "score"], ["|", "left"]),
    ],
)
def test_a_narrow_terminal_loses_the_bar_first(spent, monkeypatch, columns, shown, lost):
    monkeypatch.setenv("COLUMNS", str(columns))
    out = Terminal()
    bar = progress.Progress("online", 1000, 100, progress.Clock(spent, 1000), stream=out)
    worked(spent, 10.0)
    bar.advance(100)
    bar.score("score 44.6")
    line = screen(out)[-1]
    assert len(line) < columns
    assert all(text in line for text in shown), line
    assert not any(text in line for text in lost), line
    bar.close()


def test_on_a_terminal_it_is_one_line(spent, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    out = Terminal()
    bar = progress.Progress("offline", 10, 4, progress.Clock(spent, 10), stream=out)
    bar.advance(6)
    bar.score("score 44.6")
    progress.say("stopping after this step")
    out.write("^C")  # as the terminal echoes the keys
    progress.say("again")
    progress.release()
    bar.close()
    said, again, last, rest = screen(out)
    assert (said, again, rest) == ("stopping after this step", "again", "")
    assert last.startswith("offline 100% |####") and "10/10 updates" in last
    progress.say("nothing is overdrawn")
    assert "overdrawn" not in out.getvalue()


def test_durations():
    seconds = (45, 89, 125, 599.4, 720, 3 * 3600 + 1200, 53 * 3600)
    words = ["45 s", "89 s", "2 min 5 s", "9 min 59 s", "12 min", "3 h 20 min", "2 days 5 h"]
    assert [progress.duration(s) for s in seconds] == words
    assert progress.at("offline", 42_000) == "offline update 42,000"
