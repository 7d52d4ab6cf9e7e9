"""Fine-tuning: what a training starts from instead of fresh weights, a scorer that was fitted and saved before.

A method that can be fine-tuned has the option `pretrained`, the folder of such a scorer or of a space whose background axis is one:

    before = pretrained_scorer(self, agree=("latent", "hidden"))      # None where the option is ""

The events that the saved model had trained on are events that the new one has trained on: a space adds them to its own
(`origin_of`), so that none of them is ever hunted with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from ..errors import shown
from .columns import refuse_other_settings
from .inputs import ScorerError
from .sample import event_hashes
from .scorer import Method, Scorer, load_scorer
from .storage import SUM, read_folder

__all__ = [
    "Origin",
    "check_pretrained",
    "content_of",
    "folder_of",
    "origin_of",
    "pretrained_scorer",
    "require_same_inputs",
]

M = TypeVar("M", bound=Method)


@runtime_checkable
class Axes(Protocol):
    """A space of scorers, as `ScorerSpace` is one."""

    scorers: Mapping[str, Scorer]
    trained_on: npt.NDArray[np.uint64]
    made_: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Origin:
    """What a training starts from.

    scorer: the fitted scorer; trained_on: sorted hashes of the events that it has trained on, none where the folder has no record of them,
    as that of a scorer alone; made: how its inputs were made.
    """

    scorer: Scorer
    trained_on: npt.NDArray[np.uint64]
    made: Mapping[str, Any]


def folder_of(scorer: object) -> str:
    """Return the folder that a scorer's option `pretrained` names, "" where it has none."""
    return str(getattr(scorer, "pretrained", ""))


def check_pretrained(folder: object) -> None:
    """Raise ScorerError for an option `pretrained` that is no text; nothing is read for that."""
    if not isinstance(folder, str):
        raise ScorerError(f"pretrained is {shown(folder)}, allowed: the path of a folder as text, '' for none")


def origin_of(folder: str | Path) -> Origin:
    """Return what is in the folder of a scorer, or of a space, of which the background's axis is taken.

    Raises ScorerFolderError as `load_scorer`.
    """
    found = load_scorer(folder)
    if isinstance(found, Axes):
        # the background's axis is the first
        return Origin(next(iter(found.scorers.values())), found.trained_on, found.made_)
    return Origin(found, event_hashes([]), getattr(found, "made_", {}))


def pretrained_scorer(scorer: M, *, agree: Sequence[str]) -> M | None:
    """Return the fitted scorer that a scorer's training starts from, None where its option `pretrained` is "".

    agree: options that both need to have the same values of, those of the shape of the networks. Raises ScorerFolderError as
    `load_scorer`, ScorerError, naming folder and option, for a scorer of another method or of other values.
    """
    folder = folder_of(scorer)
    if not folder:
        return None
    kind = type(scorer)
    found: Any = origin_of(folder).scorer
    if not isinstance(found, kind):
        raise ScorerError(
            f"pretrained: {folder}: holds a {type(found).__name__}; allowed: {kind.__name__}, or a space whose background axis is one"
        )
    for name in agree:
        own, before = getattr(scorer, name), getattr(found, name)
        if own != before:
            raise ScorerError(
                f"pretrained: {folder}: option {name} is {own!r}, allowed: {before!r}, as the scorer there has it"
            )
    return found


def require_same_inputs(before: Method, names: Sequence[str], made: Mapping[str, Any]) -> None:
    """Raise ScorerError where a pretrained scorer has other columns than those of these names, or columns that were made otherwise."""
    if names and before.input_names and tuple(names) != before.input_names:
        raise ScorerError(
            f"pretrained: was trained on the columns {', '.join(before.input_names)}, x has {', '.join(names)}; the same in the same order are needed"
        )
    refuse_other_settings(made, before.made_, "x")


def content_of(folder: str | Path) -> str:
    """Return a hash of the content of a scorer's folder, which its place does not change; raises ScorerFolderError."""
    return str(read_folder(folder)[0][SUM])
