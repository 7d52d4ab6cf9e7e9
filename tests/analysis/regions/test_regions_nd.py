"""Regions of many priors: the signed L5, trees whose cost grows with the priors and not with their powers, look-elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special

from hunch.analysis import (
    SignalShape,
    choose_background,
    fit_background,
    fix_regions,
    read_regions,
    scan_spectra,
    signal_templates,
)
from hunch.analysis.regions.l5 import prior_axes, signed_l5
from hunch.analysis.regions.tree import group_priors
from hunch.errors import InputError

Array = np.ndarray[Any, Any]
Truth = Callable[..., Array]
SQRT_S = 13_000.0


def losses(rng: np.random.Generator, n: int, priors: int, *, like: int | None = None, size: float = 2.5) -> Array:
    """Return losses of background, or of a signal like one prior: far in the background's loss, near in that prior's."""
    x = rng.normal(size=(n, 1)) + rng.normal(size=(n, 1 + priors))
    if like is not None:
        x[:, 0] += size
        x[:, 1 + like] -= size
    return x


def test_signed_l5_is_what_cms_wrote() -> None:
    x = np.array([[2.0, -1.0], [-3.0, 0.5], [0.0, 0.0], [1.0, -1.0]])
    y = np.sign(x) * np.abs(x) ** 5
    expected = np.sign(y.sum(axis=1)) * np.abs(y.sum(axis=1)) ** 0.2
    np.testing.assert_allclose(signed_l5(x), expected, rtol=1e-12)
    np.testing.assert_allclose(signed_l5(x[:, :1]), x[:, 0], rtol=1e-12)  # one axis is itself
    np.testing.assert_allclose(signed_l5(x, 1), x.sum(axis=1), rtol=1e-12)
    np.testing.assert_allclose(signed_l5(1e80 * x), 1e80 * expected, rtol=1e-12)  # no power overflows
    with pytest.raises(InputError, match=r"shape \(n, k\) with k >= 1, found \(4,\)"):
        signed_l5(x[:, 0])
    with pytest.raises(InputError, match="positive, found 0"):
        signed_l5(x, 0)


def test_l5_standardises_by_held_out_background_alone(rng: np.random.Generator) -> None:
    held_out = losses(rng, 8000, 3) * np.array([1.0, 5.0, 0.2, 1.0]) + np.array([0.0, 40.0, -3.0, 1.0])
    regions = fix_regions([held_out], shape="l5", fraction=0.1, alpha=0.5)
    axes = held_out[:, :1] - 0.5 * held_out[:, 1:]
    low, middle, high = np.quantile(axes, [0.16, 0.5, 0.84], axis=0)
    np.testing.assert_allclose(regions.centre[0], middle)
    np.testing.assert_allclose(regions.scale[0], (high - low) / 2)
    score = signed_l5((axes - middle) / ((high - low) / 2))
    order = np.argsort(-score)
    np.testing.assert_array_equal(regions.assign(held_out)[order[:800]], np.repeat([0, 1, 2], [267, 266, 267]))
    # what is hunted moves nothing: the same events are assigned the same alone and among signal
    signal = losses(rng, 4000, 3, like=1)
    together = regions.assign(np.concatenate([held_out, signal]))
    np.testing.assert_array_equal(together[: len(held_out)], regions.assign(held_out))
    np.testing.assert_array_equal(together[len(held_out) :], regions.assign(signal))


@pytest.mark.parametrize("shape", ["l5", "tree"])
def test_without_priors_slices_of_the_background_loss(shape: str, rng: np.random.Generator) -> None:
    held_out = losses(rng, 6000, 0)
    regions = fix_regions([held_out], shape=shape, fraction=0.3)
    expected = fix_regions([held_out], shape="difference", fraction=0.3)
    assert regions.cuts == expected.cuts
    np.testing.assert_array_equal(regions.assign(held_out), expected.assign(held_out))


@pytest.mark.parametrize(
    ("priors", "number", "groups"), [(1, 6, 1), (2, 3, 1), (2, 4, 2), (4, 9, 4), (8, 6, 3), (8, 24, 8)]
)
def test_leaves_of_a_tree_are_equal_and_as_many_as_asked(
    priors: int, number: int, groups: int, rng: np.random.Generator
) -> None:
    """The cells are those asked for, whatever the number of priors; boundaries grow linearly with them."""
    held_out = losses(rng, 24_000, priors)
    regions = fix_regions([held_out], shape="tree", fraction=0.2, n_regions=number)
    assert len(regions.groups) == groups
    assert sorted(k for group in regions.groups for k in group) == list(range(priors))
    region = regions.assign(held_out)
    np.testing.assert_allclose(np.bincount(region + 1)[1:], 4800 / number, atol=3)
    # the background's axis first
    assert held_out[region >= 0, 0].min() > held_out[region < 0, 0].max()
    assert sum(len(row) for row in regions.cuts[0]) == number


def test_each_leaf_belongs_to_the_closest_prior(rng: np.random.Generator) -> None:
    """A signal like prior k lands in the branch of prior k, in its first slice above all."""
    held_out = losses(rng, 40_000, 4) * np.array([1.0, 3.0, 1.0, 1.0, 0.5])  # scales of the models differ
    regions = fix_regions([held_out], shape="tree", fraction=0.1, n_regions=12)
    for k in range(4):
        signal = losses(rng, 4000, 4, like=k) * np.array([1.0, 3.0, 1.0, 1.0, 0.5])
        found = regions.assign(signal)
        kept = found[found >= 0]
        assert len(kept) > 0.5 * len(signal)
        branch = kept // 3
        assert (branch == k).mean() > 0.65
        assert np.bincount(kept, minlength=12).argmax() == 3 * k
        per_slice = np.bincount(kept[branch == k] % 3, minlength=3)
        assert per_slice[0] > 2 * per_slice[1] > 2 * per_slice[2]


def test_like_priors_share_a_branch_in_every_fold(rng: np.random.Generator) -> None:
    folds = []
    for scale in (1.0, 30.0):
        x = losses(rng, 12_000, 5)
        x[:, 4] = x[:, 1] + 0.3 * rng.normal(size=len(x))
        x[:, 5] = x[:, 3] + 0.3 * rng.normal(size=len(x))
        folds.append(scale * x - 7 * scale)
    regions = fix_regions(folds, shape="tree", fraction=0.3, n_regions=6)
    assert regions.groups == ((0, 3), (1,), (2, 4))
    fold = np.repeat([0, 1], 12_000)
    region = regions.assign(np.concatenate(folds), fold)
    for f in range(2):
        np.testing.assert_allclose(np.bincount(region[fold == f] + 1)[1:], 600, atol=3)
    # near one prior of a group is near the group
    for k, branch in ((0, 0), (3, 0), (1, 1), (2, 2), (4, 2)):
        found = regions.assign(losses(rng, 4000, 5, like=k))
        assert np.bincount(found[found >= 0], minlength=6).argmax() == 2 * branch
    # a prior that is the background, with an axis without spread, is like no other and breaks nothing
    x = folds[0].copy()
    x[:, 1] = x[:, 0]
    assert (0,) in fix_regions([x], shape="tree", fraction=0.3, n_regions=8).groups
    assert group_priors([prior_axes(x, 1.0)], 9) == ((0,), (1,), (2,), (3,), (4,))


def test_files_of_before_are_refused_and_say_what_to_do(rng: np.random.Generator, tmp_path: Path) -> None:
    regions = fix_regions([losses(rng, 3000, 2)], shape="plane", fraction=0.3, n_regions=4)
    regions.save(tmp_path / "regions.json")
    raw = json.loads((tmp_path / "regions.json").read_text())
    (tmp_path / "old.json").write_text(json.dumps({**raw, "columns": [0, 2]}))
    with pytest.raises(InputError, match=r"old\.json: written by an earlier version.*run the hunt again"):
        read_regions(tmp_path / "old.json")
    (tmp_path / "other.json").write_text(json.dumps({**raw, "shape": "plain"}))
    with pytest.raises(InputError, match=r"other\.json: no regions can be read.*did you mean 'plane'"):
        read_regions(tmp_path / "other.json")


def test_input_is_checked(rng: np.random.Generator) -> None:
    x = losses(rng, 4000, 2)
    for shape in ("l5", "tree"):
        regions = fix_regions([x], shape=shape, fraction=0.3)
        with pytest.raises(InputError, match="losses of 3 priors found, regions fixed for 2"):
            regions.assign(losses(rng, 10, 3) + 50)
        with pytest.raises(InputError, match="same models, found 2 and 3 columns"):
            fix_regions([x, x[:, :2]], shape=shape)
    with pytest.raises(InputError, match="is 2, which cannot fix the 3 regions of a tree"):
        fix_regions([x[:40]], shape="tree", fraction=0.05, expected_events=100_000)


def test_the_largest_of_r_regions_stays_under_two_sigma_as_often_as_it_should(edges: Array, truth: Truth) -> None:
    """Look-elsewhere: R independent regions at one mass have their largest local z under 2 sigma with 0.977^R.

    Background-only pseudo-data of 400 to 4,000 events a region, refitted. With the order chosen by F-test it is a little
    more often (0.98 a region): the spectra in which a fluctuation looks like another parameter are given that parameter.
    """
    rng = np.random.default_rng(2)
    n, most = 3000, 9
    templates = signal_templates(SignalShape(), [2600.0], edges)
    expected = np.stack([truth(size) for size in np.geomspace(4000, 400, most)])
    counts = rng.poisson(expected, size=(n, most, len(edges) - 1)).reshape(n * most, -1).astype(np.float64)
    under = float(special.ndtr(2.0))
    fits = (fit_background(counts, edges, 2, sqrt_s=SQRT_S), choose_background(counts, edges, sqrt_s=SQRT_S))
    for fit, excess in zip(fits, (0.02, 0.05), strict=True):
        scan = scan_spectra(counts, fit, templates, edges, sqrt_s=SQRT_S)
        assert scan.converged.mean() > 0.999
        z = np.where(scan.converged, scan.z, 0.0)[:, 0]
        for number in (3, 9):
            # disjoint groups of regions are as many experiments
            share = (z.reshape(-1, number).max(axis=1) < 2).mean()
            assert -0.02 < share - under**number < excess
