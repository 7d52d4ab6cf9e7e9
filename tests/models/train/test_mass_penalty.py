"""Scorers that pay for the dependence of their losses on the mass: how much is left of it, at what cost, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from hunch.models import Flow, Quak, Sample, Vae, load_scorer
from hunch.models.inputs import ScorerError
from hunch.models.train.disco import distance_correlation
from hunch.models.train.mass_penalty import MassPenalty, MassSample
from hunch.models.train.objective import Objective

Array = np.ndarray[Any, Any]
SHORT: dict[str, Any] = {"max_epochs": 2, "device": "cpu", "hidden": 8}


def background(n: int, seed: int) -> tuple[Array, Array]:
    """Return (n, 3) features, the first of which follows the mass, and masses (n,) in GeV that fall exponentially."""
    rng = np.random.default_rng(seed)
    mass = 1.5 + rng.exponential(0.8, n)
    x = np.stack([mass - 2.5 + rng.normal(0, 0.4, n), rng.normal(size=n), rng.normal(size=n)], axis=1)
    return x, 1000 * mass


def signal(n: int, seed: int, centre: tuple[float, float]) -> Array:
    """Return (n, 3) features of a resonance at 3 TeV whose other two features are rare in background."""
    rng = np.random.default_rng(seed)
    mass = rng.normal(3.0, 0.1, n)
    return np.stack([mass - 2.5 + rng.normal(0, 0.4, n), *(rng.normal(c, 0.6, n) for c in centre)], axis=1)


def judged(scorer: Any, metric: str | None = None) -> tuple[float, float]:
    """Return dCorr^2 of fresh background's score with the mass, and the AUC of fresh signal."""
    (x, mass), s = background(3000, 2), signal(1000, 3, (2.2, -2.0))
    score = scorer.score(x, metric=metric)
    depends = distance_correlation(torch.from_numpy(score), torch.from_numpy(mass), unbiased=True)
    truth = np.arange(len(x) + len(s)) >= len(x)
    return float(depends), float(roc_auc_score(truth, np.concatenate([score, scorer.score(s, metric=metric)])))


@pytest.mark.parametrize("scorer", [Flow, Vae])
def test_the_score_no_longer_follows_the_mass(scorer: Any) -> None:
    x, mass = background(4000, 1)
    options: dict[str, Any] = {"max_epochs": 10, "patience": 10, "device": "cpu", "hidden": 32, "batch_size": 300}
    bare, bare_auc = judged(scorer(**options).fit(x))
    paid, paid_auc = judged(scorer(decorrelation=20.0, **options).fit(x, mass=mass))
    print(f"{scorer.__name__}: dCorr^2 {bare:.3f} to {paid:.4f}, AUC {bare_auc:.3f} to {paid_auc:.3f}")  # noqa: T201
    assert bare > 0.1
    assert paid < bare / 5
    assert paid_auc > bare_auc - 0.03


@pytest.fixture(scope="module")
def quaks() -> tuple[Quak, Quak]:
    x, mass = background(4000, 1)
    priors = {"a": signal(1000, 4, (2.2, -2.0)), "b": signal(1000, 5, (2.0, 2.0))}
    options: dict[str, Any] = {"max_epochs": 8, "patience": 8, "device": "cpu", "batch_size": 300, "steps": 2}
    bare = Quak(**options).fit(x, priors=priors)
    return bare, Quak(decorrelation=20.0, **options).fit(Sample(x, observable=mass), priors=priors)


@pytest.mark.parametrize("metric", ["anomaly", "difference", "background", "family"])
def test_no_axis_of_quak_follows_the_mass(metric: str, quaks: tuple[Quak, Quak]) -> None:
    (bare, bare_auc), (paid, paid_auc) = (judged(q, metric) for q in quaks)
    print(f"quak, {metric}: dCorr^2 {bare:.3f} to {paid:.4f}, AUC {bare_auc:.3f} to {paid_auc:.3f}")  # noqa: T201
    assert bare > 0.03
    assert paid < bare / 3
    assert paid_auc > bare_auc - 0.03


def fitted(scorer: Any, x: Array, mass: Array, **given: Any) -> Any:
    """Fit a scorer on rows with their masses, as `Quak` and the single densities take them."""
    if isinstance(scorer, Quak):
        return scorer.fit(Sample(x, observable=mass), **given)
    return scorer.fit(x, mass=mass, **given)


def tensors_of(scorer: Any) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = scorer.density_.tensors()
    return found


def same(first: Any, second: Any) -> bool:
    a, b = tensors_of(first), tensors_of(second)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("scorer", [Flow, Vae, Quak])
def test_off_it_changes_nothing_and_on_it_is_deterministic(scorer: Any) -> None:
    x, mass = background(400, 6)
    plain = scorer(**SHORT).fit(x)
    assert same(plain, fitted(scorer(decorrelation=0.0, **SHORT), x, mass))
    first, second = (fitted(scorer(decorrelation=5.0, **SHORT), x, mass) for _ in range(2))
    assert same(first, second)
    assert not same(first, plain)
    # a scale is no knowledge, an order is
    assert not same(first, fitted(scorer(decorrelation=5.0, **SHORT), x, mass[::-1]))
    scaled = fitted(scorer(decorrelation=5.0, **SHORT), x, mass / 1000)
    np.testing.assert_allclose(scaled.score(x[:20]), first.score(x[:20]), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("scorer", [Flow, Vae, Quak])
def test_it_is_saved(scorer: Any, tmp_path: Path) -> None:
    x, mass = background(300, 6)
    paid = fitted(scorer(decorrelation=2.5, **SHORT), x, mass)
    paid.save(tmp_path / "scorer")
    assert json.loads((tmp_path / "scorer" / "scorer.json").read_text())["parameters"]["decorrelation"] == 2.5
    again = load_scorer(tmp_path / "scorer")
    np.testing.assert_array_equal(again.score(x), paid.score(x))
    assert again.decorrelation == 2.5  # type: ignore[attr-defined]


def test_masses_that_cannot_be_are_refused() -> None:
    x, mass = background(200, 7)
    bad = mass.copy()
    bad[17] = np.nan
    held = {"mass": mass, "validation": x[:50]}
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, r"decorrelation needs mass: the mass of each of the 200 rows"),
        ({"mass": mass[:-1]}, r"mass has shape \(199,\).* 200 rows"),
        ({"mass": mass[:, None]}, r"shape \(200, 1\)"),
        ({"mass": bad}, "nan in row 17"),
        ({"mass": np.full(200, 3.0)}, "nothing to be independent of"),
        (held, "needs validation_mass"),
        ({**held, "validation_mass": mass[:49]}, r"validation_mass has shape \(49,\)"),
    ]
    for given, message in cases:
        with pytest.raises(ScorerError, match=message):
            Flow(decorrelation=1.0, **SHORT).fit(x, **given)
    good = Sample(x, observable=mass)
    samples: list[tuple[Any, dict[str, Any], str]] = [
        (x, {}, r"decorrelation needs mass: the mass of each of the 200 rows of the background"),
        (Sample(x, observable=bad), {}, "nan in row 17"),
        (good, {"validation": x[:50]}, "needs validation_mass"),
    ]
    for sample, given, message in samples:
        with pytest.raises(ScorerError, match=message):
            Quak(decorrelation=1.0, **SHORT).fit(sample, **given)
    for strength in (-1.0, np.inf, np.nan):
        with pytest.raises(ScorerError, match="allowed: 0"):
            Quak(decorrelation=strength, **SHORT).fit(good)


def test_validation_rows_come_with_their_masses() -> None:
    x, mass = background(400, 8)
    held, held_mass = background(100, 9)
    fitted = Flow(decorrelation=5.0, **SHORT).fit(x, mass=mass, validation=held, validation_mass=held_mass)
    other = Flow(decorrelation=5.0, **SHORT).fit(x, mass=mass, validation=held, validation_mass=held_mass[::-1])
    assert fitted.training_["validation_rows"] == [100]
    assert fitted.training_["validation_loss"] != other.training_["validation_loss"]


@pytest.mark.slow
def test_a_family_narrowed_by_other_data_pays_as_well(quaks: tuple[Quak, Quak]) -> None:
    x, mass = background(1500, 10)
    reference = background(1500, 11)[0]
    priors = {"a": signal(1000, 4, (2.2, -2.0)), "b": signal(1000, 5, (2.0, 2.0))}
    data = Sample(x, observable=mass)
    with pytest.raises(ScorerError, match="decorrelation needs mass"):
        quaks[1].narrow(x, priors=priors, reference=reference)
    with pytest.raises(ScorerError, match="decorrelation needs reference"):
        quaks[1].narrow(data, priors=priors)
    narrowed = quaks[1].narrow(data, priors=priors, reference=reference)
    assert narrowed.decorrelation == quaks[1].decorrelation
    depends, auc = judged(narrowed, "family")
    assert depends < judged(quaks[0], "family")[0] / 3
    assert auc > 0.9


class Line(torch.nn.Module):
    """m densities whose loss of a row is one number times its first column."""

    def __init__(self, members: int) -> None:
        super().__init__()
        self.slope = torch.nn.Parameter(torch.arange(1.0, members + 1)[:, None, None])

    def losses(self, x: torch.Tensor, *, generator: torch.Generator, progress: float) -> torch.Tensor:
        return (self.slope * x)[..., 0]

    def terms(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return (self.slope * x)[..., 0], torch.zeros(x.shape[:2])


def test_every_member_pays_for_background_rows_in_its_own_coordinates(rng: np.random.Generator) -> None:
    rows, held = rng.normal(size=(50, 2)), rng.normal(size=(30, 2))
    sample = MassSample(4.0, (rows, held), (100 * rows[:, 0] ** 2 + 7, 100 * held[:, 0] ** 2 + 7))
    stream, held_stream = sample.stream()
    assert held_stream.shape == (30, 3)
    assert stream[:, 2].mean().item() == pytest.approx(0, abs=1e-5)
    # a background row keeps its mass
    expected = (100 * rows[:, 0] ** 2 + 7 - sample.mass[0].mean()) / sample.mass[0].std()
    np.testing.assert_allclose(stream[:, 2], expected, atol=1e-5)
    centre, whiten = np.array([[0.0, 0.0], [1.0, 0.0]]), np.stack([np.eye(2), np.array([[0.0, 1.0], [1.0, 0.0]])])
    objective = MassPenalty(Objective(Line(2)), strength=4.0, centre=centre, whiten=whiten)
    x, generator = torch.from_numpy(rng.normal(size=(2, 50, 2))).float(), torch.Generator()
    found = objective.losses({"x": x, "background": stream}, generator=generator, progress=1.0)
    own = objective.inner.losses({"x": x}, generator=generator, progress=1.0)
    # the second member sees the other column first, which knows nothing of the mass
    for member, column in ((0, 0), (1, 1)):
        pays = 4.0 * distance_correlation(stream[:, column], stream[:, 2])
        torch.testing.assert_close(found[member] - own[member], pays.expand(50), rtol=1e-3, atol=1e-4)
    objective.keep(torch.tensor([1]))
    assert objective.centre.tolist() == [[[1.0, 0.0]]]
    assert objective.state()["penalty.whiten"].shape == (1, 2, 2)
