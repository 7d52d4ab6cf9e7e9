"""The likelihood of limits against finite differences, another minimiser, closed forms, and pyhf on the exported workspace."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pyhf
import pytest
from scipy import optimize, special, stats

from hunch.analysis.limits.asymptotic import (
    SIGMAS,
    NoLimit,
    asymptotic_cls,
    asymptotic_limits,
    discovery_z,
    root_of,
)
from hunch.analysis.limits.backgrounds import RegionBackground, standard
from hunch.analysis.limits.fit import Fit, Likelihood, likelihood_of
from hunch.analysis.limits.model import LimitModel
from hunch.analysis.limits.pyhf_limits import pyhf_limits, use_scipy
from hunch.analysis.limits.workspace import build, parameters_of

Array = np.ndarray[Any, Any]
X = np.linspace(-1, 1, 12)


def bump(centre: float, width: float) -> Array:
    return np.asarray(np.exp(-0.5 * ((X - centre) / width) ** 2) / np.exp(-0.5 * (X / 0.2) ** 2).sum())


def backgrounds(*events: float) -> tuple[RegionBackground, ...]:
    """Return one background with free parameters, and further ones that have two constrained modes too."""
    made = []
    for r, n in enumerate(events):
        columns = [np.ones(12), X, X**2][: 2 + r % 2]
        precision = np.zeros(len(columns))
        if r > 0:
            columns += [0.2 * np.sin(4 * X), 0.1 * np.cos(6 * X)]
            precision = np.append(precision, [1.0, 4.0])
        theta = np.zeros(len(columns))
        theta[:2] = np.log(n), -1.5
        made.append(standard(RegionBackground(np.stack(columns, axis=1), np.zeros(12), precision, theta)))
    return tuple(made)


def model_of(*events: float, signal: float = 2.0, seed: int = 1, bare: bool = False) -> LimitModel:
    """Return a model of as many regions, with every kind of nuisance unless bare, and counts that hold a signal."""
    regions = backgrounds(*events)
    share = np.linspace(1, 0.5, len(events))[:, None] * np.sqrt(np.sum(events))
    rng = np.random.default_rng(seed)
    counts = rng.poisson(np.stack([b.expected for b in regions]) + signal * share * bump(0.1, 0.2))
    shapes = {
        "signal_scale": (share * bump(0.13, 0.2), share * bump(0.08, 0.2)),
        "signal_resolution": (share * bump(0.1, 0.24), share * bump(0.1, 0.18)),
    }
    own = np.where(np.arange(len(events)) == len(events) - 1, 1.2, 1.0)
    factors = {"efficiency": (np.full(len(events), 1.1),) * 2, "last_efficiency": (own, own)}
    return LimitModel(
        mass=2000.0,
        unit=1.0,
        channels={f"r{i}": f"r{i}" for i in range(len(events))},
        left_out={},
        edges=np.arange(13.0),
        counts=counts.astype(float),
        signal=share * bump(0.1, 0.2),
        shapes={} if bare else shapes,
        factors={} if bare else {name: (high, 1 / low) for name, (high, low) in factors.items()},
        backgrounds=regions,
        background=100.0,
    )


def flat(fit: Fit, likelihood: Likelihood) -> Array:
    used = np.arange(fit.theta.shape[1]) < likelihood.arrays.sizes[:, None]
    return np.concatenate([[fit.mu], fit.alpha, fit.theta[used]])


def at_point(point: Array, likelihood: Likelihood) -> Fit:
    n = 1 + len(likelihood.nuisances)
    theta = np.zeros_like(likelihood.start)
    theta[np.arange(theta.shape[1]) < likelihood.arrays.sizes[:, None]] = point[n:]
    return Fit(point[0], point[1:n].copy(), theta, 0.0, 0.0, 0.0, converged=True)


@pytest.mark.parametrize("lower", [0.0, -np.inf])
@pytest.mark.parametrize("signal", [2.0, -0.4])
def test_the_minimum_its_error_and_its_slope_are_those_of_the_function(lower: float, signal: float) -> None:
    likelihood = model_of(40, 15, signal=max(signal, 0.0), seed=3 if signal < 0 else 1).likelihood
    fit = likelihood.fit(lower=lower)
    assert fit.converged
    assert likelihood.nll(fit) == pytest.approx(fit.nll, abs=1e-12)
    best = flat(fit, likelihood)

    def value(point: Array) -> float:
        return likelihood.nll(at_point(point, likelihood))

    steps = 1e-4 * np.eye(len(best))
    slopes = np.array([(value(best + s) - value(best - s)) / 2e-4 for s in steps])
    inside = np.arange(len(best)) >= (fit.mu == 0)
    np.testing.assert_allclose(slopes[inside], 0, atol=2e-4)
    if fit.mu == 0:
        assert slopes[0] > 0
    else:
        hessian = np.array(
            [
                [
                    (value(best + a + b) - value(best + a - b) - value(best - a + b) + value(best - a - b)) / 4e-8
                    for b in steps
                ]
                for a in steps
            ]
        )
        assert fit.error == pytest.approx(np.sqrt(np.linalg.inv(hessian)[0, 0]), rel=1e-4)
    fixed = likelihood.fit(1.5, near=fit)
    above, below = (likelihood.fit(1.5 + h, near=fixed).nll for h in (1e-4, -1e-4))
    assert fixed.slope == pytest.approx((above - below) / 2e-4, rel=1e-3, abs=1e-6)


def test_regions_without_events_and_with_one_have_fits_and_limits() -> None:
    model = model_of(30, 12, 8)
    for r, filled in ((0, []), (1, [4]), (2, [])):
        counts = model.counts.copy()
        counts[r] = 0
        counts[r, filled] = 1
        likelihood = dataclasses.replace(model, counts=counts).likelihood
        limits = asymptotic_limits(likelihood, 0.05)
        assert (np.diff(limits[1:]) > 0).all()
        assert discovery_z(likelihood) is not None
    nothing = dataclasses.replace(model, counts=np.zeros_like(model.counts)).likelihood
    fit = nothing.fit()
    assert (fit.mu, fit.converged) == (0.0, True)
    assert nothing.fit(1.0).converged


@pytest.mark.parametrize("events", [(60.0,), (25.0, 6.0), (1e5, 3e3)])
def test_the_workspace_is_the_same_likelihood_everywhere(events: tuple[float, ...]) -> None:
    model = model_of(*events)
    likelihood = model.likelihood
    built, data = build(model)
    rng = np.random.default_rng(2)
    best = likelihood.fit(0.0)
    away = []
    for _ in range(8):
        point = Fit(
            rng.uniform(0, 3), np.append(rng.uniform(-0.9, 0.9, 2), 1.5 * rng.normal(size=2)), best.theta + 2 * rng.normal(size=best.theta.shape),
            0.0, 0.0, 0.0, converged=True,
        )  # fmt: skip
        theirs = -float(built.logpdf(np.array(parameters_of(model, built, point)), data)[0])
        away.append(theirs - likelihood.nll(point))
    np.testing.assert_allclose(away, away[0], rtol=1e-7)


def test_cls_is_that_of_pyhf() -> None:
    """The background's constraints are centred at 0 in the data and at the fitted values in Asimov data, there as here."""
    use_scipy()
    model = model_of(40)
    ours = asymptotic_limits(model.likelihood, 0.05)
    built, data = build(model)
    start = parameters_of(model, built, model.likelihood.fit(0.0))
    theirs, band = pyhf.infer.hypotest(
        ours[0], data, built, test_stat="qtilde", return_expected_set=True, init_pars=start
    )
    assert float(theirs) == pytest.approx(0.05, rel=3e-4)  # 1e-4 of the limit
    observed, expected = asymptotic_cls(model.likelihood, ours[0])
    assert observed == pytest.approx(0.05, rel=1e-6)
    np.testing.assert_allclose(expected, band, rtol=1e-4)
    assert asymptotic_cls(model.likelihood, ours[3])[1][2] == pytest.approx(0.05, rel=1e-6)


@pytest.mark.slow
def test_limits_of_regions_with_constrained_modes_are_those_of_pyhf() -> None:
    use_scipy()
    model = model_of(40, 15)
    built, data = build(model)
    start = parameters_of(model, built, model.likelihood.fit(0.0))
    theirs = pyhf_limits(built, data, 0.05, precision=1e-5, start=start)
    np.testing.assert_allclose(theirs, asymptotic_limits(model.likelihood, 0.05), rtol=1e-4)


def test_limits_of_a_known_background_are_those_of_the_closed_form() -> None:
    b = 100.0
    known = RegionBackground(np.zeros((1, 1)), np.log([b]), np.ones(1), np.zeros(1))
    for n in (100.0, 90.0, 115.0):
        found = 20 * asymptotic_limits(likelihood_of(np.array([[n]]), [known], np.array([[20.0]])), 0.05)
        for value, sigma in zip(found[1:], SIGMAS, strict=True):
            wanted = special.ndtri(1 - 0.05 * special.ndtr(sigma)) + sigma
            # eq. 66 of arXiv:1007.1727
            exact = optimize.brentq(lambda s, w=wanted: np.sqrt(2 * (s - b * np.log1p(s / b))) - w, 1, 200)
            assert value == pytest.approx(exact, rel=1e-6)
        # the exact ratio of Poisson probabilities, half of the observed bin's: asymptotics know no steps
        exact = optimize.brentq(lambda s, n=n: mid_cdf(n, s + b) / mid_cdf(n, b) - 0.05, 1, 100)
        assert found[0] == pytest.approx(exact, rel=0.02)


def mid_cdf(n: float, mean: float) -> float:
    return float(stats.poisson.cdf(n, mean) - 0.5 * stats.poisson.pmf(n, mean))


def test_asimov_data_have_their_point_as_best_fit() -> None:
    likelihood = model_of(40, 15).likelihood
    background = likelihood.fit(0.0)
    asimov = likelihood.asimov(background)
    fit = likelihood.fit(to=asimov)
    assert fit.nll == pytest.approx(0.0, abs=1e-9)
    assert fit.mu == pytest.approx(0.0, abs=1e-4)
    np.testing.assert_array_equal(asimov.centre, background.theta)
    assert not likelihood.data.centre[1, 2:].any()  # of constrained modes, in the data


def test_a_search_without_a_crossing_says_so() -> None:
    with pytest.raises(NoLimit, match="no limit up to 100 times"):
        root_of(lambda mu: (1.0, 0.0), 1.0, 1.0)
    assert root_of(lambda mu: (2 - mu**2, -2 * mu), 30.0, 2.0) == pytest.approx(np.sqrt(2), rel=1e-9)


def test_backgrounds_in_standard_form_are_the_same_backgrounds() -> None:
    rough = RegionBackground(
        np.stack([np.ones(12), 1e3 + X, X / 3], axis=1), X, np.array([0, 0, 9.0]), np.array([3.0, -0.001, 2.0])
    )
    made = standard(rough)
    np.testing.assert_allclose(made.expected, rough.expected, rtol=1e-9)
    assert made.precision.tolist() == [0, 0, 1]
    assert made.theta[2] == pytest.approx(6.0)
    free = made.basis[:, :2]
    np.testing.assert_allclose(free.T @ (rough.expected[:, None] * free), np.eye(2), atol=1e-9)
