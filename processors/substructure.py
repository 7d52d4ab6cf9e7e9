"""Jets and their substructure: anti-kT clustering and N-subjettiness with fastjet, as flat arrays.

N-subjettiness (arXiv:1011.2268) with the normalised measure and one-pass kT axes:
tau_N(beta) = sum_i pT_i min_k(dR_ik^beta) / sum_i pT_i R0^beta, as CMS stores it. R0 is the jet radius.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import awkward as ak
import fastjet
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from .events import Candidates

__all__ = ["Jets", "Taus", "dijet_mass", "leading_jets", "momenta", "n_subjettiness", "ratio", "tau12"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

WHOLE = 999.0
"""A radius larger than any distance, so that one cluster sequence holds one jet's particles."""


@dataclass(frozen=True)
class Jets:
    """The leading-pT jets of the events that have enough of them, `n_jets` an event, hardest first.

    event: (n,) int64 the event's row in the chunk; px, py, pz, energy: (n, n_jets) GeV;
    offsets: (n * n_jets + 1,) int64 and constituents: flat int64 rows of the chunk's candidates, jet after jet.
    """

    event: Int
    px: Float
    py: Float
    pz: Float
    energy: Float
    offsets: Int
    constituents: Int

    @property
    def pt(self) -> Float:
        """Transverse momentum (n, n_jets), GeV."""
        return np.hypot(self.px, self.py)

    @property
    def eta(self) -> Float:
        """Pseudorapidity (n, n_jets)."""
        return np.asarray(np.arcsinh(self.pz / self.pt))

    @property
    def phi(self) -> Float:
        """Azimuth (n, n_jets) in (-pi, pi]."""
        return np.arctan2(self.py, self.px)

    @property
    def mass(self) -> Float:
        """Invariant mass (n, n_jets), GeV; 0 where rounding made its square negative."""
        momentum2 = self.px**2 + self.py**2 + self.pz**2
        return np.sqrt(np.maximum(self.energy**2 - momentum2, 0.0))

    @property
    def n_constituents(self) -> Int:
        """Number of constituents (n, n_jets)."""
        return np.diff(self.offsets).reshape(self.px.shape)

    def count(self, chosen: npt.NDArray[np.bool_]) -> Int:
        """Count the constituents among the chosen candidates of the chunk: (n, n_jets)."""
        running = np.concatenate([[0], np.cumsum(chosen[self.constituents])])
        return np.asarray(running[self.offsets[1:]] - running[self.offsets[:-1]]).reshape(self.px.shape)

    def select(self, keep: npt.NDArray[np.bool_]) -> Jets:
        """Return the jets of the events where `keep` (n,) is True."""
        if keep.all():
            return self
        per_jet = np.repeat(keep, self.px.shape[1])
        length = np.diff(self.offsets)
        offsets = np.concatenate([[0], np.cumsum(length[per_jet])]).astype(np.int64)
        constituents = self.constituents[np.repeat(per_jet, length)]
        px, py, pz, energy = (values[keep] for values in (self.px, self.py, self.pz, self.energy))
        return Jets(self.event[keep], px, py, pz, energy, offsets, constituents)


@dataclass(frozen=True)
class Taus:
    """N-subjettiness of n jets: beta1: (n, 4) tau_1 to tau_4 at beta = 1; beta2: (n,) tau_1 at beta = 2."""

    beta1: Float
    beta2: Float


def momenta(candidates: Candidates) -> tuple[Float, Float, Float, Float]:
    """Return px, py, pz and energy of every candidate, (n,) GeV each."""
    px, py = candidates.pt * np.cos(candidates.phi), candidates.pt * np.sin(candidates.phi)
    pz = candidates.pt * np.sinh(candidates.eta)
    energy = np.sqrt(px**2 + py**2 + pz**2 + candidates.mass**2)
    return px, py, pz, energy


def leading_jets(
    candidates: Candidates,
    momentum: tuple[Float, Float, Float, Float],
    *,
    radius: float = 1.0,
    min_pt: float = 50.0,
    max_abs_eta: float | None = None,
    n_jets: int = 2,
) -> Jets:
    """Cluster each event with anti-kT (arXiv:0802.1189, E scheme) and keep its `n_jets` hardest jets.

    Jets need pT > min_pt (GeV) and |eta| < max_abs_eta; events with fewer are left out. Equal pT keeps fastjet's
    order, which depends on the input alone.
    """
    silence_banner()
    sequence = fastjet.ClusterSequence(
        _jagged(candidates.offsets, *momentum), fastjet.JetDefinition(fastjet.antikt_algorithm, radius)
    )
    jets, index = sequence.inclusive_jets(min_pt=min_pt), sequence.constituent_index(min_pt=min_pt)
    bounds = np.asarray(index.layout.offsets)
    inner = index.layout.content
    first, rows = np.asarray(inner.offsets, dtype=np.int64), np.asarray(inner.content.data, dtype=np.int64)
    px, py, pz, energy = (np.asarray(jets.layout.content[name].data) for name in ("px", "py", "pz", "E"))
    event = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    pt = np.hypot(px, py)
    good = pt > min_pt
    if max_abs_eta is not None:
        good &= np.abs(np.arcsinh(pz / pt)) < max_abs_eta
    order = np.flatnonzero(good)
    order = order[np.lexsort((-pt[order], event[order]))]
    counts = np.bincount(event[order], minlength=len(bounds) - 1)
    starts = np.cumsum(counts) - counts
    kept = np.flatnonzero(counts >= n_jets)
    chosen = order[starts[kept][:, None] + np.arange(n_jets)]
    begin, length = first[chosen.ravel()], np.diff(first)[chosen.ravel()]
    offsets = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
    flat = np.arange(offsets[-1]) + np.repeat(begin - offsets[:-1], length)
    # fastjet numbers constituents within their event; the chunk's rows start at the event's offset.
    constituents = rows[flat] + np.repeat(np.repeat(candidates.offsets[kept], n_jets), length)
    return Jets(kept, px[chosen], py[chosen], pz[chosen], energy[chosen], offsets, constituents)


def dijet_mass(jets: Jets) -> Float:
    """Return the invariant mass of the sum of each event's jets: (n,) GeV; 0 where rounding made its square negative."""
    px, py, pz, energy = (values.sum(axis=1) for values in (jets.px, jets.py, jets.pz, jets.energy))
    return np.asarray(np.sqrt(np.maximum(energy**2 - px**2 - py**2 - pz**2, 0.0)))


def n_subjettiness(jets: Jets, momentum: tuple[Float, Float, Float, Float], *, radius: float = 1.0) -> Taus:
    """Return tau_1 to tau_4 at beta = 1 and tau_1 at beta = 2 of every jet, flattened: n = number of jets.

    One cluster sequence a jet: fastjet's awkward interface takes the particles of a whole sequence, and the result
    does not depend on how they were merged, so the cheapest algorithm (Cambridge/Aachen) holds them. A jet with N or
    fewer particles has tau_N = 0.
    """
    n = len(jets.offsets) - 1
    if n == 0:
        return Taus(np.zeros((0, 4)), np.zeros(0))
    silence_banner()
    particles = _jagged(jets.offsets, *(values[jets.constituents] for values in momentum))
    sequence = fastjet.ClusterSequence(particles, fastjet.JetDefinition(fastjet.cambridge_algorithm, WHOLE))
    options = {"measure_definition": "NormalizedMeasure", "axes_definition": "OnePass_KT_Axes", "R0": radius}
    beta1 = ak.to_numpy(sequence.njettiness(njets=[1, 2, 3, 4], beta=1.0, **options))
    beta2 = ak.to_numpy(sequence.njettiness(njets=[1], beta=2.0, **options))
    axes = np.arange(1, 5)
    few = np.diff(jets.offsets)[:, None] <= axes
    return Taus(
        np.where(few, 0.0, np.asarray(beta1, dtype=np.float64).reshape(n, 4)),
        np.where(few[:, 0], 0.0, np.asarray(beta2, dtype=np.float64).reshape(n)),
    )


def ratio(numerator: Float, denominator: Float) -> Float:
    """Divide element by element; a jet with a denominator of 0 has too few particles and the ratio is 0."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def tau12(taus: Taus) -> Float:
    """Return sqrt(tau_1 at beta 2) / tau_1 at beta 1 of n jets (arXiv:2011.03550): (n,).

    With a common axis it is at least 1 (Cauchy-Schwarz), and 1 when all particles are equally far from it: a jet
    with tau_1 = 0 gets that limit, 1.
    """
    one = taus.beta1[:, 0]
    return np.divide(np.sqrt(taus.beta2), one, out=np.ones_like(one), where=one > 0)


@functools.cache
def silence_banner() -> None:
    """Keep fastjet's banner off stdout, which belongs to the caller; once a process, before it clusters."""
    fastjet._swig.ClusterSequence.set_fastjet_banner_stream(None)


def _jagged(offsets: Int, px: Float, py: Float, pz: Float, energy: Float) -> ak.Array:
    content = ak.contents.RecordArray(
        [ak.contents.NumpyArray(values) for values in (px, py, pz, energy)], ["px", "py", "pz", "E"]
    )
    return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), content))
