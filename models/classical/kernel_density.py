"""A kernel density estimate as an anomaly score: rare is anomalous."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from ...errors import unknown_name
from ..inputs import ScorerError
from ..train.threads import few_threads
from .row_scorer import Arrays, FittedRows, Matrix, require_number

__all__ = ["RULES", "KernelDensity", "rule_bandwidth"]

logger = logging.getLogger(__name__)

RULES = ("scott", "silverman")
BLOCK = 64  # rows at once: their distances to all kernels stay in the cache
SCORE_THREADS = 4


def rule_bandwidth(rule: str, rows: int, columns: int) -> float:
    """Return the width of the kernels, in standard deviations of a column, by the rule of "scott" or "silverman".

    n^(-1 / (d + 4)), and that times (4 / (d + 2))^(1 / (d + 4)).

    >>> round(rule_bandwidth("scott", 1000, 1), 4), round(rule_bandwidth("silverman", 1000, 1), 4)
    (0.2512, 0.2661)
    """
    factor = 1.0 if rule == "scott" else (columns + 2) / 4
    return float((rows * factor) ** (-1 / (columns + 4)))


@dataclass(kw_only=True, eq=False, repr=False)
class KernelDensity(FittedRows):
    """A Gaussian kernel on every row of a sample.

    bandwidth: "scott", "silverman" (`rule_bandwidth`), or a number: the standard deviation of the kernel in units of the scaled columns, the
    same in all; max_rows: rows at most that have a kernel, drawn by seed where there are more: the time of a score grows with their number;
    scaling: see `RowScorer`.

    Metrics: "loss" (-log p(x) in nats, with the Jacobian of the scaling).
    """

    metrics: ClassVar = ("loss",)
    densities: ClassVar = ("loss",)
    shown: ClassVar = ("bandwidth",)
    whole_numbers: ClassVar = {"max_rows": (2, 1_000_000)}

    bandwidth: str | float = "scott"
    max_rows: int = 10_000

    def check(self, shape: Sequence[int] = ()) -> None:
        """Raise ScorerError for options that mean nothing."""
        super().check(shape)
        if isinstance(self.bandwidth, str):
            if self.bandwidth not in RULES:
                said = unknown_name("bandwidth", self.bandwidth, RULES, type(self).__name__)
                raise ScorerError(f"{said}, or a number")
        else:
            require_number("bandwidth", self.bandwidth)

    def described(self) -> list[str]:
        """Return what the repr says before the training, with the number of kernels where the rows were more."""
        kernels = len(self.fitted_["rows"]) if self.fitted_ else 0
        return [*super().described(), *([f"{kernels:,} kernels"] if 0 < kernels < self.trained_rows() else [])]

    def fitted_to(self, mapped: Matrix) -> tuple[Arrays, dict[str, Any]]:
        """Return the rows that have a kernel, and its width."""
        rows = mapped
        if len(mapped) > self.max_rows:
            chosen = np.random.default_rng(self.seed).choice(len(mapped), self.max_rows, replace=False)
            rows = mapped[np.sort(chosen)]
            logger.info("KernelDensity: %d of %d rows, drawn by seed, have a kernel (max_rows)", len(rows), len(mapped))
        width = self.bandwidth
        if isinstance(width, str):
            width = rule_bandwidth(width, *rows.shape)
        fitted = {"rows": rows, "bandwidth": np.array([float(width)])}
        return fitted, {"rows": [len(rows)], "bandwidth": float(width)}

    @torch.no_grad()
    def scores(self, mapped: Matrix, metric: str) -> Matrix:
        """Return -log of the density (n,) of scaled rows (n, d)."""
        del metric
        width = float(self.fitted_["bandwidth"][0])
        kernels = torch.from_numpy(self.fitted_["rows"]) / width
        x = torch.from_numpy(mapped) / width
        half, turned = 0.5 * kernels.square().sum(dim=1), kernels.T.contiguous()
        found = torch.empty(len(x), dtype=torch.float64)
        with few_threads(SCORE_THREADS):
            for first in range(0, len(x), BLOCK):
                own = x[first : first + BLOCK]
                # -|x - k|² / 2; rounding may leave it a little above 0
                exponent = torch.addmm(-half, own, turned).sub_(0.5 * own.square().sum(dim=1)[:, None]).clamp_(max=0.0)
                largest = exponent.amax(dim=1, keepdim=True)
                total = exponent.sub_(largest).exp_().sum(dim=1)
                found[first : first + BLOCK] = largest[:, 0] + total.log()
        n, d = kernels.shape
        return np.asarray(-found.numpy() + math.log(n) + d * (0.5 * math.log(2 * math.pi) + math.log(width)))

    def check_stored(self, n_columns: int) -> None:
        """Raise ScorerError where the kernels have other columns, are too many, or have no width."""
        rows = self.fitted_["rows"]
        self.require_shapes(rows=(len(rows), n_columns), bandwidth=(1,))
        if not 1 <= len(rows) <= self.max_rows or not self.fitted_["bandwidth"][0] > 0:
            raise ScorerError(
                f"{len(rows)} kernels of the width {self.fitted_['bandwidth'][0]:g}, max_rows is {self.max_rows}"
            )
