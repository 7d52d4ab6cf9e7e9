"""A parametrised collider detector: generated particles in, particle-flow candidates out, a whole block at once.

Charged particles inside the tracker become tracks; photons, neutral hadrons and what leaves no track fill calorimeter
towers, where there is no tracker as where a track is lost. No pile-up, no magnetic bending of directions, no fakes, no jet energy corrections. Numbers are those of the
CMS card of Delphes 3 (arXiv:1307.6346, `delphes_card_CMS.tcl`); the detector they describe is CMS (JINST 3 S08004).
"""

from __future__ import annotations

from dataclasses import dataclass

import awkward as ak
import numpy as np
import numpy.typing as npt

__all__ = ["Detector", "Particles", "reconstruct"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

CHARGED_HADRONS = {211: 1, 321: 1, 2212: 1, 3222: 1, 3112: -1, 3312: -1, 3334: -1}
"""Charge of the hadrons that may reach the detector, by PDG number (positive number)."""
INVISIBLE = (12, 14, 16, 18, 39, 52, 1000022)
PION_MASS = 0.13957
"""Mass in GeV given to every charged hadron, as particle flow does without particle identification."""
KINDS = ("hadron", "electron", "muon")
ECAL_FORWARD = 2.5
"""|eta| from which the card has another resolution of electromagnetic energy."""
HCAL_FORWARD = 3.0
"""|eta| from which the card has another resolution of hadronic energy."""
SEED_MASS = (PION_MASS, 0.000511, 0.105658)


@dataclass(frozen=True)
class Detector:
    """Every parameter of the detector. Tuples are per |eta| region, upper edges `eta_regions`.

    Unless a line says otherwise the value is that of the Delphes CMS card (arXiv:1307.6346).
    """

    eta_regions: tuple[float, float, float] = (0.5, 1.5, 2.5)
    """Upper |eta| edges of the regions, the last one the tracker's reach (JINST 3 S08004)."""
    calorimeter_eta: float | None = None
    """|eta| up to which the calorimeters see; None: as far as the tracker, so that every charged particle has a track to leave."""
    track_pt_min: float = 0.1
    """GeV; below it there are no tracks."""
    track_pt_soft: float = 1.0
    """GeV; at and below it the soft efficiencies hold."""
    efficiency_soft: tuple[tuple[float, float, float], ...] = (
        (0.70, 0.70, 0.60),
        (0.73, 0.73, 0.50),
        (0.75, 0.75, 0.70),
    )
    """Tracking efficiency of charged hadrons, electrons, muons at low pT."""
    efficiency: tuple[tuple[float, float, float], ...] = ((0.95, 0.95, 0.85), (0.95, 0.95, 0.83), (0.99, 0.99, 0.98))
    """The same above `track_pt_soft` (the card's further rise for electrons above 100 GeV is left out)."""
    resolution_constant: tuple[tuple[float, float, float], ...] = (
        (0.010, 0.015, 0.025),
        (0.03, 0.05, 0.15),
        (0.010, 0.015, 0.025),
    )
    """sigma(pT)/pT of tracks at pT -> 0 of charged hadrons (arXiv:1405.6569), electrons, muons."""
    resolution_slope: tuple[tuple[float, float, float], ...] = (
        (1.5e-4, 2.5e-4, 5.5e-4),
        (1.3e-3, 1.7e-3, 3.1e-3),
        (1.0e-4, 1.5e-4, 3.5e-4),
    )
    """1/GeV; sigma(pT)/pT grows with this times pT, added in quadrature."""
    curl_pt: float = 0.735
    """GeV; charged particles below it curl up before the calorimeter: 0.3 B R / 2 with the card's 3.8 T and 1.29 m."""
    ecal_stochastic: float = 0.11
    """sqrt(GeV); sigma(E)^2 = shape(eta)^2 (constant^2 E^2 + stochastic^2 E + noise^2)."""
    ecal_noise: float = 0.40
    """GeV."""
    ecal_constant: float = 0.008
    """Dimensionless. Shape: 1 + 0.64 eta^2 below |eta| = 1.5, 2.16 + 5.6 (|eta| - 2)^2 above, up to 2.5."""
    ecal_forward_stochastic: float = 2.08
    """sqrt(GeV); beyond |eta| = 2.5, without noise and shape."""
    ecal_forward_constant: float = 0.107
    """Dimensionless; beyond |eta| = 2.5."""
    ecal_cell: float = 0.0174
    """Cell width in eta; in phi one degree."""
    ecal_energy_min: float = 0.5
    """GeV; towers below are dropped."""
    ecal_significance_min: float = 2.0
    """Towers below this many sigma(E) are dropped."""
    hcal_stochastic: float = 1.50
    """sqrt(GeV); sigma(E)^2 = constant^2 E^2 + stochastic^2 E."""
    hcal_constant: float = 0.05
    """Dimensionless."""
    hcal_cell: float = 0.087
    """Cell width in eta up to |eta| = 1.653, with 5 degrees in phi."""
    hcal_endcap_edges: tuple[float, ...] = (1.74, 1.83, 1.93, 2.043, 2.172, 2.322, 2.5, 2.65, 2.868, 2.95, 3.125)
    """Cell edges in |eta| beyond 1.653, with 10 degrees in phi."""
    hcal_forward_edges: tuple[float, ...] = (3.3, 3.475, 3.65, 3.825, 4.0, 4.175, 4.35, 4.525, 4.7, 5.0)
    """Cell edges in |eta| beyond the endcap's, with 20 degrees in phi."""
    hcal_forward_stochastic: float = 2.70
    """sqrt(GeV); beyond |eta| = 3.0."""
    hcal_forward_constant: float = 0.13
    """Dimensionless; beyond |eta| = 3.0."""
    hcal_energy_min: float = 1.0
    """GeV; towers below are dropped."""
    hcal_significance_min: float = 2.0
    """Towers below this many sigma(E) are dropped."""

    @property
    def eta_max(self) -> float:
        """|eta| beyond which nothing is seen."""
        return self.eta_regions[-1] if self.calorimeter_eta is None else self.calorimeter_eta

    def region(self, eta: Floats) -> Ints:
        """Return the index of the |eta| region of each particle: (n,)."""
        return np.minimum(np.searchsorted(self.eta_regions, np.abs(eta)), len(self.eta_regions) - 1)

    def track_efficiency(self, kind: Ints, pt: Floats, eta: Floats) -> Floats:
        """Return the probability of a track, 0 beyond the tracker; kind: (n,) index into hadron, electron, muon; pt: (n,) GeV."""
        region = self.region(eta)
        hard, soft = np.array(self.efficiency)[kind, region], np.array(self.efficiency_soft)[kind, region]
        found = np.where(pt > self.track_pt_soft, hard, np.where(pt > self.track_pt_min, soft, 0.0))
        return np.where(np.abs(eta) <= self.eta_regions[-1], found, 0.0)

    def track_resolution(self, kind: Ints, pt: Floats, eta: Floats) -> Floats:
        """Return sigma(pT)/pT of the tracks: (n,)."""
        region = self.region(eta)
        constant, slope = (
            np.array(self.resolution_constant)[kind, region],
            np.array(self.resolution_slope)[kind, region],
        )
        return np.asarray(np.hypot(constant, slope * pt))

    def ecal_resolution(self, energy: Floats, eta: Floats) -> Floats:
        """Return sigma(E) in GeV of electromagnetic energy: (n,)."""
        a = np.abs(eta)
        shape = np.where(a <= 1.5, 1 + 0.64 * a**2, 2.16 + 5.6 * (a - 2) ** 2)
        variance = (self.ecal_constant * energy) ** 2 + self.ecal_stochastic**2 * energy + self.ecal_noise**2
        forward = (self.ecal_forward_constant * energy) ** 2 + self.ecal_forward_stochastic**2 * energy
        return np.where(a <= ECAL_FORWARD, shape * np.sqrt(variance), np.sqrt(forward))

    def hcal_resolution(self, energy: Floats, eta: Floats) -> Floats:
        """Return sigma(E) in GeV of hadronic energy: (n,)."""
        forward = np.abs(eta) > HCAL_FORWARD
        constant = np.where(forward, self.hcal_forward_constant, self.hcal_constant)
        stochastic = np.where(forward, self.hcal_forward_stochastic, self.hcal_stochastic)
        return np.asarray(np.sqrt((constant * energy) ** 2 + stochastic**2 * energy))


@dataclass(frozen=True)
class Particles:
    """Particles of a block, one entry each, ordered by event.

    event: (n,) index of the event; pdg: (n,); pt, mass: (n,) GeV; eta; phi: (n,) radians; charge: (n,) in units of e.
    """

    event: Ints
    pdg: Ints
    pt: Floats
    eta: Floats
    phi: Floats
    mass: Floats
    charge: Ints

    def by_event(self, n_events: int) -> ak.Array:
        """Return the particles as lists per event, by falling pT, in the types of NanoAOD's candidates."""
        order = np.lexsort((-self.pt, self.event))
        columns = {
            "pt": self.pt[order].astype(np.float32),
            "eta": self.eta[order].astype(np.float32),
            "phi": self.phi[order].astype(np.float32),
            "mass": self.mass[order].astype(np.float32),
            "pdgId": self.pdg[order].astype(np.int32),
            "charge": self.charge[order].astype(np.int8),
        }
        counts = np.bincount(self.event, minlength=n_events)
        return ak.unflatten(ak.zip(columns), counts)


def reconstruct(particles: ak.Array, *, detector: Detector, rng: np.random.Generator) -> ak.Array:
    """Turn generated final-state particles into particle-flow candidates.

    particles: lists per event with `pdg`, `px`, `py`, `pz`, `e` (GeV). Returns lists per event with `pt`, `eta`,
    `phi`, `mass`, `pdgId` (211, 11, 13, 22, 130 and negatives), `charge`, by falling pT; neutrinos and other invisible
    particles are gone. A charged hadron's or electron's momentum is measured by track and calorimeter together, with
    the inverse-variance weighted resolution, as Delphes does in its towers.
    """
    n_events = len(particles)
    counts = ak.to_numpy(ak.num(particles))
    event = np.repeat(np.arange(n_events), counts)
    pdg, px, py, pz, e = (ak.to_numpy(ak.flatten(particles[name])) for name in ("pdg", "px", "py", "pz", "e"))
    pt = np.hypot(px, py)
    seen = (np.abs(pz) < np.sinh(detector.eta_max) * pt) & ~np.isin(np.abs(pdg), INVISIBLE)
    event, pdg, px, py, pz, e, pt = (values[seen] for values in (event, pdg, px, py, pz, e, pt))
    eta, phi = np.arcsinh(pz / pt), np.arctan2(py, px)
    kind, charge = _kind_and_charge(pdg)
    charged = charge != 0
    tracked = charged & (rng.random(len(pt)) < detector.track_efficiency(kind, pt, eta))
    tracks = _tracks(
        event[tracked],
        pt[tracked],
        eta[tracked],
        phi[tracked],
        kind=kind[tracked],
        charge=charge[tracked],
        detector=detector,
        rng=rng,
    )
    muon = charged & (kind == KINDS.index("muon"))
    left = ~tracked & ~muon & ~(charged & (pt < detector.curl_pt))
    ecal = left & ((pdg == 22) | (np.abs(pdg) == 11))
    hcal = left & ~ecal
    photons = _ecal_towers(event[ecal], e[ecal], eta[ecal], phi[ecal], detector=detector, rng=rng)
    neutrals = _hcal_towers(event[hcal], e[hcal], eta[hcal], phi[hcal], detector=detector, rng=rng)
    parts = (tracks, photons, neutrals)
    joined = [np.concatenate([getattr(part, name) for part in parts]) for name in Particles.__dataclass_fields__]
    return Particles(*joined).by_event(n_events)


def _kind_and_charge(pdg: Ints) -> tuple[Ints, Ints]:
    """Return each particle's index in KINDS (0 for neutrals too) and its charge."""
    a = np.abs(pdg)
    charge = np.zeros(len(pdg), dtype=np.int64)
    for number, sign in {**CHARGED_HADRONS, 11: -1, 13: -1}.items():
        charge[a == number] = sign
    return np.where(a == 11, 1, np.where(a == 13, 2, 0)), charge * np.sign(pdg)


def _smear(value: Floats, relative: Floats, rng: np.random.Generator) -> Floats:
    """Draw measured values around `value` with this relative width, log-normal: positive, the mean kept."""
    width = np.sqrt(np.log1p(relative**2))
    return np.asarray(value * np.exp(width * rng.standard_normal(len(value)) - width**2 / 2))


def _tracks(
    event: Ints,
    pt: Floats,
    eta: Floats,
    phi: Floats,
    *,
    kind: Ints,
    charge: Ints,
    detector: Detector,
    rng: np.random.Generator,
) -> Particles:
    mass = np.array(SEED_MASS)[kind]
    energy = np.hypot(pt * np.cosh(eta), mass)
    track = detector.track_resolution(kind, pt, eta)
    calorimeter = (
        np.where(kind == 0, detector.hcal_resolution(energy, eta), detector.ecal_resolution(energy, eta)) / energy
    )
    combined = np.where(kind == 2, track, 1 / np.hypot(1 / track, 1 / calorimeter))
    pdg = np.where(kind == 0, 211 * charge, -np.array([0, 11, 13])[kind] * charge)
    return Particles(event, pdg, _smear(pt, combined, rng), eta, phi, mass, charge)


def _ecal_towers(
    event: Ints, energy: Floats, eta: Floats, phi: Floats, *, detector: Detector, rng: np.random.Generator
) -> Particles:
    n_eta = int(np.ceil(detector.eta_max / detector.ecal_cell))
    edges = np.arange(-n_eta, n_eta + 1, dtype=np.float64) * detector.ecal_cell
    n_phi = np.full(len(edges) - 1, 360)
    event, energy, eta, phi = _towers(
        event, energy, eta, phi, edges=edges, n_phi=n_phi, eta_max=detector.eta_max, rng=rng
    )
    energy = _smear(energy, detector.ecal_resolution(energy, eta) / energy, rng)
    threshold = np.maximum(
        detector.ecal_energy_min, detector.ecal_significance_min * detector.ecal_resolution(energy, eta)
    )
    return _neutral(event, energy, eta, phi, number=22, keep=energy > threshold)


def _hcal_towers(
    event: Ints, energy: Floats, eta: Floats, phi: Floats, *, detector: Detector, rng: np.random.Generator
) -> Particles:
    barrel = np.arange(1, 20) * detector.hcal_cell
    half = np.concatenate([barrel, np.array((*detector.hcal_endcap_edges, *detector.hcal_forward_edges))])
    edges: Floats = np.asarray(np.concatenate([-half[::-1], [0.0], half]), dtype=np.float64)
    middle = np.abs(edges[:-1] + edges[1:]) / 2
    n_phi = np.select([middle < barrel[-1], middle < detector.hcal_endcap_edges[-1]], [72, 36], default=18)
    event, energy, eta, phi = _towers(
        event, energy, eta, phi, edges=edges, n_phi=n_phi, eta_max=detector.eta_max, rng=rng
    )
    energy = _smear(energy, detector.hcal_resolution(energy, eta) / energy, rng)
    threshold = np.maximum(
        detector.hcal_energy_min, detector.hcal_significance_min * detector.hcal_resolution(energy, eta)
    )
    return _neutral(event, energy, eta, phi, number=130, keep=energy > threshold)


def _towers(
    event: Ints,
    energy: Floats,
    eta: Floats,
    phi: Floats,
    *,
    edges: Floats,
    n_phi: Ints,
    eta_max: float,
    rng: np.random.Generator,
) -> tuple[Ints, Floats, Floats, Floats]:
    """Sum the energy of each event's cells; the position is uniform in the cell (the card's SmearTowerCenter)."""
    n_eta, most = len(edges) - 1, int(n_phi.max())
    i_eta = np.clip(np.searchsorted(edges, eta, side="right") - 1, 0, n_eta - 1)
    i_phi = np.clip(((phi / np.pi + 1) / 2 * n_phi[i_eta]).astype(np.int64), 0, n_phi[i_eta] - 1)
    key, inverse = np.unique((event * n_eta + i_eta) * most + i_phi, return_inverse=True)
    i_eta, i_phi = key // most % n_eta, key % most
    low, high = np.maximum(edges[i_eta], -eta_max), np.minimum(edges[i_eta + 1], eta_max)
    new_eta = low + (high - low) * rng.random(len(key))
    new_phi = -np.pi + 2 * np.pi * (i_phi + rng.random(len(key))) / n_phi[i_eta]
    summed = np.bincount(inverse, weights=energy, minlength=len(key)).astype(np.float64)
    return np.asarray(key // (most * n_eta), dtype=np.int64), summed, new_eta, new_phi


def _neutral(event: Ints, energy: Floats, eta: Floats, phi: Floats, *, number: int, keep: Mask) -> Particles:
    event, energy, eta, phi = event[keep], energy[keep], eta[keep], phi[keep]
    zero = np.zeros(len(event), dtype=np.int64)
    return Particles(event, zero + number, energy / np.cosh(eta), eta, phi, zero.astype(np.float64), zero)
