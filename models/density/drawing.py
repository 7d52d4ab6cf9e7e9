"""Rows drawn from a fitted density: of a VAE's prior and its decoder's noise, or of a flow, in the units of the training.

A VAE's p(x | z) is a Gaussian whose noise the decoder tells for each column. The density of x is the mean of these over the prior, and
the means of p(x | z) alone would be narrower than the rows of the training: a draw of p(x | z) is what is returned. A flow has no noise of its own.

Both live on the whole of mapped space. Whole numbers, which the training spread over ±0.5, are rounded, and rows that lie outside of the
training rows' range in any column are drawn again, so that ratios, masses and counts come back within their bounds: what is drawn is the density
within that box. A value that many rows of the training share exactly, and that is not a whole number among whole numbers, is spread over a short range.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

from ..inputs import ScorerError
from ..train.threads import few_threads
from .autoencoder import StackedVae
from .column_map import ColumnMap, unmap_columns
from .densities import SCORE_ROWS, SCORE_THREADS, DensityStack

__all__ = ["decoded_rows", "draw_rows"]

Matrix = npt.NDArray[np.float64]
LEAST_INSIDE = 0.01  # of the draws: fewer inside the training's range are no density of it
FIRST_DRAWS = 1000  # before their share inside is judged


def draw_rows(density: DensityStack, n: int, rng: np.random.Generator) -> Matrix:
    """Return n rows (n, d) of the first member of a stack, in the units of its training; raises ScorerError where hardly any are in its range."""
    found: list[Matrix] = []
    kept = tried = 0
    share = 1.0
    while kept < n:
        rows = within(density.columns, _drawn(density, math.ceil((n - kept) / share), rng))
        inside = ((rows >= density.columns.low) & (rows <= density.columns.high)).all(axis=1)
        found.append(rows[inside])
        kept, tried = kept + int(inside.sum()), tried + len(rows)
        if tried >= FIRST_DRAWS and kept < LEAST_INSIDE * tried:
            raise ScorerError(
                f"sample: {kept} of {tried} draws lie within the range of the training rows in every column; at least "
                f"{100 * LEAST_INSIDE:g} % are expected of a trained density: train longer, or on more rows"
            )
        share = max(kept / tried, LEAST_INSIDE)
    return np.concatenate(found)[:n]


@torch.no_grad()
def _drawn(density: DensityStack, n: int, rng: np.random.Generator) -> Matrix:
    """Return n rows (n, d) of the first member, wherever they lie."""
    network, d = density.network, density.columns.n_columns
    if isinstance(network, StackedVae):
        mean, noise = _decoded(density, rng.normal(size=(n, network.weights[3].shape[1])))
        return _unmapped(density, mean + noise * rng.normal(size=(n, d)))
    rows = np.empty((n, d))
    z = rng.normal(size=(n, d))
    with few_threads(SCORE_THREADS):
        for first in range(0, n, SCORE_ROWS):
            part = torch.from_numpy(z[first : first + SCORE_ROWS])[None]
            made = network.flow.inverse(part.expand(len(density.centre), -1, -1).contiguous())
            rows[first : first + SCORE_ROWS] = made[0].numpy()
    return _unmapped(density, rows)


def decoded_rows(density: DensityStack, z: Matrix) -> Matrix:
    """Return the rows (n, d) that a VAE's decoder has in the middle of p(x | z) at latent points z (n, latent), clipped to the training's range."""
    rows = within(density.columns, _unmapped(density, _decoded(density, z)[0]))
    return np.clip(rows, density.columns.low, density.columns.high)


@torch.no_grad()
def _decoded(density: DensityStack, z: Matrix) -> tuple[Matrix, Matrix]:
    """Return mean and noise (n, d) of p(x | z) of the first member, in its own units."""
    means, noises = [], []
    with few_threads(SCORE_THREADS):
        for first in range(0, len(z), SCORE_ROWS):
            part = torch.from_numpy(z[first : first + SCORE_ROWS])[None]
            mean, log_noise = density.network.decode(part.expand(len(density.centre), -1, -1).contiguous())
            means.append(mean[0].numpy())
            noises.append(log_noise[0].exp().numpy())
    if not means:
        return np.empty((0, density.columns.n_columns)), np.empty((0, density.columns.n_columns))
    return np.concatenate(means), np.concatenate(noises)


def _unmapped(density: DensityStack, rows: Matrix) -> Matrix:
    """Return rows in the units of the training of rows (n, d) in the first member's own units."""
    return unmap_columns(density.columns, np.linalg.solve(density.whiten[0].T, rows.T).T + density.centre[0])


def within(columns: ColumnMap, rows: Matrix) -> Matrix:
    """Return rows (n, d) with whole numbers rounded and constant columns at their value."""
    rows = np.where(columns.integer, np.rint(rows) + 0.0, rows)  # no -0.0
    return np.asarray(np.where(columns.low == columns.high, columns.low, rows))
