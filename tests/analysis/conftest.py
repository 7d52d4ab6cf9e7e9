"""A falling spectrum with a known truth, for the whole room."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hunch.analysis.fits.background import design_matrix
from hunch.analysis.spectra.bins import DIJET_EDGES

SQRT_S = 13_000.0


@pytest.fixture(scope="session")
def edges() -> np.ndarray[Any, Any]:
    """Return CMS dijet edges from 1530 to 6099 GeV, 33 bins."""
    return np.array([e for e in DIJET_EDGES if 1530 <= e <= 6099], dtype=np.float64)


@pytest.fixture(scope="session")
def truth(edges: np.ndarray[Any, Any]) -> Callable[..., np.ndarray[Any, Any]]:
    """Return a function of (events, shape parameters) that gives the expected counts of a dijet spectrum."""

    def expected(events: float, *, p: tuple[float, ...] = (-9.0, -5.0)) -> np.ndarray[Any, Any]:
        a = design_matrix(edges, len(p), sqrt_s=SQRT_S)
        shape = np.exp(a[:, 1:] @ (np.array(p) * np.array([-1.0, 1.0, 1.0, 1.0, 1.0])[: len(p)])) * np.diff(edges)
        return np.asarray(events * shape / shape.sum())

    return expected
