"""Losses as arrays whose columns have names: checked, and picked by name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ...errors import InputError, unknown_name

__all__ = ["as_losses", "chosen_axes", "default_axes"]

Floats = npt.NDArray[np.float64]


def as_losses(losses: npt.ArrayLike) -> Floats:
    """Check losses (n, 1 + n_priors): finite and two-dimensional. Raises InputError for others."""
    values = np.asarray(losses, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] < 1:
        raise InputError(f"losses have shape (n, 1 + n_priors), found {values.shape}")
    if not np.isfinite(values).all():
        raise InputError(
            f"{int((~np.isfinite(values)).any(axis=1).sum())} of {len(values)} events have a loss that is no number"
        )
    return values


def default_axes(n_axes: int) -> tuple[str, ...]:
    """Return names of n_axes losses that nobody named: the background's, then those of the priors.

    >>> default_axes(3)
    ('background', 'prior 1', 'prior 2')
    """
    return ("background", *(f"prior {k}" for k in range(1, n_axes)))


def check_names(names: Sequence[str], n_axes: int) -> None:
    """Refuse names that are not one for each of n_axes columns of losses, or one of them twice."""
    if len(names) != n_axes:
        raise InputError(f"losses have {n_axes} columns and {len(names)} names: {', '.join(names)}")
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise InputError(f"several columns of losses are called {twice[0]!r}; names found: {', '.join(names)}")


def chosen_axes(losses: Floats, axes: Sequence[str], names: Sequence[str] = ()) -> Floats:
    """Return the columns of losses (n, m) that are called `axes`, in their order; all columns where there are no axes.

    names: (m,) of the columns; without them the columns are the axes themselves. Raises InputError for an axis that is no
    column, with the nearest name, and for columns that do not fit their names.
    """
    if names:
        check_names(names, losses.shape[1])
    if not axes:
        return losses
    if not names:
        check_names(axes, losses.shape[1])
        return losses
    for axis in axes:
        if axis not in names:
            raise InputError(unknown_name("axis of the losses", axis, names))
    return losses[:, [list(names).index(axis) for axis in axes]]
