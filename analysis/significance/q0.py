"""pyhf's q0 beside the signed local p, from a model of the same simultaneous fit written in pyhf's own terms.

Every bin is used once. By default all bins are in pyhf's likelihood and the background moves freely within its family,
as in the batched fits of `scan.py`: z then agrees to 1e-3. The other model holds the window's bins alone, a background
from a fit without them, and its covariance as Gaussian nuisances in ln b; it leaves out the 2 % of the signal outside
the window, and differs by up to 0.07 in z where windows expect 10 events a bin or more (a test has the grid). q0 calls
every deficit p = 0.5, so its p-values are reported and compared where the fitted signal is positive, and never combined.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyhf
from scipy import optimize

from ..fits.background import fit_background, is_log_linear, orthonormal_basis
from ..fits.bernstein import bernstein_basis
from ..fits.log_p import p_of_z
from ..fits.minuit_fit import fit_with_minuit
from .bumphunt import BumpHunt

__all__ = ["discovery_p", "q0_p", "q0_row", "q0_z", "spectrum_model", "window_model"]

Floats = npt.NDArray[np.float64]
WINDOW_SHARE = 0.98
MAX_LOG_ERROR = 0.5  # where the sidebands know the background to a factor 1.6 only, Gaussian nuisances mean nothing
MIN_EIGENVALUE = 1e-3  # in units of the window's own statistical variance: directions below move nothing
FIT_ERROR = 1e-6  # of q0
FREE = 150.0  # width of pyhf's constraint of a background move in that move's statistical error: as good as none
FARTHEST = 1.0  # bound of a move, in units of the width of its constraint
LEAST_WEIGHT = 0.1  # events: moves of a bin that expects next to none stay below exp(FREE / sqrt(0.1)), a float's range


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


def spectrum_model(
    counts: Floats, edges: Floats, template: Floats, order: int, *, sqrt_s: float, family: str = "dijet"
) -> tuple[Any, list[float]] | None:
    """Build the pyhf model of one region's whole spectrum at one mass and its data; None with too few filled bins.

    Arguments as for `window_model`; mu is the yield in units of its error with a known background. Raises InputError for a
    family that is neither log-linear nor "bernstein".
    """
    if (counts > 0).sum() <= order + 1:
        return None
    background = fit_background(counts, edges, order, sqrt_s=sqrt_s, family=family).expected[0]
    samples, parameters = (
        bernstein_samples(background, bernstein_basis(edges, order))
        if family == "bernstein"
        else log_linear_samples(background, edges, order, sqrt_s=sqrt_s, family=family)
    )
    unit = 1.0 / float(np.sqrt((template**2 / (background + LEAST_WEIGHT)).sum()))
    strength = {"name": "mu", "type": "normfactor", "data": None}
    signal = {"name": "signal", "data": (unit * template).tolist(), "modifiers": [strength]}
    spec = {
        "channels": [{"name": "spectrum", "samples": [signal, *samples]}],
        "parameters": [{"name": "mu", "inits": [0.5], "bounds": [[0.0, 50.0]]}, *parameters],
    }
    settings = {"histosys": {"interpcode": "code4p"}, "normsys": {"interpcode": "code1"}}
    # not validated: that takes longer than all fits of the model, and the form is ours (a test validates it)
    model = pyhf.Model(spec, validate=False, poi_name="mu", modifier_settings=settings)
    return model, [*counts.tolist(), *model.config.auxdata]


def log_linear_samples(
    background: Floats, edges: Floats, order: int, *, sqrt_s: float, family: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return pyhf samples and parameters of b = b0 exp(A alpha), b0 (bins,) any member of the family.

    Each bin is a sample of its own, times one `normsys` a parameter of the family; interpolated exponentially ("code1")
    that is the family exactly. A `normsys` is always constrained, here by 150 statistical errors: next to nothing.
    """
    weights = np.maximum(background, LEAST_WEIGHT)
    moves = FREE * orthonormal_basis(edges, order, sqrt_s=sqrt_s, family=family, weights=weights)
    names = [f"background_{k}" for k in range(moves.shape[1])]
    samples = []
    for i, events in enumerate(background.tolist()):
        factors = zip(names, np.exp(moves[i]).tolist(), np.exp(-moves[i]).tolist(), strict=True)
        modifiers = [{"name": n, "type": "normsys", "data": {"hi": high, "lo": low}} for n, high, low in factors]
        data = [0.0] * len(background)
        data[i] = events
        samples.append({"name": f"bin_{i}", "data": data, "modifiers": modifiers})
    return samples, [{"name": n, "inits": [0.0], "bounds": [[-FARTHEST, FARTHEST]]} for n in names]


def bernstein_samples(background: Floats, basis: Floats) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return pyhf samples and parameters of b = B c, c >= 0: each polynomial of the basis (bins, k) with its norm."""
    share = float(background.sum()) / basis.shape[1]
    start = optimize.nnls(basis * np.sqrt(1.0 / np.maximum(background, 1e-9))[:, None], np.sqrt(background))[0] / share
    samples, parameters = [], []
    for k, value in enumerate(start.tolist()):
        norm = {"name": f"c{k}", "type": "normfactor", "data": None}
        samples.append({"name": f"polynomial_{k}", "data": (share * basis[:, k]).tolist(), "modifiers": [norm]})
        parameters.append({"name": f"c{k}", "inits": [value], "bounds": [[0.0, 10.0 * basis.shape[1]]]})
    return samples, parameters


def discovery_p(
    counts: Floats,
    edges: Floats,
    template: Floats,
    order: int,
    *,
    sqrt_s: float,
    family: str = "dijet",
    bins: Literal["all", "window"] = "all",
) -> float | None:
    """Return pyhf's asymptotic q0 p-value of one region at one mass; None where no model can be built or fitted.

    Arguments as for `window_model`; bins: those in pyhf's likelihood, the window's alone for a family that is
    neither log-linear nor Bernstein polynomials.
    """
    whole = is_log_linear(family) or family == "bernstein"
    build = spectrum_model if bins == "all" and whole else window_model
    built = build(counts, edges, template, order, sqrt_s=sqrt_s, family=family)
    if built is None:
        return None
    return q0_p(*built)


def q0_p(model: Any, data: list[float]) -> float | None:
    """Return pyhf's asymptotic q0 p-value of a model and its data, 0.5 for every deficit; None where no fit converges."""
    z = q0_z(model, data)
    return None if z is None else float(p_of_z(z))


def q0_z(model: Any, data: list[float]) -> float | None:
    """Return the square root of pyhf's q0, the z of `q0_p` however large it is; 0 for every deficit."""
    config = model.config
    start, bounds, fixed = config.suggested_init(), config.suggested_bounds(), config.suggested_fixed()
    for optimizer in (pyhf.optimize.minuit_optimizer(tolerance=1e-3), pyhf.optimize.scipy_optimizer()):
        pyhf.set_backend("numpy", optimizer)
        try:
            # what `hypotest` does for its p, without three more fits for the Asimov data
            q0 = float(pyhf.infer.test_statistics.q0(0.0, data, model, start, bounds, fixed))
        except pyhf.exceptions.FailedMinimization:
            continue
        # the p of a deficit is 0.5 and not nearly so: `combine` knows it by that
        return float(np.sqrt(q0)) if q0 > FIT_ERROR else 0.0
    return None


def q0_row(found: BumpHunt, region: int) -> tuple[float | None, ...]:
    """Return pyhf's q0 p-value at every mass where one region's fitted signal is positive, None elsewhere."""
    row: list[float | None] = []
    for m in range(len(found.masses)):
        if not (found.scan.signal[region, m] > 0 and found.scan.converged[region, m]):
            row.append(None)
            continue
        row.append(
            discovery_p(
                found.counts[region],
                found.edges,
                found.templates[m],
                int(found.background.order[region]),
                sqrt_s=found.settings.sqrt_s,
                family=found.settings.family,
            )
        )
    return tuple(row)
