"""pyhf's q0 beside the signed local p: a counting model of the signal window, its background from a fit without it.

Bins are used once: only the window's bins are in pyhf's likelihood, and their background moves along the eigenvectors of
the covariance of a fit with the window masked. q0 calls every deficit p = 0.5, so its p-values are reported and compared
where the fitted signal is positive, and never combined.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyhf

from .minuit_fit import fit_with_minuit

__all__ = ["discovery_p", "window_model"]

Floats = npt.NDArray[np.float64]
WINDOW_SHARE = 0.98
MAX_LOG_ERROR = 0.5  # where the sidebands know the background to a factor 1.6 only, Gaussian nuisances mean nothing
MIN_EIGENVALUE = 1e-3  # in units of the window's own statistical variance: directions below move nothing


def signal_window(template: Floats) -> npt.NDArray[np.bool_]:
    """Return the bins, side by side, that hold 98 % of the template (bins,)."""
    inside = np.zeros(len(template), dtype=bool)
    cumulative = np.cumsum(template) / template.sum()
    low = int(np.searchsorted(cumulative, 0.5 * (1 - WINDOW_SHARE)))
    high = int(np.searchsorted(cumulative, 1 - 0.5 * (1 - WINDOW_SHARE)))
    inside[low : high + 1] = True
    return inside


def window_model(
    counts: Floats, edges: Floats, template: Floats, order: int, *, sqrt_s: float, family: str = "dijet"
) -> tuple[Any, list[float]] | None:
    """Build the pyhf model of one region at one mass and its data; None where the sidebands do not determine the window's background.

    counts (bins,), edges (bins + 1,) GeV, template (bins,) for unit yield; mu is the yield in units of the square root of
    the window's background.
    """
    window = signal_window(template)
    if (~window & (counts > 0)).sum() <= order + 1:
        return None
    fit = fit_with_minuit(counts, edges, order, sqrt_s=sqrt_s, family=family, mask=~window)
    if not fit.valid:
        return None
    if float(np.diag(fit.log_covariance)[window].max()) > MAX_LOG_ERROR**2:
        return None
    background = np.maximum(fit.expected[window], 1e-6)
    values, vectors = np.linalg.eigh(fit.log_covariance[np.ix_(window, window)])
    modifiers = []
    for i in np.flatnonzero(values > MIN_EIGENVALUE / max(background.sum(), 1.0)):
        shift = np.sqrt(values[i]) * vectors[:, i]
        data = {"hi_data": (background * np.exp(shift)).tolist(), "lo_data": (background * np.exp(-shift)).tolist()}
        modifiers.append({"name": f"background_{i}", "type": "histosys", "data": data})
    unit = float(np.sqrt(background.sum() + 1.0))
    signal = unit * template[window]
    spec = {
        "channels": [
            {
                "name": "window",
                "samples": [
                    {
                        "name": "signal",
                        "data": signal.tolist(),
                        "modifiers": [{"name": "mu", "type": "normfactor", "data": None}],
                    },
                    {"name": "background", "data": background.tolist(), "modifiers": modifiers},
                ],
            }
        ],
        "parameters": [{"name": "mu", "inits": [1.0], "bounds": [[0.0, 50.0]]}],
    }
    model = pyhf.Model(
        spec,
        poi_name="mu",
        modifier_settings={"histosys": {"interpcode": "code4p"}, "normsys": {"interpcode": "code4"}},
    )
    return model, [*counts[window].tolist(), *model.config.auxdata]


def discovery_p(
    counts: Floats, edges: Floats, template: Floats, order: int, *, sqrt_s: float, family: str = "dijet"
) -> float | None:
    """Return pyhf's asymptotic q0 p-value of one region at one mass; None where no model can be built or fitted."""
    built = window_model(counts, edges, template, order, sqrt_s=sqrt_s, family=family)
    if built is None:
        return None
    model, data = built
    pyhf.set_backend("numpy", pyhf.optimize.minuit_optimizer(tolerance=1e-3))
    try:
        p = pyhf.infer.hypotest(0.0, data, model, test_stat="q0")
    except pyhf.exceptions.FailedMinimization:
        return None
    return float(np.asarray(p))
