"""The dijet representation: two leading-pT jets, the 12 QUAK features, m_jj and a cutflow, as a coffea processor."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from coffea.processor import ProcessorABC

from ..errors import InputError
from .chunks import Columns, accumulated, chunk_columns
from .substructure import dijet_mass, leading_jets, momenta, n_subjettiness, ratio, tau12

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .events import Candidates

__all__ = ["DijetProcessor", "DijetSettings", "check_cuts", "dijet_columns"]


@dataclass(frozen=True)
class DijetSettings:
    """What is clustered and cut; GeV. The defaults keep every event with two anti-kT R = 1.0 jets of pT > 50 GeV.

    radius: of the jets, and R0 of N-subjettiness; min_pt, max_abs_eta: what counts as a jet;
    min_leading_pt: of the harder jet; max_deta: |eta_1 - eta_2|; min_mjj, max_mjj: of the two jets' mass.
    """

    radius: float = 1.0
    min_pt: float = 50.0
    max_abs_eta: float | None = None
    min_leading_pt: float | None = None
    max_deta: float | None = None
    min_mjj: float | None = None
    max_mjj: float | None = None

    def __post_init__(self) -> None:
        check_cuts(dataclasses.asdict(self))
        if self.min_mjj is not None and self.max_mjj is not None and self.min_mjj >= self.max_mjj:
            raise InputError(f"min_mjj: {self.min_mjj!r} is not below max_mjj: {self.max_mjj!r}")


def check_cuts(cuts: Mapping[str, Any]) -> None:
    """Raise InputError for a cut that is no positive number; `min_pt` may be 0, None is no cut."""
    for name, value in cuts.items():
        if value is None:
            continue
        floor = 0.0 if name == "min_pt" else np.nextafter(0.0, 1.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not (floor <= value < np.inf):
            raise InputError(f"{name}: {value!r} is not a positive number")


class DijetProcessor(ProcessorABC):  # type: ignore[misc]
    """Turn chunks of events into columns of the dijet table; keeps no state between chunks.

    The accumulator is that of `chunks.accumulated`.
    """

    def __init__(self, settings: DijetSettings | None = None) -> None:
        self.settings = settings or DijetSettings()

    def process(self, events: Any) -> dict[str, Any]:
        """Process one chunk of NanoEvents whose branches keep their names (BaseSchema)."""
        return accumulated(events, partial(dijet_columns, settings=self.settings))

    def postprocess(self, accumulator: dict[str, Any]) -> dict[str, Any]:
        """Return the accumulator as it is; ordering is the caller's, who knows the files."""
        return accumulator


def dijet_columns(events: Any, settings: DijetSettings) -> tuple[Columns, dict[str, int]]:
    """Return the columns of the dijet table for a chunk of events, and its cutflow.

    The cutflow counts "read", then what was lost in order, then "kept"; "read" is the sum of all others.
    Jet 1 is the more massive of the two leading-pT jets (the harder one when their masses are equal).
    """
    return chunk_columns(events, partial(_batch, settings=settings))


def _batch(candidates: Candidates, settings: DijetSettings) -> tuple[Columns, dict[str, int]]:
    """Return the feature columns of the kept events with their "row" in the batch, and what each cut lost."""
    momentum = momenta(candidates)
    jets = leading_jets(
        candidates, momentum, radius=settings.radius, min_pt=settings.min_pt, max_abs_eta=settings.max_abs_eta
    )
    # Events with unphysical candidates hold none here and so have no jets, but they are counted as such.
    lost = {"fewer than two jets": int((~candidates.unphysical).sum()) - len(jets.event)}
    deta = np.abs(jets.eta[:, 0] - jets.eta[:, 1])
    mjj = dijet_mass(jets)
    keep = np.ones(len(mjj), dtype=np.bool_)
    for name, passed in _cuts(settings, jets.pt[:, 0], deta, mjj).items():
        lost[f"failed {name}"] = int((keep & ~passed).sum())
        keep &= passed
    jets = jets.select(keep)  # substructure is the expensive part, so cuts come first
    taus = n_subjettiness(jets, momentum, radius=settings.radius)
    one = np.arange(len(jets.event))
    heavier = np.argmax(jets.mass, axis=1) if len(one) else one
    tracks = jets.n_constituents if candidates.charge is None else jets.count(candidates.charge != 0)
    tau = taus.beta1
    by_jet = {
        "pt": jets.pt,
        "mJ": jets.mass,
        "tau21": ratio(tau[:, 1], tau[:, 0]),
        "tau32": ratio(tau[:, 2], tau[:, 1]),
        "tau43": ratio(tau[:, 3], tau[:, 2]),
        "tau12": tau12(taus),
        "ntrk": tracks,
    }
    columns: Columns = {"row": jets.event, "mjj": mjj[keep], "deta": deta[keep]}
    for name, values in by_jet.items():
        pairs = values.reshape(-1, 2).astype(np.float64)
        columns[f"{name}_1"] = pairs[one, heavier]
        columns[f"{name}_2"] = pairs[one, 1 - heavier]
    return columns, lost


def _cuts(
    settings: DijetSettings,
    leading_pt: npt.NDArray[np.float64],
    deta: npt.NDArray[np.float64],
    mjj: npt.NDArray[np.float64],
) -> dict[str, npt.NDArray[np.bool_]]:
    """Return what passes each cut that was asked for, in the order of the cutflow."""
    cuts = {}
    if settings.min_leading_pt is not None:
        cuts["min_leading_pt"] = leading_pt >= settings.min_leading_pt
    if settings.max_deta is not None:
        cuts["max_deta"] = deta <= settings.max_deta
    if settings.min_mjj is not None:
        cuts["min_mjj"] = mjj >= settings.min_mjj
    if settings.max_mjj is not None:
        cuts["max_mjj"] = mjj <= settings.max_mjj
    return cuts
