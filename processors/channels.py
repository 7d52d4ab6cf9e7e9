"""The selections of the channels of the DarkMachines challenge (arXiv:2105.14027), each step told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .stored_objects import StoredObjects

__all__ = ["CHANNELS", "channel_steps"]

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

CHANNELS = ("none", "1", "2a", "2b", "3")
JET_PT, JET_ETA = 20.0, 2.8
"""GeV, and |eta|, of what HT is the sum of."""
LEPTON_PT, LEPTON_ETA = 15.0, 2.7
LEAST: dict[str, dict[str, float]] = {
    "1": {"MET": 200.0, "MET/HT": 0.2, "hard jets": 4, "leading jet": 200.0, "HT": 600.0},
    "2a": {"MET": 50.0, "leptons": 3},
    "2b": {"MET": 50.0, "leptons": 2, "HT": 50.0},
    "3": {"MET": 100.0, "HT": 600.0},
}
"""Channel -> what an event has at least: MET and HT in GeV, and how many jets of HARD_PT and leptons; the leading jet has more."""
HARD_PT = 50.0


def channel_steps(channel: str, stored: Mapping[str, StoredObjects], met: Float) -> list[tuple[str, Bool]]:
    """Return the steps of a channel's selection in order: what an event lacks that does not pass, and which events (n,) pass.

    channel: one of CHANNELS; stored: all objects of each class as a file has them; met: (n,) missing transverse momentum in GeV. Jets have pT > 20 GeV and |eta| < 2.8, b-jets
    are among them, and HT is the sum of their pT; leptons are electrons and muons of pT > 15 GeV and |eta| < 2.7.
    """
    least = LEAST.get(channel, {})
    jets = stored["Jet"]
    jets = jets.select((jets.pt > JET_PT) & (np.abs(jets.eta) < JET_ETA))
    ht = np.bincount(jets.event, weights=jets.pt, minlength=len(met))
    leptons = np.zeros(len(met), dtype=np.int64)
    for name in ("Electron", "Muon"):
        own = stored[name]
        leptons += own.count((own.pt > LEPTON_PT) & (np.abs(own.eta) < LEPTON_ETA))
    steps: dict[str, Callable[[float], tuple[str, Bool]]] = {
        "MET": lambda cut: (f"MET below {cut:g} GeV", met >= cut),
        "MET/HT": lambda cut: (f"MET below {cut:g} HT", met >= cut * ht),
        "hard jets": lambda cut: (
            f"fewer than {cut:g} jets above {HARD_PT:g} GeV",
            jets.count(jets.pt > HARD_PT) >= cut,
        ),
        "leading jet": lambda cut: (f"no jet above {cut:g} GeV", jets.count(jets.pt > cut) > 0),
        "leptons": lambda cut: (f"fewer than {cut:g} leptons", leptons >= cut),
        "HT": lambda cut: (f"HT below {cut:g} GeV", ht >= cut),
    }
    told = [steps[name](cut) for name, cut in least.items()]
    return [(f"channel {channel}: {why}", passes) for why, passes in told]
