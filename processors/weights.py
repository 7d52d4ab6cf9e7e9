"""Weights of simulated events: summed up chunk by chunk, and what is said of them, since nothing uses them yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["UNWEIGHED", "note_on", "total", "weights_of"]

UNWEIGHED = "its weight is no finite number"
"""What the cutflow calls an event whose weight is NaN or infinite."""


def weights_of(values: npt.ArrayLike) -> dict[str, Any]:
    """Return what chunks add up of their events' weights (n,), finite numbers: "extremes", "negative", "sum" and "squares"."""
    w = np.asarray(values, dtype=np.float64)
    return {
        "extremes": {float(w.min()), float(w.max())} if len(w) else set(),
        "events": len(w),
        "negative": int((w < 0).sum()),
        "sum": float(w.sum()),
        "squares": float((w**2).sum()),
    }


def total(name: str, parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the summary of a column of weights over all parts: its name, extremes, number of negative ones, and n_eff.

    "effective" is (sum w)^2 / sum w^2: as many events of weight one have the same relative error.
    """
    parts = list(parts)
    extremes = sorted(set().union(*(part["extremes"] for part in parts)))
    added = {key: sum(part[key] for part in parts) for key in ("events", "negative", "sum", "squares")}
    return {
        "column": name,
        "smallest": extremes[0] if extremes else None,
        "largest": extremes[-1] if extremes else None,
        "events": added["events"],
        "negative": added["negative"],
        "effective": added["sum"] ** 2 / added["squares"] if added["squares"] else 0.0,
    }


def note_on(weights: Mapping[str, Any]) -> str:
    """Return what a reader must know of a summary: weights that differ are not used; nothing of equal ones: ""."""
    if weights["smallest"] == weights["largest"]:
        return ""
    negative = f", {weights['negative']} of them negative" if weights["negative"] else ""
    return (
        f"{weights['column']} is not used: every event counts as one, though the weights of {weights['events']} events go from "
        f"{weights['smallest']:.4g} to {weights['largest']:.4g}{negative}; with weights they would be worth "
        f"{weights['effective']:.4g} events"
    )
