"""A pyhf model of one mass over a hunt's regions that uses every bin once.

It holds the window's bins only, one channel a region and one signal strength for all of them. Each region's background
moves along the eigenvectors of the covariance of a fit with the window masked; the signal's scale and resolution are
nuisances.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyhf

from ...errors import InputError
from ...files import write_json
from ..fits.minuit_fit import fit_with_minuit
from ..significance.bumphunt import BumpHunt
from ..significance.q0 import MIN_EIGENVALUE, signal_window
from ..spectra.signal_shape import signal_templates
from .names import renamed, valid_names

__all__ = ["MU_MAX", "LimitModel", "limit_model", "region_names", "shares", "write_workspaces"]

Floats = npt.NDArray[np.float64]
SCALE_ERROR = 0.01
RESOLUTION_ERROR = 0.10
MAX_LOG_ERROR = 2.0  # sidebands that know the background to a factor of 7 only say nothing of it
NO_SIGNAL = "no signal in it"
MOST_LOST = 0.02  # of the signal in all regions: with more of it in regions that have no background there is no limit
MU_MAX = 100.0  # in units of about one expected limit: a limit beyond is a failure, not an answer
INTERPOLATION = {"normsys": {"interpcode": "code4"}, "histosys": {"interpcode": "code4p"}}  # what `pyhf cls` sets


@dataclass(frozen=True, repr=False)
class LimitModel:
    """The pyhf workspace of one mass, and what its numbers mean.

    mass: GeV; unit: signal events (at all masses, in all regions) at mu = 1; channels: region in it -> its name there, which
    others can hold; dropped: region -> why it is not in it; edges: (bins + 1,) of the window, GeV; background: events expected in the window by the hunt's fits (the sidebands alone,
    which the workspace has, know little of a window at the edge of the spectrum); workspace: JSON-like.
    """

    mass: float
    unit: float
    channels: dict[str, str]
    dropped: dict[str, str]
    edges: Floats
    background: float
    workspace: dict[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """Return the regions in it."""
        return tuple(self.channels)

    def __repr__(self) -> str:
        """Return the value in a line."""
        return f"LimitModel({self.mass:g} GeV, {', '.join(self.names)}, mu = 1 is {self.unit:.3g} signal events)"

    def build(self, background: Sequence[float] | Floats | None = None) -> tuple[Any, list[float]]:
        """Return the pyhf model and its data; `background` (channels * bins,) stands in for the observed counts."""
        opened = pyhf.Workspace(self.workspace)
        model = opened.model(modifier_settings=INTERPOLATION)
        if background is None:
            return model, list(opened.data(model))
        return model, [*map(float, background), *model.config.auxdata]

    @property
    def expected(self) -> Floats:
        """Return the sidebands' background in the model's order of channels: (channels * bins,) events."""
        channels = {c["name"]: c for c in self.workspace["channels"]}
        return np.concatenate(
            [np.sum([s["data"] for s in channels[n]["samples"][1:]], axis=0) for n in sorted(channels)]
        )


def limit_model(
    found: BumpHunt,
    mass: float,
    *,
    names: Sequence[str] | None = None,
    efficiencies: npt.ArrayLike | None = None,
    scale_error: float = SCALE_ERROR,
    resolution_error: float = RESOLUTION_ERROR,
) -> LimitModel | str:
    """Build the workspace of one mass (GeV) over a hunt's regions; where there can be none, the reason instead.

    efficiencies: (regions,) share of the signal events in each region; one region alone holds all by default. A region that
    holds no signal is left out. Where regions whose sidebands do not determine their background hold more than 2 % of the
    signal there is no model: without them it would be that of a weaker search. Raises InputError for a mass outside the bins
    and for efficiencies or errors that are none.
    """
    regions = region_names(found, names)
    share = shares(efficiencies, len(regions), 1)[0]
    check_errors(scale_error, resolution_error)
    edges = found.edges
    if not edges[0] < mass < edges[-1]:
        raise InputError(f"limits are set at masses between {edges[0]:g} and {edges[-1]:g} GeV; found {mass:g}")
    shape = found.shape
    wider, narrower = (dataclasses.replace(shape, width=shape.width * (1 + s * resolution_error)) for s in (1, -1))
    template, up, down = signal_templates(shape, [mass, mass * (1 + scale_error), mass * (1 - scale_error)], edges)
    wide, narrow = (signal_templates(s, [mass], edges)[0] for s in (wider, narrower))
    window = signal_window(template)
    backgrounds: dict[str, tuple[Floats, list[Floats]]] = {}
    dropped: dict[str, str] = {}
    for r, name in enumerate(regions):
        if share[r] == 0:
            dropped[name] = NO_SIGNAL
            continue
        sidebands = sideband_background(found, r, window)
        if isinstance(sidebands, str):
            dropped[name] = sidebands
        else:
            backgrounds[name] = sidebands
    failed = [r for r, name in enumerate(regions) if dropped.get(name, NO_SIGNAL) != NO_SIGNAL]
    lost = float(share[failed].sum() / share.sum())
    if not backgrounds or lost > MOST_LOST:
        return no_region(dropped, lost)
    used = [r for r, n in enumerate(regions) if n in backgrounds]
    valid = valid_names(regions)
    own = {regions[r]: valid[regions[r]] for r in used}
    # the information on the yield when the background is known: mu = 1 is then about the expected limit
    information = sum(
        float(((share[r] * template[window]) ** 2 / (backgrounds[regions[r]][0] + 0.1)).sum()) for r in used
    )
    unit = 2.0 / float(np.sqrt(information))
    channels, observations = [], []
    for r in used:
        events = unit * share[r]
        pairs = {"signal_scale": (scale_error, up, down), "signal_resolution": (resolution_error, wide, narrow)}
        moved = [
            histosys(n, events * hi[window], events * lo[window]) for n, (error, hi, lo) in pairs.items() if error > 0
        ]
        strength = {"name": "mu", "type": "normfactor", "data": None}
        central, shifts = backgrounds[regions[r]]
        signal = {"name": "signal", "data": (events * template[window]).tolist(), "modifiers": [strength, *moved]}
        channel = own[regions[r]]
        channels.append({"name": channel, "samples": [signal, *background_samples(channel, central, shifts)]})
        observations.append({"name": channel, "data": found.counts[r][window].tolist()})
    strength_setting = {"name": "mu", "inits": [1.0], "bounds": [[0.0, MU_MAX]]}
    inside = np.flatnonzero(window)
    return LimitModel(
        mass=float(mass),
        unit=unit,
        channels=own,
        dropped=dropped,
        edges=edges[inside[0] : inside[-1] + 2],
        background=float(found.background.expected[used][:, window].sum()),
        workspace={
            "version": "1.0.0",
            "channels": channels,
            "observations": observations,
            "measurements": [
                {
                    "name": "; ".join([f"mass {mass:g} GeV", f"mu = 1 is {unit:.10g} signal events", *renamed(own)]),
                    "config": {"poi": "mu", "parameters": [strength_setting]},
                }
            ],
        },
    )


def no_region(dropped: dict[str, str], lost: float) -> str:
    """Say in one line why there is no model: the share of the signal in regions that have no background, and why the first has none."""
    others = [f"{n}: {why}" for n, why in dropped.items() if why != NO_SIGNAL]
    where = f"{others[0]}, and {len(others) - 1} more" if len(others) > 1 else others[0]
    return f"{100 * lost:.3g} % of the signal lies in regions whose background is not determined ({where})"


def histosys(name: str, high: Floats, low: Floats) -> dict[str, Any]:
    """Return a pyhf shape modifier from its yields (bins,) at +1 and -1 sigma."""
    return {"name": name, "type": "histosys", "data": {"hi_data": high.tolist(), "lo_data": low.tolist()}}


def background_samples(region: str, central: Floats, shifts: Sequence[Floats]) -> list[dict[str, Any]]:
    """Return a region's background (bins,) with moves of ln b, each (bins,), as one pyhf sample a bin.

    A factor hi = exp(s), lo = exp(-s) is interpolated exponentially: the background is log-linear as its function is and never
    turns negative, which a `histosys` of the same yields does where a sideband knows it to a factor of 2.
    """
    samples = []
    for i, events in enumerate(central.tolist()):
        data = [0.0] * len(central)
        data[i] = events
        factors = [(float(np.exp(s[i])), float(np.exp(-s[i]))) for s in shifts]
        modifiers = [
            {"name": f"{region}_background_{k}", "type": "normsys", "data": {"hi": high, "lo": low}}
            for k, (high, low) in enumerate(factors)
        ]
        samples.append({"name": f"background_{i}", "data": data, "modifiers": modifiers})
    return samples


def sideband_background(
    found: BumpHunt, region: int, window: npt.NDArray[np.bool_]
) -> tuple[Floats, list[Floats]] | str:
    """Fit a region's background with the window (bins,) masked; return it inside, (k,), and its moves of ln b; or why not.

    The moves are the eigenvectors of the covariance of ln b, one standard deviation long.
    """
    counts, order = found.counts[region], int(found.background.order[region])
    filled = int((~window & (counts > 0)).sum())
    if filled <= order + 1:
        return f"{filled} filled bins beside the window do not determine {order + 1} parameters"
    settings = found.settings
    fit = fit_with_minuit(counts, found.edges, order, sqrt_s=settings.sqrt_s, family=settings.family, mask=~window)
    if not fit.valid:
        return "the background fit beside the window did not converge"
    error = float(np.sqrt(np.diag(fit.log_covariance)[window].max()))
    if not error <= MAX_LOG_ERROR:
        return f"the sidebands know the window's background to {error:.2g} in ln b only (allowed: {MAX_LOG_ERROR:g})"
    background = np.maximum(fit.expected[window], 1e-6)
    values, vectors = np.linalg.eigh(fit.log_covariance[np.ix_(window, window)])
    kept = np.flatnonzero(values > MIN_EIGENVALUE / max(background.sum(), 1.0))
    return background, [np.sqrt(values[i]) * vectors[:, i] for i in kept]


def region_names(found: BumpHunt, names: Sequence[str] | None) -> tuple[str, ...]:
    """Return one name a region of the hunt; refuse another number of them, or one name twice."""
    regions = tuple(names) if names is not None else tuple(f"region {r}" for r in range(len(found.counts)))
    if len(regions) != len(found.counts) or len(set(regions)) != len(regions):
        raise InputError(f"{len(found.counts)} regions need as many different names; found {', '.join(regions)}")
    return regions


def shares(efficiencies: npt.ArrayLike | None, regions: int, masses: int) -> Floats:
    """Return the share of the signal in each region, (masses, regions), from one row or one row a mass."""
    if efficiencies is None:
        if regions > 1:
            raise InputError(
                f"limits over {regions} regions need efficiencies, the share of a signal that falls into each"
            )
        efficiencies = [1.0]
    given = np.asarray(efficiencies, dtype=np.float64)
    if given.shape not in {(regions,), (masses, regions)}:
        raise InputError(
            f"efficiencies have shape {given.shape}; allowed: ({regions},) for all masses or ({masses}, {regions})"
        )
    rows = np.broadcast_to(given, (masses, regions))
    good = np.isfinite(rows).all() and (rows >= 0).all() and (rows.sum(axis=1) <= 1 + 1e-9).all()
    if not good or not (rows > 0).any(axis=1).all():
        raise InputError(
            "efficiencies are shares of one signal in disjoint regions: each 0 or more, their sum above 0 and at most 1; "
            f"found {given.tolist()}"
        )
    return rows.copy()


def check_errors(scale_error: float, resolution_error: float) -> None:
    """Refuse relative errors of the signal's scale and resolution outside [0, 0.5)."""
    for what, value in (("scale", scale_error), ("resolution", resolution_error)):
        if not 0 <= value < 0.5:
            raise InputError(f"the signal's {what} error is relative, 0 or more and below 0.5; found {value:g}")


def write_workspaces(models: Sequence[LimitModel], folder: str | Path) -> list[Path]:
    """Write one workspace a mass as `workspace_<mass>.json`, which the `pyhf` command line opens; returns the files.

    `pyhf cls FILE` gives CLs at mu = 1; the measurement's name says how many signal events that is.
    """
    files = []
    for model in models:
        path = Path(folder) / f"workspace_{model.mass:g}.json"
        write_json(path, model.workspace)
        files.append(path)
    return files
