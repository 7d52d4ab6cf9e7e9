"""The dijet function times a Gaussian process: its columns, its evidence, its choice, and what iminuit makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hunch.analysis import HuntSettings, SignalShape, choose_background, fit_with_minuit, mass_edges, signal_templates
from hunch.analysis.fits.background import columns_of_process, poisson_nll
from hunch.analysis.fits.columns import columns_at
from hunch.analysis.fits.gaussian_process import GAUSSIAN_PROCESS, GaussianProcess, evidences, process_modes
from hunch.analysis.fits.scan import scan_spectra
from hunch.analysis.significance.bumphunt import hunt
from hunch.analysis.significance.procedure import procedure
from hunch.analysis.spectra.bins import as_hist
from hunch.errors import InputError

Array = np.ndarray[Any, np.dtype[np.float64]]
SQRT_S = 13_000.0
EDGES = mass_edges(1530, 7060)
CENTRES = 0.5 * (EDGES[1:] + EDGES[:-1])
MASSES = np.geomspace(1700, 5500, 12)
TEMPLATES = signal_templates(SignalShape(), MASSES, EDGES)


def falling(events: float, bend: float = 0.0) -> Array:
    """A dijet function of order 3, or one with a smoothly broken power."""
    x = CENTRES / SQRT_S
    nu = (1 - x) ** 8 * x**-5.2 * np.diff(EDGES) / (1 + bend * (CENTRES / 2500) ** 4)
    return np.asarray(nu * events / nu.sum())


def test_modes_build_up_the_covariance() -> None:
    u = np.log(CENTRES)
    wanted = np.exp(-((u[:, None] - u[None, :]) ** 2) / (2 * 0.6**2))
    modes = process_modes(EDGES, 0.6, 14)
    np.testing.assert_allclose(modes.T @ modes, wanted, atol=1e-6)
    assert (modes[np.arange(14), np.abs(modes).argmax(axis=1)] > 0).all()


@pytest.mark.parametrize("events", [2e3, 1e6])
def test_the_evidence_is_that_of_gaussians_around_the_mode(events: float, rng: np.random.Generator) -> None:
    """ln Z against numpy's: the penalised ln L at the mode less half of ln det of the Hessian, and the width's prior exp(-w)."""
    counts = rng.poisson(falling(events, 1.0), size=(2, len(CENTRES))).astype(float)
    process = GaussianProcess()
    columns = columns_of_process(process, EDGES, counts, sqrt_s=SQRT_S)
    theta, log_z = evidences(counts, columns)
    for n in range(2):
        for q in range(2):
            for s, width in enumerate(process.widths):
                basis = np.concatenate([columns.free, width * columns.modes[q]])
                prior = np.append(np.zeros(4), np.ones(14))
                nu = np.exp(theta[n, q, s] @ basis + columns.offset)
                hessian = (basis * nu) @ basis.T + np.diag(prior)
                value = poisson_nll(counts[n], nu) + 0.5 * (prior * theta[n, q, s] ** 2).sum()
                # modes that the counts cannot tell are left out, which moves ln Z by less than their information
                wanted = -value - 0.5 * np.linalg.slogdet(hessian)[1] - width
                assert log_z[n, q, s] == pytest.approx(wanted, abs=2e-3)


def test_a_true_dijet_function_is_left_alone_and_a_bent_one_is_not(rng: np.random.Generator) -> None:
    told = {}
    for bend in (0.0, 1.0):
        counts = rng.poisson(falling(1e6, bend), size=(40, len(CENTRES))).astype(float)
        fit = choose_background(counts, EDGES, sqrt_s=SQRT_S, family=GAUSSIAN_PROCESS)
        assert fit.converged.all()
        assert fit.process is not None
        told[bend] = np.median(fit.process.width), fit.n_parameters.mean()
    assert told[0.0][0] == 0.003
    assert told[0.0][1] == pytest.approx(4.2, abs=0.3)
    assert told[1.0][0] >= 0.03
    assert told[1.0][1] > told[0.0][1] + 0.5


def test_few_events_that_tell_nothing_of_a_process_have_none(rng: np.random.Generator) -> None:
    """Without a prior of the width half of such spectra had the widest, whose evidence is the same."""
    counts = rng.poisson(falling(300.0), size=(200, 1, len(CENTRES))).astype(float)
    process = procedure(counts, EDGES, TEMPLATES, HuntSettings(family=GAUSSIAN_PROCESS)).background.process
    assert process is not None
    assert (process.width < 0.1).mean() > 0.85


def test_iminuit_has_the_same_fit(rng: np.random.Generator) -> None:
    counts = rng.poisson(falling(1e5, 1.0)).astype(float)
    fit = choose_background(counts, EDGES, sqrt_s=SQRT_S, family=GAUSSIAN_PROCESS)
    columns = columns_at(fit, 0, EDGES, sqrt_s=SQRT_S, family=GAUSSIAN_PROCESS)
    np.testing.assert_allclose(columns.expected(columns.theta), fit.expected[0], rtol=1e-8)
    other = fit_with_minuit(counts, EDGES, 3, sqrt_s=SQRT_S, family=GAUSSIAN_PROCESS, columns=columns)
    assert other.valid
    assert other.nll == pytest.approx(fit.nll[0], abs=1e-4)
    np.testing.assert_allclose(other.expected, fit.expected[0], rtol=5e-3)
    assert list(other.values)[:5] == ["p0", "p1", "p2", "p3", "g0"]


def test_the_parameters_told_are_the_trace_of_the_projection(rng: np.random.Generator) -> None:
    counts = rng.poisson(falling(1e6, 1.0)).astype(float)
    fit = choose_background(counts, EDGES, sqrt_s=SQRT_S, family=GAUSSIAN_PROCESS)
    columns = columns_at(fit, 0, EDGES, sqrt_s=SQRT_S, family=GAUSSIAN_PROCESS)
    information = (columns.basis.T * fit.expected[0]) @ columns.basis
    wanted = np.trace(np.linalg.solve(information + np.diag(columns.precision), information))
    assert fit.n_parameters[0] == pytest.approx(wanted, rel=1e-4)


def test_a_scan_is_that_of_the_chosen_process(rng: np.random.Generator) -> None:
    counts = rng.poisson(falling(1e5, 1.0), size=(6, len(CENTRES))).astype(float)
    settings = HuntSettings(family=GAUSSIAN_PROCESS)
    made = procedure(counts[:, None, :], EDGES, TEMPLATES, settings)
    first = choose_background(counts, EDGES, sqrt_s=SQRT_S, family=GAUSSIAN_PROCESS)
    for background, scan in ((made.background, made.scan), (first, made.first)):
        again = scan_spectra(counts, background, TEMPLATES, EDGES, sqrt_s=SQRT_S, family=GAUSSIAN_PROCESS)
        np.testing.assert_allclose(again.z, scan.z, atol=2e-4)
        np.testing.assert_allclose(again.error, scan.error, rtol=1e-3)


def test_a_signal_does_not_choose_its_own_background(rng: np.random.Generator) -> None:
    """A process chosen with the signal beside it keeps more of an injected excess than one chosen without."""
    truth = falling(1e6, 1.0)
    size = 8 * np.sqrt(1 / (TEMPLATES[5] ** 2 / truth).sum())
    counts = rng.poisson(truth + size * TEMPLATES[5], size=(60, len(truth))).astype(float)
    made = procedure(counts[:, None, :], EDGES, TEMPLATES, HuntSettings(family=GAUSSIAN_PROCESS))
    assert np.median(made.scan.z[:, 5]) > np.median(made.first.z[:, 5]) + 0.1
    assert (made.log_combined.argmin(axis=1) == 5).mean() > 0.9


def test_regions_share_the_mass_of_the_second_choice(rng: np.random.Generator) -> None:
    """An excess in one region has the other's background chosen with a signal there too: the choice is of the whole search."""
    quiet, loud = falling(1e5, 1.0), falling(1e5, 1.0)
    loud = loud + 12 * np.sqrt(1 / (TEMPLATES[8] ** 2 / loud).sum()) * TEMPLATES[8]
    counts = rng.poisson(np.stack([quiet, loud])).astype(float)
    settings = HuntSettings(family=GAUSSIAN_PROCESS)
    both = procedure(counts[None], EDGES, TEMPLATES, settings).background.process
    at = procedure(counts[None, :1], EDGES, TEMPLATES[8:9], settings).background.process
    assert both is not None
    assert at is not None
    # up to a constant of the spectrum
    both_z, at_z = (f.log_evidence[0] - f.log_evidence[0].max() for f in (both, at))
    np.testing.assert_allclose(both_z, at_z, atol=1e-6)


def test_a_fixed_width_and_length(rng: np.random.Generator) -> None:
    counts = rng.poisson(falling(1e4)).astype(float)
    fixed = GaussianProcess(widths=(0.3,), lengths=(0.6,))
    fit = choose_background(counts, EDGES, sqrt_s=SQRT_S, family=GAUSSIAN_PROCESS, process=fixed)
    assert fit.process is not None
    assert (fit.process.width.tolist(), fit.process.length.tolist()) == ([0.3], [0.6])


def test_edge_terms_take_up_what_is_left_of_a_turn_on(rng: np.random.Generator) -> None:
    u = np.log(CENTRES / EDGES[0])
    counts = rng.poisson(falling(1e6) * (1 - 0.15 * np.exp(-u / 0.1)), size=(30, len(CENTRES))).astype(float)
    bias = []
    for edge_terms in (False, True):
        settings = HuntSettings(family=GAUSSIAN_PROCESS, process=GaussianProcess(edge_terms=edge_terms))
        scan = procedure(counts[:, None, :], EDGES, TEMPLATES, settings).scan
        bias.append(float(np.abs((scan.signal / scan.error).mean(axis=0)).max()))
    assert bias[1] < 0.6
    assert bias[0] > bias[1] + 0.3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"widths": ()}, "widths"),
        ({"widths": (0.1, 0.03)}, r"each larger.*0\.1, 0\.03"),
        ({"lengths": (0.0, 0.3)}, "lengths"),
        ({"modes": 0}, "1 mode or more; found 0"),
    ],
)
def test_processes_that_are_none(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        GaussianProcess(**options)


def test_a_signal_wider_than_the_process_allows_is_refused() -> None:
    counts = as_hist(EDGES, falling(1e5).round())
    settings = HuntSettings(family=GAUSSIAN_PROCESS, pseudo_experiments=0)
    with pytest.raises(InputError, match=r"12 % of its mass wide.*at most 10 %"):
        hunt([counts], [3000.0], shape=SignalShape(0.12), settings=settings)


def test_a_sparse_spectrum_and_one_of_few_bins(rng: np.random.Generator) -> None:
    counts = rng.poisson(falling(40), size=(50, len(CENTRES))).astype(float)
    fit = choose_background(counts, EDGES, sqrt_s=SQRT_S, family=GAUSSIAN_PROCESS)
    assert fit.converged.all()
    assert np.isfinite(fit.expected).all()
    few = choose_background(counts[:, :7], EDGES[:8], sqrt_s=SQRT_S, family=GAUSSIAN_PROCESS)
    assert few.converged.mean() > 0.9
