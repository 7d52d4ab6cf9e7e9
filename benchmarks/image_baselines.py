"""What one number of a jet image tags without any training, for comparison with a model; no study of its own.

Jet mass, number of lit pixels and sum of squares of the pixels, each larger and smaller taken as more anomalous: a model that is
trained on one class tags the other by more than its complexity if it beats all six in both directions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hunch.analysis import evaluate
from hunch.table import Table

Floats = npt.NDArray[np.float64]
EPS_S = "0.2"
"""Signal efficiency at which the inverse of the background efficiency is quoted."""


def observables(table: Table) -> dict[str, Floats]:
    """Return each number (n,) of a table of one unfiltered image a jet: columns `image_1` and `mJ_1` (GeV)."""
    images = np.asarray(table["image_1"]).reshape(len(table), -1)
    return {
        "jet mass": np.asarray(table["mJ_1"], dtype=np.float64),
        "lit pixels": (images > 0).sum(axis=1).astype(np.float64),
        "sum of squares": np.einsum("ij,ij->i", images, images, dtype=np.float64),
    }


def baselines(background: Table, signal: Table) -> list[dict[str, Any]]:
    """Return a row for each number and sign: AUC, its error, and 1 / background efficiency at a signal efficiency of 0.2."""
    label = np.repeat([0, 1], [len(background), len(signal)])
    other = observables(signal)
    rows = []
    for name, values in observables(background).items():
        for sign in (1, -1):
            found = evaluate(sign * np.concatenate([values, other[name]]), label)
            rows.append(
                {
                    "score": f"{'+' if sign > 0 else '-'} {name}",
                    "auc": round(found.auc, 4),
                    "auc_error": round(found.auc_error, 4),
                    "rejection": round(found.rejection[EPS_S], 1),
                }
            )
    return rows


def both_directions(qcd: Table, top: Table) -> list[dict[str, Any]]:
    """Return the rows of tops among QCD jets and of QCD jets among tops, `signal` first."""
    return [
        {"signal": name, **row}
        for name, rows in (("top", baselines(qcd, top)), ("qcd", baselines(top, qcd)))
        for row in rows
    ]
