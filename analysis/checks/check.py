"""A verdict on one check."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ASYMPTOTIC", "Check"]

ASYMPTOTIC = 10.0  # events a bin of the window from which the asymptotic formula is claimed to hold


@dataclass(frozen=True)
class Check:
    """One verdict: what was checked, what was found, what is allowed; passed is None where nothing could be judged."""

    name: str
    found: str
    allowed: str
    passed: bool | None
