"""What the record of a training tells without labels: how its figures went, which epoch was chosen, and the signs of trouble in them.

A record is that of `training_` of a scorer, or of "training" in its folder: figures of each epoch under "monitor", the one that chose the epoch under "select",
the epochs that diverged and were taken back under "setbacks". That of a contrastive encoder has what its representation has collapsed to under "collapse".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["TrainingRecord", "training_records", "training_signs"]

Floats = npt.NDArray[np.float64]
GAP = 0.5  # of the energy of the data
FEW, MANY = 0.1, 0.95  # of the steps of a chain that are accepted
FIRST_OF = 3  # epochs, of which the first is chosen
RISE = 0.25  # of the last epochs above the chosen one
LAST = 0.1  # of the epochs, at least three, over which a figure is averaged

COLLAPSES = {
    "point": "different events have the same projection",
    "line": "events differ in one direction of the representation alone",
}
"""What a representation can collapse to -> what that means."""

CHAINS = {"latent_acceptance": ("the latent chain", "latent"), "input_acceptance": ("the chain of inputs", "input")}
"""Acceptance -> the chain, and how the names of its options begin."""


@dataclass(frozen=True, repr=False)
class TrainingRecord:
    """How one training went.

    name: of the model; figures: name -> (epochs,), NaN where there is none; best_epoch: the one that was chosen, counted from 1, 0 for the first
    parameters; select: the figure that chose it, the smaller the better, None for the loss of held-out events; setbacks: the epochs that were taken back, as often as they were;
    given_up: whether the training ended because of them; collapse: what the representation of the chosen epoch has collapsed to, of COLLAPSES, "" for
    nothing; frozen: whether the model was trained before and only loaded.
    """

    name: str
    figures: Mapping[str, Floats]
    best_epoch: int
    select: str | None = None
    setbacks: tuple[int, ...] = ()
    given_up: bool = False
    collapse: str = ""
    frozen: bool = False

    def __repr__(self) -> str:
        chosen = f"epoch {self.best_epoch} chosen" if self.best_epoch else "first parameters kept"
        back = f", {len(self.setbacks)} taken back" if self.setbacks else ""
        return f"TrainingRecord({self.name}, {self.epochs} epochs, {chosen}{back})"

    @property
    def epochs(self) -> int:
        """How many epochs there were, those that were taken back aside."""
        return max((len(values) for values in self.figures.values()), default=0)

    def at_best(self, figure: str) -> float | None:
        """Return a figure in the chosen epoch, None where it has none there."""
        values = self.figures.get(figure, np.empty(0))
        if not 0 < self.best_epoch <= len(values) or not np.isfinite(values[self.best_epoch - 1]):
            return None
        return float(values[self.best_epoch - 1])

    def as_dict(self) -> dict[str, Any]:
        """Return what a page says of it, for JSON."""
        return {
            "name": self.name,
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "select": self.select,
            "chosen_by": None if self.select is None else self.at_best(self.select),
            "setbacks": list(self.setbacks),
            **({"collapse": self.collapse} if self.collapse else {}),
            **({"frozen": True} if self.frozen else {}),
            "signs": training_signs(self),
        }


def training_records(training: Mapping[str, Any], name: str) -> list[TrainingRecord]:
    """Return the records of the models that were trained together, one each; none where nothing was noted in the epochs.

    training: of a scorer; name: what it is called, of several with a number.
    """
    monitor = training.get("monitor") or {}
    figures = {figure: np.array(values, dtype=np.float64) for figure, values in monitor.items()}
    figures = {figure: values for figure, values in figures.items() if values.ndim == 2 and values.size}
    if not figures:
        return []
    best, settings = training["best_epoch"], training.get("settings", {})
    epochs, setbacks = int(training["epochs"]), tuple(int(epoch) for epoch in training.get("setbacks", ()))
    found = []
    for member, chosen in enumerate(best):
        waited = epochs - int(chosen) >= settings.get("patience", np.inf)
        found.append(
            TrainingRecord(
                name if len(best) == 1 else f"{name} {member + 1}",
                {figure: values[:, member] for figure, values in figures.items()},
                int(chosen),
                training.get("select"),
                setbacks,
                given_up=bool(setbacks) and not waited and epochs < settings.get("max_epochs", 0),
                collapse=str(training.get("collapse", "")),
                frozen=bool(training.get("frozen", False)),
            )
        )
    return found


def training_signs(record: TrainingRecord) -> list[str]:
    """Return a sentence for each sign of trouble, and what may help; none where there is no such sign."""
    return [
        *collapse_signs(record),
        *chosen_signs(record),
        *setback_signs(record),
        *gap_signs(record),
        *chain_signs(record),
    ]


def collapse_signs(record: TrainingRecord) -> list[str]:
    """Tell of a representation that has collapsed in the chosen epoch."""
    if record.collapse not in COLLAPSES:
        return []
    figures = {name: record.at_best(name) for name in ("uniformity", "rank")}
    beside = ", ".join(f"{name} {value:.3g}" for name, value in figures.items() if value is not None)
    told = f"the representation has collapsed to a {record.collapse}: {COLLAPSES[record.collapse]}" + (
        f" ({beside})" if beside else ""
    )
    return [
        f"{told}. What is trained on it tells next to nothing apart; a lower learning_rate, a larger batch_size or another loss may keep it"
    ]


def chosen_signs(record: TrainingRecord) -> list[str]:
    """Tell of a chosen epoch that is none, the first or the last one, and of a figure that rises after it."""
    if record.best_epoch == 0:
        return ["no epoch was better than the start: the model is that of before this phase"]
    values = np.empty(0) if record.select is None else record.figures.get(record.select, np.empty(0))
    values = values[np.isfinite(values)]
    chosen = None if record.select is None else record.at_best(record.select)
    if chosen is None or len(values) < 2 or record.select is None:
        return []
    figure = said(record.select)
    if record.best_epoch == len(values):
        return [f"the {figure} was at its lowest in the last epoch: more epochs may do better"]
    if record.best_epoch == 1 and len(values) >= FIRST_OF:
        return [
            f"the {figure} was at its lowest in the first epoch: this training brought the model no closer to the data"
        ]
    last = float(values[-tail(len(values)) :].mean())
    if record.best_epoch > len(values) - tail(len(values)) or last <= chosen * (1 + RISE):
        return []
    told = f"the {figure} rises at the end, from {chosen:.3g} in epoch {record.best_epoch} to {last:.3g}"
    return [
        f"{told}: the training left what it had found. Epoch {record.best_epoch} is the model; a lower learning rate keeps it"
    ]


def setback_signs(record: TrainingRecord) -> list[str]:
    """Tell of epochs that diverged."""
    if not record.setbacks:
        return []
    number = len(record.setbacks)
    times = "once" if number == 1 else f"{number} times"
    where = ", ".join(str(epoch) for epoch in sorted(set(record.setbacks)))
    told = f"the training diverged {times} (in epoch {where}); the epoch was taken back and tried again at half the learning rate"
    if record.given_up:
        return [f"{told}, until it was given up in epoch {record.epochs + 1}: a lower learning rate is needed"]
    return [f"{told}: a lower learning rate from the start is calmer"]


def gap_signs(record: TrainingRecord) -> list[str]:
    """Tell of data and negatives of different energies in the chosen epoch, where the gradient of the likelihood is not near 0."""
    gap, energy = record.at_best("gap"), record.at_best("positive")
    if gap is None or energy is None or abs(gap) <= GAP * abs(energy):
        return []
    beside = f"(gap {gap:+.3g} beside {energy:.3g})"
    if gap > 0:
        why = "the model still has its density where there are no events. More epochs, or a higher learning rate, take it away"
        return [f"negatives have a lower energy than the data {beside}: {why}"]
    why = "the chains do not reach where the model has its density. More steps, or more chains that start anew, bring them there"
    return [f"negatives have a higher energy than the data {beside}: {why}"]


def chain_signs(record: TrainingRecord) -> list[str]:
    """Tell of chains whose steps are hardly ever accepted, or always."""
    found = []
    for figure, (chain, option) in CHAINS.items():
        accepted, values = record.at_best(figure), record.figures.get(figure, np.empty(0))
        # a chain that corrects nothing takes every step
        if accepted is None or (values[np.isfinite(values)] == 1).all():
            continue
        if accepted < FEW:
            found.append(
                f"{chain} accepts {percent(accepted)} of its steps and hardly moves: its negatives are those that it started from. A smaller {option}_step and {option}_noise let it move"
            )
        elif accepted > MANY:
            found.append(
                f"{chain} accepts {percent(accepted)} of its steps: they are shorter than they need be. A larger {option}_step and {option}_noise carry it further"
            )
    return found


def tail(epochs: int) -> int:
    """Return how many epochs the end of a training is."""
    return max(3, round(LAST * epochs))


def percent(share: float) -> str:
    """Write a share in percent."""
    return f"{100 * share:.2g} %" if share < FEW else f"{100 * share:.3g} %"


def said(figure: str) -> str:
    """Return the words of a figure."""
    distance = "Wasserstein distance of negatives and data"
    return {"wasserstein": distance, "wasserstein_mean": f"mean {distance}"}.get(figure, figure.replace("_", " "))
