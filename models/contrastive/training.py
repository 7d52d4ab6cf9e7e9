"""The training of a contrastive encoder: versions of every batch are drawn anew on the device, and what the representation becomes is noted.

After each epoch the figures are, of the last batches: `alignment`, the mean squared distance of both versions of an event among the projections on the
unit sphere; `uniformity` of these, log of the mean of exp(−2 |u − v|²) over different events; `rank`, the effective rank of the covariance of
the representation; with anomalous versions `separation`, the mean squared distance of an event and its anomalous version.

A representation can collapse while its loss looks good. "point": different events have the same projection, as in the solution of AnomCLR+ that only
tells anomalous versions from all events. "line": the events have one direction to differ in. A log line names it when it comes, and the record of
the training has it of the epoch that was chosen (`collapse_of`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ..train.objective import Batch, Objective
from .losses import alignment, contrastive_loss, effective_rank, uniformity
from .set_transformer import SetTransformer

__all__ = ["COLLAPSES", "ContrastiveObjective", "collapse_of", "named_collapse"]

logger = logging.getLogger(__name__)

COMPARED = 512  # events that the figures of an epoch are taken of, at most, and those of a batch at least
POINT_UNIFORMITY = -0.05  # above: a root mean square distance of different events below 0.16 on the unit sphere
LINE_RANK = 1.5
COLLAPSES = {
    "point": "different events have the same projection",
    "line": "events differ in one direction of the representation alone",
}

Versions = Callable[[torch.Tensor, torch.Generator], Sequence[torch.Tensor]]
Features = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


class ContrastiveObjective(Objective):
    """A contrastive loss of m encoders.

    versions: makes two or three versions (n, slots, numbers) of sets with a generator; features: of sets (..., slots, numbers) what the network takes,
    (..., slots, inputs) and pT (..., slots) in units of that of a whole set; loss: one of LOSSES; temperature: of it.
    """

    whole_batch = True

    def __init__(
        self, model: SetTransformer, *, versions: Versions, features: Features, loss: str, temperature: float
    ) -> None:
        super().__init__(model)
        self.network, self.versions, self.features = model, versions, features
        self.loss, self.temperature = loss, temperature
        self.recent: list[tuple[list[torch.Tensor], torch.Tensor]] = []
        self.named: list[str] = []

    def losses(self, batch: Batch, *, generator: torch.Generator, progress: float) -> torch.Tensor:
        """Return the losses (m, b) of versions of the sets batch["x"] (m, b, slots, numbers), with dropout."""
        del progress
        projections, representation = self.projected(batch["x"], generator, dropout=True)
        self.recent.append(([part.detach() for part in projections], representation.detach()))
        while sum(part.shape[1] for _, part in self.recent[1:]) >= COMPARED:
            self.recent.pop(0)
        return contrastive_loss(self.loss, projections, temperature=self.temperature)

    def validation_losses(self, batch: Batch, *, generator: torch.Generator) -> torch.Tensor:
        """Return the losses (m, b) of held-out sets, without dropout."""
        projections, _ = self.projected(batch["x"], generator, dropout=False)
        return contrastive_loss(self.loss, projections, temperature=self.temperature)

    def projected(
        self, x: torch.Tensor, generator: torch.Generator, *, dropout: bool
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Return projections (m, b, d) of all versions of sets x (m, b, slots, numbers), and the representation (m, b, dims) of the first."""
        m, b = x.shape[:2]
        # versions may have more slots than what they are made of
        made = [part.reshape(m, b, *part.shape[1:]) for part in self.versions(x.flatten(0, 1), generator)]
        inputs, pt = self.features(torch.cat(made, dim=1))
        representations, projections = self.network(inputs, pt, generator=generator if dropout else None)
        return [*projections.view(m, len(made), b, -1).unbind(dim=1)], representations[:, :b]

    def monitor(self) -> dict[str, torch.Tensor]:
        """Return alignment, uniformity, rank and, with anomalous versions, separation (m,) of the last batches; log a collapse that is new."""
        versions = [torch.cat(parts, dim=1)[:, -COMPARED:] for parts in zip(*(p for p, _ in self.recent), strict=True)]
        representation = torch.cat([part for _, part in self.recent], dim=1)[:, -COMPARED:]
        self.recent = []
        figures = {
            "alignment": alignment(versions[0], versions[1]),
            "uniformity": uniformity(versions[0]),
            "rank": effective_rank(representation),
        }
        if len(versions) > 2:
            figures["separation"] = alignment(versions[0], versions[2])
        names = [
            named_collapse({name: float(values[k]) for name, values in figures.items()})
            for k in range(len(representation))
        ]
        for k, name in enumerate(names):
            if name and self.named[k : k + 1] != [name]:
                which = f" of model {k}" if len(names) > 1 else ""
                logger.warning(
                    "training: the representation%s has collapsed to a %s, %s: uniformity %.3g, rank %.3g",
                    which,
                    name,
                    COLLAPSES[name],
                    float(figures["uniformity"][k]),
                    float(figures["rank"][k]),
                )
        self.named = names
        return figures


def named_collapse(figures: Mapping[str, float]) -> str:
    """Return which of COLLAPSES the figures of an epoch tell of, "" for none."""
    # written so that what is not finite is a collapse, too
    if not figures["uniformity"] < POINT_UNIFORMITY:
        return "point"
    return "" if figures["rank"] > LINE_RANK else "line"


def collapse_of(record: Mapping[str, Any], member: int = 0) -> str:
    """Return which of COLLAPSES the model of a training has, by the figures of the epoch that was chosen; "" for none.

    record: as `train_stack` returns it. Where no epoch was any good the first parameters stay, which no figures are of.
    """
    epoch = record["best_epoch"][member]
    if epoch < 1:
        return ""
    figures = {name: rows[epoch - 1][member] for name, rows in record["monitor"].items()}
    return named_collapse({name: float("nan") if value is None else value for name, value in figures.items()})
