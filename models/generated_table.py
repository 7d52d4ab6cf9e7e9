"""A table of events that a trained scorer, or one axis of a space of scorers, generates."""

from __future__ import annotations

from typing import Any, cast

from ..errors import unknown_name
from ..table import Table
from .generation import Generative, can_generate
from .inputs import ScorerError
from .scorer import SCORERS, Scorer, method_class
from .scorer_space import BACKGROUND, ScorerSpace

__all__ = ["generated_table", "generating_scorer"]


def generating_scorer(scorer: Scorer, axis: str | None) -> tuple[Scorer, tuple[str, ...], dict[str, Any]]:
    """Return the scorer that makes events, the names of its inputs and how they were made: itself, or that of an axis of a space, the background where none is named.

    Raises ScorerError for a scorer that generates nothing, naming those that do, and for an axis that there is not.
    """
    space, names = type(scorer).__name__, tuple(getattr(scorer, "input_names", ()))
    made: dict[str, Any] = dict(getattr(scorer, "made_", {}))
    if isinstance(scorer, ScorerSpace):
        chosen = axis or BACKGROUND
        if chosen not in scorer.scorers:
            raise ScorerError(unknown_name("axis", chosen, scorer.scorers, space))
        names, scorer = scorer.names_.get(chosen, ()), scorer.scorers[chosen]
    elif axis is not None:
        raise ScorerError(f"axis {axis!r}: {space} is one model, and has no axes to choose from")
    if not can_generate(type(scorer)):
        able = ", ".join(name for name in SCORERS if can_generate(method_class(name)))
        raise ScorerError(f"{type(scorer).__name__} generates no events; what does: {able}")
    return scorer, names, made


def generated_table(scorer: Scorer, n: int, *, axis: str | None = None, seed: int = 0) -> Table:
    """Return a table of n events of a scorer's `sample`, its columns those that the scorer was trained on.

    scorer: a method that has `sample`, or a space of such; axis: of a space, the background where none is named. Columns without names of the
    training are `x_0`, `x_1`, ... of rows, `jet` of images and constituents, and so are those of a model that was trained on several jets an
    event, which makes single ones. The metadata say how the columns of the training were made, and that these were generated, by what and with which seed.
    Raises ScorerError as `generating_scorer` and as `sample` do.
    """
    scorer, names, made = generating_scorer(scorer, axis)
    events = cast("Generative", scorer).sample(n, seed=seed)
    if events.ndim == 2:
        own = names or tuple(f"x_{i}" for i in range(events.shape[1]))
        columns = {name: events[:, i].copy() for i, name in enumerate(own)}
    else:
        columns = {names[0] if len(names) == 1 else "jet": events}
    told = {"scorer": type(scorer).__name__, "axis": axis, "seed": int(seed), "events": len(events)}
    return Table(columns, {**made, "generated": told}, f"events of {type(scorer).__name__}")
