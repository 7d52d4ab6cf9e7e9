"""Loss space and latent space: what the encoder gives, and a head with a known answer."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.spaces import head_scores, latent_means
from hunch.analysis import evaluate
from hunch.models import Vae


def test_latent_means_separate_what_the_features_separate(rng: np.random.Generator) -> None:
    far = np.array([5.0, 0.0, 0.0])
    x = np.concatenate([rng.normal(size=(300, 3)), far + rng.normal(size=(300, 3))])
    vae = Vae(seed=1, device="cpu", max_epochs=5).fit(x)
    z = latent_means(vae, x)
    assert z.shape == (600, 3)
    np.testing.assert_allclose(z[:10], latent_means(vae, x[:10]), rtol=1e-9)
    score = head_scores(z[:300], z[300:], z, head="linear")
    assert evaluate(score, np.repeat([0, 1], 300)).auc > 0.95


@pytest.mark.parametrize(("head", "expected"), [("linear", 0.5), ("quadratic", 0.95)])
def test_only_the_quadratic_head_sees_a_shell(head: str, expected: float, rng: np.random.Generator) -> None:
    inner = 0.3 * rng.normal(size=(1000, 2))
    angle = rng.uniform(0, 2 * np.pi, size=1000)
    outer = 2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    score = head_scores(inner[:500], outer[:500], np.concatenate([inner[500:], outer[500:]]), head=head)
    auc = evaluate(score, np.repeat([0, 1], 500)).auc
    assert auc == pytest.approx(expected, abs=0.07)
