"""Which jets of a simulated event are tagged as b-jets: by the hadrons that they hold, with an efficiency and rates of mistags.

The rates are those of the ATLAS card of Delphes 3 (arXiv:1307.6346, `delphes_card_ATLAS.tcl`, after ATL-PHYS-PUB-2015-022), the card that the
DarkMachines challenge started from (arXiv:2105.14027).
"""

from __future__ import annotations

from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt

from .event_processes import B_BARYONS, B_MESONS, C_BARYONS, C_MESONS

__all__ = ["heavy_hadrons", "jet_flavours", "tag_rates", "tagged"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BEAUTY, CHARM, LIGHT = 5, 4, 0
HADRONS = {BEAUTY: (*B_MESONS, *B_BARYONS), CHARM: (*C_MESONS, *C_BARYONS)}
HADRON_PT, RADIUS = 5.0, 0.3
"""GeV, and dR to the jet's axis, of a hadron that makes a jet one of its flavour, as ATLAS has it (arXiv:1907.05120)."""
TRACKER_ETA = 2.5
"""|eta| beyond which no jet is tagged: there are no tracks."""


def heavy_hadrons(batch: Any) -> ak.Array:
    """Return the weakly decaying hadrons with a b or c quark above 5 GeV of a Pythia batch: lists per event of `eta`, `phi` and `flavour`, 5 or 4."""
    record = batch.prt
    counts = ak.to_numpy(ak.num(record.id))
    content = ak.flatten(record)
    code = np.abs(ak.to_numpy(content.id))
    flavour = np.zeros(len(code), dtype=np.int64)
    for quark, numbers in HADRONS.items():
        flavour[np.isin(code, numbers)] = quark
    at = np.flatnonzero(flavour)
    px, py, pz = (ak.to_numpy(content.p[name])[at] for name in ("px", "py", "pz"))
    pt = np.hypot(px, py)
    hard = pt > HADRON_PT
    at, px, py, pz, pt = (values[hard] for values in (at, px, py, pz, pt))
    columns = {"eta": np.arcsinh(pz / pt), "phi": np.arctan2(py, px), "flavour": flavour[at]}
    event = np.repeat(np.arange(len(counts)), counts)[at]
    return ak.unflatten(ak.zip(columns), np.bincount(event, minlength=len(counts)))


def jet_flavours(jets: ak.Array, hadrons: ak.Array) -> ak.Array:
    """Return the flavour of each jet: 5 with a b hadron within dR < 0.3, else 4 with a c hadron, else 0; lists per event.

    jets: lists per event with `eta`, `phi`; hadrons: of `heavy_hadrons`.
    """
    jet, hadron = ak.unzip(ak.cartesian((jets, hadrons), axis=1, nested=True))
    dphi = (jet.phi - hadron.phi + np.pi) % (2 * np.pi) - np.pi
    near = (jet.eta - hadron.eta) ** 2 + dphi**2 < RADIUS**2
    return ak.fill_none(ak.max(ak.where(near, hadron.flavour, LIGHT), axis=2), LIGHT)


def tag_rates(flavour: Ints, pt: Floats, eta: Floats) -> Floats:
    """Return the probability that a jet is tagged, (n,); flavour: (n,) 5, 4 or 0; pt: (n,) GeV; eta: (n,).

    Of b-jets it is 0.80 tanh(0.003 pT) 30 / (1 + 0.086 pT), of c-jets 0.20 tanh(0.02 pT) / (1 + 0.0034 pT), of others 0.002 + 7.3e-6 pT, and 0 beyond
    |eta| = 2.5 (delphes_card_ATLAS.tcl; the edge is that of the tracker).

    >>> tag_rates(np.array([5, 4, 0, 5]), np.array([100.0] * 4), np.array([0.0, 0.0, 0.0, 2.6])).round(4)
    array([0.7283, 0.1439, 0.0027, 0.    ])
    """
    beauty = 0.80 * np.tanh(0.003 * pt) * 30 / (1 + 0.086 * pt)
    charm = 0.20 * np.tanh(0.02 * pt) / (1 + 0.0034 * pt)
    rate = np.where(flavour == BEAUTY, beauty, np.where(flavour == CHARM, charm, 0.002 + 7.3e-6 * pt))
    return np.where(np.abs(eta) < TRACKER_ETA, rate, 0.0)


def tagged(jets: ak.Array, hadrons: ak.Array, *, rng: np.random.Generator) -> ak.Array:
    """Draw which jets are tagged, 1 or 0 a jet, lists per event; jets: with `pt`, `eta`, `phi`; hadrons: of `heavy_hadrons`."""
    counts = ak.to_numpy(ak.num(jets.pt))
    flavour = ak.to_numpy(ak.flatten(jet_flavours(jets, hadrons)))
    pt, eta = (ak.to_numpy(ak.flatten(jets[name])).astype(np.float64) for name in ("pt", "eta"))
    drawn = rng.random(len(pt)) < tag_rates(flavour.astype(np.int64), pt, eta)
    return ak.unflatten(drawn.astype(np.uint8), counts)
