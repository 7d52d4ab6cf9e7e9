"""Loss space and latent space made comparable: the latent means of a VAE, and one supervised head for both; no study.

The head knows a proxy of the signal, never the signal. It is a logistic regression, linear or with squares and products:
the linear one is the best there is where the axes are log-densities, the other gives a latent space its chance.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from hunch.models import Vae
from hunch.models.density.column_map import map_columns
from hunch.models.density.densities import whitened

Floats = npt.NDArray[np.float64]
HEADS = {"linear": 1, "quadratic": 2}


@torch.no_grad()
def latent_means(vae: Vae, x: Floats) -> Floats:
    """Return the latent means (n, latent) of rows (n, d)."""
    density = vae.density_
    assert density is not None, "fit the VAE first"
    mapped, _ = map_columns(density.columns, x)
    rows = torch.from_numpy(whitened(mapped, density.centre, density.whiten))
    return np.asarray(density.network.encode(rows)[0][0].numpy())


def head_scores(background: Floats, proxy: Floats, x: Floats, *, head: str) -> Floats:
    """Return the log-odds (n,) of rows of a space after training on background against a proxy in that space."""
    model = make_pipeline(
        StandardScaler(),
        PolynomialFeatures(HEADS[head], include_bias=False),
        StandardScaler(),
        LogisticRegression(class_weight="balanced", max_iter=5000),
    )
    model.fit(np.concatenate([background, proxy]), np.repeat([0, 1], [len(background), len(proxy)]))
    return np.asarray(model.decision_function(x), dtype=np.float64)
