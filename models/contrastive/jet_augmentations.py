"""Augmentations of jets: versions of a jet that physics does not tell apart, made on the device for a whole batch at once (arXiv:2108.04253).

Jets are (n, slots, 3) of pT (GeV), eta and phi relative to the jet's axis; a slot without pT is empty, and stays or becomes zeros. Every function
returns new jets, and draws from the generator that it is given, one of the device of the jets.

    rotated       pT of all constituents and their distances from the axis stay
    translated    pT, and the distances between constituents stay
    split         pT is divided between two constituents at one place: the momentum flow stays, the number of slots, too
    smeared       pT stays, eta and phi move by a normal draw of width Λ / pT: soft constituents far, hard ones hardly
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ...errors import shown
from ..inputs import ScorerError, require_switches, whole_number

__all__ = ["JetAugmentations", "rotated", "smeared", "split", "translated", "wrapped"]

SPLIT_PASSES = 2
LEAST_PT = 0.1  # GeV, below which a constituent is smeared as one of this pT
LARGEST_SMEAR = 1.0  # GeV
MOST_SPARE = 1000


@dataclass(frozen=True)
class JetAugmentations:
    """Which versions of a jet a pair is made of.

    rotation, translation, collinear, soft: what is done; soft_scale: Λ of the soft smearing in GeV, from 0 to 1; spare_slots: empty slots, 1000 at most, that
    are added for collinear splittings, which a jet of no empty slot could not have. Raises ScorerError naming the option.
    """

    rotation: bool = True
    translation: bool = True
    collinear: bool = True
    soft: bool = True
    soft_scale: float = 0.1
    spare_slots: int = 0

    def __post_init__(self) -> None:
        require_switches(self, ("rotation", "translation", "collinear", "soft"))
        if not 0 <= whole_number("spare_slots", self.spare_slots) <= MOST_SPARE:
            raise ScorerError(f"spare_slots is {self.spare_slots}, allowed: 0 to {MOST_SPARE}")
        number = isinstance(self.soft_scale, int | float) and not isinstance(self.soft_scale, bool)
        if not (number and 0 <= self.soft_scale <= LARGEST_SMEAR):
            raise ScorerError(f"soft_scale is {shown(self.soft_scale)}, allowed: 0 to {LARGEST_SMEAR:g} GeV")

    def pair(self, jets: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Return two versions (n, slots + spare_slots, 3) of each jet: both rotated and translated, the second one split and smeared as well.

        Without collinear splittings there are no spare slots.
        """
        if self.collinear and self.spare_slots:
            jets = torch.cat([jets, jets.new_zeros((len(jets), self.spare_slots, jets.shape[2]))], dim=1)
        first = second = jets
        if self.rotation:
            first, second = rotated(first, generator), rotated(second, generator)
        if self.collinear:
            for _ in range(SPLIT_PASSES):
                second = split(second, generator)
        if self.soft:
            second = smeared(second, generator, scale=self.soft_scale)
        if self.translation:
            first, second = translated(first, generator), translated(second, generator)
        return first, second


def rotated(jets: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return jets turned around their axis, each by an angle of its own from 0 to 2π."""
    angle = 2 * math.pi * uniform(jets, (len(jets), 1), generator)
    cos, sin = angle.cos(), angle.sin()
    pt, eta, phi = jets.unbind(dim=-1)
    return with_angles(pt, cos * eta - sin * phi, sin * eta + cos * phi)


def translated(jets: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return jets moved as a whole, each by up to its own width in eta and in phi, none of it beyond |phi| = π."""
    pt, eta, phi = jets.unbind(dim=-1)
    filled = pt > 0
    moved = []
    for angle, bound in ((eta, math.inf), (phi, math.pi)):
        low = torch.where(filled, angle, math.inf).amin(dim=1, keepdim=True)
        high = torch.where(filled, angle, -math.inf).amax(dim=1, keepdim=True)
        # a jet without constituents has no width
        width = (high - low).clamp(min=0)
        down = torch.maximum(-width, torch.clamp(-bound - low, max=0))
        up = torch.minimum(width, torch.clamp(bound - high, min=0))
        moved.append(angle + down + (up - down) * uniform(jets, (len(jets), 1), generator))
    return with_angles(pt, moved[0], moved[1])


def split(jets: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return jets some of whose constituents, drawn at random, are two at the same place, which share its pT by a uniform draw.

    As many are split as there are empty slots and constituents, each at most once and never more than half of the slots.
    """
    pt = jets[..., 0]
    slots = pt.shape[1]
    most = slots // 2
    if not most:
        return jets.clone()
    filled = pt > 0
    count = filled.sum(dim=1, keepdim=True)
    number = torch.minimum(count, slots - count)
    # filled slots in a random order, then empty ones in theirs
    order = torch.where(filled, uniform(jets, pt.shape, generator), 2.0)
    parents = order.argsort(dim=1)[:, :most]
    children = filled.to(torch.uint8).argsort(dim=1, stable=True)[:, :most]
    done = torch.arange(most, device=jets.device) < number
    whole = jets.gather(1, parents[..., None].expand(-1, -1, jets.shape[2]))
    part = whole[..., 0] * uniform(jets, whole.shape[:2], generator)
    new = torch.cat([(whole[..., 0] - part)[..., None], whole[..., 1:]], dim=2)
    # where nothing is split, what is written is what was there
    before = jets.gather(1, children[..., None].expand_as(new))
    made = jets.scatter(1, children[..., None].expand_as(new), torch.where(done[..., None], new, before))
    left = torch.where(done, part, made[..., 0].gather(1, parents))
    return with_angles(made[..., 0].scatter(1, parents, left), made[..., 1], made[..., 2])


def smeared(jets: torch.Tensor, generator: torch.Generator, *, scale: float = 0.1) -> torch.Tensor:
    """Return jets whose constituents have moved in eta and phi by normal draws of width scale / pT; scale: Λ in GeV."""
    pt, eta, phi = jets.unbind(dim=-1)
    width = scale / pt.clamp(min=LEAST_PT)
    return with_angles(pt, eta + width * normal(jets, generator), phi + width * normal(jets, generator))


def wrapped(phi: torch.Tensor) -> torch.Tensor:
    """Return azimuths between −π and π."""
    return phi - 2 * math.pi * torch.round(phi / (2 * math.pi))


def with_angles(pt: torch.Tensor, eta: torch.Tensor, phi: torch.Tensor) -> torch.Tensor:
    """Return sets (n, slots, 3) of these pT, eta and phi (n, slots), phi wrapped, with zeros in slots without pT."""
    filled = pt > 0
    made = torch.stack([pt, eta, wrapped(phi)], dim=-1)
    return torch.where(filled[..., None], made, torch.zeros((), dtype=pt.dtype, device=pt.device))


def uniform(like: torch.Tensor, shape: tuple[int, ...] | torch.Size, generator: torch.Generator) -> torch.Tensor:
    """Return uniform draws from 0 to 1 of a shape, of the device and precision of a tensor."""
    return torch.rand(shape, generator=generator, device=like.device, dtype=like.dtype)


def normal(sets: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return a normal draw (n, slots) for each slot of sets."""
    return torch.randn(sets.shape[:2], generator=generator, device=sets.device, dtype=sets.dtype)
