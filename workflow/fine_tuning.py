"""A search whose training starts from a model that was trained before, or builds on one: what that model has to be, and what it must not have seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..config import Analysis
from ..errors import HunchError, InputError
from ..folds import fold_hash, same_event_hash
from ..table import Table
from .layout import started_from

if TYPE_CHECKING:
    from ..processors.scoring import Trained

__all__ = ["check_models_before", "check_pretrained_events"]

ALLOWED = {
    "pretrained": "the folder of a space that a search has trained, as OUTPUT/models/fold_0",
    "encoder": "the folder of an encoder that was fitted on a sample that knows its events, or of an Encoded that a search has trained, as OUTPUT/models/fold_0",
}
"""Option -> the folders whose events are known."""


def check_models_before(analysis: Analysis) -> dict[str, Trained]:
    """Return option -> the model that training starts from, or builds on as it is; none where it starts afresh.

    Raises InputError, which names the key, for a folder that holds none of the method, or none that knows which events it had trained
    on, as a scorer without a space: none of these events may be hunted. Likewise for one of inputs that were made with other settings.
    """
    found = {}
    for option, folder in started_from(analysis).items():
        try:
            found[option] = model_before(analysis, option, folder)
        except HunchError as error:
            raise InputError(f"{key_of(analysis, option)}: {str(error).removeprefix(f'{option}: ')}") from error
        if not len(found[option].trained_on):
            raise InputError(
                f"{key_of(analysis, option)}: {folder}: has no record of the events that it had trained on, and none of them may be hunted; "
                f"allowed: {ALLOWED[option]}"
            )
    return found


def model_before(analysis: Analysis, option: str, folder: Path) -> Trained:
    """Return the model of a folder; HunchError where it is not what the option takes, or of inputs that were made with other settings."""
    from ..models import load_encoder
    from ..models.columns import refuse_other_settings
    from ..models.pretrained import origin_of, pretrained_scorer

    made = {"settings": analysis.represented.settings()}
    if option == "encoder":
        encoder = load_encoder(folder)
        refuse_other_settings(made, encoder.made_, str(folder))
        return encoder
    before = origin_of(folder)
    pretrained_scorer(analysis.method(**analysis.scorer_options), agree=())
    refuse_other_settings(made, before.made, str(folder))
    return before


def check_pretrained_events(analysis: Analysis, read: Callable[[str], Table]) -> None:
    """Raise InputError where a model that training starts from had trained on events that are to be scored by what is made of it.

    read: gives a sample's table with what tells its events apart.
    """
    found = check_models_before(analysis)
    if not found:
        return
    from ..processors.scoring import told_by_content, trained_events

    content, scored = analysis.represented.content, ("data", "background", "validation")
    for sample in analysis.sample_files():
        if sample not in scored and not sample.startswith("signal."):
            continue
        table = read(sample)
        if sample == "background":  # of which the others are trained on again
            table = table.select(analysis.plan.held_out_rows(fold_hash(table, content)))
        events = same_event_hash(table, content)
        model = np.zeros(len(events), dtype=np.int64)
        for option, before in found.items():
            seen = sum(trained_events(events, [before], model, by_content=told_by_content(table)).values())
            if seen:
                told = (
                    "held-out events of sample background" if sample == "background" else f"events of sample {sample}"
                )
                raise InputError(
                    f"{key_of(analysis, option)}: the model in {started_from(analysis)[option]} had trained on {seen} of {len(events)} {told}, which are to be "
                    "scored by what is made of it; allowed: a model that has seen none of them"
                )


def key_of(analysis: Analysis, option: str) -> str:
    """Return how an error names the key."""
    return f"key '{'scorer' if option in analysis.scorer else 'training'}.{option}'"
