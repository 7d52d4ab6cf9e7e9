"""Objects and selections of the DarkMachines challenge (arXiv:2105.14027) from detector candidates: photons, b-jets, channels; no lepton is needed."""

from __future__ import annotations

from dataclasses import dataclass

import awkward as ak
import numpy as np
import numpy.typing as npt

from .flavour_tags import tagged
from .jets import clustered

__all__ = ["STORED", "ChallengeSelection", "challenge_objects", "passes"]

Bool = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

STORED = "stored"
"""The name of the condition that the challenge stores an event on; the channels are called 1 and 2b."""
ELECTRON, MUON, PHOTON = 11, 13, 22
KEPT_JET, KEPT_OTHER = 60.0, 25.0
"""GeV; an event is stored with a jet above the first, or with an electron, a muon or a photon above the second (arXiv:2105.14027)."""
KEPT_ELECTRON_ETA, CRACK = 2.47, (1.37, 1.52)
"""Largest |eta| of the electron that an event is stored for, and where it must not lie."""
HARD_PT, LEADING_PT, HARD_JETS = 50.0, 200.0, 4
"""GeV; of channel 1: four jets above the first, one of them above the second."""


@dataclass(frozen=True)
class ChallengeSelection:
    """What objects are kept: the acceptance of arXiv:2105.14027; isolation and photon efficiency of the ATLAS card of Delphes 3 (arXiv:1307.6346).

    jet_pt, lepton_pt, photon_pt: least pT (GeV); jet_eta, lepton_eta, photon_eta: largest |eta|; a lepton needs a track, which ends at |eta| = 2.5.
    isolation, muon_isolation: the most that candidates of pT above isolation_pt (GeV) within isolation_radius that are no electrons or
    muons may have, in units of the object's pT. photon_efficiency: below and above |eta| = 1.5. jet_radius: of the anti-kT jets, of all candidates but
    isolated leptons and photons.
    """

    jet_pt: float = 20.0
    jet_eta: float = 2.8
    lepton_pt: float = 15.0
    lepton_eta: float = 2.7
    photon_pt: float = 20.0
    photon_eta: float = 2.37
    isolation: float = 0.12
    muon_isolation: float = 0.25
    isolation_radius: float = 0.5
    isolation_pt: float = 0.5
    photon_efficiency: tuple[float, float] = (0.95, 0.85)
    jet_radius: float = 0.4


def challenge_objects(
    particles: ak.Array,
    hadrons: ak.Array,
    *,
    kept: str,
    rng: np.random.Generator,
    selection: ChallengeSelection | None = None,
) -> tuple[Ints, ak.Array]:
    """Return the rows of the events that pass `kept`, (n,), and their objects.

    particles: lists per event of candidates (`pt`, `eta`, `phi`, `mass`, `pdgId`, `charge`) by falling pT; hadrons: of `heavy_hadrons`, the same events; kept: "stored",
    "1" or "2b", as of `passes`. The objects are a record an event: lists `Electron` and `Muon` of pt, eta, phi, mass and charge, `Photon` of pt, eta, phi and
    mass, `Jet` of these and btag, 1 or 0, each by falling pT; and the numbers `MET_pt` and `MET_phi` of minus the vector sum of all candidates.
    """
    chosen = selection or ChallengeSelection()
    alone = _isolated(particles, chosen, rng)
    code = np.abs(particles.pdgId)
    found = {
        "Electron": particles[alone & (code == ELECTRON)][["pt", "eta", "phi", "mass", "charge"]],
        "Muon": particles[alone & (code == MUON)][["pt", "eta", "phi", "mass", "charge"]],
        "Photon": particles[alone & (code == PHOTON)][["pt", "eta", "phi", "mass"]],
    }
    jets = clustered(particles[~alone], min_pt=chosen.jet_pt, radius=chosen.jet_radius)
    jets = jets[np.abs(jets.eta) < chosen.jet_eta]
    found["Jet"] = ak.with_field(jets, tagged(jets, hadrons, rng=rng), "btag")
    pt = ak.values_astype(particles.pt, np.float64)
    px, py = (ak.to_numpy(-ak.sum(pt * f(particles.phi), axis=1)) for f in (np.cos, np.sin))
    met = {"MET_pt": np.hypot(px, py), "MET_phi": np.arctan2(py, px)}
    objects = ak.zip({**found, **{name: values.astype(np.float32) for name, values in met.items()}}, depth_limit=1)
    rows = np.flatnonzero(passes(objects, kept))
    return rows, objects[rows]


def passes(objects: ak.Array, kept: str) -> Bool:
    """Tell which events (n,) pass a selection; objects: of `challenge_objects`.

    "1": MET >= 200 GeV, MET >= 0.2 HT, four jets above 50 GeV, one above 200 GeV, HT >= 600 GeV; HT is the sum of the jets' pT. "2b": MET >= 50 GeV, two
    leptons, HT >= 50 GeV. "stored": a jet above 60 GeV, or an electron (|eta| < 2.47 but for 1.37 to 1.52), a muon or a photon above 25 GeV.
    """
    jets, met = objects.Jet, ak.to_numpy(objects.MET_pt).astype(np.float64)
    ht = ak.to_numpy(ak.sum(ak.values_astype(jets.pt, np.float64), axis=1))
    if kept == "1":
        jetty = (_count(jets.pt > HARD_PT) >= HARD_JETS) & (_count(jets.pt > LEADING_PT) > 0)
        return np.asarray((met >= 200) & (met >= 0.2 * ht) & jetty & (ht >= 600))
    if kept == "2b":
        leptons = ak.to_numpy(ak.num(objects.Electron) + ak.num(objects.Muon))
        return np.asarray((met >= 50) & (leptons >= 2) & (ht >= 50))
    if kept != STORED:
        raise ValueError(kept)
    electrons, eta = objects.Electron, np.abs(objects.Electron.eta)
    outside = (eta < KEPT_ELECTRON_ETA) & ~((eta > CRACK[0]) & (eta < CRACK[1]))
    hard = _count((electrons.pt > KEPT_OTHER) & outside) + _count(jets.pt > KEPT_JET)
    for name in ("Muon", "Photon"):
        hard = hard + _count(objects[name].pt > KEPT_OTHER)
    return np.asarray(hard > 0)


def _count(mask: ak.Array) -> Ints:
    """Count what is true of each event, (n,)."""
    return np.asarray(ak.to_numpy(ak.sum(mask, axis=1)), dtype=np.int64)


def _isolated(particles: ak.Array, chosen: ChallengeSelection, rng: np.random.Generator) -> ak.Array:
    """Tell which candidates are leptons or photons within the acceptance without much around them; lists per event."""
    code, eta, pt = np.abs(particles.pdgId), np.abs(particles.eta), particles.pt
    lepton = (code == ELECTRON) | (code == MUON)
    inside = (lepton & (eta < chosen.lepton_eta) & (pt > chosen.lepton_pt)) | (
        (code == PHOTON) & (eta < chosen.photon_eta) & (pt > chosen.photon_pt)
    )
    own, others = particles[inside], particles[~lepton & (pt > chosen.isolation_pt)]
    mine, theirs = ak.unzip(ak.cartesian((own, others), nested=True))
    dphi = (mine.phi - theirs.phi + np.pi) % (2 * np.pi) - np.pi
    near = (mine.eta - theirs.eta) ** 2 + dphi**2 < chosen.isolation_radius**2
    around = ak.sum(ak.where(near, theirs.pt, 0.0), axis=2)
    around = around - ak.where(own.pdgId == PHOTON, own.pt, 0.0)  # a photon is near itself, leptons do not count
    most = ak.where(np.abs(own.pdgId) == MUON, chosen.muon_isolation, chosen.isolation) * own.pt
    low, high = chosen.photon_efficiency
    seen = ak.where(own.pdgId != PHOTON, 1.0, ak.where(np.abs(own.eta) < 1.5, low, high))
    drawn = ak.unflatten(rng.random(int(ak.sum(ak.num(own.pt)))), ak.num(own.pt))
    alone = ak.local_index(pt)[inside][(around < most) & (drawn < seen)]
    counts = ak.to_numpy(ak.num(particles))
    flat = np.zeros(int(counts.sum()), dtype=np.bool_)
    flat[ak.to_numpy(ak.flatten(alone + (np.cumsum(counts) - counts)))] = True
    return ak.unflatten(flat, counts)
