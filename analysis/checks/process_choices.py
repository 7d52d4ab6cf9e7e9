"""What the choice of a Gaussian process does to the answer: the z at the best mass with every width and length held fixed.

The evidence chooses a width and a length for each region. Beside the answer stand the z of each pair fixed for all regions, and, where
there is held-out background, that of the pairs which the evidence takes of it: a choice in which the hunted data take no part.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..fits.background import choose_background
from ..fits.gaussian_process import GAUSSIAN_PROCESS, GaussianProcess
from ..fits.log_p import log_p_of_z, z_of_log
from ..p_values.combination import combine_log
from ..significance.bumphunt import BumpHunt
from ..significance.procedure import procedure, signed_z

__all__ = ["ProcessChoices", "process_choices"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class ProcessChoices:
    """Combined asymptotic z at one mass (GeV): chosen, first (before the second choice), and z (lengths, widths) of each fixed pair.

    simulated: with the width and length of each region that the evidence takes of held-out background, (regions,) each; None where
    there is none.
    """

    mass: float
    chosen: float
    first: float
    widths: tuple[float, ...]
    lengths: tuple[float, ...]
    z: Floats
    simulated: float | None
    simulated_widths: tuple[float, ...]
    simulated_lengths: tuple[float, ...]

    def __repr__(self) -> str:
        """Return the value in a line."""
        return f"ProcessChoices({self.mass:g} GeV, chosen z {self.chosen:.2f}, fixed {self.z.min():.2f} to {self.z.max():.2f})"

    def as_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        return {**dataclasses.asdict(self), "z": self.z.tolist()}


def process_choices(found: BumpHunt, *, held_out: Floats | None = None) -> ProcessChoices | None:
    """Hunt at the best mass with every width and length fixed; None of another background.

    held_out: (regions, bins) of background events, in the hunt's bins.
    """
    settings = found.settings
    if settings.family != GAUSSIAN_PROCESS:
        return None
    process, template = settings.process, found.templates[found.best : found.best + 1]

    def with_process(own: GaussianProcess, counts: Floats) -> Floats:
        """Return z (regions,) of spectra (regions, bins)."""
        fixed = dataclasses.replace(settings, process=own)
        return signed_z(procedure(counts[None], found.edges, template, fixed).scan)[:, 0]

    def fixed(width: float, length: float) -> GaussianProcess:
        return dataclasses.replace(process, widths=(width,), lengths=(length,))

    def combined(z: Floats) -> float:
        return float(z_of_log(combine_log(log_p_of_z(z)[None, None], settings.combination)[0, 0]))

    z = np.array([[combined(with_process(fixed(w, q), found.counts)) for w in process.widths] for q in process.lengths])
    simulated: float | None = None
    widths: tuple[float, ...] = ()
    lengths: tuple[float, ...] = ()
    if held_out is not None and held_out.sum(axis=1).all():
        fit = choose_background(
            held_out, found.edges, sqrt_s=settings.sqrt_s, family=GAUSSIAN_PROCESS, process=process
        ).process
        assert fit is not None, "a Gaussian process has its process"
        widths, lengths = tuple(fit.width.tolist()), tuple(fit.length.tolist())
        pairs = zip(widths, lengths, found.counts, strict=True)
        simulated = combined(np.concatenate([with_process(fixed(w, q), row[None]) for w, q, row in pairs]))
    return ProcessChoices(
        mass=float(found.masses[found.best]),
        chosen=float(found.z_combined[found.best]),
        first=float(z_of_log(found.log_first[found.best])),
        widths=process.widths,
        lengths=process.lengths,
        z=z,
        simulated=simulated,
        simulated_widths=widths,
        simulated_lengths=lengths,
    )
