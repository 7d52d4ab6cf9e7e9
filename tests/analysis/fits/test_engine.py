"""The compiled fits against what other minimisers find of the same likelihood."""

from __future__ import annotations

import ast
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from iminuit import Minuit
from scipy import optimize

import hunch
from hunch.analysis.fits.log_linear import fit_log_linear, fit_one_signal, fit_signals

Array = np.ndarray[Any, np.dtype[np.float64]]
BINS = 30
T = np.linspace(-1, 1, BINS)
BASIS = np.stack([np.ones(BINS), T, T**2, 0.3 * np.cos(6 * T), 0.3 * np.sin(6 * T)], axis=1)
PRECISION = np.array([0.0, 0.0, 0.0, 1.0, 4.0])
OFFSET = np.linspace(0.2, -0.2, BINS)
TEMPLATES = np.stack([np.exp(-0.5 * ((T - m) / 0.1) ** 2) for m in (-0.8, 0.0, 0.7)])
TEMPLATES /= TEMPLATES.sum(axis=1, keepdims=True)


def drawn(rng: np.random.Generator, events: float, n: int = 20) -> Array:
    nu = np.exp(BASIS @ [0.0, -2.0, 0.4, 0.5, -0.3] + OFFSET)
    return rng.poisson(nu / nu.sum() * events, size=(n, BINS)).astype(float)


def minus_log_l(counts: Array, theta: Array, mu: float = 0.0, template: Array | float = 0.0) -> float:
    nu = np.exp(np.clip(BASIS @ theta + OFFSET, -60, 60)) + mu * np.asarray(template)
    if (nu <= 0).any():
        return 1e30
    return float((nu - counts * np.log(nu)).sum() + 0.5 * (PRECISION * theta**2).sum())


def with_signal(x: Array, *, counts: Array, template: Array) -> float:
    return minus_log_l(counts, x[:-1], x[-1], template)


@pytest.mark.parametrize("events", [30, 1000, 1e6])
def test_a_penalised_background_is_that_of_scipy(events: float, rng: np.random.Generator) -> None:
    counts = drawn(rng, events, 5)
    theta, nll, converged = fit_log_linear(counts, BASIS, OFFSET, precision=PRECISION)
    assert converged.all()
    for row, own, value in zip(counts, theta, nll, strict=True):
        found = optimize.minimize(lambda t, c=row: minus_log_l(c, t), own + 0.01, method="BFGS", options={"gtol": 1e-7})
        assert value == pytest.approx(minus_log_l(row, own), rel=1e-12)
        assert value <= found.fun + 1e-6
        np.testing.assert_allclose(own, found.x, atol=2e-2 if events < 100 else 1e-3)


@pytest.mark.parametrize("events", [100, 3000, 1e6])
def test_signal_fits_and_their_flags_are_those_of_iminuit(events: float, rng: np.random.Generator) -> None:
    """z to 1e-3 and the error to 1 %, at z near 0 and at several sigma, and no fit that iminuit ends is called failed."""
    counts = drawn(rng, events, 4)
    counts[0] = np.round(counts[0] + 6 * np.sqrt(counts[0].max()) * TEMPLATES[1])
    theta, nll, _ = fit_log_linear(counts, BASIS, OFFSET, precision=PRECISION)
    fits = fit_signals(counts, BASIS, OFFSET, TEMPLATES, theta, precision=PRECISION)
    assert fits.converged.all()
    for n, row in enumerate(counts):
        for m, template in enumerate(TEMPLATES):
            cost = partial(with_signal, counts=row, template=template)
            minuit = Minuit(cost, np.append(theta[n], 0.0), name=[f"x{i}" for i in range(6)])
            minuit.errordef, minuit.tol, minuit.strategy = 0.5, 1e-4, 2
            minuit.migrad(ncall=20_000)
            z = [
                np.sign(v) * np.sqrt(2 * max(g, 0))
                for v, g in ((fits.signal[n, m], fits.gain[n, m]), (minuit.values[-1], nll[n] - minuit.fval))
            ]
            at_edge = minuit.values[-1] < 0 and fits.error[n, m] > 3 * abs(fits.signal[n, m])
            if minuit.valid and not at_edge:
                assert z[0] == pytest.approx(z[1], abs=1e-3)
                minuit.hesse()
                assert fits.error[n, m] == pytest.approx(minuit.errors[-1], rel=0.01)


def test_a_spectrum_that_is_its_own_expectation_has_z_of_zero_and_converges() -> None:
    theta = np.array([5.0, -1.0, 0.2, 0.0, 0.0])
    counts = np.exp(BASIS @ theta + OFFSET)[None]
    found, _, converged = fit_log_linear(counts, BASIS, OFFSET, precision=PRECISION)
    fits = fit_signals(counts, BASIS, OFFSET, TEMPLATES, found, precision=PRECISION)
    assert converged.all()
    assert fits.converged.all()
    np.testing.assert_allclose(found[0], theta, atol=1e-5)
    assert np.abs(fits.signal / fits.error).max() < 1e-4


def test_an_empty_window_ends_where_its_bins_reach_zero(rng: np.random.Generator) -> None:
    counts = drawn(rng, 400, 3)
    counts[:, 12:18] = 0
    theta, _, _ = fit_log_linear(counts, BASIS, OFFSET, precision=PRECISION)
    fits = fit_signals(counts, BASIS, OFFSET, TEMPLATES[1:2], theta, precision=PRECISION)
    assert fits.converged.all()
    assert (fits.signal < 0).all()
    fit = fit_one_signal(counts[0], BASIS, OFFSET, TEMPLATES[1], theta[0], precision=PRECISION)
    assert (fit.expected > 0).all()
    assert fit.signal == pytest.approx(fits.signal[0, 0])


def test_a_row_is_fitted_as_it_is_alone(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the spectra beside it nor the number of threads changes a digit."""
    counts = drawn(rng, 2000, 130)
    theta, _, _ = fit_log_linear(counts, BASIS, OFFSET, precision=PRECISION)
    fits = fit_signals(counts, BASIS, OFFSET, TEMPLATES, theta, precision=PRECISION)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    again = fit_signals(counts, BASIS, OFFSET, TEMPLATES, theta, precision=PRECISION)
    alone = fit_signals(counts[77:78], BASIS, OFFSET, TEMPLATES, theta[77:78], precision=PRECISION)
    for whole, threaded, one in zip(fits, again, alone, strict=True):
        np.testing.assert_array_equal(whole, threaded)
        np.testing.assert_array_equal(whole[77:78], one)


def test_masked_bins_say_nothing(rng: np.random.Generator) -> None:
    counts = drawn(rng, 5000, 2)
    keep = np.ones(BINS)
    keep[10:14] = 0
    other = counts.copy()
    other[:, 10:14] = 1e5
    first, second = (fit_log_linear(c, BASIS, OFFSET, keep, precision=PRECISION)[1] for c in (counts, other))
    np.testing.assert_allclose(first, second, rtol=1e-9)


def test_compiled_kernels_call_kernels_of_their_own_file_alone() -> None:
    """numba makes a cached kernel anew when its own file changes, and not when a kernel in another file does."""
    root = Path(hunch.__file__).parent
    compiled: dict[str, set[str]] = {}
    trees = {}
    for path in root.glob("analysis/**/*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        trees[path] = tree
        compiled[str(path)] = {
            f.name
            for f in ast.walk(tree)
            if isinstance(f, ast.FunctionDef)
            and any("jit" in ast.dump(d) or "compiled" in ast.dump(d) for d in f.decorator_list)
        }
    assert "fit_signal" in compiled[str(root / "analysis/fits/engine.py")]
    for path, tree in trees.items():
        own = compiled[str(path)]
        elsewhere = set().union(*(names for other, names in compiled.items() if other != str(path))) - own
        imported = {a.asname or a.name for i in ast.walk(tree) if isinstance(i, ast.ImportFrom) for a in i.names}
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef) and function.name in own:
                called = {
                    c.func.id for c in ast.walk(function) if isinstance(c, ast.Call) and isinstance(c.func, ast.Name)
                }
                assert not called & elsewhere & imported, (
                    f"{path.name}: {function.name} calls {called & elsewhere & imported}"
                )
