"""What every method that makes events keeps to, and what its draws are draws of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hunch.models import (
    SCORERS,
    ConstituentVae,
    ConvVae,
    Flow,
    NotFittedError,
    Quak,
    Sample,
    ScorerError,
    ScorerSpace,
    ShapeError,
    Vae,
    load_scorer,
    principal_walk,
    scorer_fields,
    traversal,
)
from hunch.models.density.column_map import fit_column_map, map_columns, unmap_columns
from hunch.models.generated_table import generated_table
from hunch.models.generation import can_generate
from hunch.models.inputs import NonFiniteError
from hunch.models.scorer import method_class

OPTIONS: dict[str, Any] = {"max_epochs": 2, "hidden": 16, "batch_size": 64, "channels": 4, "latent": 3, "device": "cpu"}
OPTIONS |= {"nae_epochs": 1, "latent_steps": 1, "input_steps": 1, "replay": 64}


def rows(n: int, seed: int = 0) -> np.ndarray:
    """Correlated, skewed, whole numbers, between 0 and 1, and always the same."""
    rng = np.random.default_rng(seed)
    first = rng.normal(size=n)
    columns = [first, rng.exponential(50.0, n), rng.poisson(4.0, n), rng.beta(2, 1, n), np.full(n, 7.5)]
    columns[1] += 10 * np.abs(first)
    return np.stack(columns, axis=1)


def images(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    made = rng.exponential(size=(n, 8, 8)) ** 3
    return made / made.sum(axis=(1, 2), keepdims=True)


def sets(n: int, seed: int = 0) -> np.ndarray:
    """Massless four-vectors along x, the hardest first; the last of six slots is filled in half of the jets."""
    rng = np.random.default_rng(seed)
    pt = np.sort(rng.exponential(60.0, (n, 6)), axis=1)[:, ::-1] + 1
    pt[: n // 2, 5] = 0
    eta, phi = rng.normal(0, 0.2, (2, n, 6))
    return np.stack([pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], axis=-1)


def objects(n: int, seed: int = 0) -> np.ndarray:
    """pT, eta and phi of the same."""
    energy, px, py, pz = np.moveaxis(sets(n, seed), -1, 0)
    there = energy > 0
    pt = np.hypot(px, py)
    return np.where(
        there[..., None], np.stack([pt, np.arcsinh(pz / np.where(there, pt, 1)), np.arctan2(py, px)], -1), 0.0
    )


EVENTS = {"rows": rows, "images": images, "sets": sets}
ABLE = [name for name in SCORERS if can_generate(method_class(name))]


CASES = [(name, kind) for name in ABLE for kind in method_class(name).takes]


@pytest.fixture(scope="module", params=CASES, ids=[" ".join(case) for case in CASES])
def fitted(request: pytest.FixtureRequest) -> tuple[Any, np.ndarray]:
    name, kind = request.param
    cls, x = method_class(name), (objects if name == "EventVae" else EVENTS[kind])(150)
    own = {k: v for k, v in OPTIONS.items() if k in scorer_fields(cls)}
    return cls(**own, **cls.kind_options.get(kind, {})).fit(x), x


def test_every_model_of_a_density_can_and_no_distance() -> None:
    assert ABLE == ["ConstituentVae", "ConvVae", "EventVae", "Flow", "NAE", "Vae"]


def test_draws_are_events_like_the_trainings_and_the_same_by_seed(
    fitted: tuple[Any, np.ndarray], tmp_path: Path
) -> None:
    scorer, x = fitted
    made = scorer.sample(90, seed=3)
    assert made.dtype == np.float64
    assert made.shape == (90, *x.shape[1:])
    assert np.isfinite(made).all()
    np.testing.assert_array_equal(scorer.sample(90, seed=3), made)
    assert not np.array_equal(scorer.sample(90, seed=4), made)
    assert scorer.sample(1).shape == (1, *x.shape[1:])
    assert np.isfinite(scorer.score(made)).all()  # what is generated is a valid input
    scorer.save(tmp_path / "kept")
    np.testing.assert_array_equal(load_scorer(tmp_path / "kept").sample(90, seed=3), made)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("n", "words"),
    [(0, "n is 0, allowed: 1 or more"), (-3, "n is -3"), (2.0, "whole number"), (True, "whole number"), ("5", "whole")],
)
def test_numbers_that_are_none_are_refused(fitted: tuple[Any, np.ndarray], n: Any, words: str) -> None:
    with pytest.raises(ScorerError, match=words):
        fitted[0].sample(n)


def test_a_seed_below_zero_and_what_is_not_fitted_are_refused(fitted: tuple[Any, np.ndarray]) -> None:
    with pytest.raises(ScorerError, match="seed is -1, allowed: 0 or more"):
        fitted[0].sample(5, seed=-1)
    with pytest.raises(NotFittedError):
        type(fitted[0])().sample(5)


@pytest.mark.parametrize("cls", [Vae, Flow])
def test_columns_come_back_in_their_units_and_ranges(cls: Any) -> None:
    x = rows(1500)
    made = cls(max_epochs=8, device="cpu", hidden=16).fit(x).sample(4000, seed=1)
    assert (made >= x.min(axis=0)).all()
    assert (made <= x.max(axis=0)).all()
    np.testing.assert_array_equal(made[:, 2], np.rint(made[:, 2]))
    assert not np.signbit(made[:, 2]).any()
    assert (made[:, 4] == 7.5).all()
    assert (np.abs(made.mean(axis=0) - x.mean(axis=0)) <= 0.25 * x.std(axis=0)).all()
    np.testing.assert_allclose(made.std(axis=0), x.std(axis=0), rtol=0.25)


def test_a_vaes_draws_hold_the_noise_of_its_decoder() -> None:
    """One latent dimension for four independent columns: the means of p(x | z) alone would be far too narrow."""
    x = 100 + 5 * np.random.default_rng(0).normal(size=(1500, 4))
    vae = Vae(latent=1, max_epochs=10, device="cpu", hidden=16).fit(x)
    made = vae.sample(4000, seed=1)
    np.testing.assert_allclose(made.std(axis=0), 5, rtol=0.12)
    means = vae.decode(np.random.default_rng(2).normal(size=(4000, 1)))
    assert (means.std(axis=0) < 4).all()
    assert np.abs(np.corrcoef(made.T) - np.eye(4)).max() < 0.15


def test_a_training_that_goes_on_has_the_range_of_its_own_rows(tmp_path: Path) -> None:
    Vae(max_epochs=1, device="cpu", hidden=8).fit(rows(200)).save(tmp_path / "first")
    x = rows(200, seed=1)
    x[:, 1] *= 0.5
    tuned = Vae(max_epochs=1, device="cpu", hidden=8, pretrained=str(tmp_path / "first")).fit(x, validation=x)
    assert tuned.density_ is not None
    np.testing.assert_array_equal(tuned.density_.columns.high, x.max(axis=0))


def test_a_density_that_hardly_reaches_its_training_is_said() -> None:
    x = rows(200)
    vae = Vae(max_epochs=1, device="cpu", hidden=8).fit(x)
    assert vae.density_ is not None
    vae.density_.centre[:] += 60
    with pytest.raises(ScorerError, match=r"0 of \d+ draws lie within the range of the training rows"):
        vae.sample(2000)


def test_the_map_of_columns_has_its_inverse() -> None:
    x = rows(3000)[:, :4]
    x[:500, 3] = 0.0  # a value that many share
    fitted = fit_column_map(x, np.random.default_rng(0))
    z = np.random.default_rng(1).normal(0, 6, (2000, 4))
    back, _ = map_columns(fitted, unmap_columns(fitted, z))
    np.testing.assert_allclose(back, z, atol=1e-9)
    assert np.isfinite(unmap_columns(fitted, np.full((1, 4), 1e4))).all()


def test_images_are_not_negative_and_sum_to_one() -> None:
    vae = ConvVae(blocks=1, channels=4, hidden=8, latent=2, max_epochs=1, device="cpu", normalise=True).fit(
        9 * images(120)
    )
    made = vae.sample(300)
    assert (made >= 0).all()
    np.testing.assert_allclose(made.sum(axis=(1, 2)), 1)
    x = images(5)
    np.testing.assert_allclose(vae.decode(vae.latent_means(x)), vae.reconstruct(x), rtol=1e-12)


def test_constituents_without_energy_are_empty_slots() -> None:
    x = sets(200)
    vae = ConstituentVae(latent=2, max_epochs=2, device="cpu").fit(x)
    assert vae.scaling_ is not None
    vae.scaling_.centre[4] = [-1e4, 0, 0, 0]  # which no draw brings above 0
    made = vae.sample(50)
    assert (made[:, 4] == 0).all()
    assert (made[..., 0] >= 0).all()
    vae = ConstituentVae(latent=2, max_epochs=2, device="cpu").fit(x)
    np.testing.assert_allclose(vae.decode(vae.latent_means(x[:9])), vae.reconstruct(x[:9]), rtol=1e-12)


@pytest.mark.parametrize("flow_steps", [0, 2])
def test_a_vae_of_rows_shows_its_latent_means(flow_steps: int) -> None:
    x = rows(200)
    vae = Vae(latent=2, max_epochs=2, device="cpu", hidden=16, flow_steps=flow_steps).fit(x)
    means = vae.latent_means(x)
    assert means.shape == (200, 2)
    assert (means.std(axis=0) > 0).all()
    np.testing.assert_allclose(vae.latent_means(x[:3]), means[:3], rtol=1e-12)
    assert vae.decode(means).shape == x.shape
    assert vae.sample(20).shape == (20, 5)


def test_points_of_another_latent_space_are_refused() -> None:
    vae = Vae(latent=2, max_epochs=1, device="cpu", hidden=8).fit(rows(120))
    with pytest.raises(ShapeError, match=r"z: has shape \(3, 5\), the latent space has 2 dimensions"):
        vae.decode(np.zeros((3, 5)))
    with pytest.raises(NonFiniteError, match="NaN or infinity in 1 of 2"):
        vae.decode([[0.0, np.nan], [0.0, 0.0]])


def test_a_traversal_moves_one_dimension() -> None:
    points = traversal(3, 1, [-1.0, 0.0, 2.0], draws=4, seed=5)
    assert points.shape == (12, 3)
    np.testing.assert_array_equal(points[:, 1], np.repeat([-1.0, 0.0, 2.0], 4))
    np.testing.assert_array_equal(points[:4, [0, 2]], points[8:, [0, 2]])
    np.testing.assert_array_equal(traversal(3, 1, [2.0]), [[0.0, 2.0, 0.0]])
    with pytest.raises(ScorerError, match="dimension is 3, allowed: 0 to 2"):
        traversal(3, 3, [0.0])


def test_a_table_has_the_columns_of_the_training() -> None:
    names = ("a", "b", "c", "d", "e")
    vae = Vae(max_epochs=1, device="cpu", hidden=8).fit(Sample(rows(120), names))
    table = generated_table(vae, 30, seed=2)
    assert tuple(table.columns) == names
    np.testing.assert_array_equal(table.matrix(names), vae.sample(30, seed=2))
    assert table.metadata["generated"] == {"scorer": "Vae", "axis": None, "seed": 2, "events": 30}
    assert vae.score(table).shape == (30,)
    plain = Vae(max_epochs=1, device="cpu", hidden=8).fit(rows(120))
    assert list(generated_table(plain, 3).columns) == ["x_0", "x_1", "x_2", "x_3", "x_4"]


def test_an_axis_of_a_space_makes_its_own_events() -> None:
    options: dict[str, Any] = {"max_epochs": 1, "device": "cpu", "blocks": 1, "channels": 2, "hidden": 4, "latent": 2}
    space = ScorerSpace(ConvVae(**options), {"near": ConvVae(**options, seed=1)})
    pair = np.stack([images(130, 1), images(130, 2)], axis=1)
    space.fit(Sample(pair, ("image_1", "image_2")), priors={"near": pair})
    made = generated_table(space, 4, axis="near")
    assert list(made.columns) == ["jet"]
    assert not np.array_equal(made["jet"], generated_table(space, 4)["jet"])
    with pytest.raises(ScorerError, match="no axis 'nera'; did you mean 'near'"):
        generated_table(space, 4, axis="nera")


def test_what_generates_nothing_says_what_does() -> None:
    with pytest.raises(
        ScorerError, match="Quak generates no events; what does: ConstituentVae, ConvVae, EventVae, Flow, NAE, Vae"
    ):
        generated_table(Quak(), 4)
    with pytest.raises(ScorerError, match="axis 'near': Vae is one model"):
        generated_table(Vae(), 4, axis="near")


def test_a_walk_goes_through_the_middle_along_the_axis_of_largest_variance() -> None:
    rng = np.random.default_rng(0)
    means = np.array([1.0, -2.0, 0.5]) + rng.normal(size=(4000, 3)) * [0.5, 3.0, 1.0]
    walk = principal_walk(means, 0, [-2.0, 0.0, 1.0])
    np.testing.assert_allclose(walk[1], means.mean(axis=0))
    np.testing.assert_allclose(walk[2] - walk[1], [0, 3, 0], atol=0.15)
    np.testing.assert_allclose(walk[0] - walk[1], -2 * (walk[2] - walk[1]))
    np.testing.assert_allclose(np.abs(principal_walk(means, 2, [1.0])[0] - means.mean(axis=0)), [0.5, 0, 0], atol=0.05)
    with pytest.raises(ScorerError, match="axis is 3, allowed: 0 to 2"):
        principal_walk(means, 3, [0.0])
    with pytest.raises(ShapeError, match="two latent points"):
        principal_walk(means[:1], 0, [0.0])
