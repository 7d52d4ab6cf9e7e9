"""Wass(p) between images on one grid as a loss: a debiased Sinkhorn divergence whose gradient is its potentials.

With c = d^p, d the Euclidean distance of two pixels' centres, and ε = blur^p (blur in pixels),

    OT(a, b) = min over f with sums a and b of Σ f c + ε KL(f | a ⊗ b)
    S(a, b)  = OT(a, b) − ½ OT(a, a) − ½ OT(b, b)          (Feydy et al., arXiv:1810.08278, eq. 3)

and the loss is S^(1/p), which goes to Wass(p) as blur goes to 0. GeomLoss has the same S for p = 1; for p = 2 its cost is
½ d², and it takes no root. The gradient of S in b is the potential of OT(a, b) on b's side less that of OT(b, b) (the
envelope theorem): nothing is differentiated through the iterations.

One image (a) has few pixels above zero, so only their rows of the cost matrix are touched; the other (b) is a network's
output and has all. As in `sinkhorn.py` the temperature falls from level to level, with scalings inside a level and their
logarithms absorbed into the potentials at its end. OT(b, b) needs one potential and converges within a few averaged steps.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from .transport import TransportOptionError, check_options

__all__ = ["GridTransport"]

FIRST = 0.05  # the first temperature in units of the largest cost: nothing underflows in single precision
STEPS = 6  # iterations at each temperature, half the one before
STEEP = 5  # times as many where p > 2: costs span so many orders that six leave 10 % at p = 5
SELF_STEPS = 12  # of OT(b, b), averaged (arXiv:1810.08278, section 3)
GROUP = 8  # images done at a time on a CPU, sorted by their pixels above zero: some 2 MB, which stay in its cache
LARGEST_GRID = 10_000
"""Pixels of an image: their costs take 0.8 GB."""
TINY = 1e-30
FAINTEST = 1e-12  # of a reconstruction's pixel: an untrained network's may underflow to 0, where there is no potential
LEAST = -60.0  # of an exponent: below it single precision is denormal, and ten times as slow
FAR = 10.0  # pixels: how far most of what moves a long way moves, for what precision must resolve
RESOLVED = 0.1  # of the temperature: the rounding of such a cost


class GridTransport(torch.nn.Module):
    """The loss between images (b, height·width) that sum to one, in the unit of `pixel`.

    p: of Wass(p), up to about 7 at the default blur, in double precision inside above 3; blur: regularisation length in pixels;
    pixel: side of a pixel. Against exact transport between QCD jets and images like reconstructions of them the loss is too
    small by 0.06 to 0.25 of a pixel for p = 1 (0.36 for a flat image), for p = 2 by up to 3 %, for p from 3 on by up to 3 %, where the
    two are further apart than about two pixels; nearer ones come out smaller still, at p = 5 as small as 0, and only rank.
    Raises TransportOptionError for values that are no lengths and for a blur too short for p.
    """

    cost: torch.Tensor
    kernel: torch.Tensor

    def __init__(self, height: int, width: int, *, p: float = 1.0, blur: float = 0.1, pixel: float = 1.0) -> None:
        super().__init__()
        check_options(p, None)
        for name, value in (("blur", blur), ("pixel", pixel)):
            if not (math.isfinite(value) and value > 0):
                raise TransportOptionError(f"{name} is {value}; a length above 0")
        if height * width > LARGEST_GRID:
            raise TransportOptionError(
                f"images of {height} x {width} pixels: each pixel has a cost to each, allowed: up to {LARGEST_GRID} pixels"
            )
        self.p, self.pixel = p, pixel
        self.epsilon = blur**p
        self.steps = STEPS if p <= 2 else STEEP * STEPS
        ratio = (FAR / blur) ** p / RESOLVED
        if not ratio * torch.finfo(torch.float64).eps <= 1:
            least = FAR / (RESOLVED / torch.finfo(torch.float64).eps) ** (1 / p)
            raise TransportOptionError(
                f"p is {p:g} and blur {blur:g}: double precision does not resolve blur^p beside costs of {FAR:g}^p; "
                f"allowed at this p: a blur of {least:.2g} pixels or more"
            )
        self.double_inside = ratio * torch.finfo(torch.float32).eps > 1
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        points = torch.stack([rows.flatten(), columns.flatten()], dim=1).double()
        cost = torch.cdist(points, points) ** p
        halvings = max(0, math.ceil(math.log2(FIRST * float(cost.max()) / self.epsilon)))
        self.temperatures = tuple(self.epsilon * 2.0**k for k in range(halvings, -1, -1))
        kernel = torch.exp((-cost / self.epsilon).clamp(min=LEAST))
        self.register_buffer("cost", cost if self.double_inside else cost.float(), persistent=False)
        self.register_buffer("kernel", kernel if self.double_inside else kernel.float(), persistent=False)

    def forward(self, image: torch.Tensor, reconstruction: torch.Tensor) -> torch.Tensor:
        """Return the loss (b,) of images (b, k) against reconstructions (b, k), differentiable in the reconstructions.

        Both hold no negative number and sum to one; every pixel of a reconstruction is above zero.
        """
        divergence: torch.Tensor = _Divergence.apply(image, reconstruction, self)  # type: ignore[no-untyped-call]
        if self.p == 1:
            return self.pixel * divergence.clamp(min=0)
        root: torch.Tensor = self.pixel * divergence.clamp(min=TINY) ** (1 / self.p)
        return root

    def divergence(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return S(a, b) (n,) in pixels^p and its gradient (n, k) in b, up to a constant for each image."""
        if self.double_inside:
            a, b = a.double(), b.double()
        cost, kernel = self.cost.to(a.dtype), self.kernel.to(a.dtype)
        b = b.clamp(min=FAINTEST)
        value, gradient = torch.empty_like(a[:, 0]), torch.empty_like(b)
        counts, order = (a > 0).sum(dim=1).sort(stable=True)
        size = GROUP if a.device.type == "cpu" else max(len(a), 1)
        for first in range(0, len(a), size):
            some = order[first : first + size]
            weight, rows = a[some].topk(int(counts[first : first + size][-1]), dim=1)
            f, g = self._across(weight, rows, b[some], cost)
            value[some] = (weight * f).sum(dim=1) + (b[some] * g).sum(dim=1) - self._own(weight, rows, cost)
            gradient[some] = g
        h = self._self(b, kernel)
        return value - (b * h).sum(dim=1), gradient - h

    def _across(
        self, weight: torch.Tensor, rows: torch.Tensor, b: torch.Tensor, cost: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the potentials f (n, s) on the pixels `rows` of the first image and g (n, k) on those of b."""
        c = cost[rows].masked_fill(weight[:, :, None] == 0, torch.inf)  # images with fewer pixels than others
        f, g = torch.zeros_like(weight), torch.zeros_like(b)
        scaled = torch.empty_like(c)
        for epsilon in self.temperatures:
            torch.sub(g[:, None, :], c, out=scaled)
            scaled.add_(f[:, :, None]).mul_(1 / epsilon).clamp_(min=LEAST).exp_()
            u, v = torch.ones_like(weight), torch.ones_like(b)
            for _ in range(self.steps):
                u = torch.bmm(scaled, (b * v)[:, :, None])[:, :, 0].clamp(min=TINY).reciprocal()
                u = torch.where(weight > 0, u, 1.0)
                v = torch.bmm((weight * u)[:, None, :], scaled)[:, 0, :].clamp(min=TINY).reciprocal()
            f, g = f + epsilon * u.log(), g + epsilon * v.log()
        return f, g

    def _self(self, b: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
        """Return the potential (n, k) of OT(b, b), the same on both sides."""
        factor = torch.ones_like(b)
        for _ in range(SELF_STEPS):
            factor = (factor / ((b * factor) @ kernel).clamp(min=TINY)).sqrt()
        return factor.log().mul_(self.epsilon)

    def _own(self, weight: torch.Tensor, rows: torch.Tensor, cost: torch.Tensor) -> torch.Tensor:
        """Return half of OT(a, a) (n,): as `_self`, among the pixels `rows` alone."""
        kernel = torch.exp(-cost[rows[:, :, None], rows[:, None, :]] / self.epsilon)
        factor = torch.ones_like(weight)
        for _ in range(SELF_STEPS):
            sums = torch.bmm(kernel, (weight * factor)[:, :, None])[:, :, 0]
            factor = torch.where(weight > 0, (factor / sums.clamp(min=TINY)).sqrt(), 1.0)
        return (weight * factor.log()).sum(dim=1).mul_(self.epsilon)


class _Divergence(torch.autograd.Function):
    """S with its gradient by the envelope theorem."""

    @staticmethod
    def forward(ctx: Any, image: torch.Tensor, reconstruction: torch.Tensor, grid: GridTransport) -> torch.Tensor:
        """Compute S and keep its gradient."""
        value, gradient = grid.divergence(image, reconstruction)
        ctx.save_for_backward(gradient.to(reconstruction.dtype))
        return value.to(reconstruction.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, outer: torch.Tensor) -> tuple[None, torch.Tensor, None]:
        """Return the gradient of the reconstruction."""
        (gradient,) = ctx.saved_tensors
        return None, outer[:, None] * gradient, None
