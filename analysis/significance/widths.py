"""A scan in mass and width: every width of a grid at every mass, in data and in experiments alike, so that the global p counts both.

The axis of such a scan is (width, mass) flattened, widths slowest. Results fold it: each mass has the width with the smallest combined p,
one for all regions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from ..fits.scan import LocalScan
from ..spectra.signal_shape import SignalShape, signal_templates

__all__ = ["Width", "at_best_width", "best_widths", "hunted_widths", "width_grid", "width_templates"]

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Width = float | tuple[float, float] | None
WIDTH_STEP = math.sqrt(2)  # of neighbouring widths at most: a signal halfway between two loses under 2 % of its z


def width_grid(low: float, high: float) -> tuple[float, ...]:
    """Return relative widths from low to high, evenly apart in their logarithm, at most sqrt(2) apart.

    Raises InputError for widths that do not rise from above 0 to below 1.
    """
    if not 0 < low <= high < 1:
        raise InputError(
            f"width [{low:g}, {high:g}]: the lowest and the highest relative width are expected, from above 0 to below 1"
        )
    if low == high:
        return (low,)
    steps = math.ceil(math.log(high / low) / math.log(WIDTH_STEP) - 1e-9)
    return tuple(float(f"{w:.6g}") for w in np.geomspace(low, high, steps + 1))


def hunted_widths(shape: SignalShape, width: Width) -> tuple[SignalShape, tuple[float, ...]]:
    """Return the shape to hunt with, which says where its width is from, and the widths to scan, none where it is one.

    width: None for that of the shape; a number, in its place; or the lowest and the highest. Those are of the core of a fitted shape.
    """
    if width is None:
        return shape, ()
    of = "Gaussian" if shape.alpha_low is None else shape.source
    if isinstance(width, tuple):
        widths = width_grid(*width)
        if len(widths) > 1:
            scanned = f"{of}, its width scanned from {100 * width[0]:.3g} to {100 * width[1]:.3g} %"
            return replace(shape, width=widths[0], source=scanned), widths
        width = widths[0]
    if not 0 < width < 1:
        raise InputError(f"width {width:g}: a relative width between 0 and 1 is expected")
    return replace(shape, width=width, source=f"{of} of a given width, a choice that the global p does not count"), ()


def width_templates(
    shape: SignalShape, widths: Sequence[float], masses: Sequence[float] | Floats, edges: Sequence[float] | Floats
) -> Floats:
    """Return templates (widths * masses, bins) of a shape whose core has each width in turn; its tails begin as many widths away."""
    return np.concatenate([signal_templates(replace(shape, width=w), masses, edges) for w in widths])


def best_widths(log_combined: Floats, masses: int) -> Indices:
    """Return where in ln of combined p (widths * masses,) the smallest of each mass stands: (masses,) indices."""
    best = log_combined.reshape(-1, masses).argmin(axis=0)
    return np.asarray(best * masses + np.arange(masses), dtype=np.int64)


def at_best_width(scan: LocalScan, at: Indices) -> LocalScan:
    """Return a scan (n, widths * masses) at one width a mass."""
    return LocalScan(scan.z[:, at], scan.p[:, at], scan.signal[:, at], scan.error[:, at], scan.converged[:, at])
