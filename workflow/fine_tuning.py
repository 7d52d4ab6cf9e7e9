"""A search whose training starts from a model that was trained before: what that model has to be, and what it must not have seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..config import Analysis
from ..errors import HunchError, InputError
from ..folds import fold_hash, same_event_hash
from ..table import Table
from .layout import pretrained_path

if TYPE_CHECKING:
    from ..models.pretrained import Origin

__all__ = ["check_pretrained_events", "check_pretrained_model"]


def check_pretrained_model(analysis: Analysis) -> Origin | None:
    """Return the model that training starts from, None where there is none.

    Raises InputError, which names the key, for a folder that holds none of the method, or none that knows which events it had trained
    on, as a scorer without a space: none of these events may be hunted. Likewise for one of inputs that were made with other settings.
    """
    folder = pretrained_path(analysis)
    if folder is None:
        return None
    from ..models.columns import refuse_other_settings
    from ..models.pretrained import origin_of, pretrained_scorer

    try:
        before = origin_of(folder)
        pretrained_scorer(analysis.method(**analysis.scorer_options), agree=())
        refuse_other_settings({"settings": analysis.represented.settings()}, before.made, str(folder))
    except HunchError as error:
        raise InputError(f"{key_of(analysis)}: {str(error).removeprefix('pretrained: ')}") from error
    if not len(before.trained_on):
        raise InputError(
            f"{key_of(analysis)}: {folder}: has no record of the events that it had trained on, and none of them may be hunted; allowed: "
            "the folder of a space that a search has trained, as OUTPUT/models/fold_0"
        )
    return before


def check_pretrained_events(analysis: Analysis, read: Callable[[str], Table]) -> None:
    """Raise InputError where the model that training starts from had trained on events that are to be scored by what is made of it.

    read: gives a sample's table with what tells its events apart.
    """
    before = check_pretrained_model(analysis)
    if before is None:
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
        seen = sum(trained_events(events, [before], model, by_content=told_by_content(table)).values())
        if seen:
            told = "held-out events of sample background" if sample == "background" else f"events of sample {sample}"
            raise InputError(
                f"{key_of(analysis)}: the model in {pretrained_path(analysis)} had trained on {seen} of {len(events)} {told}, which are to be "
                "scored by what is made of it; allowed: a model that has seen none of them"
            )


def key_of(analysis: Analysis) -> str:
    """Return how an error names the key."""
    return f"key '{'scorer' if 'pretrained' in analysis.scorer else 'training'}.pretrained'"
