"""Jets as numbers: masses, N-subjettiness ratios and constituents, the features of QUAK (arXiv:2011.03550)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..errors import InputError, unknown_name
from .chunks import named_columns
from .jets import JetRepresentation, Momenta
from .substructure import n_subjettiness, ratio, tau12

if TYPE_CHECKING:
    from .chunks import Columns
    from .events import Candidates
    from .substructure import Jets

__all__ = ["Features"]

SHAPES = ("tau21", "tau32", "tau43", "tau12", "ntrk")


@dataclass(frozen=True, kw_only=True, repr=False)
class Features(JetRepresentation):
    """Jets as rows of numbers; the default inputs are the 12 of QUAK, or of one jet its six, without the observable.

    features: the columns that a scorer takes. The table has all DIJET_COLUMNS, or of one jet `pt_1`, `eta_1`, `mJ_1`, `tau21_1`,
    `tau32_1`, `tau43_1`, `tau12_1`, `ntrk_1`; tau12 is sqrt(tau1 at beta 2) / tau1 at beta 1, ntrk counts charged
    constituents where the file stores charge, else all. Raises InputError for a feature that is no column, or the observable.
    """

    name: ClassVar[str] = "features"
    kind: ClassVar[str] = "rows"
    same_counting: ClassVar[bool] = True

    features: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        hunted = self.observable.name if self.observable else None
        by_jet = tuple(f"{name}_{jet}" for jet in range(1, self.jets + 1) for name in ("mJ", *SHAPES))
        features = named_columns(self.features)
        for name in features:
            if name not in self.scalars:
                raise InputError(unknown_name("feature", name, self.scalars, self.name))
            if name == hunted:
                raise InputError(f"{self.name}: {name!r} is the observable, which is hunted in and is no feature")
        object.__setattr__(self, "features", features or tuple(name for name in by_jet if name != hunted))

    @property
    def inputs(self) -> tuple[str, ...]:
        """The features."""
        return self.features

    @property
    def jet_scalars(self) -> tuple[str, ...]:
        """What is told of each jet, in the order of the columns."""
        return ("pt", "mJ", *SHAPES) if self.jets == 2 else ("pt", "eta", "mJ", *SHAPES)

    def described(self, jets: Jets, candidates: Candidates, momentum: Momenta) -> tuple[Jets, Columns, dict[str, int]]:
        """Return the jets, and what is told of each: (n, jets) float64; no event is lost."""
        taus = n_subjettiness(jets, momentum, radius=self.radius)
        tau = taus.beta1
        by_name = {
            "pt": jets.pt,
            "eta": jets.eta,
            "mJ": jets.mass,
            "tau21": ratio(tau[:, 1], tau[:, 0]),
            "tau32": ratio(tau[:, 2], tau[:, 1]),
            "tau43": ratio(tau[:, 3], tau[:, 2]),
            "tau12": tau12(taus),
            "ntrk": jets.n_constituents if candidates.charge is None else jets.count(candidates.charge != 0),
        }
        told = {name: by_name[name].reshape(jets.px.shape).astype(np.float64) for name in self.jet_scalars}
        return jets, told, {}
