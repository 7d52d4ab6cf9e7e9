"""p-values by their logarithm, from which z follows however small they are, and how a p-value is printed.

A double holds no p below 5e-324, that of 38.5 sigma, and the probability functions lose their digits a little above. So
significance is counted and compared in z and ln p; p itself is written down to `SMALLEST`, and printed as a bound there.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

__all__ = ["NEXT_TO_ONE", "SMALLEST", "log_p_of_z", "p_of_log", "p_of_z", "shown_p", "stated_p", "z_of_log"]

Floats = npt.NDArray[np.float64]
SMALLEST = 1e-300
"""The p-value that stands for every smaller one: 37.05 sigma. z and ln p go on."""
NEXT_TO_ONE = float(np.log1p(-1e-16))
"""ln p above which no p is taken: cotangents and probits end there."""


def log_p_of_z(z: npt.ArrayLike) -> Floats:
    """Return ln p of a one-sided z."""
    return np.asarray(special.log_ndtr(-np.asarray(z, dtype=np.float64)))


def z_of_log(log_p: npt.ArrayLike) -> Floats:
    """Return the one-sided z of ln p: 1 - Phi(z) = p; negative for a deficit, -8.2 at the least."""
    return np.asarray(-special.ndtri_exp(np.minimum(np.asarray(log_p, dtype=np.float64), NEXT_TO_ONE)))


def p_of_log(log_p: npt.ArrayLike) -> Floats:
    """Return p of ln p, 1e-300 where it is smaller."""
    return np.asarray(np.maximum(np.exp(np.asarray(log_p, dtype=np.float64)), SMALLEST))


def p_of_z(z: npt.ArrayLike) -> Floats:
    """Return the one-sided p of z, 1e-300 where it is smaller."""
    return np.asarray(np.maximum(special.ndtr(-np.asarray(z, dtype=np.float64)), SMALLEST))


def shown_p(p: float | None) -> str:
    """Write a probability as people do: 0.12, 3.4e-05, "< 1e-300" for one that is smaller, a dash for none.

    >>> shown_p(0.1234), shown_p(1e-300), shown_p(0.0), shown_p(None)
    ('0.12', '< 1e-300', '< 1e-300', '–')
    """
    if p is None:
        return "–"
    return f"{p:.2g}" if p > SMALLEST * (1 + 1e-9) else f"< {SMALLEST:.0e}"


def stated_p(p: float | None, *, bound: bool = False) -> str:
    """Write a probability behind its letter: "= 0.12", "< 0.0033" for one that is a bound, "< 1e-300".

    >>> stated_p(0.1234), stated_p(1 / 301, bound=True), stated_p(0.0)
    ('= 0.12', '< 0.0033', '< 1e-300')
    """
    text = shown_p(p)
    return text if text.startswith("<") else f"{'<' if bound else '='} {text}"
