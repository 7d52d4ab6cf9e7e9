"""The jets that a simulation selects by: the leading jet of an event, and single jets that hold a hadronic decay.

Anti-kT jets (arXiv:0802.1189), of R = 1.0 unless another radius is given, from detector candidates, E-scheme.
"""

from __future__ import annotations

from typing import Any

import awkward as ak
import fastjet
import numpy as np
import numpy.typing as npt

from .detector import Detector
from .hidden_valley import DARK_QUARK

__all__ = ["JET_RADIUS", "clustered", "decay_quarks", "leading_jet_pt", "single_jets"]

JET_RADIUS = 1.0
QUARK_MAX = 5
"""Largest PDG number of a quark that a hadronic decay leaves (b)."""
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def leading_jet_pt(particles: ak.Array, *, min_pt: float, radius: float = JET_RADIUS) -> Floats:
    """Return the pT of each event's leading anti-kT jet: (n,) GeV, 0 where none is above `min_pt`.

    particles: lists per event with `pt`, `eta`, `phi`, `mass`.
    """
    possible = _possible(particles, min_pt)
    leading = np.zeros(len(particles))
    if len(possible):
        jets = _sequence(_momenta(particles[possible]), radius).inclusive_jets(min_pt=min_pt)
        leading[possible] = ak.to_numpy(ak.fill_none(ak.max(np.hypot(jets.px, jets.py), axis=1), 0.0))
    return leading


def clustered(particles: ak.Array, *, min_pt: float, radius: float) -> ak.Array:
    """Return the anti-kT jets above `min_pt` (GeV) of each event by falling pT: lists of `pt`, `eta`, `phi`, `mass`, float32.

    particles: lists per event with `pt`, `eta`, `phi`, `mass`.
    """
    possible = _possible(particles, min_pt)
    counts = np.zeros(len(particles), dtype=np.int64)
    empty = ak.zip({name: np.zeros(0, dtype=np.float32) for name in ("pt", "eta", "phi", "mass")})
    if not len(possible):
        return ak.unflatten(empty, counts)
    found = _sequence(_momenta(particles[possible]), radius).inclusive_jets(min_pt=min_pt)
    counts[possible] = ak.to_numpy(ak.num(found.px))
    px, py, pz, e = (ak.to_numpy(ak.flatten(found[name])) for name in ("px", "py", "pz", "E"))
    pt = np.hypot(px, py)
    columns = {
        "pt": pt,
        "eta": np.arcsinh(pz / pt),
        "phi": np.arctan2(py, px),
        "mass": np.sqrt(np.maximum(e**2 - pt**2 - pz**2, 0.0)),
    }
    jets = ak.unflatten(ak.zip({name: values.astype(np.float32) for name, values in columns.items()}), counts)
    return ak.to_packed(jets[ak.argsort(jets.pt, axis=1, ascending=False, stable=True)])


def single_jets(
    particles: ak.Array,
    *,
    window: tuple[float, float],
    quarks: ak.Array | None,
    min_quarks: int | None = None,
    eta_max: float | None = None,
    radius: float = JET_RADIUS,
) -> tuple[Ints, ak.Array]:
    """Select one jet an event and return the rows of the events that have one, and those jets' constituents.

    particles: lists per event with `pt`, `eta`, `phi`, `mass` and any more, by falling pT; window: the jet's pT, GeV.
    The jet is the event's leading jet or, with `quarks` (of `decay_quarks`), the leading one of those that hold all
    quarks of one decay, or `min_quarks` of them, within dR < radius of their axis, dR in pseudorapidity and azimuth. It has to lie in the window
    and within |eta| < eta_max (the usual detector's edge less the radius: a jet is not cut in two), else the event gives
    none. What is chosen does not depend on the window: a narrow one holds the jets of a wide one that lie in it.
    Returns (n,) row numbers and lists per selected event, by falling pT.
    """
    low, high = window
    eta_max = Detector().eta_max - radius if eta_max is None else eta_max
    possible = _possible(particles, low)
    if not len(possible):
        return possible, particles[possible]
    inside = particles[possible]
    momenta = _momenta(inside)
    index = _sequence(momenta, radius).constituent_index(min_pt=low)
    jets = _sums(momenta, index)
    if quarks is not None:
        held = _holds_a_decay(jets, quarks[possible], min_quarks, radius)
        jets, index = jets[held], index[held]
    first = ak.argmax(jets.pt, axis=1, keepdims=True)
    leading = ak.flatten(ak.to_packed(jets[first]), axis=1)
    pt, eta = (ak.to_numpy(ak.fill_none(leading[name], np.nan)) for name in ("pt", "eta"))
    chosen = np.flatnonzero((pt > low) & (pt < high) & (np.abs(eta) < eta_max))  # no jet: nan, passes nothing
    picked = ak.drop_none(ak.flatten(index[first][chosen], axis=2), axis=1)
    constituents = inside[chosen][ak.sort(picked, axis=1)]
    return possible[chosen], ak.to_packed(constituents)


def decay_quarks(batch: Any, mothers: tuple[int, ...]) -> ak.Array:
    """Return the quarks that the particles `mothers` (PDG numbers, positive) decay to, before they shower.

    batch: of Pythia's `nextBatch`. Lists per event of `eta`, `phi` and `sign`, the sign of the mother's number, which
    tells the decay of a top or W+ from that of an antitop or W-; of dark quarks the sign of their own number, as a jet
    holds one of a pair.
    """
    record = batch.prt
    number = np.abs(record.id)
    quark = ((number >= 1) & (number <= QUARK_MAX)) | (number == DARK_QUARK)
    content, mother = record[quark], record.id[record.mother1[quark]]
    from_decay = ak.zeros_like(mother, dtype=bool)
    for number in mothers:
        from_decay = from_decay | (np.abs(mother) == number)
    content, mother = content[from_decay], mother[from_decay]
    px, py, pz = content.p.px, content.p.py, content.p.pz
    sign = np.sign(ak.where(np.abs(content.id) == DARK_QUARK, content.id, mother))
    return ak.zip({"eta": np.arcsinh(pz / np.hypot(px, py)), "phi": np.arctan2(py, px), "sign": sign})


def _holds_a_decay(jets: ak.Array, quarks: ak.Array, least: int | None, radius: float) -> ak.Array:
    """Tell for each jet whether the quarks of one sign, all or `least` of them, lie within `radius` of it."""
    held = ak.zeros_like(jets.pt, dtype=bool)
    for sign in (1, -1):
        own = quarks[quarks.sign == sign]
        jet, quark = ak.unzip(ak.cartesian((jets, own), axis=1, nested=True))
        dphi = (jet.phi - quark.phi + np.pi) % (2 * np.pi) - np.pi
        near = (jet.eta - quark.eta) ** 2 + dphi**2 < radius**2
        enough = ak.all(near, axis=2) if least is None else ak.sum(near, axis=2) >= least
        held = held | (enough & (ak.num(own) > 0))
    return held


def _sums(momenta: ak.Array, index: ak.Array) -> ak.Array:
    """Return the jets' `pt`, `eta`, `phi` from the numbers of their constituents: lists per event."""
    n_jets = ak.num(index)
    sizes = ak.to_numpy(ak.flatten(ak.num(index, axis=2)))
    flat = momenta[ak.flatten(index, axis=2)]
    jet = np.repeat(np.arange(len(sizes)), sizes)
    px, py, pz = (
        np.bincount(jet, weights=ak.to_numpy(ak.flatten(flat[name])), minlength=len(sizes))
        for name in ("px", "py", "pz")
    )
    pt = np.hypot(px, py)
    return ak.unflatten(ak.zip({"pt": pt, "eta": np.arcsinh(pz / pt), "phi": np.arctan2(py, px)}), n_jets)


def _possible(particles: ak.Array, min_pt: float) -> Ints:
    """Return the rows of events whose scalar pT sum allows a jet: its pT is at most that, so the rest is not clustered."""
    return np.flatnonzero(ak.to_numpy(ak.sum(ak.values_astype(particles.pt, np.float64), axis=1)) > min_pt)


def _momenta(particles: ak.Array) -> ak.Array:
    pt, eta, phi, mass = (ak.values_astype(particles[name], np.float64) for name in ("pt", "eta", "phi", "mass"))
    return ak.zip(
        {
            "px": pt * np.cos(phi),
            "py": pt * np.sin(phi),
            "pz": pt * np.sinh(eta),
            "E": np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2),
        },
        with_name="Momentum4D",
    )


def _sequence(momenta: ak.Array, radius: float) -> Any:
    fastjet._swig.ClusterSequence.set_fastjet_banner_stream(None)  # stdout belongs to the caller
    return fastjet.ClusterSequence(momenta, fastjet.JetDefinition(fastjet.antikt_algorithm, radius))
