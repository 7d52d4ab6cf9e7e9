"""The digits experiment: 9 looked for in 5 with a prior of 7 that is diluted with 0, in loss space and in latent space.

`make study ONLY=digits`. Images are scikit-learn's 8x8 digits, or MNIST where HUNCH_MNIST names a folder that holds it.
Loss space is that of separate VAEs of 5 and of the prior (QUAK), latent space that of one VAE of all training images; in
both the same head learns 5 against the prior, and is tested on other images of 5 against 9, which nothing is trained on.
Each split draws its images anew, all from the same few, so the spread over splits is quoted, not the error of the mean, and
differences are taken split by split.

Pixels run from 0 to 16. The VAEs train on copies with noise of 4: without it a density of a hundred images in 64 dimensions
is a spike, and 9 lies thousands of nats outside every prior. That noise is what the fixed width of a squared-error loss is.
Larger images are reduced to 64 columns by a PCA of the training images. Heads train and all methods are tested on clean images.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from hunch.analysis import evaluate
from hunch.models import Quak, Vae

from .mnist import read_mnist
from .simulated import KINDS, told
from .spaces import HEADS, head_scores, latent_means

Floats = npt.NDArray[np.float64]

BACKGROUND, ANOMALY, PROXY, DILUENT = 5, 9, 7, 0
PARTS = (1.0, 0.5, 0.2, 0.05, 0.0)  # of 7 in the prior
SPLITS = int(os.environ.get("SPLITS", "10"))
EPOCHS = 20
TRAIN_PART = 0.7  # of the background; the rest is tested
PRIOR_PART = 0.8  # of the rarer of 7 and 0: what a split draws
COLUMNS = 64  # at most; by a PCA beyond
NOISE = 4.0  # standard deviation, of pixels from 0 to 16
FEW = 1000  # training images below which each is used in 8 noisy copies,
AT_LEAST = 120  # or in more where this many are needed


def images() -> tuple[Floats, npt.NDArray[np.int64], str]:
    """Return flattened pixels (n, d), digits (n,) and the name of the set."""
    folder = os.environ.get("HUNCH_MNIST")
    if folder:
        pixels, digits = read_mnist(folder)
        name = "MNIST"
    else:
        bunch = load_digits()
        pixels, digits = bunch.images, bunch.target
        name = "scikit-learn digits, 8x8"
    return 16.0 / pixels.max() * pixels.reshape(len(pixels), -1), digits.astype(np.int64), name


def drawn(by_digit: dict[int, Floats], part: float, rng: np.random.Generator) -> tuple[Floats, Floats, Floats, Floats]:
    """Return background to train on, the prior with this part of 7, background to test on, and all anomalies."""
    shuffled = {digit: rng.permutation(by_digit[digit]) for digit in (BACKGROUND, PROXY, DILUENT)}
    n_train = round(TRAIN_PART * len(shuffled[BACKGROUND]))
    n_prior = round(PRIOR_PART * min(len(shuffled[PROXY]), len(shuffled[DILUENT])))
    n_proxy = round(part * n_prior)
    prior = np.concatenate([shuffled[PROXY][:n_proxy], shuffled[DILUENT][: n_prior - n_proxy]])
    return shuffled[BACKGROUND][:n_train], prior, shuffled[BACKGROUND][n_train:], by_digit[ANOMALY]


def noisy(x: Floats, rng: np.random.Generator) -> Floats:
    """Return rows (n, d) with noise added, in several copies where they are few."""
    copies = max(8, -(-AT_LEAST // len(x))) if len(x) < FEW else 1
    return np.concatenate([x + rng.normal(0, NOISE, x.shape) for _ in range(copies)])


def reduced(images: Sequence[Floats], train: Floats, seed: int) -> list[Floats]:
    """Return images (n, pixels) as columns of the PCA of the training ones, or as they are where pixels are few."""
    if train.shape[1] <= COLUMNS:
        return list(images)
    pca = PCA(COLUMNS, random_state=seed).fit(train)
    return [np.asarray(pca.transform(of)) for of in images]


def scored(by_digit: dict[int, Floats], part: float, seed: int) -> tuple[dict[str, Floats], npt.NDArray[np.int64]]:
    """Return the scores (n,) of every method for one split, and 1 for 9."""
    rng = np.random.default_rng(seed)
    background, prior, test_background, anomaly = drawn(by_digit, part, rng)
    train = np.concatenate([background, prior])
    tested = np.concatenate([test_background, anomaly])
    # a PCA is a rotation: noise in its columns is noise in the pixels
    b, p, x = reduced((background, prior, tested), train, seed)
    b_noisy, p_noisy = noisy(b, rng), noisy(p, rng)
    quak = Quak(seed=seed, device="cpu", max_epochs=EPOCHS, **KINDS["QUAK of VAEs"])
    quak.fit(b_noisy, priors={"prior": p_noisy})
    apart: Quak | None = None
    if 0 < part < 1:  # the mixture known for what it is: 7 and 0 as two priors
        n_proxy = round(part * len(prior))
        two = {"7": noisy(p[:n_proxy], rng), "0": noisy(p[n_proxy:], rng)}
        apart = Quak(seed=seed, device="cpu", max_epochs=EPOCHS, **KINDS["QUAK of VAEs"]).fit(b_noisy, priors=two)
    vae = Vae(seed=seed, device="cpu", max_epochs=EPOCHS).fit(np.concatenate([b_noisy, p_noisy]))
    scores = {
        "background loss": quak.score(x, metric="background"),
        "QUAK": quak.score(x),
        "pixels, linear head": head_scores(b, p, x, head="linear"),
    }
    if apart is not None:
        scores["QUAK, 7 and 0 as two priors"] = apart.score(x)
    spaces = {
        "losses": [quak.losses(of) for of in (b, p, x)],
        "latent": [latent_means(vae, of) for of in (b, p, x)],
    }
    for head in HEADS:
        scores |= {f"{space}, {head} head": head_scores(*parts, head=head) for space, parts in spaces.items()}
    return scores, np.repeat([0, 1], [len(test_background), len(anomaly)])


def aucs(by_digit: dict[int, Floats], part: float, seed: int) -> dict[str, float]:
    """Return the AUC of 9 against 5 of every method for one split."""
    scores, label = scored(by_digit, part, seed)
    return {method: evaluate(score, label).auc for method, score in scores.items()}


def run() -> dict[str, Any]:
    """Repeat for every dilution; returns mean AUC and spread over splits, and the paired differences of the spaces."""
    pixels, digits, name = images()
    by_digit = {digit: pixels[digits == digit] for digit in (BACKGROUND, ANOMALY, PROXY, DILUENT)}
    rows: list[dict[str, Any]] = []
    differences: list[dict[str, Any]] = []
    for part in PARTS:
        found = [aucs(by_digit, part, seed) for seed in range(SPLITS)]
        values = {method: np.array([of[method] for of in found]) for method in found[0]}
        rows += [told({"part_of_7": part, "method": method, **spread(auc)}) for method, auc in values.items()]
        pairs = {f"losses - latent, {head} head": (f"losses, {head} head", f"latent, {head} head") for head in HEADS}
        pairs |= {"QUAK - background loss": ("QUAK", "background loss")}
        differences += [
            told({"part_of_7": part, "difference": what, **spread(values[one] - values[other])})
            for what, (one, other) in pairs.items()
        ]
    train, prior, test, anomaly = drawn(by_digit, 1.0, np.random.default_rng(0))
    return {
        "command": "make study ONLY=digits",
        "images": name,
        "splits": SPLITS,
        "training_background": len(train),
        "training_prior": len(prior),
        "tested_background": len(test),
        "tested_anomaly": len(anomaly),
        "noise": NOISE,
        "rows": rows,
        "differences": differences,
    }


def spread(values: Floats) -> dict[str, float]:
    """Return mean and standard deviation over splits."""
    return {"auc": round(float(values.mean()), 4), "spread": round(float(values.std(ddof=min(1, len(values) - 1))), 4)}
