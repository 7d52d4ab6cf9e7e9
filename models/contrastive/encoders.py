"""All encoders by name, and the folder of a fitted one: those that learn from versions of events, autoencoders of whole events, and none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch

from ...errors import unknown_name
from ..autoencoders.event_vae import EventAutoencoder, EventVae
from ..autoencoders.four_vectors import FourVectors
from ..inputs import ScorerError
from ..sample import Events
from .clr import AnomalyCLR, JetCLR, rebuilt_encoder

__all__ = ["ENCODERS", "RowEncoder", "encoder_class", "load_encoder"]

Array = npt.NDArray[np.float64]


class RowEncoder(Protocol):
    """What makes rows of events for a scorer on top.

    whole_events: whether it takes whole events alone, or single jets alone; None for both. dims: numbers of a row, 0 where they are not known before the fit;
    slots_: of an event, 0 before it; trained_on: the sorted hashes of the events that it has seen.
    """

    whole_events: bool | None
    input_names: tuple[str, ...]
    made_: dict[str, Any]
    training_: dict[str, Any]
    trained_on: npt.NDArray[np.uint64]

    @property
    def dims(self) -> int:
        """Numbers of a row."""

    @property
    def slots_(self) -> int:
        """Slots of an event."""

    def check(self, shape: Sequence[int] = ()) -> None:
        """Raise ScorerError for options that mean nothing."""

    def fit(
        self,
        x: Events,
        *,
        validation: Events | None = None,
        checkpoint: str | Path | None = None,
        keep_checkpoint: bool = False,
        progress: bool = False,
    ) -> Self:
        """Learn from events x (n, slots, numbers), and return self."""

    def encode(self, x: Events) -> Array:
        """Return the rows (n, dims) of events."""

    def sets_of(self, x: npt.ArrayLike, name: str, *, slots: int = 0) -> Array:
        """Return events (n, slots, numbers) as it takes them, or say what is wrong with them."""

    def stored(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Return a JSON-like record and tensors, from which `from_stored` rebuilds it."""

    @classmethod
    def from_stored(cls, record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Self:
        """Rebuild it."""


ENCODERS: dict[str, type[Any]] = {
    "AnomalyCLR": AnomalyCLR,
    "EventAutoencoder": EventAutoencoder,
    "EventVae": EventVae,
    "FourVectors": FourVectors,
    "JetCLR": JetCLR,
}
"""Class name -> class of every encoder."""


def encoder_class(name: str, *, where: str = "") -> type[Any]:
    """Return the class of an encoder; raises ScorerError with the nearest name."""
    if name not in ENCODERS:
        raise ScorerError(unknown_name("encoder", name, ENCODERS, where))
    return ENCODERS[name]


def load_encoder(path: str | Path) -> RowEncoder:
    """Return the fitted encoder of a folder, or that of an `Encoded`; raises ScorerFolderError naming the file and what is wrong with it."""
    found: RowEncoder = rebuilt_encoder(path, ENCODERS)
    return found
