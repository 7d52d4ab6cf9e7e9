"""The joint fit of all regions: against one region's scan, against iminuit, and its global p against experiments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from iminuit import Minuit
from scipy.stats import norm

from hunch.analysis import HuntSettings, SignalShape, hunt, joint_gross_vitells, joint_scan
from hunch.analysis.fits.background import choose_background, log_offset, orthonormal_basis
from hunch.analysis.fits.scan import scan_spectra
from hunch.analysis.spectra.files import as_hist
from hunch.analysis.spectra.signal_shape import signal_templates
from hunch.errors import InputError

Array = np.ndarray[Any, Any]
OPTIONS: dict[str, Any] = {"sqrt_s": 13000.0, "family": "dijet"}


def test_one_region_is_its_own_scan(edges: Array, truth: Any, rng: np.random.Generator) -> None:
    counts = rng.poisson(truth(3000), size=(6, 1, len(edges) - 1)).astype(float)
    templates = signal_templates(SignalShape(), np.linspace(1800, 3500, 7), edges)
    fits = choose_background(counts[:, 0], edges, **OPTIONS)
    alone = scan_spectra(counts[:, 0], fits, templates, edges, **OPTIONS)
    joint = joint_scan(counts, fits, templates, [0.3], edges, **OPTIONS)
    np.testing.assert_allclose(joint.z, alone.z, atol=2e-4)
    np.testing.assert_allclose(joint.signal, alone.signal, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(joint.error, alone.error, rtol=1e-3)
    assert joint.converged.all()


def test_agrees_with_iminuit_where_orders_differ(edges: Array, truth: Any, rng: np.random.Generator) -> None:
    shares, mass = np.array([0.7, 0.1, 0.2]), 2400.0
    templates = signal_templates(SignalShape(), np.array([mass, 3000.0]), edges)
    expected = np.stack([truth(600), truth(5000), truth(2000)])
    counts = rng.poisson(expected + 90 * shares[:, None] * templates[0], size=(2, 3, len(edges) - 1)).astype(float)
    fits = choose_background(counts.reshape(6, -1), edges, lowest=[2, 4, 3, 3, 2, 2], **OPTIONS)
    assert len(np.unique(fits.order.reshape(2, 3), axis=0)) == 2
    found = joint_scan(counts, fits, templates, 5 * shares, edges, **OPTIONS)
    offset = log_offset(edges, **OPTIONS)
    for i, own in enumerate(fits.order.reshape(2, 3)):
        bases = [orthonormal_basis(edges, o, weights=expected[r], **OPTIONS) for r, o in enumerate(own.tolist())]
        splits = np.cumsum([b.shape[1] for b in bases])[:-1]

        def nll(parameters: Array, *, i: int = i, bases: Any = bases, splits: Any = splits) -> float:
            total = 0.0
            for r, theta in enumerate(np.split(parameters[1:], splits)):
                nu = np.exp(bases[r] @ theta + offset) + parameters[0] * shares[r] * templates[0]
                if (nu <= 0).any():
                    return 1e9
                total += float((nu - counts[i, r] * np.log(nu)).sum())
            return total

        start = [b.T @ (expected[r] * (np.log(expected[r]) - offset)) for r, b in enumerate(bases)]
        fit = Minuit(nll, np.concatenate([[1.0], *start]))
        fit.errordef = 0.5
        fit.strategy = 2
        fit.migrad(ncall=50_000)
        signal, with_signal = fit.values[0], fit.fval
        fit.values[0], fit.fixed[0] = 0.0, True
        fit.migrad(ncall=50_000)
        assert found.signal[i, 0] == pytest.approx(signal, rel=0.01)
        assert found.z[i, 0] == pytest.approx(np.sqrt(2 * (fit.fval - with_signal)), abs=3e-3)
    assert found.z[:, 0].min() > 3


def test_the_global_p_of_the_joint_fit_is_that_of_experiments(
    edges: Array, truth: Any, rng: np.random.Generator
) -> None:
    expected, shares = np.stack([truth(1000), truth(4000)]), [0.6, 0.4]
    masses = np.geomspace(1800, 4000, 30)
    counts = rng.poisson(expected)
    settings = HuntSettings(family="dijet", pseudo_experiments=0, seed=2, lowest_orders=(2, 2))
    found = hunt([as_hist(edges, c) for c in counts], masses, settings=settings, progress=False)
    mass, judged = joint_gross_vitells(found, shares, n=200)
    assert mass in masses
    assert (judged.n, 0 < judged.crossings < 10) == (200, True)
    drawn = rng.poisson(found.background.expected, size=(1500, 2, len(edges) - 1)).astype(float)
    fits = choose_background(drawn.reshape(3000, -1), edges, lowest=found.background.order.tolist() * 1500, **OPTIONS)
    largest = joint_scan(drawn, fits, found.templates, shares, edges, **OPTIONS).z.max(axis=1)
    z_max = float(np.quantile(largest, 0.95))
    # 75 experiments lie above it; the bound is 1.3 times p here, 1.2 at 0.01 and 0.8 +- 0.3 at 0.002 (6,000 experiments)
    bound = norm.sf(z_max) + judged.crossings * np.exp(-0.5 * (z_max**2 - judged.level**2))
    assert 0.045 < bound < 0.09
    assert joint_gross_vitells(found, shares, n=200) == (mass, judged)


def test_what_cannot_be_scanned_is_refused(edges: Array, truth: Any) -> None:
    counts = truth(500)[None, None]
    templates = signal_templates(SignalShape(), np.array([2400.0]), edges)
    fits = choose_background(counts[0], edges, **OPTIONS)
    for shares in ([0.0], [-1.0], [0.5, 0.5]):
        with pytest.raises(InputError, match="of 1 regions; allowed: one each, 0 or more"):
            joint_scan(counts, fits, templates, shares, edges, **OPTIONS)
    with pytest.raises(InputError, match="'bernstein' is none"):
        joint_scan(counts, fits, templates, [1.0], edges, sqrt_s=13000.0, family="bernstein")
