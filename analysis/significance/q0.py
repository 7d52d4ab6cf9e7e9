"""pyhf's q0 beside the signed local p, from a model of the same simultaneous fit written in pyhf's own terms.

All bins are in pyhf's likelihood, and the background moves freely within its family, as in the batched fits of `scan.py`: z
then agrees to 1e-3. A formula that is not log-linear moves along its tangent at the fit, by which z
differs by some hundredths, and up to 0.17 for a sum of exponentials. q0 calls every deficit p = 0.5, so
its p-values are reported and compared where the fitted signal is positive, and never combined.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyhf
from scipy import optimize

from ..fits.background import fit_background, is_log_linear
from ..fits.bernstein import bernstein_basis
from ..fits.columns import Columns, columns_at
from ..fits.gaussian_process import GAUSSIAN_PROCESS
from ..fits.log_p import p_of_z
from ..fits.tangent import tangent_basis
from .bumphunt import BumpHunt

__all__ = ["discovery_p", "q0_p", "q0_row", "q0_z", "signal_window", "spectrum_model"]

Floats = npt.NDArray[np.float64]
WINDOW_SHARE = 0.98
FIT_ERROR = 1e-6  # of q0
FREE = 150.0  # width of pyhf's constraint of a background move in that move's statistical error: as good as none
FARTHEST = 1.0  # bound of a move, in units of the width of its constraint
FARTHEST_TERM = 10.0  # the same of a constrained term
LEAST_WEIGHT = 0.1  # events


def signal_window(template: Floats) -> npt.NDArray[np.bool_]:
    """Return the bins, side by side, that hold 98 % of the template (bins,)."""
    inside = np.zeros(len(template), dtype=bool)
    cumulative = np.cumsum(template) / template.sum()
    low = int(np.searchsorted(cumulative, 0.5 * (1 - WINDOW_SHARE)))
    high = int(np.searchsorted(cumulative, 1 - 0.5 * (1 - WINDOW_SHARE)))
    inside[low : high + 1] = True
    return inside


def spectrum_model(
    counts: Floats,
    edges: Floats,
    template: Floats,
    order: int,
    *,
    sqrt_s: float,
    family: str = "dijet",
    columns: Columns | None = None,
) -> tuple[Any, list[float]] | None:
    """Build the pyhf model of one region's whole spectrum at one mass and its data; None with too few filled bins.

    counts (bins,), edges (bins + 1,) GeV, template (bins,) for unit yield; mu is the yield in units of its error with a known
    background; columns: of a background that is fitted already, as a Gaussian process is. A formula that is not log-linear is taken
    along its tangent.
    """
    if (counts > 0).sum() <= order + 1:
        return None
    if family == "bernstein":
        background = fit_background(counts, edges, order, sqrt_s=sqrt_s, family=family).expected[0]
        samples, parameters = bernstein_samples(background, bernstein_basis(edges, order))
    else:
        columns = columns or columns_of_fit(counts, edges, order, sqrt_s=sqrt_s, family=family)
        background = columns.expected(columns.theta)
        samples, parameters = log_linear_samples(columns)
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


def columns_of_fit(counts: Floats, edges: Floats, order: int, *, sqrt_s: float, family: str) -> Columns:
    """Fit one spectrum and return its columns: of a formula that is not log-linear, its tangent."""
    fit = fit_background(counts, edges, order, sqrt_s=sqrt_s, family=family)
    if is_log_linear(family) or family == GAUSSIAN_PROCESS:
        return columns_at(fit, 0, edges, sqrt_s=sqrt_s, family=family)
    basis = tangent_basis(fit, 0, counts, edges, sqrt_s=sqrt_s, family=family, least=LEAST_WEIGHT)
    none = np.zeros(basis.shape[1])
    return Columns(basis, fit.log_expected[0], none, none)


def log_linear_samples(columns: Columns) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return pyhf samples and parameters of a background with these columns, the free ones as moves from the fit.

    Each bin is a sample of its own, times one `normsys` a column; interpolated exponentially ("code1") that is the background
    exactly. A `normsys` is always constrained: a free column by 150 statistical errors, next to nothing, a constrained one by its
    prior.
    """
    free, k = columns.n_free, len(columns.theta)
    background = columns.expected(np.append(columns.theta[:free], np.zeros(k - free)))
    moves = columns.basis * np.append(np.full(free, FREE), np.ones(k - free))
    names = [f"background_{j}" for j in range(k)]
    samples = []
    for i, events in enumerate(background.tolist()):
        factors = zip(names, np.exp(moves[i]).tolist(), np.exp(-moves[i]).tolist(), strict=True)
        modifiers = [{"name": n, "type": "normsys", "data": {"hi": high, "lo": low}} for n, high, low in factors]
        data = [0.0] * len(background)
        data[i] = events
        samples.append({"name": f"bin_{i}", "data": data, "modifiers": modifiers})
    start = [0.0] * free + columns.theta[free:].tolist()
    # a strong signal pulls the background alone far from its prior
    reach = [FARTHEST] * free + [max(FARTHEST_TERM, 2 * abs(t)) for t in columns.theta[free:].tolist()]
    return samples, [
        {"name": n, "inits": [at], "bounds": [[-far, far]]} for n, at, far in zip(names, start, reach, strict=True)
    ]


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
    columns: Columns | None = None,
) -> float | None:
    """Return pyhf's asymptotic q0 p-value of one region at one mass; None where no model can be built or fitted.

    Arguments as for `spectrum_model`.
    """
    built = spectrum_model(counts, edges, template, order, sqrt_s=sqrt_s, family=family, columns=columns)
    return None if built is None else q0_p(*built)


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
    """Return pyhf's q0 p-value at every mass where one region's fitted signal is positive, None elsewhere.

    A Gaussian process has so many parameters that pyhf is asked at the best mass alone.
    """
    row: list[float | None] = []
    settings, columns = found.settings, found.columns(region)
    for m in range(len(found.masses)):
        asked = m == found.best or settings.family != GAUSSIAN_PROCESS
        if not (asked and found.scan.signal[region, m] > 0 and found.scan.converged[region, m]):
            row.append(None)
            continue
        row.append(
            discovery_p(
                found.counts[region],
                found.edges,
                found.templates[m],
                int(found.background.order[region]),
                sqrt_s=settings.sqrt_s,
                family=settings.family,
                columns=columns,
            )
        )
    return tuple(row)
