"""The dijet representation: two leading-pT jets, the 12 QUAK features, m_jj and a cutflow, as a coffea processor."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np
import numpy.typing as npt
from coffea.processor import ProcessorABC

from ..errors import InputError
from ..table import DIJET_COLUMNS, IDENTITY
from .events import READ_ERRORS, Candidates, Source, read_candidates, source_of
from .substructure import Jets, leading_jets, momenta, n_subjettiness, ratio, tau12

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["DijetProcessor", "DijetSettings", "dijet_columns"]

Columns = dict[str, npt.NDArray[Any]]

BATCH = 1000
"""Events clustered at a time: fastjet keeps some 50 kB an event, so this bounds memory whatever the chunk."""


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
        for name, value in dataclasses.asdict(self).items():
            if value is None:
                continue
            floor = 0.0 if name == "min_pt" else np.nextafter(0.0, 1.0)
            if isinstance(value, bool) or not isinstance(value, int | float) or not (floor <= value < np.inf):
                raise InputError(f"{name}: {value!r} is not a positive number")
        if self.min_mjj is not None and self.max_mjj is not None and self.min_mjj >= self.max_mjj:
            raise InputError(f"min_mjj: {self.min_mjj!r} is not below max_mjj: {self.max_mjj!r}")


class DijetProcessor(ProcessorABC):  # type: ignore[misc]
    """Turn chunks of events into columns of the dijet table; keeps no state between chunks.

    The accumulator has one entry a file under "files", keyed by (dataset, file name): its "cutflow" and its "rows",
    columns by the first entry of the chunk; and under "failed" the reason, by (dataset, file name, first entry), where
    the chunk's bytes could not be read.
    """

    def __init__(self, settings: DijetSettings | None = None) -> None:
        self.settings = settings or DijetSettings()

    def process(self, events: Any) -> dict[str, Any]:
        """Process one chunk of NanoEvents whose branches keep their names (BaseSchema)."""
        meta = events.metadata
        where = (meta["dataset"], meta["filename"])
        start = meta.get("entrystart", 0)
        try:
            columns, cutflow = dijet_columns(events, self.settings)
        except UnreadableError as error:
            return {"files": {}, "failed": {(*where, start): str(error)}}
        return {"files": {where: {"rows": {start: columns}, "cutflow": cutflow}}, "failed": {}}

    def postprocess(self, accumulator: dict[str, Any]) -> dict[str, Any]:
        """Return the accumulator as it is; ordering is the caller's, who knows the files."""
        return accumulator


class UnreadableError(InputError):
    """A chunk whose bytes are damaged."""


def dijet_columns(events: Any, settings: DijetSettings) -> tuple[Columns, dict[str, int]]:
    """Return the columns of the dijet table for a chunk of events, and its cutflow.

    The cutflow counts "read", then what was lost in order, then "kept"; "read" is the sum of all others.
    Jet 1 is the more massive of the two leading-pT jets (the harder one when their masses are equal).
    """
    meta = events.metadata
    where = f"{meta['filename']}: tree {meta.get('treename', 'Events')!r}"
    source: Source = meta.get("source") or source_of(events.fields, where)
    try:
        candidates = read_candidates(events, source)
        extra = (*(("truth_signal",) if source.truth else ()), *(("genWeight",) if source.gen_weight else ()))
        stored = {name: np.asarray(ak.to_numpy(events[name])) for name in (*IDENTITY[1:], *extra)}
    except READ_ERRORS as error:
        raise UnreadableError(f"{where}: cannot be read: {type(error).__name__}: {error}") from error
    cutflow = {"read": len(candidates.unphysical), "unphysical candidates": int(candidates.unphysical.sum())}
    parts, lost = zip(*(_batch(piece, settings) for piece in _batches(candidates)), strict=True)
    firsts = np.arange(len(parts)) * BATCH
    row = np.concatenate([first + part.pop("row") for first, part in zip(firsts, parts, strict=True)])
    features = {name: np.concatenate([part[name] for part in parts]) for name in DIJET_COLUMNS[len(IDENTITY) :]}
    for name in lost[0]:
        cutflow[name] = sum(counts[name] for counts in lost)
    # Events with unphysical candidates hold none here, so the clustering counted them as having no jets.
    cutflow["fewer than two jets"] -= cutflow["unphysical candidates"]
    cutflow["kept"] = len(row)
    columns: Columns = {"dataset": np.full(len(row), meta["dataset"])}
    columns |= {name: stored[name][row].astype(np.int64) for name in IDENTITY[1:]}
    columns |= features
    types = {"truth_signal": np.uint8, "genWeight": np.float64}
    columns |= {name: stored[name][row].astype(types[name]) for name in extra}
    return columns, cutflow


def _batches(candidates: Candidates) -> Iterator[Candidates]:
    n = len(candidates.unphysical)
    for first in range(0, max(n, 1), BATCH):
        last = min(first + BATCH, n)
        a, b = candidates.offsets[first], candidates.offsets[last]
        charge = None if candidates.charge is None else candidates.charge[a:b]
        yield Candidates(
            offsets=candidates.offsets[first : last + 1] - a,
            pt=candidates.pt[a:b],
            eta=candidates.eta[a:b],
            phi=candidates.phi[a:b],
            mass=candidates.mass[a:b],
            charge=charge,
            unphysical=candidates.unphysical[first:last],
        )


def _batch(candidates: Candidates, settings: DijetSettings) -> tuple[Columns, Mapping[str, int]]:
    """Return the feature columns of the kept events with their "row" in the batch, and what each cut lost."""
    momentum = momenta(candidates)
    jets = leading_jets(
        candidates, momentum, radius=settings.radius, min_pt=settings.min_pt, max_abs_eta=settings.max_abs_eta
    )
    lost = {"fewer than two jets": len(candidates.unphysical) - len(jets.event)}
    deta = np.abs(jets.eta[:, 0] - jets.eta[:, 1])
    mjj = _dijet_mass(jets)
    keep = np.ones(len(mjj), dtype=np.bool_)
    for name, passed in _cuts(settings, jets.pt[:, 0], deta, mjj).items():
        lost[f"failed {name}"] = int((keep & ~passed).sum())
        keep &= passed
    jets = _select(jets, keep)
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


def _dijet_mass(jets: Jets) -> npt.NDArray[np.float64]:
    px, py, pz, energy = (values.sum(axis=1) for values in (jets.px, jets.py, jets.pz, jets.energy))
    return np.asarray(np.sqrt(np.maximum(energy**2 - px**2 - py**2 - pz**2, 0.0)))


def _select(jets: Jets, keep: npt.NDArray[np.bool_]) -> Jets:
    """Return the jets of the kept events; substructure is the expensive part, so cuts come first."""
    if keep.all():
        return jets
    per_jet = np.repeat(keep, jets.px.shape[1])
    length = np.diff(jets.offsets)
    offsets = np.concatenate([[0], np.cumsum(length[per_jet])]).astype(np.int64)
    constituents = jets.constituents[np.repeat(per_jet, length)]
    return Jets(jets.event[keep], jets.px[keep], jets.py[keep], jets.pz[keep], jets.energy[keep], offsets, constituents)
