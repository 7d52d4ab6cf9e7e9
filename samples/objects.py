"""The objects of whole events from detector candidates: isolated electrons and muons, jets, missing transverse momentum, and the trigger."""

from __future__ import annotations

from dataclasses import dataclass

import awkward as ak
import numpy as np
import numpy.typing as npt

from .detector import Detector
from .jets import clustered

__all__ = ["EVENT_DETECTOR", "ObjectSelection", "event_objects"]

Ints = npt.NDArray[np.int64]

EVENT_DETECTOR = Detector(calorimeter_eta=5.0)
"""The missing transverse momentum needs the forward calorimeters; leptons have tracks, which end at |eta| = 2.5."""
CODES = {"Electron": 11, "Muon": 13}


@dataclass(frozen=True)
class ObjectSelection:
    """What objects of an event are kept, and which event: that of arXiv:2107.02157, but for the isolation, which is ours.

    trigger_pt: pT of the leading lepton (GeV). lepton_pt, jet_pt: least pT (GeV); electron_eta, muon_eta, jet_eta: largest |eta|.
    isolation: the most that other candidates of pT above isolation_pt (GeV) within isolation_radius may have, in units of the lepton's pT. jet_radius: of the anti-kT
    jets, of all candidates but the isolated leptons.
    """

    trigger_pt: float = 23.0
    lepton_pt: float = 3.0
    jet_pt: float = 15.0
    electron_eta: float = 3.0
    muon_eta: float = 2.1
    jet_eta: float = 4.0
    isolation: float = 0.45
    isolation_radius: float = 0.3
    isolation_pt: float = 0.5
    jet_radius: float = 0.4


def event_objects(
    particles: ak.Array, *, selection: ObjectSelection | None = None, charge: int = 0
) -> tuple[Ints, ak.Array]:
    """Return the rows of the events that fire the trigger, (n,), and their objects.

    particles: lists per event of candidates (`pt`, `eta`, `phi`, `mass`, `pdgId`, `charge`) by falling pT. charge: the leading lepton
    has to have it, 0 for any. The objects are a record an event: lists `Electron` and `Muon` of pt, eta, phi, mass and charge, and
    `Jet` of pt, eta, phi and mass, each by falling pT, and the numbers `MET_pt` and `MET_phi` of minus the vector sum of all candidates.
    """
    chosen = selection or ObjectSelection()
    lepton = _lepton(particles, chosen)
    hard = particles[lepton & (particles.pt > chosen.trigger_pt)]
    possible = np.flatnonzero(ak.to_numpy(ak.num(hard)) > 0)
    inside = particles[possible]
    isolated = _isolated(inside, lepton[possible], chosen)
    leading = ak.firsts(inside[isolated])
    fired = ak.fill_none(leading.pt > chosen.trigger_pt, value=False)
    if charge:
        fired = fired & ak.fill_none(leading.charge == charge, value=False)
    kept = np.flatnonzero(ak.to_numpy(fired))
    inside, isolated = inside[kept], isolated[kept]
    return possible[kept], _record(inside, isolated, chosen)


def _lepton(particles: ak.Array, chosen: ObjectSelection) -> ak.Array:
    """Tell which candidates are leptons within the acceptance."""
    code, eta = np.abs(particles.pdgId), np.abs(particles.eta)
    of_kind = ((code == CODES["Electron"]) & (eta < chosen.electron_eta)) | (
        (code == CODES["Muon"]) & (eta < chosen.muon_eta)
    )
    return of_kind & (particles.pt > chosen.lepton_pt)


def _isolated(particles: ak.Array, lepton: ak.Array, chosen: ObjectSelection) -> ak.Array:
    """Tell which candidates are leptons without much around them."""
    index = ak.local_index(particles.pt)
    own, others = particles[lepton], particles[particles.pt > chosen.isolation_pt]
    mine, theirs = ak.unzip(ak.cartesian((own, others), nested=True))
    dphi = (mine.phi - theirs.phi + np.pi) % (2 * np.pi) - np.pi
    near = (mine.eta - theirs.eta) ** 2 + dphi**2 < chosen.isolation_radius**2
    around = ak.sum(ak.where(near, theirs.pt, 0.0), axis=2) - own.pt  # a lepton is near itself
    alone = index[lepton][around < chosen.isolation * own.pt]
    counts = ak.to_numpy(ak.num(particles))
    flat = np.zeros(int(counts.sum()), dtype=np.bool_)
    starts = np.cumsum(counts) - counts
    flat[ak.to_numpy(ak.flatten(alone + starts))] = True
    return ak.unflatten(flat, counts)


def _record(particles: ak.Array, isolated: ak.Array, chosen: ObjectSelection) -> ak.Array:
    """Return the objects of events."""
    leptons = particles[isolated]
    found = {
        name: leptons[np.abs(leptons.pdgId) == code][["pt", "eta", "phi", "mass", "charge"]]
        for name, code in CODES.items()
    }
    jets = clustered(particles[~isolated], min_pt=chosen.jet_pt, radius=chosen.jet_radius)
    found["Jet"] = jets[np.abs(jets.eta) < chosen.jet_eta]
    pt = ak.values_astype(particles.pt, np.float64)
    px, py = (ak.to_numpy(-ak.sum(pt * f(particles.phi), axis=1)) for f in (np.cos, np.sin))
    met = {"MET_pt": np.hypot(px, py), "MET_phi": np.arctan2(py, px)}
    return ak.zip({**found, **{name: values.astype(np.float32) for name, values in met.items()}}, depth_limit=1)
