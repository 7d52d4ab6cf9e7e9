"""Two signals fitted at once, against iminuit and against the scan of one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from iminuit import Minuit

from hunch.analysis import HuntSettings, SignalShape, signal_templates
from hunch.analysis.fits.background import choose_background, columns_of_process
from hunch.analysis.fits.columns import columns_at
from hunch.analysis.fits.gaussian_process import GAUSSIAN_PROCESS, GaussianProcess, evidences, signal_evidences
from hunch.analysis.fits.log_linear import fit_one_signal
from hunch.analysis.fits.second_signal import fit_with_signals, scan_seconds

Array = np.ndarray[Any, Any]


@pytest.mark.parametrize("family", ["dijet", GAUSSIAN_PROCESS])
@pytest.mark.parametrize("events", [300, 100_000])
def test_two_yields_are_those_of_iminuit(family: str, events: int, edges: Array, truth: Any) -> None:
    templates = signal_templates(SignalShape(), [2300.0, 3100.0], edges)
    strength = 8 * np.sqrt(events / 1000)
    counts = np.random.default_rng(4).poisson(truth(events) + strength * np.array([3.0, 1.0]) @ templates)
    fit = choose_background(counts[None], edges, sqrt_s=13_000.0, family=family)
    own = columns_at(fit, 0, edges, sqrt_s=13_000.0, family=family)
    mu, nu, nll, converged = fit_with_signals(
        counts, own.basis, own.offset, templates, own.theta, precision=own.precision
    )
    assert converged

    def minus_log_l(x: Array) -> float:
        expected = own.expected(x[2:]) + x[:2] @ templates
        if (expected <= 0).any():
            return 1e30
        return float((expected - counts * np.log(expected)).sum() + 0.5 * (own.precision * x[2:] ** 2).sum())

    minuit = Minuit(minus_log_l, np.concatenate([mu + 2.0, own.theta]))
    minuit.errordef, minuit.strategy = 0.5, 2
    minuit.errors = np.concatenate([np.sqrt(events) * np.ones(2) / 10, 0.1 * np.ones(len(own.theta))])
    minuit.migrad(ncall=50_000)
    assert nll <= minuit.fval + 1e-5
    np.testing.assert_allclose(mu, np.array(minuit.values)[:2], atol=0.05 * max(1.0, float(minuit.errors[0])))
    assert nu.min() > 0
    # without the second it is the fit of one
    alone = fit_one_signal(counts, own.basis, own.offset, templates[0], own.theta, precision=own.precision)
    one, _, _, _ = fit_with_signals(counts, own.basis, own.offset, templates[:1], own.theta, precision=own.precision)
    assert one[0] == pytest.approx(alone.signal, abs=1e-3 * alone.error)


def test_the_scan_of_a_second_signal_is_the_gain_of_both_fits(edges: Array, truth: Any) -> None:
    masses = np.array([1900.0, 2300.0, 2800.0, 3300.0])
    templates = signal_templates(SignalShape(), masses, edges)
    counts = np.random.default_rng(6).poisson(
        truth(20_000) + 120 * templates[1] + 40 * templates[3], (40, len(edges) - 1)
    )
    rows = np.ascontiguousarray(counts, dtype=np.float64)
    process = GaussianProcess(widths=(0.1, 0.3), lengths=(0.3, 0.6))
    columns = columns_of_process(process, edges, rows, sqrt_s=13_000.0)
    theta, _ = evidences(rows, columns)
    chosen = np.tile([1, 0], (40, 1))
    first = np.repeat(templates[1:2], 40, axis=0)
    asked = np.tile([True, False, True, True], (40, 1))
    made = scan_seconds(rows, columns, chosen, theta[:, 1, 0], first, templates, asked)
    assert made.signals.converged[:, [0, 2, 3]].all()
    assert not made.signals.converged[:, 1].any()
    assert (made.signals.gain[:, 1] == 0).all()
    basis = np.concatenate([columns.free, 0.1 * columns.modes[1]]).T
    precision = np.append(columns.prior, np.ones(len(columns.modes[1])))
    for n in (0, 7):
        own = (rows[n], basis, columns.offset)
        one, nu, alone, _ = fit_with_signals(*own, templates[1:2], theta[n, 1, 0], precision=precision)
        both, _, nll, _ = fit_with_signals(*own, templates[[1, 3]], theta[n, 1, 0], precision=precision)
        assert made.first[n] == pytest.approx(one[0], rel=1e-4)
        np.testing.assert_allclose(made.expected[n], nu, rtol=1e-4)
        assert made.signals.signal[n, 3] == pytest.approx(both[1], abs=1e-2)
        assert made.signals.gain[n, 3] == pytest.approx(alone - nll, abs=1e-3)
    # a second signal where there is none adds no more than Occam's factor takes; evidence of the true pair is larger
    pair = signal_evidences(rows, columns, theta, first, np.repeat(templates[3:], 40, axis=0))
    single = signal_evidences(rows, columns, theta, first)
    assert np.isfinite(pair).all()
    assert np.median(pair - single) > 0
    assert HuntSettings().after_first is None
