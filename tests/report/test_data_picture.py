"""The figure of a data set: bins, axes, and the heat map's shares."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from enoto_jax.data.check import inspect
from enoto_jax.report import data_picture
from enoto_jax.report.data_picture import bins, picture
from enoto_jax.types import InputError
from tests.helpers import reach_data


@pytest.mark.parametrize("values", [[3], [1, 2, 5], [-4, 0], list(range(1, 1001)), [0, 10**6]])
def test_bins_of_counts_lie_between_whole_numbers(values):
    edges, width = bins(np.array(values)), None
    assert ((edges - 0.5) % 1 == 0).all() and len(edges) <= 41
    (width,) = set(np.diff(edges))
    assert width % 1 == 0 and edges[0] < min(values) and edges[-1] == max(values) + 0.5
    assert np.histogram(values, edges)[0].sum() == len(values)


@pytest.mark.parametrize(
    "values", [[0.25], [-1.5, 2.75], [1e30, 3e38], [0.1, np.nextafter(0.1, 1)]]
)
def test_bins_of_numbers_hold_them_all(values):
    edges = bins(np.array(values))
    assert (np.diff(edges) > 0).all()
    assert np.histogram(values, edges)[0].sum() == len(values)


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """drawn(arrays) -> the data set's figure and the path of its file."""

    def drawn(arrays):
        figures = []

        class Kept(Figure):
            def savefig(self, *args, **kwargs):
                figures.append(self)
                super().savefig(*args, **kwargs)

        monkeypatch.setattr(data_picture, "Figure", Kept)
        np.savez(tmp_path / "set.npz", **arrays)
        report = inspect(str(tmp_path / "set.npz"), env_id="none")
        return figures, picture(report, tmp_path / "folder" / "set.png")

    return drawn


def test_axes_are_linear_from_zero_and_the_heat_map_holds_shares(drawn):
    (figure,), path = drawn(reach_data(5))
    assert path.stat().st_size > 10_000
    lengths, returns, rewards, actions, _ = figure.axes
    for axes, count in ((lengths, 5), (returns, 5), (rewards, 100)):
        assert (axes.get_yscale(), axes.get_ylim()[0]) == ("linear", 0)
        assert sum(bar.get_height() for bar in axes.patches) == count
    (bar,) = (bar for bar in lengths.patches if bar.get_height())
    assert bar.get_x() < 20 < bar.get_x() + bar.get_width() == 20.5
    shares = actions.images[0].get_array()
    assert shares.shape == (1, 40)
    np.testing.assert_allclose(shares.sum(), 100)


def test_actions_out_of_bounds_and_numbers_that_are_none_are_drawn(drawn):
    arrays = reach_data(5)
    arrays["actions"][:3] = [[7], [np.nan], [np.inf]]
    arrays["rewards"][0] = np.nan
    (figure,), _ = drawn(arrays)
    lengths, _, rewards, actions, _ = figure.axes
    assert lengths.texts[0].get_text().startswith("not drawn") and not lengths.patches
    assert sum(bar.get_height() for bar in rewards.patches) == 99
    np.testing.assert_allclose(actions.images[0].get_array().sum(), 100)
    assert actions.get_xlim() == (-7, 7)


def test_a_picture_that_cannot_be_written(tmp_path):
    np.savez(tmp_path / "set.npz", **reach_data(2))
    report = inspect(str(tmp_path / "set.npz"), env_id="none")
    with pytest.raises(InputError, match="cannot be written"):
        picture(report, tmp_path / "set.xyz")
