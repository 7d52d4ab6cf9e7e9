"""The fit of background and signal together: what one region expects in every bin with the signal of one mass, or of two."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..fits.bernstein import bernstein_basis, fit_bernstein
from ..fits.formula_fit import curve_around
from ..fits.log_linear import fit_one_signal
from ..fits.newton import fit_curve
from ..fits.scan import PATIENCE
from ..fits.second_signal import fit_with_signals
from ..significance.after_first import Second
from ..significance.bumphunt import BumpHunt

__all__ = ["both_curve", "signal_curve"]

Floats = npt.NDArray[np.float64]
LEAST = 1e-9  # events a bin


def signal_curve(found: BumpHunt, region: int, m: int) -> Floats | None:
    """Return the events (bins,) that one region expects of the fit of background and signal at mass number m; None where it does not end.

    The background beside the signal is another one than that without: the two curves differ by more than the fitted signal.
    """
    expected = expectation(found, region, m)
    # a deficit can empty a bin, and nothing is left of it then but rounding
    return None if expected is None else np.maximum(expected, LEAST)


def both_curve(found: BumpHunt, region: int, second: Second) -> Floats | None:
    """Return the events (bins,) that one region expects of the fit of background and both signals; None where it does not end."""
    columns = found.columns(region)
    if columns is None:
        return None
    _, expected, _, converged = fit_with_signals(
        found.counts[region],
        columns.basis,
        columns.offset,
        second.templates,
        columns.theta,
        precision=columns.precision,
    )
    return np.maximum(expected, LEAST) if converged else None


def expectation(found: BumpHunt, region: int, m: int) -> Floats | None:
    """Return the expectation of the family's own fit with signal."""
    settings, background = found.settings, found.background
    counts, template = found.counts[region], found.templates[m]
    columns = found.columns(region)
    if columns is not None:
        fit = fit_one_signal(
            counts, columns.basis, columns.offset, template, columns.theta, precision=columns.precision
        )
        return fit.expected if fit.converged else None
    if settings.family == "bernstein":
        basis = bernstein_basis(found.edges, int(background.order[region]))
        polynomial = fit_bernstein(counts[None], basis, template[None])
        return np.asarray(polynomial.expected[0]) if polynomial.converged[0] else None
    assert background.parameters is not None, "choose_background gives the parameters of a formula"
    parameters = background.parameters[region]
    curve = curve_around(settings.family, found.edges, parameters, counts, sqrt_s=settings.sqrt_s)
    written = fit_curve(counts[None], curve, curve.theta(parameters[None]), template[None], iterations=PATIENCE)
    if not written.converged[0]:
        return None
    return np.asarray(curve.expected(written.theta)[0] + written.signal[0] * template)
