"""Masks are data: they follow from (seed, epoch, example)."""

import numpy as np
import pytest

from mimzoo.data.random import permutation, uniform
from mimzoo.pretraining import RandomMasking


def test_masks_do_not_depend_on_the_batch():
    masking = RandomMasking(0.75, seed=3)
    whole = masking.draw(np.arange(20), 2, (7, 7), 4)
    np.testing.assert_array_equal(whole[[13, 4]], masking.draw(np.array([13, 4]), 2, (7, 7), 4))


def test_masks_change_with_epoch_example_and_seed():
    masking = RandomMasking(0.6)
    base = masking.draw(np.arange(4), 0, (7, 7), 4)
    assert (base != masking.draw(np.arange(4), 1, (7, 7), 4)).any()
    assert (base[0] != base[1]).any()
    assert (base != RandomMasking(0.6, seed=1).draw(np.arange(4), 0, (7, 7), 4)).any()


@pytest.mark.parametrize(("ratio", "count", "visible"), [(0.75, 196, 49), (0.75, 256, 64)])
def test_published_counts(ratio, count, visible):
    masks = RandomMasking(ratio).draw(np.arange(5), 0, (count, 1), 4)
    assert ((masks == 0).sum(1) == visible).all()


@pytest.mark.parametrize(
    ("grid", "patch", "cells", "hidden"),
    [((48, 48), 4, 36, 22), ((14, 14), 16, 49, 30), ((56, 56), 4, 49, 30)],  # SimMIM's
)
def test_simmim_hides_whole_cells(grid, patch, cells, hidden):
    masking = RandomMasking(0.6, mask_patch_size=32)
    side = 32 // patch
    masks = masking.draw(np.arange(5), 0, grid, patch).reshape(5, grid[0] // side, side, -1, side)
    first = masks[:, :, :1, :, :1]
    assert (masks == first).all()
    assert first[0].size == cells
    assert (first.sum((1, 2, 3, 4)) == hidden).all()
    assert masking.num_hidden(grid, patch) == hidden * side**2


@pytest.mark.parametrize(
    ("cell", "grid", "message"),
    [(6, (8, 8), "multiple of the backbone's patch_size 4"), (32, (12, 8), "does not divide")],
)
def test_cells_that_do_not_fit_are_an_error(cell, grid, message):
    with pytest.raises(ValueError, match=message):
        RandomMasking(0.6, mask_patch_size=cell).num_hidden(grid, 4)


def test_every_patch_is_hidden_equally_often():
    masks = RandomMasking(0.75).draw(np.arange(20_000), 0, (4, 4), 4)
    # 12 of 16 hidden; five standard deviations of the mean of 20,000 draws.
    assert np.abs(masks.mean(0) - 0.75).max() < 5 * np.sqrt(0.75 * 0.25 / 20_000)


def test_the_numbers_are_the_same_on_every_machine():
    expected = [0.7016956210136414, 0.45927488803863525, 0.9155691266059875]
    np.testing.assert_array_equal(uniform(1, 2, np.array([3]), 3, "mask")[0], np.float32(expected))
    order = permutation(0, 1, 100)
    assert sorted(order) == list(range(100))
    assert (order != permutation(0, 2, 100)).any()


@pytest.mark.parametrize("ratio", [0, 1, 1.5, -0.1, float("nan")])
def test_a_ratio_outside_the_open_interval_is_an_error(ratio):
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        RandomMasking(ratio)


def test_a_ratio_that_hides_everything_is_an_error():
    with pytest.raises(ValueError, match="leaves 0 visible"):
        RandomMasking(0.9).num_hidden((2, 2), 4)
