"""Contrastive losses of pairs of versions of events, one without negatives beside them, and figures of a representation that need no label.

With s the cosine of two projections, z_i and z'_i those of two versions of event i, z*_i that of an anomalous version, N events, temperature τ:

    nt_xent       −s(z_i, z'_i) / τ + log Σ exp(s(z_i, ·) / τ) over all 2N − 1 others, the positive among them (JetCLR, arXiv:2108.04253)
    clr           the same over the 2N − 2 versions of other events: the positive is not among them (arXiv:2301.04660)
    anomclr       [s(z_i, z*_i) − s(z_i, z'_i)] / τ + log Σ, as in clr (arXiv:2301.04660)
    anomclr_plus  [s(z_i, z*_i) − s(z_i, z'_i)] / τ, between −2 / τ and 2 / τ (arXiv:2301.04660)
    vicreg        25 · mean square of z − z' + 25 · what the spread of each dimension lacks to 1 + squared covariances (arXiv:2105.04906)

All are means over both orders of the pair. Projections are (..., b, d): any leading dimensions, as those of stacked models, are losses of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

__all__ = [
    "LOSSES",
    "PLAIN",
    "WITH_ANOMALIES",
    "alignment",
    "anomclr",
    "anomclr_plus",
    "clr",
    "contrastive_loss",
    "effective_rank",
    "nt_xent",
    "uniformity",
    "vicreg",
]

PLAIN = ("nt_xent", "clr", "vicreg")
WITH_ANOMALIES = ("anomclr", "anomclr_plus")
LOSSES = (*PLAIN, *WITH_ANOMALIES)
INVARIANCE, VARIANCE, COVARIANCE = 25.0, 25.0, 1.0
SPREAD, SPREAD_EPS = 1.0, 1e-4
PAIR_POWER = 2.0  # of the Gaussian kernel of the uniformity
ROUNDING = 8.0  # root mean square spread, in units of the last digit, that is none


def contrastive_loss(name: str, projections: Sequence[torch.Tensor], *, temperature: float) -> torch.Tensor:
    """Return the loss (..., b) of one of LOSSES; projections: two versions, or three, (..., b, d) each; vicreg has no temperature."""
    if name == "vicreg":
        return vicreg(projections[0], projections[1])
    if name in WITH_ANOMALIES:
        first, second, third = projections
        with_anomaly = {"anomclr": anomclr, "anomclr_plus": anomclr_plus}[name]
        return with_anomaly(first, second, third, temperature=temperature)
    plain = {"nt_xent": nt_xent, "clr": clr}[name]
    return plain(projections[0], projections[1], temperature=temperature)


def nt_xent(first: torch.Tensor, second: torch.Tensor, *, temperature: float) -> torch.Tensor:
    """Return the loss (..., b) with the positive in the denominator; 0 at least."""
    positive, others = similarities(first, second, temperature, positive_counts=True)
    return others - positive


def clr(first: torch.Tensor, second: torch.Tensor, *, temperature: float) -> torch.Tensor:
    """Return the loss (..., b) without the positive in the denominator; it goes below 0. b is 2 at least."""
    positive, others = similarities(first, second, temperature, positive_counts=False)
    return others - positive


def anomclr(first: torch.Tensor, second: torch.Tensor, anomalous: torch.Tensor, *, temperature: float) -> torch.Tensor:
    """Return the loss (..., b) that in addition drives an event and its anomalous version (..., b, d) apart. b is 2 at least."""
    _, others = similarities(first, second, temperature, positive_counts=False)
    return others + anomclr_plus(first, second, anomalous, temperature=temperature)


def anomclr_plus(
    first: torch.Tensor, second: torch.Tensor, anomalous: torch.Tensor, *, temperature: float
) -> torch.Tensor:
    """Return the loss (..., b) of an event and its anomalous version (..., b, d) alone, without other events."""
    z, other, away = (functional.normalize(part, dim=-1) for part in (first, second, anomalous))
    return ((0.5 * (z + other) * away).sum(dim=-1) - (z * other).sum(dim=-1)) / temperature


def vicreg(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the loss (..., b) of arXiv:2105.04906: squares are means over dimensions, and what is of the batch is added to every row. b is 2 at least.

    Projections are taken as they are, not brought to unit length.
    """
    rows = INVARIANCE * (first - second).square().mean(dim=-1)
    for version in (first, second):
        centred = version - version.mean(dim=-2, keepdim=True)
        covariance = centred.transpose(-1, -2) @ centred / (version.shape[-2] - 1)
        variance = covariance.diagonal(dim1=-2, dim2=-1)
        lacking = functional.relu(SPREAD - (variance + SPREAD_EPS).sqrt()).mean(dim=-1)
        beside = (covariance.square().sum(dim=(-2, -1)) - variance.square().sum(dim=-1)) / version.shape[-1]
        # the variance term is a mean over both versions, the covariance term a sum
        rows = rows + (0.5 * VARIANCE * lacking + COVARIANCE * beside)[..., None]
    return rows


def similarities(
    first: torch.Tensor, second: torch.Tensor, temperature: float, *, positive_counts: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return s(z, z') / τ and log Σ exp(s / τ) over other versions, (..., b) each, the latter a mean over both of the pair.

    positive_counts: whether z' is among those that are summed.
    """
    b = first.shape[-2]
    both = functional.normalize(torch.cat([first, second], dim=-2), dim=-1)
    cosines = both @ both.transpose(-1, -2) / temperature
    positive = cosines.diagonal(offset=b, dim1=-2, dim2=-1)
    row = torch.arange(2 * b, device=first.device)
    left_out = row[:, None] == row if positive_counts else row[:, None] % b == row % b
    others = cosines.masked_fill(left_out, -math.inf).logsumexp(dim=-1)
    return positive, 0.5 * (others[..., :b] + others[..., b:])


def alignment(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the mean squared distance (...,) of two versions of the same events on the unit sphere: 0 where they agree (arXiv:2005.10242)."""
    return (functional.normalize(first, dim=-1) - functional.normalize(second, dim=-1)).square().sum(dim=-1).mean(-1)


def uniformity(z: torch.Tensor) -> torch.Tensor:
    """Return log E exp(−2 |u − v|²) (...,) over pairs of different events on the unit sphere (arXiv:2005.10242).

    It is 0 where all are at one point, and −4 at the least, for events all over a sphere of many dimensions.
    """
    b = z.shape[-2]
    unit = functional.normalize(z, dim=-1)
    kernel = -2 * PAIR_POWER * (1 - unit @ unit.transpose(-1, -2))
    same = torch.eye(b, dtype=torch.bool, device=z.device)
    return kernel.masked_fill(same, -math.inf).flatten(-2).logsumexp(dim=-1) - math.log(b * (b - 1))


def effective_rank(z: torch.Tensor) -> torch.Tensor:
    """Return exp of the entropy (...,) of the shares that directions have of the covariance: d where they are alike, 1 for a line.

    (Roy and Vetterli 2007.) It is 0 where all rows (..., b, d) are the same, b − 1 at most, and NaN where a number is not finite.
    """
    finite = z.isfinite().all(dim=-1).all(dim=-1)
    rows = torch.where(finite[..., None, None], z.double(), 0.0)  # the decomposition takes no others
    centred = rows - rows.mean(dim=-2, keepdim=True)
    shares = torch.linalg.svdvals(centred).square()
    total = shares.sum(dim=-1, keepdim=True)
    # what is left of rounding is no spread
    size = (rows.square().sum(dim=(-2, -1)) * (ROUNDING * torch.finfo(z.dtype).eps) ** 2)[..., None]
    shares = shares / total.clamp(min=torch.finfo(torch.float64).tiny)
    rank = torch.special.entr(shares).sum(dim=-1).exp()
    return torch.where(finite, torch.where((total > size)[..., 0], rank, 0.0), math.nan)
