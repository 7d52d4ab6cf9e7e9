"""The scan of the loss plane: its fits against iminuit, injected signals found in yield, mass and window, and its bias."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from iminuit import Minuit
from scipy import special

from hunch.analysis import SignalShape, signal_templates
from hunch.analysis.figures.plane_figure import draw_plane_scan, plane_scan_figure
from hunch.analysis.fits import bernstein as bernstein_module
from hunch.analysis.fits.bernstein import bernstein_basis, choose_degree, fit_bernstein
from hunch.analysis.regions.plane_scan import FOR_LOCATING, PlaneScan, plane_windows, scan_plane
from hunch.errors import InputError

Array = np.ndarray[Any, Any]
Truth = Callable[..., Array]
MASSES = np.array([1900.0, 2600.0, 3400.0, 4300.0])


@pytest.fixture(scope="module")
def templates(edges: Array) -> Array:
    return signal_templates(SignalShape(), MASSES, edges)


def events(rng: np.random.Generator, truth: Array, edges: Array, n: int, *, signal: int = 0) -> tuple[Array, Array]:
    """Return masses and losses (n, 3) of background, and of a signal at 2,600 GeV like the first prior."""
    chosen = rng.choice(len(truth), p=truth / truth.sum(), size=n)
    mjj = np.concatenate(
        [edges[chosen] + rng.random(n) * np.diff(edges)[chosen], 2600 * (1 + 0.035 * rng.normal(size=signal))]
    )
    losses = rng.normal(size=(n + signal, 1)) + rng.normal(size=(n + signal, 3))
    losses[n:, :2] += [2.0, -1.5]
    return mjj, losses


def test_bernstein_polynomials_share_out_the_bins(edges: Array) -> None:
    basis = bernstein_basis(edges, 4)
    np.testing.assert_allclose(basis.sum(axis=0), 1)
    # equal coefficients make a flat density
    np.testing.assert_allclose(basis.mean(axis=1), np.diff(edges) / (edges[-1] - edges[0]))
    x = (edges - edges[0]) / (edges[-1] - edges[0])
    np.testing.assert_allclose(bernstein_basis(edges, 1)[:, 0], np.diff(2 * x - x**2))
    reference = np.geomspace(1000, 1, len(edges) - 1)
    times = bernstein_basis(edges, 0, reference=reference)
    np.testing.assert_allclose(times[:, 0], reference / reference.sum())
    with pytest.raises(InputError, match="33 bins has degree 0 to 31, found 32"):
        bernstein_basis(edges, 32)
    with pytest.raises(InputError, match="33 positive bins"):
        bernstein_basis(edges, 3, reference=np.zeros(33))


def direct_fit(n: Array, basis: Array, template: Array) -> float:
    """Fit with iminuit alone: 2 (nll - nll of nu = n); ln nu continued below 1e-2, empty bins kept above 0 by a wall."""
    a, k, full, eps = np.column_stack([basis, template]), basis.shape[1], n > 0, 1e-2
    scale = np.r_[np.full(k, n.sum() / k), np.sqrt(n.sum())]

    def value(p: Array) -> float:
        nu = a @ (p * scale)
        u = np.minimum(nu / eps - 1, 0.0)
        log = np.log(np.maximum(nu, eps)) + u - 0.5 * u * u
        wall = (np.minimum(nu, 0.0)[~full] ** 2).sum()
        return float(2 * (nu - n - n * log + special.xlogy(n, n)).sum() + 1e5 * wall)

    def gradient(p: Array) -> Array:
        nu = a @ (p * scale)
        d = np.where(nu >= eps, 1 / np.maximum(nu, eps), (2 - nu / eps) / eps)
        wall = np.where(full, 0.0, np.minimum(nu, 0.0))
        return np.asarray((2 * a.T @ (1 - n * d) + 2e5 * a.T @ wall) * scale)

    minuit = Minuit(value, np.r_[np.ones(k), 0.0], grad=gradient)
    for i in range(k):
        minuit.limits[i] = (0, None)
    # strategy 1 can stay at a limit, where the gradient of its inner variable is zero, and call that a minimum
    minuit.strategy, minuit.tol = 2, 1e-4
    last = np.inf
    for _ in range(12):
        minuit.migrad(ncall=5000)
        if minuit.valid and last - minuit.fval < 1e-7:
            break
        last = minuit.fval
    assert minuit.valid
    return float(minuit.fval)


@pytest.mark.parametrize(
    ("size", "degree", "bare"),
    [(60, 3, False), (500, 3, False), (20_000, 3, False), (500, 8, True), (5000, 3, True), (20_000, 12, True)],
)
def test_against_iminuit(size: int, degree: int, bare: bool, edges: Array, truth: Truth, templates: Array) -> None:
    """Both find the same minimum, coefficients at 0 and empty bins under a deficit among them."""
    rng = np.random.default_rng([size, degree])
    basis = bernstein_basis(edges, degree, reference=None if bare else truth(1.0))
    counts = rng.poisson(truth(size), size=(15, len(edges) - 1)).repeat(4, axis=0).astype(float)
    found = fit_bernstein(counts, basis, np.tile(templates, (15, 1)))
    assert found.converged.all()
    assert (found.expected >= 0).all()
    assert (found.coefficients >= 0).all()
    direct = [direct_fit(counts[i], basis, templates[i % 4]) for i in range(len(counts))]
    np.testing.assert_allclose(2 * found.nll, direct, atol=1e-3)
    rebuilt = found.coefficients @ basis.T + found.signal[:, None] * np.tile(templates, (15, 1))
    np.testing.assert_allclose(found.expected, rebuilt, atol=1e-6 * size)


def test_every_fit_of_thousands_converges(edges: Array, truth: Truth, templates: Array) -> None:
    rng = np.random.default_rng(6)
    basis = bernstein_basis(edges, 3, reference=truth(1.0))
    for size in (10, 100, 1000, 1_000_000):
        counts = rng.poisson(truth(size), size=(500, len(edges) - 1)).repeat(4, axis=0)
        found = fit_bernstein(counts, basis, np.tile(templates, (500, 1)))
        assert found.converged.mean() >= 0.999
        assert found.gap[found.converged].max() < 1e-6
        assert np.isfinite(found.error[found.converged]).all()


def test_injected_yield_is_linear_and_its_pull_normal(edges: Array, truth: Truth, templates: Array) -> None:
    rng = np.random.default_rng(7)
    basis = bernstein_basis(edges, 3, reference=truth(1.0))
    means = []
    for injected in (-100.0, 0.0, 100.0, 300.0):
        counts = rng.poisson(truth(20_000) + injected * templates[1], size=(800, len(edges) - 1))
        found = fit_bernstein(counts, basis, np.tile(templates[1], (800, 1)))
        pull = (found.signal - injected) / found.error
        assert abs(pull.mean()) < 0.15
        assert pull.std() == pytest.approx(1.0, abs=0.08)
        means.append(found.signal.mean())
    slope, offset = np.polyfit([-100, 0, 100, 300], means, 1)
    assert slope == pytest.approx(1, abs=0.02)
    assert abs(offset) < 5


def test_asimov_fit_is_exact(edges: Array, truth: Truth, templates: Array) -> None:
    found = fit_bernstein(
        truth(5000) + 80 * templates[1], bernstein_basis(edges, 3, reference=truth(1.0)), templates[1:2]
    )
    assert found.nll[0] == pytest.approx(0, abs=1e-6)
    assert found.signal[0] == pytest.approx(80, abs=0.05)


def test_degree_that_the_spectrum_asks_for(edges: Array) -> None:
    basis = bernstein_basis(edges, 5)
    expected = 3e5 * basis @ np.array([0.5, 0.05, 0.3, 0.0, 0.3, 0.02])
    assert choose_degree(np.random.default_rng(8).poisson(expected), edges, degrees=range(2, 9)) == 5
    assert choose_degree(np.random.default_rng(8).poisson(3000 * basis[:, 0]), edges) <= 6
    assert choose_degree(1e4 * np.diff(edges), edges) == 3


def test_windows_hold_the_events_they_should(edges: Array, truth: Truth, rng: np.random.Generator) -> None:
    """Counted one by one, with folds whose losses have other scales."""
    held = [events(rng, truth(1.0), edges, 3000)[1] * s + t for s, t in ((1, 0), (20, -5))]
    parts = [events(rng, truth(1.0), edges, 2000) for _ in range(2)]
    mjj = np.concatenate([parts[0][0], parts[1][0]])
    losses = np.concatenate([parts[0][1], parts[1][1] * 20 - 5])
    fold = np.repeat([0, 1], 2000)
    scan = scan_plane(mjj, losses, edges, [2600.0], held_out=held, fold=fold)
    smallest = losses[:, 1:].min(axis=1)
    for w, (q, up, r, right) in enumerate(scan.windows):
        inside = np.zeros(len(mjj), dtype=bool)
        for f in range(2):
            low, high, left, end = scan.boundaries[f, w]
            b = (losses[:, 0] > low) & (losses[:, 0] <= high)
            inside |= (fold == f) & b & (smallest > left) & (smallest <= end)
            if q > 0:
                assert (held[f][:, 0] > low).mean() == pytest.approx(1 - q, abs=1e-3)
            if right < 1:
                assert (held[f][:, 1:].min(axis=1) <= end).mean() == pytest.approx(right, abs=1e-3)
            assert (low < -1e300) == (q == 0)
            assert (high > 1e300) == (up == 1)
            assert (left < -1e300) == (r == 0)
        np.testing.assert_array_equal(scan.counts[w], np.histogram(mjj[inside], edges)[0])
    cells = scan.counts[~scan.corner].sum()
    # the one corner that is a cell is not there twice
    single = scan.counts[(scan.windows == [0.98, 1.0, 0.0, 0.02]).all(axis=1)].sum()
    assert cells + single == len(mjj)


@pytest.fixture(scope="module")
def signal_scan(edges: Array, truth: Truth) -> PlaneScan:
    rng = np.random.default_rng(3)
    mjj, losses = events(rng, truth(1.0), edges, 40_000, signal=200)
    held_out = [events(rng, truth(1.0), edges, 20_000)[1]]
    return scan_plane(mjj, losses, edges, np.geomspace(1700, 5000, 20), held_out=held_out)


def test_the_scan_locates_a_signal(signal_scan: PlaneScan) -> None:
    scan = signal_scan
    window, mass = scan.largest
    best = f"largest local z {scan.z[window, mass]:.2f} at {scan.masses[mass]:g} GeV; {scan.note}"
    assert repr(scan) == f"PlaneScan({len(scan.windows)} windows, 20 masses, {best})"
    fitted = scan.counts.sum(axis=1) >= 50
    assert scan.converged[fitted].all()
    assert not scan.converged[~fitted].any()
    assert np.isnan(scan.z[~fitted]).all()
    assert np.isnan(scan.fit_p[~fitted]).all()
    window, m = scan.largest
    assert scan.masses[m] == pytest.approx(2600, rel=0.04)
    low, _, _, right = scan.windows[window]
    assert low >= 0.6
    assert right <= 0.6
    assert scan.z[window, m] > 5
    # the sign of z is that of the yield; its size that of yield over error
    good = scan.converged & (np.abs(scan.z) > 0.1)
    np.testing.assert_array_equal(np.sign(scan.z[good]), np.sign(scan.signal[good]))
    assert np.median(np.abs(scan.signal[good] / scan.error[good] / scan.z[good])) == pytest.approx(1, abs=0.1)


def test_the_largest_z_is_biased_and_says_so(edges: Array, truth: Truth) -> None:
    """Without a signal each z is normal, and the largest of the plane is far from it."""
    rng = np.random.default_rng(4)
    held_out = [events(rng, truth(1.0), edges, 20_000)[1]]
    largest, inclusive = [], []
    for _ in range(15):
        scan = scan_plane(*events(rng, truth(1.0), edges, 20_000), edges, MASSES, held_out=held_out)
        largest.append(scan.z[scan.largest])
        inclusive.append(scan.z[scan.converged])
    each = np.concatenate(inclusive)
    assert abs(each.mean()) < 0.3  # those of one plane are correlated
    assert each.std() == pytest.approx(1, abs=0.12)
    assert np.median(largest) > 1.8
    assert scan.note == FOR_LOCATING == "for locating an excess, not for its significance"


def test_failed_fits_are_marked(
    edges: Array, truth: Truth, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(5)
    mjj, losses = events(rng, truth(1.0), edges, 5000)
    monkeypatch.setattr(bernstein_module, "MAX_ITERATIONS", 6)
    with caplog.at_level(logging.WARNING):
        scan = scan_plane(mjj, losses, edges, MASSES, held_out=[losses])
    assert not scan.converged.any()
    assert np.isnan(scan.z).all()
    assert np.isnan(scan.signal).all()
    assert np.isnan(scan.error).all()
    assert "fits of the loss plane did not converge" in caplog.text
    for use in (lambda: scan.largest, lambda: plane_scan_figure(scan)):
        with pytest.raises(InputError, match="no fit of the plane converged"):
            use()
    assert not fit_bernstein(np.zeros((2, len(edges) - 1)), bernstein_basis(edges, 3)).converged.any()


def test_bare_polynomials_and_chosen_degree(edges: Array, truth: Truth) -> None:
    """A spectrum that falls by decades is no bare polynomial of degree 3, and fit_p says so."""
    rng = np.random.default_rng(9)
    mjj, losses = events(rng, truth(1.0), edges, 20_000)
    bare = scan_plane(mjj, losses, edges, [2600.0], held_out=[losses], family=None)
    times = scan_plane(mjj, losses, edges, [2600.0], held_out=[losses], degree=None)
    assert np.nanmedian(bare.fit_p) < 1e-3
    assert np.nanmedian(times.fit_p) > 0.1
    assert (bare.degree, bare.family, times.family) == (3, None, "dijet")
    assert 3 <= times.degree <= 6


def test_map_and_json(signal_scan: PlaneScan, tmp_path: Path) -> None:
    paths = draw_plane_scan(signal_scan, tmp_path / "plane.png")
    assert [p.name for p in paths] == ["plane.pdf", "plane.png"]
    assert all(p.stat().st_size > 10_000 for p in paths)
    figure = plane_scan_figure(signal_scan, mass=float(signal_scan.masses[3]))
    assert FOR_LOCATING in figure.get_suptitle()
    assert any(FOR_LOCATING in axes.get_ylabel() for axes in figure.axes)
    shown = sum(len(axes.texts) for axes in figure.axes)
    fitted = signal_scan.converged[:, 3]
    assert shown == fitted.sum() + fitted[(signal_scan.windows == [0.98, 1.0, 0.0, 0.02]).all(axis=1)].sum()
    with pytest.raises(InputError, match="2000 GeV was not scanned; the nearest mass is"):
        plane_scan_figure(signal_scan, mass=2000.0)
    signal_scan.save(tmp_path / "plane.json")
    raw = json.loads((tmp_path / "plane.json").read_text())
    assert raw["note"] == FOR_LOCATING
    np.testing.assert_array_equal(np.array(raw["z"], dtype=float), signal_scan.z)


def test_input_is_checked(edges: Array, truth: Truth, rng: np.random.Generator) -> None:
    mjj, losses = events(rng, truth(1.0), edges, 500)
    with pytest.raises(InputError, match="needs the loss of a prior"):
        scan_plane(mjj, losses[:, :1], edges, MASSES, held_out=[losses[:, :1]])
    with pytest.raises(InputError, match="folds 0 to 1 found, held-out losses given for 0 to 0"):
        scan_plane(mjj, losses, edges, MASSES, held_out=[losses], fold=np.arange(500) % 2)
    with pytest.raises(InputError, match="none of 500 events lies between"):
        scan_plane(mjj / 100, losses, edges, MASSES, held_out=[losses])
    with pytest.raises(InputError, match=r"prior quantiles ascend from 0 to 1, found \[0.0, 0.5\]"):
        plane_windows(prior=(0.0, 0.5))
