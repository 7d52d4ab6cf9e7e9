"""Transformer encoders of masked sets, m of them stacked: constituents of a jet or objects of an event, in whatever order (arXiv:2108.04253).

A linear layer brings each slot to `width` numbers; layers of attention and of a ReLU network of one hidden layer add to them, each on slots that are
normalised to zero mean and unit variance (arXiv:2002.04745); the filled slots are summed up; a head of two layers follows. The representation is the
output of the head's first layer, before the ReLU; a contrastive loss acts on that of the second, which forgets more. The normalisations have no
parameters of their own: the linear layer that follows each would take them up.

A slot without pT is empty: it gets no attention and is not summed. With `infrared_safe` the attention that slot i pays to slot j is

    softmax_j( q_i · k_j / √d + ½ ln pT_j )

and the sum over slots is weighted by pT, so that a constituent fades out with its pT. The unit of pT drops out of the softmax, not of the sum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from ..inputs import ScorerError, require_whole

__all__ = ["SetTransformer", "TransformerSizes"]

MASKED = -1e9  # added to the attention of empty slots: exp is 0 exactly, and nothing is divided by 0 where all are
FIRST_BIAS = 0.1  # of the first weights


@dataclass(frozen=True)
class TransformerSizes:
    """What a network looks like.

    inputs: numbers of a slot; width: of a slot inside, a multiple of heads; feedforward: hidden numbers of a slot's network; dims: of the
    representation; projection: of what the loss sees. Raises ScorerError for sizes that are none, and for a width that cannot be divided.
    """

    inputs: int
    width: int = 128
    heads: int = 4
    layers: int = 2
    feedforward: int = 128
    dims: int = 128
    projection: int = 128

    def __post_init__(self) -> None:
        require_whole(self, dict.fromkeys(vars(self), 1))
        if self.width % self.heads:
            raise ScorerError(f"width is {self.width}, allowed: a multiple of heads, {self.heads}")

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """In and out of all linear layers: the first, four a layer (attention's in and out, network's in and out), the head's two."""
        w, f = self.width, self.feedforward
        return (
            (self.inputs, w),
            *((w, 3 * w), (w, w), (w, f), (f, w)) * self.layers,
            (w, self.dims),
            (self.dims, self.projection),
        )

    @property
    def size(self) -> int:
        """How many numbers the weights and biases of one network hold."""
        return sum((n_in + 1) * n_out for n_in, n_out in self.shapes)


class SetTransformer(torch.nn.Module):
    """m networks of the same sizes, every parameter (m, ...).

    dropout: part of the numbers that each attention and each network adds which is left out while training; infrared_safe: see the module.
    """

    def __init__(
        self, members: int, sizes: TransformerSizes, *, seed: int, dropout: float = 0.0, infrared_safe: bool = True
    ) -> None:
        super().__init__()
        self.members, self.sizes, self.dropout, self.infrared_safe = members, sizes, dropout, infrared_safe
        generator = torch.Generator().manual_seed(seed)
        self.weights, self.biases = torch.nn.ParameterList(), torch.nn.ParameterList()
        for number, (n_in, n_out) in enumerate(sizes.shapes):
            for own, shape, part in (
                (self.weights, (n_in, n_out), 1.0),
                # small ones, of the first layer alone: with larger ones all sets are alike at first
                (self.biases, (1, n_out), 0.0 if number else FIRST_BIAS),
            ):
                start = (2 * torch.rand((members, *shape), generator=generator) - 1) / math.sqrt(n_in)
                own.append(torch.nn.Parameter(part * start))

    def forward(
        self, x: torch.Tensor, pt: torch.Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return representations (m, b, dims) and projections (m, b, projection) of sets.

        x: (m, b, slots, inputs), finite in empty slots too; pt: (m, b, slots), not below 0, in units of that of a whole set, 0 where a slot is
        empty. generator: for the dropout of a training; None leaves nothing out.
        """
        m, b, slots, _ = x.shape
        bias = self.attention_bias(pt)
        y = self._linear(x.reshape(m, b * slots, -1), 0)
        for layer in range(1, 4 * self.sizes.layers, 4):
            y = y + self._dropped(self._attention(self._normalised(y), layer, bias), generator)
            inner = torch.relu(self._linear(self._normalised(y), layer + 2))
            y = y + self._dropped(self._linear(inner, layer + 3), generator)
        share = (pt if self.infrared_safe else (pt > 0).to(x.dtype)).reshape(m * b, 1, slots)
        summed = torch.bmm(share, self._normalised(y).view(m * b, slots, -1)).view(m, b, -1)
        last = len(self.weights) - 1
        representation = self._linear(summed, last - 1)
        return representation, self._linear(torch.relu(representation), last)

    def attention_bias(self, pt: torch.Tensor) -> torch.Tensor:
        """Return what is added to the attention that is paid to each slot (m · b, 1, slots, slots); pt: (m, b, slots)."""
        filled = pt > 0
        inside = 0.5 * pt.clamp(min=torch.finfo(pt.dtype).tiny).log() if self.infrared_safe else torch.zeros_like(pt)
        bias = torch.where(filled, inside, MASKED)
        slots = pt.shape[-1]
        # not broadcast over the queries: the CPU's fast kernel takes masks of full shape alone
        return bias.reshape(-1, 1, 1, slots).expand(-1, 1, slots, slots)

    def _attention(self, y: torch.Tensor, layer: int, bias: torch.Tensor) -> torch.Tensor:
        """Return what attention adds to slots (m, b · slots, width)."""
        m, rows, width = y.shape
        sets, _, slots, _ = bias.shape
        heads = self.sizes.heads
        parts = self._linear(y, layer).view(sets, slots, 3, heads, width // heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self._linear(found.transpose(1, 2).reshape(m, rows, width), layer + 1)

    def _linear(self, x: torch.Tensor, layer: int) -> torch.Tensor:
        return torch.baddbmm(self.biases[layer], x, self.weights[layer])

    def _normalised(self, y: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(y, y.shape[-1:])

    def _dropped(self, y: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        """Leave out a part of y and scale up the rest; torch's own dropout would draw from the global random state."""
        if generator is None or self.dropout <= 0:
            return y
        kept = torch.rand(y.shape, generator=generator, device=y.device, dtype=y.dtype) >= self.dropout
        return y * kept * (1 / (1 - self.dropout))
