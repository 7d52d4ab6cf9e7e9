"""Fixed-point arithmetic for a trigger: what bits of weights and activations a normalised autoencoder needs to tag as it does in floating point.

`make study ONLY=fixed_point`; EVENTS is the number of jets that each autoencoder trains on (10,000), with the setting of the study
`normalised_autoencoder`. One is trained on QCD jets and tags tops, one on tops and tags QCD jets; nothing is trained with fewer bits.

Emulated, in double precision: every number of b bits is a whole number between ±(2^(b-1) - 1) times a power of two, rounded to the nearest and saturated. The power
is the smallest whose range holds the largest value: of weights one a layer; of activations (the coordinates that come in, what goes into each layer, the
decoder's output, and the difference of the two) one each over the jets of the training, so that others may saturate. Products, sums and biases are exact: an
accumulator is wide. ELU and the division by a length are exact but for the rounding of what comes out. "and the error" keeps the squared differences and their
sum in b bits too, of which the range is that of the sums of the training; otherwise these are exact.
"""

from __future__ import annotations

import math
import os
import sys
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import rankdata

from hunch.analysis import evaluate
from hunch.models import NAE
from hunch.models.energy.networks import SphereAutoencoder, Weights
from hunch.processors import filtered_images

from .reference_jets import reference_jets
from .simulated import told
from .study_normalised_autoencoder import SETTING

Floats = npt.NDArray[np.float64]
EVENTS = int(os.environ.get("EVENTS", "10000"))
TESTED = 4000  # jets of each kind
SMEAR = 1.0  # pixels
BITS = (4, 6, 8, 10, 12, 14, 16)
PARTS = {
    "weights": ("weights",),
    "activations": ("activations",),
    "both": ("weights", "activations"),
    "both, and the error": ("weights", "activations", "error"),
}
"""What is rounded, as tables call it -> parts."""
BATCH = 500


def rounded(x: torch.Tensor, bits: int, top: float) -> torch.Tensor:
    """Return numbers as `bits` hold them, the sign being one; top: the largest size that the range is to hold."""
    step = 2.0 ** (math.ceil(math.log2(max(top, 1e-30))) - (bits - 1))
    most = 2 ** (bits - 1) - 1
    return (x / step).round().clamp(-most, most) * step


class FixedPoint(SphereAutoencoder):
    """An autoencoder whose numbers have few bits: where `bits` is None only the sizes of what passes are noted, in `tops`."""

    tops: dict[str, float]
    bits: int | None = None
    parts: tuple[str, ...] = ()

    @classmethod
    def of(cls, nae: NAE) -> Self:
        """Return a copy of a fitted network."""
        assert nae.network_ is not None
        found = cls(1, nae.network_.sizes, seed=0, lipschitz=nae.lipschitz).double()
        found.load_state_dict(nae.network_.state_dict())
        found.tops = {}
        return found.requires_grad_(requires_grad=False)

    def passed(self, x: torch.Tensor, place: str, *, part: str = "activations") -> torch.Tensor:
        """Return values as they pass a place."""
        if self.bits is None:
            self.tops[place] = max(self.tops.get(place, 0.0), float(x.abs().max()))
        return x if self.bits is None or part not in self.parts else rounded(x, self.bits, self.tops[place])

    def weights(self) -> list[torch.Tensor]:
        """Return the weights as they are applied."""
        exact = super().weights()
        if self.bits is None or "weights" not in self.parts:
            return exact
        return [rounded(weight, self.bits, float(weight.abs().max())) for weight in exact]

    def _dense(self, x: torch.Tensor, layer: int, weights: Weights) -> torch.Tensor:
        return super()._dense(self.passed(x, f"layer {layer}"), layer, weights)

    def _convolve(self, x: torch.Tensor, layer: int, weights: Weights) -> torch.Tensor:
        return super()._convolve(self.passed(x, f"layer {layer}"), layer, weights)

    def energy(self, x: torch.Tensor, weights: Weights, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return the energies (1, b) of images x (1, b, d)."""
        given = self.passed(x, "layer 0")
        made = self.passed(self.decode(self.encode(given, weights, mask), weights), "output")
        squares = self.passed(given - made, "difference").square()
        if self.bits is not None and "error" in self.parts:
            squares = rounded(squares, self.bits, self.tops["sum"])
        return self.passed(squares.sum(dim=-1), "sum", part="error") / self.sizes.numbers

    def scores(self, x: Floats, *, bits: int | None = None, parts: tuple[str, ...] = ()) -> Floats:
        """Return the energies (n,) of coordinates x (n, d)."""
        self.bits, self.parts = bits, parts
        weights = self.weights()
        return np.concatenate(
            [self.energy(part[None], weights)[0].numpy() for part in torch.from_numpy(x).split(BATCH)]
        )


def auc_difference(first: Floats, second: Floats, label: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Return AUC(first) − AUC(second) of two scores of the same jets, and its error (DeLong et al. 1988)."""
    parts = [placements(first, label), placements(second, label)]
    of_signal, of_background = (parts[0][i] - parts[1][i] for i in range(2))
    variance = of_signal.var(ddof=1) / len(of_signal) + of_background.var(ddof=1) / len(of_background)
    return float(of_signal.mean()), float(np.sqrt(variance))


def placements(score: Floats, label: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return the part of the background below each signal jet, and of the signal above each background jet; ties count half."""
    signal = label == 1
    ranks, n_s, n_b = rankdata(score), int(signal.sum()), int((~signal).sum())
    below = (ranks[signal] - rankdata(score[signal])) / n_b
    return below, 1 - (ranks[~signal] - rankdata(score[~signal])) / n_s


def images(kind: str, *, tested: bool) -> Floats:
    """Return filtered images (n, 20, 20) to train on or to judge by."""
    jets = np.asarray(reference_jets(kind, 2 * EVENTS)["image_1"], dtype=np.float64)
    return filtered_images(jets[-TESTED:] if tested else jets[:EVENTS], smear=SMEAR)


def trained(background: str) -> tuple[NAE, Floats]:
    """Return an autoencoder of one kind of jets, and what it was trained on."""
    x = images(background, tested=False)
    return NAE(normalise=True, device="cpu", **SETTING).fit(x, progress=sys.stderr.isatty()), x


def rows_of(background: str, signal: str) -> list[dict[str, Any]]:
    """Return the rows of one direction: AUC, its error, and what it lost against floating point with the error of that."""
    nae, x = trained(background)
    assert nae.coordinates_ is not None
    fixed = FixedPoint.of(nae)
    fixed.scores(nae.coordinates_.of(x / x.sum(axis=(1, 2), keepdims=True))[0])
    judged = [images(kind, tested=True) for kind in (background, signal)]
    label = np.repeat([0, 1], [len(part) for part in judged])
    given = np.concatenate(judged)
    exact = nae.score(given)
    given = nae.coordinates_.of(given / given.sum(axis=(1, 2), keepdims=True))[0]
    first = row(background, "nothing", "float", exact, exact, label)
    return [
        first,
        *(
            row(background, name, bits, fixed.scores(given, bits=bits, parts=parts), exact, label)
            for name, parts in PARTS.items()
            for bits in BITS
        ),
    ]


def row(
    background: str, name: str, bits: int | str, scores: Floats, exact: Floats, label: npt.NDArray[np.int64]
) -> dict[str, Any]:
    """Return one row of the table."""
    found = evaluate(scores, label)
    off, error = auc_difference(scores, exact, label)
    return told(
        {
            "trained on": background,
            "rounded": name,
            "bits": bits,
            "AUC": f"{found.auc:.4f}",
            "its error": f"{found.auc_error:.4f}",
            "minus float": f"{off:+.4f}",
            "error of that": f"{error:.4f}",
            "median change of a score": f"{np.median(np.abs(scores / exact - 1)):.1e}",
        }
    )


def run() -> dict[str, Any]:
    """Make the table."""
    return {
        "command": "make study ONLY=fixed_point",
        "trained_on": EVENTS,
        "tested": {"qcd": TESTED, "top": TESTED},
        "images": f"20 x 20 pixels, Gaussian filter of {SMEAR:g} pixel",
        "rows": [*rows_of("qcd", "top"), *rows_of("top", "qcd")],
    }
