"""The objects of events as rows, scaled, without any training: what a scorer of rows is given where no representation is learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch

from ... import __version__
from ...errors import shown
from ..inputs import ScorerError, TooFewRowsError, require_seed, whole_number
from ..sample import Events, event_hashes, refuse_unused, sample_names, single_jet
from ..scorer import Method, require_fitted
from ..storage import write_folder
from ..train.loop import named_device
from .event_coordinates import EventCoordinates, as_events
from .event_vae import MIN_EVENTS, coordinates_from, coordinates_stored, names_from

__all__ = ["FourVectors"]

Array = npt.NDArray[np.float64]
AXES, TRAINED_ON = "axes", "trained_on"


@dataclass(kw_only=True, eq=False, repr=False)
class FourVectors(Method):
    """Rows of the numbers of all objects that are not the same in all events, as `event_coordinates.py` has them, or their principal components.

    It is an encoder for `Encoded`, beside which a latent space is judged. components: principal components of the training rows that are kept, of unit
    variance each; none for the numbers themselves. seed and device do nothing.

    coordinates_: what was fitted; axes_: (numbers, components) that the rows are projected on; slots_: of an event; trained_on: as of the other encoders.
    """

    takes: ClassVar = ("sets",)
    trains: ClassVar = False
    least: ClassVar = MIN_EVENTS
    whole_events: ClassVar = None  # constituents of jets are objects as good
    shown: ClassVar = ("components",)

    components: int | None = None
    coordinates_: EventCoordinates | None = field(default=None, init=False)
    axes_: Array | None = field(default=None, init=False)
    middle_: Array | None = field(default=None, init=False)
    trained_on: npt.NDArray[np.uint64] = field(default_factory=lambda: event_hashes([]), init=False)

    @property
    def dims(self) -> int:
        """Numbers of a row; 0 as long as they are not known."""
        if self.components is not None:
            return self.components
        return 0 if self.coordinates_ is None else int(self.coordinates_.counted().sum())

    @property
    def slots_(self) -> int:
        """Slots of an event, 0 before the fit."""
        return 0 if self.coordinates_ is None else self.coordinates_.shape[0]

    def fit(
        self,
        x: Events,
        *,
        validation: Events | None = None,
        checkpoint: str | Path | None = None,
        keep_checkpoint: bool = False,
        progress: bool = False,
    ) -> Self:
        """Take scaling and principal components from events x (n, slots, 3 or 5), n at least 100, and return self; the validation events are only checked.

        There is nothing to resume and nothing to wait for. Raises ScorerError for more components than numbers, TooFewRowsError, and what `as_events` does.
        """
        del checkpoint, keep_checkpoint, progress
        refuse_unused(x, self.uses, type(self).__name__)
        self.check()
        names, made = sample_names(x)
        events = as_events(single_jet(x, names), "x")
        if len(events) < MIN_EVENTS:
            raise TooFewRowsError(f"x: has {len(events)} events, at least {MIN_EVENTS} are needed")
        if validation is not None:
            as_events(
                single_jet(validation, names, made=made, where="validation"), "validation", shape=events.shape[1:]
            )
        coordinates = EventCoordinates.of(events)
        self.axes_ = self.middle_ = None
        if self.components is not None:
            self.middle_, self.axes_ = principal_axes(
                coordinates.rows(events)[:, coordinates.counted()], self.components
            )
        self.coordinates_ = coordinates
        self.input_names, self.made_ = names, made
        self.training_ = {"rows": [len(events)]}
        self.trained_on = event_hashes([x, validation])
        return self

    def encode(self, x: Events) -> Array:
        """Return the rows (n, dims) of events; errors as in `fit`."""
        coordinates = require_fitted(self.coordinates_, self)
        events = self.sets_of(single_jet(x, self.input_names, made=self.made_), "x")
        rows = coordinates.rows(events)[:, coordinates.counted()]
        return rows if self.axes_ is None or self.middle_ is None else (rows - self.middle_) @ self.axes_

    def sets_of(self, x: npt.ArrayLike, name: str, *, slots: int = 0) -> Array:
        """Return events (n, slots, numbers) in float64, or say what is wrong with them; slots: that are expected, 0 for any."""
        del slots  # the coordinates know them
        return as_events(x, name, shape=None if self.coordinates_ is None else self.coordinates_.shape)

    def stored(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Return what is written: a JSON-like record and tensors, from which `from_stored` rebuilds it."""
        coordinates = require_fitted(self.coordinates_, self)
        record = {
            "class": type(self).__name__,
            "version": __version__,
            "parameters": self.parameters(),
            "input_names": list(self.input_names),
            "inputs_made": dict(self.made_),
            "training": dict(self.training_),
        }
        tensors = {**coordinates_stored(coordinates), TRAINED_ON: torch.from_numpy(self.trained_on)}
        if self.axes_ is not None and self.middle_ is not None:
            tensors |= {AXES: torch.from_numpy(self.axes_), "middle": torch.from_numpy(self.middle_)}
        return record, tensors

    def save(self, path: str | Path) -> None:
        """Write the folder that `load_encoder` reads."""
        record, tensors = self.stored()
        write_folder(path, record, tensors)

    @classmethod
    def from_stored(cls, record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Self:
        """Rebuild from what `stored` gave."""
        encoder = cls(**record["parameters"])
        encoder.check()
        left = dict(tensors)
        encoder.trained_on = left.pop(TRAINED_ON).numpy()
        coordinates = encoder.coordinates_ = coordinates_from(left)
        if encoder.components is not None:
            taken = [left.pop(name) for name in (AXES, "middle")]
            if not all(tensor.is_floating_point() for tensor in taken):
                raise ScorerError("an axis is no real number")
            encoder.axes_, encoder.middle_ = (tensor.double().numpy() for tensor in taken)
            numbers = int(coordinates.counted().sum())
            if encoder.axes_.shape != (numbers, encoder.components) or encoder.middle_.shape != (numbers,):
                raise ScorerError(f"axes of shape {encoder.axes_.shape}, ({numbers}, {encoder.components}) are needed")
            if not (np.isfinite(encoder.axes_).all() and np.isfinite(encoder.middle_).all()):
                raise ScorerError("an axis is not finite")
        encoder.input_names, encoder.made_ = names_from(record), dict(record.get("inputs_made", {}))
        encoder.training_ = dict(record["training"])
        return encoder

    def check(self, shape: Sequence[int] = ()) -> None:
        """Raise ScorerError for options that mean nothing."""
        del shape
        require_seed(self)
        named_device(self.device)
        if self.components is not None and whole_number("components", self.components) < 1:
            raise ScorerError(f"components is {shown(self.components)}, allowed: 1 or more, or none")


def principal_axes(rows: Array, components: int) -> tuple[Array, Array]:
    """Return the mean (d,) of rows (n, d) and the axes (d, components) of largest variance, on which they have unit variance.

    An axis has the sign that makes its largest number positive. Raises ScorerError where so many axes with any variance are not there.
    """
    middle = rows.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(rows - middle, rowvar=False).reshape(rows.shape[1], -1))
    values, vectors = values[::-1], vectors[:, ::-1]
    usable = int((values > 1e-12 * values[0]).sum())
    if components > usable:
        raise ScorerError(f"components is {components}, allowed: up to {usable}, the numbers of these events that vary")
    chosen = vectors[:, :components]
    sign = np.sign(chosen[np.abs(chosen).argmax(axis=0), np.arange(components)])
    return middle, chosen * sign / np.sqrt(values[:components])
