"""What is not known of the signal: its mass scale and resolution, its efficiency, the luminosity; and the templates they move.

Scale and resolution are shapes (pyhf's `histosys`), efficiency and luminosity log-normal factors (`normsys`, combine's lnN).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from ..spectra.signal_shape import SignalShape, signal_templates

__all__ = ["RelativeError", "SignalErrors", "check_relative", "factors_of", "templates_of", "up_and_down"]

Floats = npt.NDArray[np.float64]
RelativeError: TypeAlias = float | Sequence[float] | Sequence[Sequence[float]]
"""A relative error: one number; up and down; or [mass in GeV, up, down] at several masses, interpolated between them."""
SCALE_ERROR = 0.01
RESOLUTION_ERROR = 0.10
LARGEST = 0.5
LEAST_SHARE = (
    0.02  # of what a bin holds at one sigma: what it holds at least; next to nothing of a signal is in such bins
)


@dataclass(frozen=True)
class SignalErrors:
    """Relative errors of a signal, each a Gaussian nuisance of limits; what is 0 is none.

    scale, resolution: of the mass and of the width, `RelativeError`; efficiency: of the signal's share in all regions
    together; luminosity; region_efficiencies: (regions,) of each region's share, on its own. Raises InputError for what
    lies outside [0, 0.5).
    """

    scale: RelativeError = SCALE_ERROR
    resolution: RelativeError = RESOLUTION_ERROR
    efficiency: float = 0.0
    luminosity: float = 0.0
    region_efficiencies: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for what in ("scale", "resolution"):
            check_relative(getattr(self, what), what)
        for what in ("efficiency", "luminosity"):
            check_number(getattr(self, what), what)
        for value in self.region_efficiencies:
            check_number(value, "efficiency in a region")

    def as_dict(self) -> dict[str, Any]:
        """Return the errors for JSON, under the keys of a configuration."""
        return {
            "scale_error": listed(self.scale),
            "resolution_error": listed(self.resolution),
            "efficiency_error": self.efficiency,
            "luminosity_error": self.luminosity,
            "region_efficiency_errors": list(self.region_efficiencies),
            "signal_errors": self.text,
        }

    @property
    def text(self) -> str:
        """Return what is a nuisance and by how much, in words."""
        said = [f"mass scale {told(self.scale)}"] if np.any(relative(self.scale) > 0) else []
        said += [f"resolution {told(self.resolution)}"] if np.any(relative(self.resolution) > 0) else []
        said += [f"efficiency {100 * self.efficiency:.3g} %"] if self.efficiency > 0 else []
        said += [f"luminosity {100 * self.luminosity:.3g} %"] if self.luminosity > 0 else []
        said += ["the efficiency of each region on its own"] if any(self.region_efficiencies) else []
        return ", ".join(said) or "none"


def relative(error: RelativeError) -> Floats:
    """Return the numbers of an error without the masses that they stand at."""
    values = np.asarray(error, dtype=np.float64)
    return np.asarray(values[:, 1:] if values.ndim == 2 else values)


def told(error: RelativeError) -> str:
    """Return a relative error in words."""
    values = 100 * relative(error)
    if values.ndim == 0 or np.ptp(values) == 0:
        return f"{values.max():.3g} %"
    if values.ndim == 1:
        return f"+{values[0]:.3g} % -{values[1]:.3g} %"
    return f"{values.min():.3g} to {values.max():.3g} %, by mass"


def listed(error: RelativeError) -> Any:
    """Return a relative error as a number or lists of numbers."""
    return np.asarray(error, dtype=np.float64).tolist()


def check_number(value: float, what: str) -> None:
    """Refuse a relative error outside [0, 0.5)."""
    if not 0 <= value < LARGEST:
        raise InputError(f"the signal's {what} error is relative, 0 or more and below {LARGEST:g}; found {value:g}")


def check_relative(error: RelativeError, what: str) -> None:
    """Refuse a relative error of another form, or outside [0, 0.5)."""
    try:
        values = np.asarray(error, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.empty((0, 0, 0))
    if values.shape not in {(), (2,)} and not (values.ndim == 2 and len(values) > 0 and values.shape[1] == 3):
        raise InputError(
            f"the signal's {what} error is one number, [up, down], or a list of [mass, up, down]; found {error!r}"
        )
    for value in np.ravel(relative(error)).tolist():
        check_number(value, what)
    if values.ndim == 2 and not (
        np.isfinite(values[:, 0]).all() and (values[:, 0] > 0).all() and (np.diff(values[:, 0]) > 0).all()
    ):
        raise InputError(
            f"the signal's {what} error stands at masses that rise, in GeV; found {', '.join(f'{m:g}' for m in values[:, 0])}"
        )


def up_and_down(error: RelativeError, mass: float) -> tuple[float, float]:
    """Return a relative error upwards and downwards at a mass (GeV); beyond the masses it is given at it is that of the nearest."""
    values = np.asarray(error, dtype=np.float64)
    if values.ndim == 0:
        return float(values), float(values)
    if values.ndim == 1:
        return float(values[0]), float(values[1])
    return (
        float(np.interp(mass, values[:, 0], values[:, 1])),
        float(np.interp(mass, values[:, 0], values[:, 2])),
    )


def templates_of(
    shape: SignalShape, mass: float, edges: Floats, errors: SignalErrors
) -> tuple[Floats, dict[str, tuple[Floats, Floats]]]:
    """Return the template (bins,) for unit yield at a mass (GeV), and nuisance -> templates at +1 and at -1 sigma."""
    nominal = signal_templates(shape, [mass], edges)[0]
    moved: dict[str, tuple[Floats, Floats]] = {}
    up, down = up_and_down(errors.scale, mass)
    if max(up, down) > 0:
        high, low = signal_templates(shape, [mass * (1 + up), mass * (1 - down)], edges)
        moved["signal_scale"] = (high, low)
    up, down = up_and_down(errors.resolution, mass)
    if max(up, down) > 0:
        wider, narrower = (dataclasses.replace(shape, width=shape.width * factor) for factor in (1 + up, 1 - down))
        moved["signal_resolution"] = (
            signal_templates(wider, [mass], edges)[0],
            signal_templates(narrower, [mass], edges)[0],
        )
    # interpolated between two templates, a bin far off the peak that holds next to nothing in the middle would turn negative
    for high, low in moved.values():
        nominal = np.maximum(nominal, LEAST_SHARE * np.maximum(high, low))
    return nominal, moved


def factors_of(errors: SignalErrors, regions: Mapping[str, int], all_regions: int) -> dict[str, tuple[Floats, Floats]]:
    """Return nuisance -> what multiplies the signal in each region (regions,) at +1 and at -1 sigma.

    regions: name that others can hold -> its number among all regions of the hunt.
    """
    made = {
        name: np.full(len(regions), 1 + error)
        for name, error in (("efficiency", errors.efficiency), ("luminosity", errors.luminosity))
        if error > 0
    }
    if errors.region_efficiencies and len(errors.region_efficiencies) != all_regions:
        raise InputError(
            f"{all_regions} regions need as many errors of their efficiencies; found {len(errors.region_efficiencies)}"
        )
    for i, (name, r) in enumerate(regions.items()):
        if errors.region_efficiencies and errors.region_efficiencies[r] > 0:
            made[f"{name}_efficiency"] = np.where(np.arange(len(regions)) == i, 1 + errors.region_efficiencies[r], 1.0)
    return {name: (high, 1 / high) for name, high in made.items()}
