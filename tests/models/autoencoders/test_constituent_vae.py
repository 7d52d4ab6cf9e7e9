"""The VAE of constituents: its loss and scores against the formulas, its scaling, and outlier exposure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hunch.models import ConstituentVae, ScorerError, load_scorer
from hunch.models.autoencoders.constituent_vae import energy_movers_distances
from hunch.models.autoencoders.set_autoencoder import SetSizes, StackedSetVae
from hunch.models.autoencoders.set_scaling import jet_masses, polar, robust_scaling
from hunch.models.distance.clouds import EmptyImageError, NegativePixelError
from hunch.models.inputs import NonFiniteError, ShapeError
from hunch.models.matching import matched_rows
from hunch.models.train.exposure import Exposed, Parts, annealed
from hunch.models.train.objective import Objective

OPTIONS: dict[str, Any] = {"max_epochs": 3, "latent": 3, "batch_size": 64, "device": "cpu"}


def jets(n: int, seed: int = 0, *, prongs: int = 1, wide: float = 0.2) -> np.ndarray:
    """Jets (n, 20, 4) along x of massless constituents around one or two prongs, of different numbers, hardest first."""
    rng = np.random.default_rng(seed)
    pt = np.sort(rng.exponential(30.0, size=(n, 20)), axis=1)[:, ::-1].copy()
    pt[np.arange(20) >= rng.integers(8, 21, size=n)[:, None]] = 0
    side = np.where(np.arange(20) % 2 == 0, 1.0, -1.0) * (prongs - 1) * rng.uniform(0.1, 0.5, size=(n, 1))
    eta, phi = rng.normal(0, wide / 4, (n, 20)), side + rng.normal(0, wide / 4, (n, 20))
    return np.stack([pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], axis=-1)


@pytest.fixture(scope="module")
def plain() -> ConstituentVae:
    return ConstituentVae(**OPTIONS).fit(jets(300))


def test_the_loss_is_the_mean_over_eighty_numbers_and_beta_times_the_mean_over_latents() -> None:
    network = StackedSetVae(1, SetSizes(20, 4, latent=10), seed=0, beta=0.1)
    x = torch.randn(1, 7, 80)
    parts = network.parts(x, generator=torch.Generator().manual_seed(1))
    mu, log_sigma = network.encode(x)
    draw = torch.randn(mu.shape, generator=torch.Generator().manual_seed(1))
    made = network.decode(mu + torch.exp(log_sigma) * draw)
    of_each = ((made - x).view(1, 7, 20, 4) ** 2).sum(dim=(2, 3)) / (4 * 20)
    kl = torch.distributions.kl_divergence(
        torch.distributions.Normal(mu, log_sigma.exp()), torch.distributions.Normal(0.0, 1.0)
    )
    torch.testing.assert_close(parts.error, of_each)
    torch.testing.assert_close(network.loss_of(parts, progress=1.0), of_each + 0.1 * kl.mean(dim=-1))


def test_an_lstm_follows_its_equations() -> None:
    network = StackedSetVae(2, SetSizes(6, 4, latent=3, architecture="lstm"), seed=0)
    with torch.no_grad():
        network.biases[0].normal_(generator=torch.Generator().manual_seed(1))
    weight, bias = network.weights[0][1].detach(), network.biases[0][1, 0].detach()
    x = torch.randn(2, 5, 6, 4, generator=torch.Generator().manual_seed(2))
    state, cell, states = torch.zeros(5, 50), torch.zeros(5, 50), []
    for slot in range(6):
        enter, forget, new, leave = (torch.cat([x[1, :, slot], state], dim=1) @ weight + bias).split(50, dim=1)
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(new)
        state = torch.sigmoid(leave) * torch.tanh(cell)
        states.append(state)
    torch.testing.assert_close(network._lstm(x, 0)[1], torch.stack(states, dim=1), atol=1e-6, rtol=1e-5)


def test_members_of_a_stack_do_not_meet() -> None:
    network = StackedSetVae(2, SetSizes(20, 4, latent=3), seed=0)
    x = torch.randn(2, 5, 80)
    both, _ = network.encode(x)
    x[1] = 0
    torch.testing.assert_close(network.encode(x)[0][0], both[0])


def test_scores_are_those_of_the_formulas(plain: ConstituentVae) -> None:
    x = jets(20, seed=5)
    scores = plain.score_each(x, plain.metrics)
    assert plain.scaling_ is not None
    scaled = plain.scaling_.scaled(x)
    made = plain.scaling_.scaled(plain.reconstruct(x))
    np.testing.assert_allclose(scores["mss"], (scaled**2).mean(axis=(1, 2)))
    np.testing.assert_allclose(scores["loss"], scores["mse"] + 0.1 * scores["kl"])
    # slots of energy below zero count as empty when scaled again: those that are left agree
    whole = (plain.reconstruct(x)[..., 0] > 0).all(axis=1)
    np.testing.assert_allclose(scores["mse"][whole], ((made - scaled) ** 2).mean(axis=(1, 2))[whole])
    assert (scores["emd"] > 0).all()
    np.testing.assert_array_equal(plain.score(x), scores["loss"])


def turned(x: np.ndarray, angle: float) -> np.ndarray:
    """Turn jets (n, slots, 4) about the beam."""
    made = x.copy()
    made[..., 1] = np.cos(angle) * x[..., 1] - np.sin(angle) * x[..., 2]
    made[..., 2] = np.sin(angle) * x[..., 1] + np.cos(angle) * x[..., 2]
    return made


def test_the_energy_movers_distance_is_of_what_a_jet_holds() -> None:
    x, other = jets(30, seed=5).astype(np.float64), jets(30, seed=6).astype(np.float64)
    x[:, 7:] = 0.0  # jets of few constituents
    filled = x.copy()
    filled[:, 7:] = other[:, 7:]
    np.testing.assert_allclose(energy_movers_distances(x, filled), 0.0, atol=1e-9)
    far = energy_movers_distances(x, other)
    assert (far > 0.01).all()
    # the azimuth has no end: jets that point to pi are as far from each other as any
    for angle in (1.0, np.pi):
        np.testing.assert_allclose(energy_movers_distances(turned(x, angle), turned(other, angle)), far, rtol=1e-6)
    # what has an energy below zero is nothing, though it has a momentum
    negative = other.copy()
    negative[:, 3, 0] *= -1
    without = other.copy()
    without[:, 3] = 0.0
    np.testing.assert_allclose(energy_movers_distances(x, negative), energy_movers_distances(x, without))


def test_the_baseline_needs_no_training_and_scaling_knows_empty_slots() -> None:
    x = jets(400)
    x[:, 15:] = 0
    x[:3, 15] = jets(3, seed=9)[:, 0]  # three jets alone fill slot 15
    scaling = robust_scaling(x)
    assert np.isfinite(scaling.spread).all()
    assert (scaling.spread > 1e-3 * scaling.spread[0]).all()
    scaled = scaling.scaled(x)
    assert (scaled[:, 16:] == 0).all()
    there = x[:, 0, 0]
    np.testing.assert_allclose(scaling.centre[0, 0], np.median(there))
    np.testing.assert_allclose(scaling.spread[0, 0], np.subtract(*np.quantile(there, [0.75, 0.25])))
    one = np.zeros((1, 20, 4))
    one[0, 0] = [50, 50, 0, 0]
    assert np.isfinite(scaling.scaled(one)).all()


def test_polar_coordinates_and_masses() -> None:
    x = jets(50, prongs=2)
    relative = polar(x)
    np.testing.assert_allclose(jet_masses(relative), jet_masses(x), rtol=1e-7, atol=1e-5)
    two = np.zeros((1, 2, 4))
    two[0] = [[50, 40, 30, 0], [50, 40, -30, 0]]
    assert jet_masses(two)[0] == pytest.approx(60.0)
    assert polar(two)[0, :, 2] == pytest.approx([np.arctan2(30, 40), -np.arctan2(30, 40)])


def test_exposure_follows_its_formulas() -> None:
    class Given(torch.nn.Module):
        """A module whose parts are its rows: the error first, then the KL of three dimensions."""

        def parts(self, x: torch.Tensor, *, generator: torch.Generator) -> Parts:
            del generator
            return Parts(x[..., 0], x[..., 1:])

        def loss_of(self, parts: Parts, *, progress: float) -> torch.Tensor:
            return parts.error + 0 * progress

    own, other = torch.rand(2, 5, 4), 3 * torch.rand(5, 4)
    batch, generator = {"x": own, "exposure": other}, torch.Generator()
    mse = Exposed(Objective(Given()), kind="mse", strength=2.0).losses(batch, generator=generator, progress=1.0)
    torch.testing.assert_close(mse, own[..., 0] - 2 * torch.sigmoid(other[:, 0] - own[..., 0]))
    kl = Exposed(Objective(Given()), kind="kl", strength=2.0, margin=1.0).losses(
        batch, generator=generator, progress=1.0
    )
    paid = torch.clamp(other[:, 1:] - own[..., 1:] - 1.0, max=0).mean(dim=-1)
    torch.testing.assert_close(kl, own[..., 0] - 2 * paid)
    # nothing more is won by an exposed event that is anomalous enough
    far = Exposed(Objective(Given()), kind="kl").losses(
        {"x": own, "exposure": other + 10}, generator=generator, progress=1.0
    )
    torch.testing.assert_close(far, own[..., 0])


def test_lambda_is_annealed_in_cycles() -> None:
    curve = [annealed(p) for p in np.linspace(0, 1, 101)]
    assert curve[:20] == [0.0] * 20
    assert curve[25] == pytest.approx(0.5)
    assert curve[35] == pytest.approx(1.0)
    assert curve[41] == pytest.approx(0.1)
    assert curve[65] == pytest.approx(0.5)
    assert curve[70:] == [1.0] * 31


def test_without_strength_an_exposed_training_is_the_plain_one_bit_for_bit(plain: ConstituentVae) -> None:
    exposed = ConstituentVae(**OPTIONS, exposure="kl", exposure_strength=0.0, patience=3).fit(
        jets(300), exposure=jets(200, seed=3)
    )
    x = jets(50, seed=4)
    np.testing.assert_array_equal(exposed.score(x), plain.score(x))


@pytest.mark.parametrize(("kind", "metric"), [("kl", "kl"), ("mse", "mse")])
def test_an_exposed_scorer_finds_what_it_was_exposed_to(kind: str, metric: str, tmp_path: Path) -> None:
    """The score that exposure works on tells two prongs from one better than without it; and it is saved with the scorer."""
    options = OPTIONS | {"max_epochs": 12}
    background, signal = jets(400), jets(300, seed=1, prongs=2)
    tested = jets(200, seed=2), jets(200, seed=3, prongs=2)
    auc = []
    for exposure in ("none", kind):
        scorer = ConstituentVae(**options, exposure=exposure, exposure_match="none").fit(
            background, exposure=None if exposure == "none" else signal
        )
        own, other = (scorer.score(x, metric=metric) for x in tested)
        auc.append((other[:, None] > own).mean())
    assert auc[1] > max(auc[0], 0.8)
    scorer.save(tmp_path / "scorer")
    again = load_scorer(tmp_path / "scorer")
    np.testing.assert_array_equal(again.score(tested[0], metric=metric), own)
    assert "exposure='" + kind in repr(again)


def test_samples_of_the_prior_have_the_shape_and_scale_of_jets(plain: ConstituentVae) -> None:
    made = plain.sample(100, seed=1)
    assert made.shape == (100, 20, 4)
    assert np.median(made[:, 0, 0]) == pytest.approx(np.median(jets(300)[:, 0, 0]), rel=0.5)
    np.testing.assert_array_equal(made, plain.sample(100, seed=1))


def test_a_sample_is_resampled_to_another_spectrum() -> None:
    rng = np.random.default_rng(0)
    own, wanted = rng.uniform(20, 200, 5000), 30 + rng.exponential(40, 5000)
    rows = matched_rows(own, wanted, seed=1, of="exposure", column="jet mass")
    assert len(rows) == 5000
    for q in (0.25, 0.5, 0.75):
        assert np.quantile(own[rows], q) == pytest.approx(np.quantile(wanted, q), rel=0.1)
    with pytest.raises(ScorerError, match=r"exposure: resampled to the jet mass.*20 % are needed.*over a range"):
        matched_rows(rng.normal(80, 1, 5000), wanted, seed=1, of="exposure", column="jet mass")


@pytest.mark.parametrize(
    ("options", "given", "error", "words"),
    [
        ({"exposure": "kll"}, {}, ScorerError, "no exposure 'kll'|exposure.*kll"),
        ({"exposure": "kl"}, {}, ScorerError, "needs a sample to be exposed to"),
        ({}, {"exposure": jets(200)}, ScorerError, "the option exposure is 'none'"),
        ({"exposure": "kl"}, {"exposure": jets(200)[:, :10]}, ShapeError, "exposure.*10"),
        ({"exposure": "kl"}, {"exposure": jets(20)}, ScorerError, "exposure: has 20 events"),
        ({"exposure": "kl", "exposure_margin": -1.0}, {"exposure": jets(200)}, ScorerError, "exposure_margin is -1"),
        ({"architecture": "lstn"}, {}, ScorerError, "lstm"),
        ({"latent": 0}, {}, ScorerError, "latent is 0"),
        ({"exposure_match": "mass"}, {}, ScorerError, "jet_mass"),
    ],
)
def test_wrong_options_are_said(
    options: dict[str, Any], given: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        ConstituentVae(**{**OPTIONS, **options}).fit(jets(150), **given)


def test_wrong_jets_are_said(plain: ConstituentVae) -> None:
    empty, bad, below = (jets(150) for _ in range(3))
    empty[7] = 0
    bad[3, 0, 1] = np.nan
    below[2, 0, 0] = -1
    for x, error, words in (
        (empty, EmptyImageError, "1 of 150 jets have no constituents, first 7"),
        (bad, NonFiniteError, "first 3"),
        (below, NegativePixelError, "first 2"),
        (jets(150)[..., :2], ShapeError, "pT, eta, phi or E, px, py, pz"),
    ):
        with pytest.raises(error, match=words):
            plain.score(x)
        with pytest.raises(error, match=words):
            ConstituentVae(**OPTIONS).fit(x)
