"""How the models of a search were trained, for its page: the records that scorers keep of it, drawn, and what they drew along the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Analysis
from ..documents import read_json
from ..table import table_parts
from .layout import model_paths, plain_paths, table_path, training_samples

if TYPE_CHECKING:
    from ..analysis import TrainingRecord

__all__ = ["draw_how_trained"]

WHOLE = "all axes"
"""What the axes of a space are called that is trained in one go."""
ENCODER = "encoder of all axes"
"""What the encoder is called that a space has its representations of."""


def draw_how_trained(analysis: Analysis) -> dict[str, Any]:
    """Draw how the models were trained, where their records tell it, and return what a page says of it, for JSON; nothing where there is no such record."""
    from ..analysis.figures.training_figures import draw_trainings

    figures = Path(analysis.output) / "figures"
    found = records_by_axis(analysis)
    if not found:
        return {}
    draw_trainings(found, figures)
    draw_what_was_drawn(analysis, figures)
    axes = [{"name": axis, "models": [record.as_dict() for record in records]} for axis, records in found.items()]
    return {"how_trained": {"axes": axes}}


def records_by_axis(analysis: Analysis) -> dict[str, list[TrainingRecord]]:
    """Return axis -> the records of its models that have figures of their epochs, the background's first, before it that of an encoder."""
    from ..analysis import training_records

    folders, plain = model_paths(analysis), plain_paths(analysis)
    found: dict[str, list[TrainingRecord]] = {}
    for number, folder in enumerate([*folders, *plain]):
        fold = f"fold {number % len(folders) + 1}" if len(folders) > 1 else "model"
        name = f"{fold}{' without exposure' if number >= len(folders) else ''}"
        for axis, training in axis_trainings(read_json(folder / "scorer.json", remedy="hunch train writes it anew")):
            found.setdefault(axis, []).extend(training_records(training, name))
    return {axis: records for axis, records in found.items() if records}


def axis_trainings(record: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the axes of a stored space with the record of their training, that of an encoder first: of the space itself where that is trained in one go."""
    if "encoder" in record["training"]:
        yield ENCODER, record["training"]["encoder"]
        yield from axis_trainings(record["state"]["scorer"])
        return
    axes = record["state"].get("axes")
    if axes is None:
        yield WHOLE, record["training"]
        return
    for axis in axes:
        yield axis["name"], axis["scorer"]["training"]


def draw_what_was_drawn(analysis: Analysis, folder: Path) -> None:
    """Draw the images that the background's scorer of the first model drew along its training, where it keeps any, beside some of the events."""
    from ..analysis.figures.training_figures import draw_negatives
    from ..models.scorer_space import BACKGROUND
    from ..models.space import load_space
    from ..processors.representations import read_inputs

    representation = analysis.represented
    if representation.kind != "images":
        return
    scorers = getattr(load_space(model_paths(analysis)[0]), "scorers", {})
    frames = getattr(scorers.get(BACKGROUND), "frames", None)
    drawn = None if frames is None else frames()
    if drawn is None or not len(drawn):
        return
    source = table_path(analysis, training_samples(analysis)[0])
    inputs = read_inputs(next(table_parts(source, representation.content)), representation)
    draw_negatives(drawn, inputs[:8].reshape(-1, *inputs.shape[-2:]), folder)
