"""metrics.csv, read and drawn."""

import numpy as np
import pytest

from enoto_jax.report import metrics
from enoto_jax.runs.files import METRIC_COLUMNS, CsvLog, metric_rows
from enoto_jax.types import InputError


@pytest.fixture
def folder(tmp_path):
    log = CsvLog(tmp_path / "metrics.csv", METRIC_COLUMNS)
    for phase, steps in (("offline", (1000, 2000)), ("online", (0, 500))):
        for step in steps:
            found = {"critic/loss": [step, 2.0 * step], "new/thing": [1.0, 2.0]}
            found = {f"{phase}/{name}": values for name, values in found.items()}
            log.append(metric_rows(step, found, (3, 4)))
    log.append(metric_rows(0, {"online/data/q_mean": [5.0, 6.0]}, (3, 4)))
    return tmp_path


def test_quantities_are_read_in_their_order(folder):
    found = metrics.read(folder)
    assert list(found) == ["data/q_mean", "critic/loss", "new/thing"]
    assert list(found["critic/loss"]) == ["offline", "online"]
    x, y = found["critic/loss"]["offline"][4]
    np.testing.assert_array_equal([x, y], [[1000, 2000], [2000, 4000]])
    both = metrics.joined([found, {"critic/loss": {"offline": {5: (x, y)}}}])
    assert sorted(both["critic/loss"]["offline"]) == [3, 4, 5]


def test_each_has_a_panel_that_explains_it(folder):
    figure = metrics.draw(metrics.read(folder), folder / "a.png", "title")
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[1] == "critic/loss\nthe critics' whole loss, summed over critics"
    assert titles[2] == "new/thing"
    assert figure.get_suptitle() == "title\noffline updates | online environment steps"
    (axes,) = [axes for axes in figure.axes if axes.get_title(loc="left") == titles[1]]
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    assert ticks[0] == "0" and ticks.count("0") == 1
    means = [line for line in axes.lines if line.get_linewidth() == 2.2]
    np.testing.assert_array_equal(means[0].get_ydata(), [1500, 3000])
    edge = means[0].get_xdata()[-1]
    assert means[1].get_xdata()[0] == pytest.approx(edge) == pytest.approx(0.4)  # the hand-over


def test_nothing_reaches_over_the_edge(folder):
    figure = metrics.draw(metrics.read(folder), folder / "a.png", "enoto_cql on hopper\nHopper-v4")
    tight, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert tight.x0 >= 0 and tight.y0 >= 0 and tight.x1 <= width and tight.y1 <= height


def test_a_picture_beside_the_curve(folder):
    assert metrics.picture(folder) == folder / "training.png"
    assert (folder / "training.png").read_bytes().startswith(b"\x89PNG")
    (folder / "metrics.csv").write_text("step,seed,name,value\n")
    assert metrics.picture(folder) is None


def test_a_bad_row_is_named(folder):
    with (folder / "metrics.csv").open("a") as file:
        file.write("x,3,online/critic/loss,1.0\n")
    with pytest.raises(InputError, match=r"metrics\.csv, line 20: invalid literal"):
        metrics.read(folder)
