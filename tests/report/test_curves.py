"""The figures, checked through their Matplotlib artists."""

import itertools
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.collections import FillBetweenPolyCollection

from enoto_jax.report import curves
from enoto_jax.runs.files import EVALUATION_COLUMNS, CsvLog
from enoto_jax.types import InputError

OFFLINE, ONLINE = [0.0, 30.0, 40.0], [40.0, 20.0, 50.0, 60.0]


def rows(seed, offline=OFFLINE, online=ONLINE, every=1000, shift=0.0, score=True):
    return [
        {
            "phase": phase,
            "step": index * every,
            "env_steps": index * every if phase == "online" else 0,
            "seed": seed,
            "return_mean": 10 * (value + shift),
            "return_std": 1.0,
            "score": value + shift if score else None,
            "episodes": 10,
            "wall_s": 1.0,
        }
        for phase, values in (("offline", offline), ("online", online))
        for index, value in enumerate(values)
    ]


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def lines(axes, width):
    return [line.get_ydata() for line in axes.lines if line.get_linewidth() == width]


def bands(axes):
    return [band for band in axes.collections if isinstance(band, FillBetweenPolyCollection)]


MEAN, SEED = 2.2, 0.9  # line widths


def test_curve_of_two_seeds(tmp_path):
    path = tmp_path / "new" / "curve.png"
    figure = curves.curve(rows(0) + rows(1, shift=10.0), path, "enoto_cql on hopper")
    assert is_png(path)
    left, right = figure.axes
    np.testing.assert_allclose(lines(left, MEAN), [[5, 35, 45]])
    np.testing.assert_allclose(lines(right, MEAN), [[45, 25, 55, 65]])
    np.testing.assert_allclose(lines(right, SEED), [ONLINE, np.add(ONLINE, 10)])
    assert left.get_xlabel() == "offline updates"
    assert right.get_xlabel() == "online environment steps"
    assert left.get_ylabel() == "score (0 random, 100 expert)"
    assert left.get_xlim() == (0, 2000) and right.get_xlim() == (0, 3000)
    assert figure.get_suptitle() == "enoto_cql on hopper"
    assert legend(figure) == [
        "mean of 2 seeds",
        "each seed",
        "score at the hand-over",
    ]
    assert not bands(right)
    assert "hand-over" in [line.get_label() for line in right.lines]
    assert "hand-over" in [text.get_text() for text in right.texts]
    for axes in figure.axes:
        dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
        assert [line.get_ydata()[0] for line in dashed] == [45.0]


def test_five_seeds_have_a_band(tmp_path):
    mine = [row for seed in range(5) for row in rows(seed, shift=seed)]
    figure = curves.curve(mine, tmp_path / "a.png")
    assert legend(figure)[:3] == ["mean of 5 seeds", "each seed", "95% t interval of the mean"]
    (band,) = bands(figure.axes[1])
    half = 2.776 * np.sqrt(2.5 / 5)  # shifts 0 to 4 have 4 degrees of freedom
    box = band.get_datalim(figure.axes[1].transData)
    np.testing.assert_allclose(box.intervaly, [22 - half, 62 + half], atol=1e-3)


def test_rates_of_success_have_panels_of_their_own(tmp_path):
    mine = [row | {"success": 0.5} for row in rows(0) + rows(1)]
    mine[1]["success"] = None  # evaluations without a rate are left out
    figure = curves.curve(mine, tmp_path / "a.png")
    assert [axes.get_ylabel() for axes in figure.axes[::2]] == [
        "score (0 random, 100 expert)",
        "success rate",
    ]
    np.testing.assert_array_equal(lines(figure.axes[3], MEAN), [[0.5] * 4])
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "",
        "",
        "offline updates",
        "online environment steps",
    ]


def test_a_rate_of_success_is_drawn_between_0_and_1(tmp_path):
    mine = [row | {"success": float(seed > 0)} for seed in range(5) for row in rows(seed)]
    figure = curves.compare({"iql": [mine]}, tmp_path / "a.png", metric="success")
    assert figure.axes[0].get_ylim() == (-0.03, 1.03)  # unclipped, the interval would reach 1.36


def test_panels_touch_and_share_their_y_axis(tmp_path):
    mine = rows(0, offline=np.arange(101.0), every=1000)  # 100k updates, 3k environment steps
    left, right = curves.curve(mine, tmp_path / "a.png").axes
    first, second = left.get_position(), right.get_position()
    assert first.x1 == pytest.approx(second.x0, abs=1e-3)
    assert first.width / (first.width + second.width) == pytest.approx(0.4, abs=1e-3)
    assert left.get_ylim() == right.get_ylim()


def test_nothing_reaches_over_the_edge_of_the_picture(tmp_path):
    mine = [row for seed in range(5) for row in rows(seed, shift=seed, every=100_000)]
    figure = curves.curve(mine, tmp_path / "a.png", "enoto_cql on hopper-medium-v2")
    tight = figure.get_tightbbox()  # inches
    width, height = figure.get_size_inches()
    assert tight.x0 >= 0 and tight.y0 >= 0 and tight.x1 <= width and tight.y1 <= height


def test_labels_at_the_handover_do_not_touch(tmp_path):
    figure = curves.curve(rows(0, every=100_000), tmp_path / "a.png")
    left, right = figure.axes
    last, first = left.get_xticklabels()[-1], right.get_xticklabels()[0]
    assert (last.get_text(), first.get_text()) == ("200k", "0")
    assert last.get_window_extent().x1 < first.get_window_extent().x0


@pytest.mark.parametrize("every", [500, 30_000, 100_000, 200_000, 450_000])
def test_labels_of_one_axis_do_not_touch(tmp_path, every):
    figure = curves.curve(rows(0, every=every, online=[40.0, 50.0, 60.0]), tmp_path / "a.png")
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
        assert all(one.x1 < next_one.x0 for one, next_one in itertools.pairwise(boxes))


def test_one_seed_has_no_band(tmp_path):
    figure = curves.curve(rows(7), tmp_path / "a.png")
    assert legend(figure) == ["one seed", "score at the hand-over"]
    assert [lines(axes, SEED) for axes in figure.axes] == [[], []]
    assert not any(axes.collections for axes in figure.axes)


def test_without_a_reference_it_is_the_return(tmp_path):
    figure = curves.curve(rows(0, score=False), tmp_path / "a.png")
    assert figure.axes[0].get_ylabel() == "return"
    assert legend(figure)[-1] == "return at the hand-over"
    np.testing.assert_allclose(lines(figure.axes[1], MEAN), [np.multiply(ONLINE, 10)])


@pytest.mark.parametrize(
    ("left_out", "label"),
    [("offline", "online environment steps"), ("online", "offline updates")],
)
def test_a_run_of_one_phase_has_one_panel(tmp_path, left_out, label):
    figure = curves.curve(rows(0, **{left_out: []}) + rows(1, **{left_out: []}), tmp_path / "a.png")
    assert [axes.get_xlabel() for axes in figure.axes] == [label]
    assert "hand-over" not in str(legend(figure))


def test_a_run_stopped_at_the_handover_can_be_drawn(tmp_path):
    figure = curves.curve(rows(0, online=[40.0]), tmp_path / "a.png")
    (mean,) = [line for line in figure.axes[1].lines if line.get_linewidth() == MEAN]
    assert mean.get_marker() == "o"


def test_seeds_are_averaged_up_to_where_the_shortest_ends(tmp_path):
    mine = rows(0) + rows(1, online=ONLINE[:2])
    right = curves.curve(mine, tmp_path / "a.png").axes[1]
    np.testing.assert_allclose(lines(right, MEAN), [[40, 20]])
    assert [len(line) for line in lines(right, SEED)] == [4, 2]


def test_a_folder_gives_its_title(tmp_path):
    CsvLog(tmp_path / "evaluations.csv", EVALUATION_COLUMNS).append(rows(0))
    assert curves.curve(tmp_path, tmp_path / "curve.png").get_suptitle() == ""
    config = {"method": "enoto_cql", "task": "sets/walker2d.hdf5", "env": "Walker2d-v4"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    figure = curves.curve(tmp_path, tmp_path / "curve.png")
    assert figure.get_suptitle() == "enoto_cql on walker2d.hdf5\nWalker2d-v4, seed 0"
    assert is_png(tmp_path / "curve.png")


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        ([3], "seed 3"),
        ([1, 0], "seeds 0 and 1"),
        ([0, 1, 2], "seeds 0 to 2"),
        ([0, 2, 5], "seeds 0, 2 and 5"),
        ([0, 1, 10**30], f"seeds 0, 1 and {10**30}"),
    ],
)
def test_seeds_in_words(seeds, words):
    assert curves.seeds_in_words(seeds) == words


def test_names_that_no_font_has_are_drawn(tmp_path):
    """Control characters have no glyph, and a dollar sign starts math mode."""
    name = "a\tb$x"
    figure = curves.compare({name: [rows(0)]}, tmp_path / "a.png", "two\nlines\x07")
    assert legend(figure) == [r"a?b\$x (n = 1)"]
    assert figure.get_suptitle() == "two\nlines?"


def test_compare_joins_the_seeds_of_a_methods_runs(tmp_path):
    runs = {
        "enoto_cql": [rows(0), rows(0, shift=10.0)],
        "scratch": [rows(0, offline=[], online=[0.0, 30.0], every=2000)],
    }
    figure = curves.compare(runs, tmp_path / "a.png", "hopper")
    (axes,) = figure.axes
    means = lines(axes, MEAN)
    np.testing.assert_allclose(means[0], [45, 25, 55, 65])
    np.testing.assert_allclose(means[1], [0, 30])
    assert not bands(axes)
    np.testing.assert_allclose(lines(axes, SEED), [ONLINE, np.add(ONLINE, 10)])
    assert legend(figure) == ["enoto_cql (n = 2)", "scratch (n = 1)", "each seed"]
    assert len({line.get_color() for line in axes.lines}) == 2
    assert figure.get_suptitle() == "hopper"
    assert is_png(tmp_path / "a.png")


def test_compare_draws_a_band_from_five_seeds(tmp_path):
    many = [row for seed in range(5) for row in rows(seed, shift=seed)]
    figure = curves.compare({"a": [many], "b": [rows(0)]}, tmp_path / "a.png")
    (axes,) = figure.axes
    assert len(bands(axes)) == 1 and lines(axes, SEED) == []
    assert legend(figure) == ["a (n = 5)", "b (n = 1)", curves.BAND]


def test_a_legend_is_no_wider_than_its_figure(tmp_path):
    runs = {f"a method with a rather long name, {i}": [rows(0), rows(1)] for i in range(5)}
    figure = curves.compare(runs, tmp_path / "a.png")
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0.0
    assert box.x1 <= figure.bbox.x1
    assert len(legend(figure)) == 6


def test_compare_meets_runs_evaluated_at_other_steps(tmp_path):
    often, seldom = rows(0, online=[0.0, 10.0, 20.0]), rows(0, online=[0.0, 40.0], every=2000)
    (axes,) = curves.compare({"a": [often, seldom]}, tmp_path / "a.png").axes
    np.testing.assert_allclose(lines(axes, MEAN), [[0, 15, 30]])  # seldom is 20 at step 1000


def test_compare_can_show_the_offline_phases(tmp_path):
    runs = {"a": [rows(0)], "scratch": [rows(0, offline=[])]}
    left, right = curves.compare(runs, tmp_path / "a.png", offline=True).axes
    assert len(lines(left, MEAN)) == 1
    assert len(lines(right, MEAN)) == 2


def test_compare_does_not_mix_scores_with_returns(tmp_path):
    runs = {"a": [rows(0)], "b": [rows(0, score=False)]}
    (axes,) = curves.compare(runs, tmp_path / "a.png").axes
    assert axes.get_ylabel() == "return"
    np.testing.assert_allclose(lines(axes, MEAN), [np.multiply(ONLINE, 10)] * 2)


def test_compare_tells_many_methods_apart(tmp_path):
    runs = {f"method {index}": [rows(0, shift=index)] for index in range(9)}
    (axes,) = curves.compare(runs, tmp_path / "a.png").axes
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines}) == 9


@pytest.mark.parametrize("runs", [{}, {"cql": [rows(0, online=[])]}, {"cql": []}])
def test_compare_without_anything_online_is_refused(tmp_path, runs):
    with pytest.raises(InputError, match="has no online evaluation"):
        curves.compare(runs, tmp_path / "a.png")


def test_the_callers_matplotlib_is_left_alone(tmp_path):
    script = (
        "import json, sys, matplotlib\n"
        "before = matplotlib.rcParams.copy()  # dict() would ask for a backend\n"
        "from enoto_jax.report import curves\n"
        "curves.curve(json.loads(sys.argv[1]), sys.argv[2])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert matplotlib.rcParams.copy() == before\n"
    )
    command = [sys.executable, "-c", script, json.dumps(rows(0)), str(tmp_path / "a.png")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
