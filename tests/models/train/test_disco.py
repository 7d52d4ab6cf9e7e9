"""Distance correlation against its definition, its gradient, and a training that it keeps independent of the mass."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from hunch.models.inputs import ScorerError
from hunch.models.train.disco import Decorrelated, distance_correlation
from hunch.models.train.loop import TrainingSettings, train_stack
from hunch.models.train.objective import Objective

Array = np.ndarray[Any, Any]


def by_definition(x: Array, y: Array, w: Array) -> float:
    """Return dCorr^2 of double loops over the events (arXiv:2007.14400, equations 2.3 to 2.7)."""
    p = w / w.sum()

    def covariance(s: Array, t: Array) -> float:
        a, b = np.abs(s[:, None] - s), np.abs(t[:, None] - t)
        first = sum(p[i] * p[j] * a[i, j] * b[i, j] for i in range(len(p)) for j in range(len(p)))
        third = sum(p[i] * (p @ a[i]) * (p @ b[i]) for i in range(len(p)))
        return float(first + (p @ a @ p) * (p @ b @ p) - 2 * third)

    return covariance(x, y) / np.sqrt(covariance(x, x) * covariance(y, y))


def over_distinct(x: Array, y: Array, w: Array) -> float:
    """Return the unbiased dCorr^2 by going through every four different events."""

    def covariance(s: Array, t: Array) -> float:
        a, b = np.abs(s[:, None] - s), np.abs(t[:, None] - t)
        sums, norms = np.zeros(3), np.zeros(3)
        for count, value in ((2, 0), (4, 1), (3, 2)):
            for some in permutations(range(len(w)), count):
                i, j = some[:2]
                weight = np.prod(w[list(some)])
                k, m = (i, j) if count == 2 else (some[2], some[3]) if count == 4 else (i, some[2])
                sums[value] += weight * a[i, j] * b[k, m]
                norms[value] += weight
        means = sums / norms
        return float(means[0] + means[1] - 2 * means[2])

    return covariance(x, y) / np.sqrt(covariance(x, x) * covariance(y, y))


def tensors(*arrays: Array) -> list[torch.Tensor]:
    return [torch.from_numpy(np.asarray(a)) for a in arrays]


@pytest.mark.parametrize("weighted", [False, True])
def test_against_the_definition(weighted: bool, rng: np.random.Generator) -> None:
    x = rng.normal(size=40).round(1)  # with ties
    y = x + 0.5 * rng.normal(size=40)
    w = rng.uniform(0, 2, 40) * (rng.uniform(size=40) > 0.2) if weighted else np.ones(40)
    given = tensors(x, y, w) if weighted else tensors(x, y)
    assert float(distance_correlation(*given)) == pytest.approx(by_definition(x, y, w), rel=1e-10)
    x, y, w = x[:7], y[:7], w[:7] + 0.1
    given = tensors(x, y, w) if weighted else tensors(x, y)
    assert float(distance_correlation(*given, unbiased=True)) == pytest.approx(over_distinct(x, y, w), rel=1e-8)


def test_weights_count_events(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=30), rng.normal(size=30)
    times = rng.integers(0, 4, 30)
    repeated = distance_correlation(*tensors(np.repeat(x, times), np.repeat(y, times)))
    torch.testing.assert_close(distance_correlation(*tensors(x, y, times.astype(float))), repeated)
    kept = times > 0
    torch.testing.assert_close(
        distance_correlation(*tensors(x, y, kept.astype(float)), unbiased=True),
        distance_correlation(*tensors(x[kept], y[kept]), unbiased=True),
    )


def test_one_for_a_line_and_no_scale(rng: np.random.Generator) -> None:
    x, y = tensors(rng.normal(size=60), rng.normal(size=60))
    for unbiased in (False, True):
        assert float(distance_correlation(x, 3 - 2 * x, unbiased=unbiased)) == pytest.approx(1)
        value = distance_correlation(x, y, unbiased=unbiased)
        torch.testing.assert_close(distance_correlation(x * 1000 + 3, -y, unbiased=unbiased), value)
        assert float(distance_correlation(x, torch.full_like(x, 2.0), unbiased=unbiased)) == 0


def test_unbiased_is_zero_for_independent_and_the_other_is_not(rng: np.random.Generator) -> None:
    x, y = tensors(rng.exponential(size=(500, 40)), rng.normal(size=(500, 40)))
    w = torch.from_numpy(rng.uniform(0.2, 2, (500, 40)))
    for weights in (None, w):
        unbiased = distance_correlation(x, y, weights, unbiased=True)
        assert abs(float(unbiased.mean())) < 4 * float(unbiased.std()) / 500**0.5
        assert float(distance_correlation(x, y, weights).mean()) > 0.03
        assert (unbiased < 0).any()
    depends = distance_correlation(y, y.square(), unbiased=True)
    assert float(depends.mean()) > 0.1


def test_single_precision_and_batches(rng: np.random.Generator) -> None:
    x, y = tensors(rng.normal(size=(3, 2, 300)), rng.normal(size=(3, 2, 300)) * 500 + 3000)
    for unbiased in (False, True):
        whole = distance_correlation(x, y, unbiased=unbiased)
        assert whole.shape == (3, 2)
        torch.testing.assert_close(whole[1, 1], distance_correlation(x[1, 1], y[1, 1], unbiased=unbiased))
        single = distance_correlation(x.float(), y.float(), unbiased=unbiased)
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), whole, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("unbiased", [False, True])
def test_gradient(unbiased: bool, rng: np.random.Generator) -> None:
    x, y = (t.requires_grad_() for t in tensors(rng.normal(size=(2, 9)), rng.normal(size=(2, 9))))
    w = torch.from_numpy(rng.uniform(0.1, 1, (2, 9))).requires_grad_()
    assert torch.autograd.gradcheck(lambda *a: distance_correlation(*a, unbiased=unbiased), (x, y, w))


def test_a_constant_score_has_a_finite_gradient() -> None:
    x = torch.zeros(20, requires_grad=True)
    distance_correlation(x, torch.arange(20.0)).backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_what_does_not_go_together_is_refused() -> None:
    for x, y in ((torch.zeros(5), torch.zeros(6)), (torch.zeros(1), torch.zeros(1)), (torch.tensor(1.0),) * 2):
        with pytest.raises((ScorerError, RuntimeError)):
            distance_correlation(x, y)
    with pytest.raises(ScorerError, match="4 or more"):
        distance_correlation(torch.arange(3.0), torch.arange(3.0), unbiased=True)
    with pytest.raises(ScorerError, match="ramp"):
        Decorrelated(Classifier(), strength=1.0, ramp=1.5)
    with pytest.raises(ScorerError, match="strength"):
        Decorrelated(Classifier(), strength=-1.0)


class Classifier(torch.nn.Module):
    """m = 1 networks of two features; the third column is the label."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = torch.nn.Parameter(torch.randn(1, 2, 24, generator=generator) * 0.7)
        self.bias = torch.nn.Parameter(torch.zeros(1, 1, 24))
        self.last = torch.nn.Parameter(torch.randn(1, 24, 1, generator=generator) * 0.2)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        return (torch.tanh(x[..., :2] @ self.first + self.bias) @ self.last)[..., 0]

    def losses(self, x: torch.Tensor, *, generator: torch.Generator, progress: float) -> torch.Tensor:
        return torch.nn.functional.binary_cross_entropy_with_logits(self.logits(x), x[..., 2], reduction="none")


class DiscoClassifier(Classifier):
    """The same, which pays for the dependence of the background's score on the mass, the last column."""

    def losses(self, x: torch.Tensor, *, generator: torch.Generator, progress: float) -> torch.Tensor:
        entropy = super().losses(x, generator=generator, progress=progress)
        strength = 10.0 * min(1.0, 2 * progress)
        return entropy + strength * distance_correlation(self.logits(x), x[..., 3], 1 - x[..., 2]).unsqueeze(-1)


def sculpting_sample(n: int, seed: int) -> Array:
    """Return (n, 4): a feature that follows the mass, one that does not, label, mass; signal at one mass, TeV."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 2
    mass = np.where(label == 1, rng.normal(3.0, 0.1, n), 1.5 + rng.exponential(0.8, n))
    along = mass - 2.5 + rng.normal(0, 0.25, n)
    apart = 1.8 * (label - 0.5) + rng.normal(size=n)
    return np.stack([along, apart, label, mass], axis=1).astype(np.float32)


def trained(model: Classifier, data: Array, objective: Objective | None = None) -> Classifier:
    settings = TrainingSettings(max_epochs=18, patience=18, batch_size=200, min_steps=20, learning_rate=2e-2)
    rows, held = (torch.from_numpy(part) for part in (data[1000:], data[:1000]))
    objective = objective or Objective(model)
    train_stack(objective, [rows], [held], settings=settings, seed=0, device=torch.device("cpu"))
    return model.eval()


@torch.no_grad()
def judged(model: Classifier, data: Array) -> tuple[float, float]:
    """Return dCorr^2 of the background's score with the mass, and the AUC."""
    test = torch.from_numpy(data)[None]
    score, background = model.logits(test)[0], test[0, :, 2] == 0
    dependence = distance_correlation(score[background], test[0, background, 3], unbiased=True)
    return float(dependence), float(roc_auc_score(~background, score))


def test_a_scorer_trained_with_the_penalty_does_not_follow_the_mass() -> None:
    train, test = sculpting_sample(5000, 1), sculpting_sample(3000, 3)
    bare, bare_auc = judged(trained(Classifier(), train), test)
    paid, paid_auc = judged(trained(DiscoClassifier(), train), test)
    assert bare > 0.05
    assert paid < bare / 5
    # what is lost is what the mass itself told: the other feature alone gives 0.90
    assert bare_auc > 0.92
    assert paid_auc > 0.87


def test_the_wrapped_stack_trains() -> None:
    """Here signal has the masses of the background, and its first feature is both useful and close to the mass."""
    train, test = sculpting_sample(5000, 5), sculpting_sample(3000, 6)
    for data in (train, test):
        noise = data[:, 0] - data[:, 3]
        data[:, 3] = data[::2, 3].repeat(2)
        data[:, 0] = data[:, 3] + noise + 0.6 * data[:, 2]
    bare, bare_auc = judged(trained(Classifier(), train), test)
    model = Classifier()
    paid, paid_auc = judged(
        trained(model, train, Decorrelated(Objective(model), strength=5.0, score=model.logits)), test
    )
    assert paid < bare / 3
    assert paid_auc > bare_auc - 0.05


class Density(torch.nn.Module):
    """m Gaussians of a line through two columns: its score is its loss."""

    def __init__(self, members: int = 2) -> None:
        super().__init__()
        self.mean = torch.nn.Parameter(torch.full((members, 1, 2), 0.5))

    def losses(self, x: torch.Tensor, *, generator: torch.Generator, progress: float) -> torch.Tensor:
        return (x - self.mean).square().sum(dim=-1)


def test_any_stack_pays_for_the_dependence_of_its_losses(rng: np.random.Generator) -> None:
    model, generator = Density(), torch.Generator()
    objective = Objective(model)
    x = torch.from_numpy(rng.normal(size=(2, 2500, 3)))
    plain = model.losses(x[..., :2], generator=generator, progress=0.0)
    off = Decorrelated(objective, strength=0.0).losses({"x": x}, generator=generator, progress=0.0)
    torch.testing.assert_close(off, plain)
    paid = Decorrelated(objective, strength=3.0).losses({"x": x}, generator=generator, progress=0.8)
    penalty = (paid - plain) / 3.0
    parts = torch.tensor_split(torch.arange(2500), 3)  # blocks of at most 1024 rows
    for rows in parts:
        expected = distance_correlation(plain[:, rows], x[:, rows, 2])
        torch.testing.assert_close(penalty[:, rows], expected[:, None].expand(2, len(rows)))
    ramped = Decorrelated(objective, strength=3.0, ramp=0.4).losses({"x": x}, generator=generator, progress=0.1)
    torch.testing.assert_close(ramped - plain, 0.25 * (paid - plain))
    scored = Decorrelated(objective, strength=3.0, score=lambda rows: rows[..., 0])
    first = (scored.losses({"x": x}, generator=generator, progress=1.0) - plain)[:, 0] / 3.0
    torch.testing.assert_close(first, distance_correlation(x[:, parts[0], 0], x[:, parts[0], 2]))
