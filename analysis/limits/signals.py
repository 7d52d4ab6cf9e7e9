"""Limits on signals that were simulated: their share in each region, the CLs limits, and the files that others read.

A signal's efficiency is the share of its selected events that lies in each region. It is taken to be the same at every
mass of the scan: a limit far from the signal's own peak is that of a signal which looks like it there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from ...pieces import NONE_KEPT, Pieces
from ...table import Observable
from ..fits.background import is_log_linear
from ..fits.gaussian_process import GaussianProcess
from ..regions.regions import Regions
from ..regions.scored import Scored, regions_of_events
from ..significance.bumphunt import BumpHunt, hunt
from ..significance.joint_scan import joint_gross_vitells
from ..significance.procedure import HuntSettings
from ..spectra.bins import as_hist
from ..spectra.signal_shape import SignalShape, peak_of
from .cls import EXPERIMENTS, Limits, cls_limits
from .signal_errors import SignalErrors

__all__ = ["Signal", "as_signal", "hunt_of", "limit_masses", "limits_of", "notes_of", "widths_note"]

Floats = npt.NDArray[np.float64]

JOINT = (
    "One signal strength for all regions, shared out as this signal is. It is larger than the combination of the regions' own "
    "p-values where an excess is shared out like that, smaller where it sits in other regions; a deficit has p above 0.5."
)


@dataclass(frozen=True, repr=False)
class Signal:
    """A signal that limits are set on.

    efficiencies: (regions,) share of its events in each; peak: of its mass, GeV; None where not known.
    """

    name: str
    efficiencies: Floats
    peak: float | None = None

    def __repr__(self) -> str:
        """Return name, peak and efficiency in a line."""
        where = "" if self.peak is None else f", peak at {self.peak:.4g} GeV"
        return f"Signal({self.name}{where}, {100 * self.efficiencies.sum():.3g} % in {len(self.efficiencies)} regions)"


def hunt_of(result: Mapping[str, Any]) -> tuple[BumpHunt, tuple[str, ...]]:
    """Return the hunt that a result.json tells of, fitted again without its pseudo-experiments, and its regions' names."""
    regions = result["regions"]["regions"]
    edges = result["fit_range"]["edges"]
    spurious = result.get("spurious_signal")
    process = regions[0]["fit"].get("process")
    settings = HuntSettings(
        sqrt_s=result["configuration"]["sqrt_s"],
        family=regions[0]["fit"]["family"],
        combination=result["scan"]["combination"],
        pseudo_experiments=0,
        seed=int(result["configuration"].get("seed", 0)),
        lowest_orders=tuple(s["lowest"] for s in spurious) if spurious else None,
        observable=Observable(**result["observable"]),
        process=GaussianProcess(
            tuple(process["widths"]), tuple(process["lengths"]), process["modes"], edge_terms=process["edge_terms"]
        )
        if process
        else GaussianProcess(),
        widths=tuple(result["scan"].get("widths_scanned", ())),
    )
    # of a blind window the expectation stands in for what is not known
    spectra = {
        r["name"]: as_hist(
            edges, [round(e) if n is None else n for n, e in zip(r["counts"], r["expected"], strict=True)]
        )
        for r in regions
    }
    shape = SignalShape(**result["signal_shape"])
    return hunt(spectra, result["scan"]["masses"], shape=shape, settings=settings), tuple(spectra)


def as_signal(signal: Scored, regions: Regions) -> Signal:
    """Count a signal's events in the regions.

    Raises InputError where no event lies in any region.
    """
    assigned = regions_of_events(signal, regions)
    counts = np.array([(assigned == r).sum() for r in range(regions.n_regions)], dtype=np.float64)
    if counts.sum() == 0:
        raise InputError(
            f"signal {signal.name}: none of its {len(signal.mass)} events lies in a region; no limit on it"
        )
    return Signal(signal.name, counts / len(signal.mass), peak_of(signal.mass))


def limit_masses(found: BumpHunt, *, points: int, peaks: Sequence[float] = ()) -> Floats:
    """Return masses of the scan (GeV) that limits are set at: `points` over its range, the best one, and those next to peaks."""
    spread = np.linspace(0, len(found.masses) - 1, min(points, len(found.masses))).round().astype(int)
    inside = [p for p in peaks if found.edges[0] < p < found.edges[-1]]
    near = [int(np.argmin(np.abs(found.masses - p))) for p in inside]
    return np.asarray(found.masses[np.unique([*spread, found.best, *near])])


def limits_of(
    found: BumpHunt,
    signals: Sequence[Signal],
    *,
    names: Sequence[str],
    points: int = 12,
    luminosity: float | None = None,
    confidence: float = 0.95,
    errors: SignalErrors | None = None,
    experiments: int = EXPERIMENTS,
    blind: bool = False,
    pieces: Pieces = NONE_KEPT,
) -> dict[str, Limits]:
    """Set limits on every signal over the regions of a hunt, called `names`; options as `cls_limits` has them."""
    peaks = [s.peak for s in signals if s.peak is not None]
    masses = limit_masses(found, points=points, peaks=peaks)
    return {
        signal.name: cls_limits(
            found,
            names=names,
            masses=masses,
            efficiencies=signal.efficiencies,
            luminosity=luminosity,
            confidence=confidence,
            errors=errors,
            experiments=experiments,
            blind=blind,
            pieces=pieces,
        )
        for signal in signals
    }


def notes_of(limits: Mapping[str, Limits], observable: Observable) -> list[str]:
    """Say of every signal at which masses its limits are missing, and why."""
    said = [of.note(name, observable) for name, of in limits.items()]
    return [note for note in said if note is not None]


def widths_note(found: BumpHunt, *, blind: bool = False) -> list[str]:
    """Say of which width the signal of the limits is where several are scanned: that of the shape, at every mass."""
    if not found.scans_widths:
        return []
    scanned = ", ".join(f"{100 * w:.3g}" for w in found.settings.widths)
    which = "the narrowest of" if blind else "that of the largest excess, of"
    return [
        f"limits are on a signal {100 * found.shape.width:.3g} % of its mass wide, {which} {scanned} % that were scanned"
    ]


def joint_global_p(found: BumpHunt, shares: Floats) -> dict[str, Any] | None:
    """Return the largest z of the joint fit in the scan, its mass and its global p; None for a background that is not log-linear, or scanned widths."""
    if not is_log_linear(found.settings.family) or len(found.masses) < 2 or found.scans_widths:
        return None
    mass, of = joint_gross_vitells(found, shares)
    return {
        "mass": mass,
        "z": of.z_local,
        "p_global": of.p,
        "p_global_error": of.p_error,
        "z_global": of.z,
        "pseudo_experiments": of.n,
    }
