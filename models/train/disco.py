"""Distance correlation as a penalty that keeps a score independent of the mass (DisCo, arXiv:2001.05310, 2007.14400).

dCorr^2(x, y) = dCov^2(x, y) / sqrt(dCov^2(x, x) dCov^2(y, y)), where dCov^2 is the covariance of the doubly centred
distances |x_i - x_j| and |y_i - y_j|: between 0 and 1, 0 only for independent x and y, whatever the shape of their
relation. A training adds lambda dCorr^2(score, mass) of each batch to its loss:

    loss = entropy + 10.0 * distance_correlation(logits, mjj, weights=1.0 - labels)     # background only
    train_stack(Decorrelated(Objective(model), strength=10.0), samples, validation, ...)    # any objective
    Flow(decorrelation=10.0).fit(x, mass=mjj)                                             # Vae and Quak likewise

The cost is quadratic in the batch, and a small batch has a dCorr^2 of order 1 / n by itself, of independent x and y.
That constant does no harm to a training; `unbiased=True` takes it off, and may then be below 0.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..inputs import ScorerError
from .objective import Batch, Objective, WrappedObjective

__all__ = ["Decorrelated", "distance_correlation", "mass_dependence", "ramped"]

BLOCK = 1024  # rows whose distances are taken together: the cost is quadratic
RAMP = 0.5  # part of the training over which the penalty grows to its full strength


def distance_correlation(
    x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor | None = None, *, unbiased: bool = False
) -> torch.Tensor:
    """Return the squared distance correlation dCorr^2 of x and y (..., n) over the last axis, shape (...), with gradient.

    weights: (..., n) of events, 0 or more, by default 1. unbiased: dCov^2 and the variances are taken over distinct
    events (Székely and Rizzo, arXiv:1310.2926, for weights the same sums weighted), so that it is 0 in expectation for
    independent x and y. 0 where x or y is constant. Raises ScorerError for shapes that do not go together, or fewer than two
    events (four, if unbiased).
    """
    shape = torch.broadcast_shapes(x.shape, y.shape, *(() if weights is None else (weights.shape,)))  # type: ignore[no-untyped-call]
    least = 4 if unbiased else 2
    if not shape or shape[-1] < least or x.shape[-1] != shape[-1] or y.shape[-1] != shape[-1]:
        raise ScorerError(f"x {tuple(x.shape)} and y {tuple(y.shape)}, needed: (..., n) of one n, {least} or more")
    # sums over distinct events cancel to some digits
    work = torch.float64 if unbiased else x.dtype
    w = torch.ones(shape, dtype=work, device=x.device) if weights is None else weights.to(work).expand(shape)
    p = w / w.sum(dim=-1, keepdim=True)
    covariance = distinct_covariance if unbiased else centred_covariance
    a, b = (distances(v.to(work).expand(shape)) for v in (x, y))
    if not unbiased:
        a, b = centred(a, p), centred(b, p)
    spread = covariance(a, a, p) * covariance(b, b, p)
    # the clamp is far below what any two different values give, and passes no gradient: a constant score has none
    tiny = torch.finfo(work).tiny
    value = torch.where(spread > tiny, covariance(a, b, p) / spread.clamp(min=tiny).sqrt(), torch.zeros_like(spread))
    return value.to(x.dtype)


def distances(x: torch.Tensor) -> torch.Tensor:
    """Return the distances (..., n, n) of x (..., n)."""
    return (x.unsqueeze(-1) - x.unsqueeze(-2)).abs()


def centred(d: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """Return distances (..., n, n) less their means by row and column, for weights p (..., n) that add up to 1."""
    row = (d * p.unsqueeze(-2)).sum(dim=-1)
    return d - row.unsqueeze(-1) - row.unsqueeze(-2) + (row * p).sum(dim=-1)[..., None, None]


def centred_covariance(a: torch.Tensor, b: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """Return dCov^2 (...) of the sample: the weighted mean of the product of doubly centred distances."""
    return (((a * b) * p.unsqueeze(-2)).sum(dim=-1) * p).sum(dim=-1)


def distinct_covariance(a: torch.Tensor, b: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """Return the unbiased dCov^2 (...): E ab + E a E b - 2 E a_ij b_ik over distinct events i, j, k, l.

    Sums over distinct events are sums over all less those in which some are the same.
    """
    q = p.unsqueeze(-2)
    a_row, b_row, ab = (a * q).sum(dim=-1), (b * q).sum(dim=-1), a * b
    ab_row, ab_row_2 = (ab * q).sum(dim=-1), (ab * q.square()).sum(dim=-1)
    s2, s3, s4 = ((p**k).sum(dim=-1) for k in (2, 3, 4))
    pairs = (p * ab_row).sum(dim=-1)
    triples = (p * (a_row * b_row - ab_row_2)).sum(dim=-1)
    shared = (p.square() * (a_row * b_row - ab_row_2)).sum(dim=-1)
    both = (p.square() * ab_row_2).sum(dim=-1)
    quadruples = (p * a_row).sum(dim=-1) * (p * b_row).sum(dim=-1) - 4 * shared - 2 * both
    return (
        pairs / (1 - s2)
        + quadruples / (1 - 6 * s2 + 3 * s2.square() + 8 * s3 - 6 * s4)
        - 2 * triples / (1 - 3 * s2 + 2 * s3)
    )


def mass_dependence(scores: torch.Tensor, mass: torch.Tensor) -> torch.Tensor:
    """Return dCorr^2 of scores (m, b) and masses (m, b) in blocks of at most 1024 rows, at each of their rows (m, b)."""
    blocks = -(-scores.shape[1] // BLOCK)  # of equal size: a short one is mostly noise
    return torch.cat(
        [
            distance_correlation(s, m).unsqueeze(-1).expand(s.shape)
            for s, m in zip(scores.tensor_split(blocks, 1), mass.tensor_split(blocks, 1), strict=True)
        ],
        dim=1,
    )


def ramped(strength: float, ramp: float, progress: float) -> float:
    """Return the strength at a progress (0 to 1) of the training: it grows to its full value over the part `ramp`.

    dCorr^2 does not depend on the scale of the score, so a score that it has once turned the wrong way round has no slope
    back: the scorer learns first.
    """
    return strength * (min(1.0, progress / ramp) if ramp > 0 else 1.0)


class Decorrelated(WrappedObjective):
    """An objective whose losses pay for the dependence of its scores on the mass of the same rows.

    The last column of every sample is the mass (any scale: dCorr^2 does not depend on it) and does not reach the models.
    Each row's loss gets strength * dCorr^2(score, mass) of its block of at most 1024 rows; a density's score is its loss,
    others give `score`: rows (m, b, ...) without the mass -> (m, b). Training batches of some hundred rows or more.
    ramp: part of the training over which the strength grows to its full value.
    """

    def __init__(
        self,
        objective: Objective,
        *,
        strength: float,
        ramp: float = RAMP,
        score: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        if not strength >= 0:
            raise ScorerError(f"strength of the decorrelation is {strength!r}, allowed: 0 or more")
        if not 0 <= ramp <= 1:
            raise ScorerError(f"ramp of the decorrelation is {ramp!r}, allowed: 0 to 1")
        super().__init__(objective)
        self.strength, self.ramp, self.score = strength, ramp, score

    def losses(self, batch: Batch, *, generator: torch.Generator, progress: float) -> torch.Tensor:
        """Return the loss (m, b) of each row of batch["x"] (m, b, columns + mass), penalty included."""
        rows, mass = batch["x"][..., :-1], batch["x"][..., -1]
        losses = self.inner.losses({**batch, "x": rows}, generator=generator, progress=progress)
        strength = ramped(self.strength, self.ramp, progress)
        if strength == 0:
            return losses
        scores = losses if self.score is None else self.score(rows)
        return losses + strength * mass_dependence(scores, mass)
