"""The label-by-client picture: what is in it, read back from the figure."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

from tfl_research.report import label_picture


def _drawn(labels, **options):
    ids = [f"c{k}" for k in range(len(labels))]
    return label_picture.draw(np.array(labels), ids, title="own", **options)


def _cells(figure):
    return next(axes for axes in figure.axes if axes.images)


def _names(axis):
    return [text.get_text() for text in axis.get_ticklabels()]


def test_a_small_picture_by_hand():
    # Label 1 never occurs.
    figure = _drawn([[3, 0, 1], [0, 0, 2], [0, 0, 0]], label_names=["no", "?", "yes"])
    cells, top, bars, _ = figure.axes
    shares = cells.images[0].get_array()
    np.testing.assert_allclose(shares[:2], [[0.75, 0.25], [0, 1]])
    assert np.isnan(np.ma.filled(shares[2], np.nan)).all()
    assert _names(cells.xaxis) == ["no", "yes"]
    assert _names(cells.yaxis) == ["c0", "c1", "c2"]
    assert sorted(text.get_text() for text in cells.texts) == ["100%", "25%", "75%"]
    assert [bar.get_height() for bar in top.patches] == pytest.approx([0.5, 0.5])
    assert bars.patches[0].get_data().values.tolist() == [4, 2, 0]
    assert figure.get_suptitle() == "own"


def test_many_clients_are_sorted_and_not_named():
    labels = np.zeros((500, 4), int)
    labels[np.arange(500), np.arange(500) % 4] = 9
    labels[7] = [0, 0, 1, 8]
    labels[8] = 0
    figure = _drawn(labels)
    cells = _cells(figure)
    shares = np.asarray(cells.images[0].get_array())
    tops = np.nanargmax(shares[:-1], axis=1)
    assert (np.diff(tops) >= 0).all()
    assert np.isnan(shares[-1]).all()  # who holds nothing comes last
    assert np.nanmax(shares[-2]) == pytest.approx(8 / 9)  # and the least pure before
    assert cells.get_ylabel() == "clients, sorted by their most frequent label"
    assert not cells.texts


def test_rare_labels_share_a_column():
    labels = np.ones((2, 150), int)
    labels[:, 20:119] = 5
    figure = _drawn(labels)
    shares = np.asarray(_cells(figure).images[0].get_array())
    assert shares.shape == (2, 101)
    # 99 labels of 5, one of 1, and 50 others of 1 in the last column.
    assert shares[0, -1] == pytest.approx(50 / (99 * 5 + 51))
    assert shares.sum(axis=1).tolist() == pytest.approx([1, 1])
    label_picture.draw(labels, ["a", "b"], title="t")
    assert label_picture.shown_labels(labels).tolist() == [0, *range(20, 119)]
    assert label_picture.shown_labels(labels, 3).tolist() == [20, 21, 22]


def test_sizes_that_differ_much_are_on_a_logarithmic_axis():
    axes = _drawn([[1, 0], [0, 100]]).axes[2]
    assert axes.get_xscale() == "log"
    assert _drawn([[1, 0], [0, 40]]).axes[2].get_xscale() == "linear"


def test_names_are_shortened_and_made_visible():
    figure = _drawn([[1, 1, 1, 1]], label_names=[" ", "\n", "$x$", "a" * 30])
    assert _names(_cells(figure).xaxis) == ["␣", "\\n", r"\$x\$", "a" * 17 + "…"]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
@pytest.mark.parametrize("clients", [1, 60])
def test_files_are_written(tmp_path, suffix, clients):
    path = tmp_path / f"picture{suffix}"
    label_picture.write(_drawn([[2, 1]] * clients), path)
    begins = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
    assert path.read_bytes().startswith(begins[suffix])


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match=r"ending in \.png, \.svg, \.pdf, got a\.jpg"):
        label_picture.check_path(pathlib.Path("a.jpg"))
    with pytest.raises(ValueError, match="there is no folder"):
        label_picture.check_path(tmp_path / "none" / "a.png")
    (tmp_path / "b.png").mkdir()
    with pytest.raises(ValueError, match=r"b\.png is a folder"):
        label_picture.check_path(tmp_path / "b.png")
    with pytest.raises(
        ValueError, match=r"no labels to draw in counts of shape \(2, 3\)"
    ):
        _drawn(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="each of the 2 clients, got 1 ids"):
        label_picture.draw(np.ones((2, 2)), ["a"], title="")
