"""The study of fixed-point arithmetic: numbers that fit stay, others are rounded and saturate, and many bits score as floating point does."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from benchmarks import study_fixed_point as study
from hunch.models import NAE
from hunch.models.energy.coordinates import fit_coordinates
from hunch.models.energy.networks import SphereAutoencoder


def blobs(kind: str, n: int, seed: int) -> np.ndarray:
    """Images (n, 8, 8) of light in one corner, or in two of them."""
    x = 0.02 * np.random.default_rng([seed, len(kind)]).exponential(size=(n, 8, 8))
    x[:, :3, :3] += 1.0
    x[:, 5:, 5:] += kind == "top"
    return np.asarray(x / x.sum(axis=(1, 2), keepdims=True))


def drawn(architecture: str) -> tuple[NAE, np.ndarray]:
    """Return a scorer of drawn weights, and images."""
    x = blobs("qcd", 60, 0)
    nae = NAE(architecture=architecture, normalise=True, hidden=12, channels=2, lipschitz=1.5)
    nae.coordinates_ = fit_coordinates("images", x, seed=0)
    network = SphereAutoencoder(1, nae._sizes((8, 8)), seed=1, lipschitz=nae.lipschitz).double()
    nae.network_ = network.requires_grad_(requires_grad=False)
    return nae, x


def test_numbers_are_rounded_and_saturate() -> None:
    x = torch.tensor([0.0, 0.2, -0.2, 0.124, 0.126, 0.9, -0.9, 5.0, -5.0], dtype=torch.float64)
    found = study.rounded(x, 4, 0.6)  # steps of an eighth, up to seven of them
    assert found.tolist() == [0.0, 0.25, -0.25, 0.125, 0.125, 0.875, -0.875, 0.875, -0.875]
    assert study.rounded(x, 4, 3.0).tolist() == [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, -1.0, 3.5, -3.5]
    assert study.rounded(torch.zeros(3), 8, 0.0).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("architecture", ["dense", "conv"])
def test_many_bits_score_as_floating_point_and_few_do_not(architecture: str) -> None:
    nae, x = drawn(architecture)
    exact = nae.score(x)
    assert nae.coordinates_ is not None
    given = nae.coordinates_.of(x)[0]
    fixed = study.FixedPoint.of(nae)
    np.testing.assert_allclose(fixed.scores(given), exact, rtol=1e-12)
    layers = 6 if architecture == "dense" else 14
    assert set(fixed.tops) == {*(f"layer {i}" for i in range(layers)), "output", "difference", "sum"}
    for parts in study.PARTS.values():
        off = [np.abs(fixed.scores(given, bits=bits, parts=parts) / exact - 1).max() for bits in (6, 12, 32)]
        assert off[0] > 10 * off[1] > 100 * off[2]
        assert off[2] < 1e-5
    # more light than any jet of the training has: activations and the sum are at their ends
    bright = fixed.scores(100 * given, bits=12, parts=study.PARTS["both, and the error"])
    assert bright.max() <= 2 * exact.max()
    assert fixed.scores(100 * given, bits=12, parts=study.PARTS["weights"]).min() > 10 * exact.max()


def test_the_difference_of_two_aucs_has_the_error_of_the_same_jets(rng: np.random.Generator) -> None:
    label = np.repeat([0, 1], [300, 200])
    first = rng.normal(size=500) + label
    assert study.auc_difference(first, first, label) == (0.0, 0.0)
    assert study.auc_difference(np.ones(500), np.zeros(500), label) == (0.0, 0.0)
    second = first + 0.3 * rng.normal(size=500)
    found, error = study.auc_difference(first, second, label)

    def auc(score: np.ndarray) -> float:
        pairs = score[label == 1][:, None] - score[label == 0]
        return float((pairs > 0).mean() + 0.5 * (pairs == 0).mean())

    assert found == pytest.approx(auc(first) - auc(second))
    drawn_again = []
    for _ in range(300):
        rows = np.concatenate([rng.integers(0, 300, 300), 300 + rng.integers(0, 200, 200)])
        drawn_again.append(study.auc_difference(first[rows], second[rows], label)[0])
    assert error == pytest.approx(np.std(drawn_again), rel=0.2)


def test_both_directions_are_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool]] = []

    def images(kind: str, *, tested: bool) -> np.ndarray:
        asked.append((kind, tested))
        return blobs(kind, 100, int(tested))

    def trained(background: str) -> tuple[NAE, np.ndarray]:
        quick = dict.fromkeys(("max_epochs", "nae_epochs", "latent_steps", "input_steps"), 1)
        x = images(background, tested=False)
        return NAE(normalise=True, hidden=4, lipschitz=1.5, batch_size=50, replay=50, device="cpu", **quick).fit(x), x

    monkeypatch.setattr(study, "images", images)
    monkeypatch.setattr(study, "trained", trained)
    monkeypatch.setattr(study, "BITS", (16,))
    rows = json.loads(json.dumps(study.run()))["rows"]
    assert [row["rounded"] for row in rows] == 2 * ["nothing", *study.PARTS]
    assert [row["trained on"] for row in rows] == 5 * ["qcd"] + 5 * ["top"]
    assert all(abs(float(row["minus float"])) < 0.01 for row in rows)
    assert float(rows[0]["AUC"]) > 0.99
    assert asked == [("qcd", False), ("qcd", True), ("top", True), ("top", False), ("top", True), ("qcd", True)]
