"""Figures of merit of a score where the truth is known: AUC, efficiencies, significance improvement and its floor.

Scores are larger for more anomalous events; labels are 1 for signal. Labels serve evaluation alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score, roc_curve

from ...errors import InputError

__all__ = ["Metrics", "efficiency_at", "evaluate", "roc", "significance_improvement"]

Floats = npt.NDArray[np.float64]
MIN_BACKGROUND = 20


@dataclass(frozen=True)
class Metrics:
    """Figures of merit of one score on labelled events.

    eps_s: background efficiency -> signal efficiency; rejection: signal efficiency -> 1 / background efficiency;
    max_sic: largest eps_s / sqrt(eps_b) with at least 20 background events left, its statistical error, the background
    efficiency where it is reached, and the smallest background efficiency that the sample can resolve.
    """

    n_signal: int
    n_background: int
    auc: float
    auc_error: float
    eps_s: dict[str, float]
    rejection: dict[str, float]
    max_sic: float
    max_sic_error: float
    max_sic_eps_b: float
    eps_b_floor: float


def checked(score: npt.ArrayLike, label: npt.ArrayLike) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Check scores (n,) and labels (n,) of 0 and 1 with both classes present."""
    s, y = np.asarray(score, dtype=np.float64), np.asarray(label)
    if s.shape != y.shape or s.ndim != 1:
        raise InputError(f"score and label have one entry an event, found shapes {s.shape} and {y.shape}")
    if not np.isfinite(s).all():
        raise InputError(f"{int((~np.isfinite(s)).sum())} scores are no numbers")
    if not set(np.unique(y).tolist()) <= {0, 1}:
        raise InputError(f"labels are 0 (background) and 1 (signal), found {np.unique(y)[:5].tolist()}")
    signal = y.astype(bool)
    if not signal.any() or signal.all():
        raise InputError(
            f"both classes are needed, found {int(signal.sum())} signal and {int((~signal).sum())} background events"
        )
    return s, signal


def roc(score: npt.ArrayLike, label: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return background and signal efficiency at every threshold, both (m,) and rising from 0 to 1; ties move together."""
    s, signal = checked(score, label)
    eps_b, eps_s, _ = roc_curve(signal, s, drop_intermediate=False)
    return eps_b, eps_s


def significance_improvement(eps_b: Floats, eps_s: Floats, n_background: int) -> tuple[Floats, Floats]:
    """Return (eps_b, SIC = eps_s / sqrt(eps_b)) where at least 20 background events are left."""
    keep = eps_b * n_background >= MIN_BACKGROUND - 0.5
    return eps_b[keep], eps_s[keep] / np.sqrt(eps_b[keep])


def efficiency_at(background: Floats, signal: Floats, level: float) -> tuple[float, float] | None:
    """Return eps_S and its statistical error where the part `level` of background scores (n,) passes; None where that is fewer than 20 events.

    The error is the binomial one of the signal scores (m,) and, in quadrature, half of what eps_S changes where one standard deviation (the root) more
    and fewer background events pass.
    """
    passing = int(np.floor(level * len(background) * (1 + 1e-9)))
    if passing < MIN_BACKGROUND:
        return None
    falling = np.sort(background)[::-1]

    def at(number: int) -> float:
        # what has the score of the first event that does not pass does not pass either
        return float((signal > falling[min(number, len(falling) - 1)]).mean())

    root = round(passing**0.5)
    eps_s = at(passing)
    threshold = 0.5 * (at(passing + root) - at(passing - root))
    return eps_s, float(np.hypot((eps_s * (1 - eps_s) / len(signal)) ** 0.5, threshold))


def evaluate(score: npt.ArrayLike, label: npt.ArrayLike) -> Metrics:
    """Return all figures of merit of a score (n,) against labels (n,)."""
    s, signal = checked(score, label)
    n_s, n_b = int(signal.sum()), int((~signal).sum())
    eps_b, eps_s = roc(s, signal)
    auc = float(roc_auc_score(signal, s))
    # Hanley and McNeil 1982
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = (auc * (1 - auc) + (n_s - 1) * (q1 - auc**2) + (n_b - 1) * (q2 - auc**2)) / (n_s * n_b)
    b, sic = significance_improvement(eps_b, eps_s, n_b)
    best = int(np.argmax(sic)) if len(sic) else 0
    at_b = float(b[best]) if len(sic) else 1.0
    value = float(sic[best]) if len(sic) else 1.0
    at_s = value * np.sqrt(at_b)
    # binomial errors of both efficiencies, relative ones added in quadrature
    relative = np.sqrt((1 - at_s) / max(at_s * n_s, 1.0) + 0.25 * (1 - at_b) / max(at_b * n_b, 1.0))
    at = {f"{level:g}": float(np.interp(level, eps_b, eps_s)) for level in (0.1, 0.01, 0.001) if level * n_b >= 1}
    rejection = {}
    for level in (0.2, 0.3, 0.5):
        background = float(eps_b[np.searchsorted(eps_s, level, side="left")])
        rejection[f"{level:g}"] = 1.0 / max(background, 1.0 / n_b)
    return Metrics(
        n_signal=n_s,
        n_background=n_b,
        auc=auc,
        auc_error=float(np.sqrt(max(variance, 0.0))),
        eps_s=at,
        rejection=rejection,
        max_sic=value,
        max_sic_error=float(value * relative),
        max_sic_eps_b=at_b,
        eps_b_floor=1.0 / n_b,
    )
