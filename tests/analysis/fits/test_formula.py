"""Formulas: what is read and refused, exact derivatives, and fits equal to the built-in ones and to iminuit's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from iminuit import Minuit
from iminuit.cost import ExtendedBinnedNLL
from scipy import special

from hunch.analysis import (
    HuntSettings,
    SignalShape,
    choose_background,
    fit_background,
    fit_with_minuit,
    hunt,
    limit_model,
    parse_function,
    scan_spectra,
    signal_templates,
)
from hunch.analysis.fits.background import is_log_linear
from hunch.analysis.fits.formula import is_formula
from hunch.analysis.fits.formula_fit import bare_curve, curve_around, fit_formula
from hunch.analysis.fits.newton import fit_curve
from hunch.analysis.goodness.fit_quality import fit_qualities
from hunch.analysis.spectra.bins import as_hist
from hunch.errors import InputError

SQRT_S = 13_000.0
Array = np.ndarray[Any, Any]
Truth = Callable[..., Array]
DIJET = "(1-x)**p1 * x**(-p2 - p3*log(x))"
BENT = "(1-x)**(p1 + p1**3/100) * x**(-p2 - p3*log(x))"  # the same curves, not log-linear in p1
LINEAR_EDGES = np.linspace(1000.0, 5000.0, 41)
X = 0.5 * (LINEAR_EDGES[1:] + LINEAR_EDGES[:-1]) / SQRT_S
NOT_LOG_LINEAR = {
    "exp(-p1*x) + p2*exp(-p3*x)": (np.exp(-18 * X) + 2 * np.exp(-45 * X), (18.0, 2.0, 45.0), 100_000),
    "(1-x)**p1 * x**(-p2) * (1 + tanh((x-p3)/p4))": (
        (1 - X) ** 9 * X**-4.5 * (1 + np.tanh((X - 0.1) / 0.02)),
        (9.0, 4.5, 0.1, 0.02),
        5_000,
    ),
}
FORMULAS = [
    DIJET,
    BENT,
    *NOT_LOG_LINEAR,
    "(1-x)**p1 / x**(p2 + p3*log(x))",
    "pow(x, -p1) * sqrt(p2 + x) * (x-1)**2",
    "(1 + erf((m - 1000*p1)/(1000*p2))) * exp(-p3*x)",
]


def by_python(text: str, centres: Array, p: Array) -> Array:
    names: dict[str, Any] = {"exp": np.exp, "log": np.log, "sqrt": np.sqrt, "pow": np.power, "tanh": np.tanh}
    names |= {"erf": special.erf, "m": centres, "x": centres / SQRT_S} | {f"p{i + 1}": v for i, v in enumerate(p)}
    return np.asarray(eval(text, {"__builtins__": {}}, names))


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_what_python_makes_of_it_and_its_derivatives_are_exact(text: str) -> None:
    f = parse_function(text)
    centres, p = np.linspace(1500, 6000, 9), np.random.default_rng(1).uniform(0.5, 2, (3, f.n_parameters))

    def at(steps: Any, q: Array) -> Array:
        found = f.evaluate(steps, centres, q, sqrt_s=SQRT_S)
        return np.stack([found[s] for s in steps])

    np.testing.assert_allclose(at([f.eta], p)[0], [np.log(by_python(text, centres, q)) for q in p], atol=1e-12)
    second = {(i, j): s for i, j, s in f.bends} | {(j, i): s for i, j, s in f.bends}
    for i in range(f.n_parameters):
        h = np.zeros_like(p)
        h[:, i] = 1e-5
        numeric = (at([f.eta, *f.slopes], p + h) - at([f.eta, *f.slopes], p - h)) / 2e-5
        np.testing.assert_allclose(at([f.slopes[i]], p)[0], numeric[0], rtol=1e-6, atol=1e-8)
        for j in range(f.n_parameters):
            exact = at([second[i, j]], p)[0] if (i, j) in second else 0.0
            np.testing.assert_allclose(numeric[1 + j], exact, rtol=1e-6, atol=1e-8)


def test_log_linear_formulas_are_known_as_such() -> None:
    assert [is_log_linear(t) for t in (DIJET, "exp(-p1*m - p2*m**2)/x", BENT, "1 + p1*x", "bernstein")] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert [is_formula(t) for t in ("dijet", "di-jet", "x", DIJET, "exp(-p1*x)")] == [False, False, False, True, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(1-x)**p1 * q**p2", "no name 'q'"),
        ("(1-x)**p1 * x**p3", "there is no p2"),
        ("exp(-p1*x) * lgo(x)", "did you mean 'log'"),
        ("p1 + p2", "depends on no mass"),
        ("x^p1", "a power is written \\*\\*"),
        ("x**", "is no formula"),
        ("x*p1*0 + x", "p1 has no effect"),
        ("__import__('os').system('true')", "neither number, name, arithmetic"),
        ("x.real * p1", "neither number, name, arithmetic"),
        ("(lambda: x)()", "neither number, name, arithmetic"),
        ("9**9**9**9 * x", "is not finite"),
        ("exp(x, p1)", "exp takes 1 argument"),
        ("p1*" * 200 + "x", "at most 500"),
    ],
)
def test_what_is_no_formula_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_function(text)


@given(st.text(alphabet="xmp123+-*/()., explog\0'[]:=!", max_size=60))
def test_any_text_is_a_formula_or_an_input_error(text: str) -> None:
    with contextlib.suppress(InputError):
        assert parse_function(text).n_parameters < 100


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("exp(-p1*x) * log(x)", "is not positive and finite from 1568.5 to 5988 GeV for any"),
        ("(p1**2 + 1)*log(x)", "is not positive and finite .* at any of 1025"),
        ("(1-x)**p1 * (1-x)**p2", "not independent"),
        ("p1*exp(-p2*x)", "not independent"),
    ],
)
def test_a_formula_that_cannot_be_fitted_is_refused(text: str, message: str, edges: Array, truth: Truth) -> None:
    with pytest.raises(InputError, match=message):
        choose_background(truth(1000), edges, sqrt_s=SQRT_S, family=text)


def spectra(edges: Array, truth: Truth, sizes: tuple[int, ...], n: int) -> Array:
    rng = np.random.default_rng(21)
    return np.concatenate([rng.poisson(truth(size), size=(n, len(edges) - 1)) for size in sizes]).astype(float)


def test_the_dijet_formula_is_the_dijet_family(edges: Array, truth: Truth) -> None:
    """Two hundred spectra of 60 to 300,000 events: nll, z and errors of order 3, and of its own general fit."""
    counts = spectra(edges, truth, (60, 300, 2_000, 20_000, 300_000), 40)
    templates = signal_templates(SignalShape(), [2000.0, 2600.0, 3400.0], edges)
    built_in = fit_background(counts, edges, 3, sqrt_s=SQRT_S)
    reference = scan_spectra(counts, built_in, templates, edges, sqrt_s=SQRT_S)
    fit = choose_background(counts, edges, sqrt_s=SQRT_S, family=DIJET)
    found = scan_spectra(counts, fit, templates, edges, sqrt_s=SQRT_S, family=DIJET)
    assert fit.converged.all()
    assert set(fit.order.tolist()) == {3}
    assert np.abs(fit.nll - built_in.nll).max() < 1e-4
    assert np.abs(found.z - reference.z).max() < 1e-3
    np.testing.assert_allclose(found.error, reference.error, rtol=1e-4)
    _, _, nll, converged = fit_formula(counts, edges, DIJET, sqrt_s=SQRT_S)
    assert converged.mean() > 0.99
    assert np.abs(nll - built_in.nll)[converged].max() < 1e-4


def test_a_formula_bent_in_its_parameters_has_the_same_fits(edges: Array, truth: Truth) -> None:
    counts = spectra(edges, truth, (2_000, 20_000, 300_000), 60)
    templates = signal_templates(SignalShape(), [2000.0, 2600.0, 3400.0], edges)
    built_in = fit_background(counts, edges, 3, sqrt_s=SQRT_S)
    reference = scan_spectra(counts, built_in, templates, edges, sqrt_s=SQRT_S)
    fit = choose_background(counts, edges, sqrt_s=SQRT_S, family=BENT)
    found = scan_spectra(counts, fit, templates, edges, sqrt_s=SQRT_S, family=BENT)
    assert fit.converged.mean() > 0.99
    assert np.abs(fit.nll - built_in.nll)[fit.converged].max() < 1e-4
    ok = found.converged & reference.converged
    assert ok.mean() > 0.98
    # a deficit that empties its window ends where the fits' paths meet that bound
    inside = ok & ((reference.z > 0) | (np.arange(len(counts)) >= 60)[:, None])
    assert np.abs(found.z - reference.z)[inside].max() < 1e-3
    np.testing.assert_allclose(found.error[inside], reference.error[inside], rtol=1e-2)


def minuit_nll(text: str, counts: Array, start: Array) -> float:
    """Return the minimum of iminuit's own cost for a formula, in p0, p1, ..., numerical gradients."""
    widths = np.diff(LINEAR_EDGES) / np.diff(LINEAR_EDGES).mean()
    centres = 0.5 * (LINEAR_EDGES[1:] + LINEAR_EDGES[:-1])

    def cumulative(_edges: Array, *p: float) -> Array:
        with np.errstate(all="ignore"):
            expected = np.exp(p[0]) * by_python(text, centres, np.array(p[1:])) * widths
        return np.concatenate([[0.0], np.cumsum(np.nan_to_num(np.maximum(expected, 1e-300), nan=1e30, posinf=1e30))])

    minuit = Minuit(ExtendedBinnedNLL(counts, LINEAR_EDGES, cumulative), *start)
    minuit.strategy, minuit.tol = 1, 1e-3
    minuit.migrad(ncall=10_000)
    minuit.migrad(ncall=10_000)
    expected = np.diff(cumulative(LINEAR_EDGES, *minuit.values))
    return float((expected - special.xlogy(counts, expected)).sum())


@pytest.mark.parametrize("text", NOT_LOG_LINEAR)
def test_a_formula_that_is_not_log_linear_has_the_minimum_of_iminuit(text: str) -> None:
    shape, true, events = NOT_LOG_LINEAR[text]
    expected = events * shape / shape.sum()
    counts = np.random.default_rng(22).poisson(expected, size=(100, len(shape))).astype(float)
    fit = choose_background(counts, LINEAR_EDGES, sqrt_s=SQRT_S, family=text)
    assert fit.parameters is not None
    agree = []
    for i in range(len(counts)):
        norm = np.log(counts[i].sum() / shape.sum())
        best = min(minuit_nll(text, counts[i], s) for s in (np.array([norm, *true]), fit.parameters[i]))
        agree.append(2 * abs(fit.nll[i] - best) < 1e-3)
    assert np.mean(agree) >= 0.99
    assert not fit.converged[~np.array(agree)].any()


def test_z_of_a_formula_is_a_standard_normal_without_signal_and_right_with_one() -> None:
    text = "(1-x)**p1 * x**(-p2) * (1 + tanh((x-p3)/p4))"
    shape, _, events = NOT_LOG_LINEAR[text]
    expected = events * shape / shape.sum()
    templates = signal_templates(SignalShape(), [1500.0, 2200.0], LINEAR_EDGES)
    for injected in (0.0, 80.0):
        counts = np.random.default_rng(23).poisson(expected + injected * templates[1], (800, len(shape))).astype(float)
        fit = choose_background(counts, LINEAR_EDGES, sqrt_s=SQRT_S, family=text)
        found = scan_spectra(counts, fit, templates, LINEAR_EDGES, sqrt_s=SQRT_S, family=text)
        assert found.converged.mean() > 0.99
        mu = found.signal[found.converged[:, 1], 1]
        assert abs(mu.mean() - injected) < 4 * mu.std() / np.sqrt(len(mu)) + 0.02 * injected
        assert found.error[found.converged[:, 1], 1].mean() == pytest.approx(mu.std(), rel=0.1)
        if injected == 0:
            assert abs(found.z.mean()) < 0.1
            assert found.z.std() == pytest.approx(1.0, abs=0.06)


def test_fits_without_a_minimum_are_flagged() -> None:
    """Two exponentials through events of one: the second has nothing to hold it."""
    text = "exp(-p1*x) + p2*exp(-p3*x)"
    counts = np.random.default_rng(24).poisson(1000 * np.exp(-30 * X) / np.exp(-30 * X).sum(), (200, 40)).astype(float)
    fit = choose_background(counts, LINEAR_EDGES, sqrt_s=SQRT_S, family=text)
    assert 0.02 < (~fit.converged).mean() < 0.8
    scan = scan_spectra(
        counts,
        fit,
        signal_templates(SignalShape(), [2000.0], LINEAR_EDGES),
        LINEAR_EDGES,
        sqrt_s=SQRT_S,
        family=text,
    )
    assert not scan.converged[~fit.converged].any()
    assert np.abs(scan.z[scan.converged]).max() < 6
    # where the second exponential is gone its slope says nothing of it, and no decrement makes that a minimum
    gone = np.array([np.log(1000 / np.exp(-30 * X).sum()), 30.0, -15.0, 800.0])
    curve = curve_around(text, LINEAR_EDGES, gone, counts.mean(axis=0), sqrt_s=SQRT_S)
    stuck = fit_curve(counts, curve, np.zeros((len(counts), 4)), iterations=150)
    assert stuck.converged.mean() < 0.3
    assert np.abs(curve.parameters(stuck.theta)[stuck.converged]).max() < 1e5
    empty = choose_background(np.zeros((1, 40)), LINEAR_EDGES, sqrt_s=SQRT_S, family=text)
    assert np.isfinite(empty.expected).all()


@pytest.mark.parametrize("text", [DIJET, BENT])
def test_minuit_reports_a_formula(text: str, edges: Array, truth: Truth, rng: np.random.Generator) -> None:
    counts = rng.poisson(truth(20_000)).astype(float)
    fit = fit_with_minuit(counts, edges, 3, sqrt_s=SQRT_S, family=text)
    reference = fit_with_minuit(counts, edges, 3, sqrt_s=SQRT_S)
    assert fit.valid
    assert list(fit.values) == ["p0", "p1", "p2", "p3"]
    assert 2 * abs(fit.nll - reference.nll) < 1e-3
    np.testing.assert_allclose(np.diag(fit.log_covariance)[:20], np.diag(reference.log_covariance)[:20], rtol=0.1)
    # the parameters are those of the formula as it is written
    p = np.array(list(fit.values.values()))
    np.testing.assert_allclose(
        np.exp(p[0]) * by_python(text, 0.5 * (edges[1:] + edges[:-1]), p[1:]) * np.diff(edges),
        fit.expected,
        rtol=1e-6,
    )
    p[0] += np.log(np.diff(edges).mean())  # the curve's own is of a bin of mean width
    eta = bare_curve(text, edges, sqrt_s=SQRT_S).log_expected(p[None])[0]
    np.testing.assert_allclose(np.exp(eta), fit.expected, rtol=1e-6)
    masked = np.ones(len(counts), dtype=bool)
    masked[8:12] = False
    holed = counts.copy()
    holed[8:12] = 0
    again = fit_with_minuit(holed, edges, 3, sqrt_s=SQRT_S, family=text, mask=masked)
    np.testing.assert_allclose(again.expected[8:12], fit.expected[8:12], rtol=0.1)


def test_a_hunt_with_a_formula(edges: Array, truth: Truth) -> None:
    template = signal_templates(SignalShape(), [2600.0], edges)[0]
    counts = np.round(truth(20_000) + 200 * template)
    settings = HuntSettings(family=BENT, pseudo_experiments=40)
    found = hunt([as_hist(edges, counts)], [2200.0, 2600.0, 3000.0], settings=settings, progress=False)
    same = hunt(
        [as_hist(edges, counts)],
        [2200.0, 2600.0, 3000.0],
        settings=HuntSettings(pseudo_experiments=0, lowest_orders=(3,), spare_orders=0),
        progress=False,
    )
    assert found.best == 1
    assert found.global_p is not None
    assert found.global_p.failed < 0.01
    np.testing.assert_allclose(found.scan.z, same.scan.z, atol=1e-3)
    model = limit_model(found, 2600.0)
    assert not isinstance(model, str)
    (quality,) = fit_qualities(found, ["all"])
    assert not quality.unfit
    assert quality.flexible_signal == pytest.approx(quality.signal, abs=3 * quality.error)
    with pytest.raises(InputError, match=r"did you mean 'dijet'.*or a formula"):
        hunt([as_hist(edges, counts)], [2600.0], settings=HuntSettings(family="dijets"))


def test_a_formula_has_one_order(edges: Array, truth: Truth) -> None:
    for text in (DIJET, BENT):
        with pytest.raises(InputError, match="no order 2; allowed: 3"):
            fit_background(truth(1000), edges, 2, sqrt_s=SQRT_S, family=text)
        with pytest.raises(InputError, match="no order 2; allowed: 3"):
            fit_with_minuit(truth(1000), edges, 2, sqrt_s=SQRT_S, family=text)
