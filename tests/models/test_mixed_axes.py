"""Spaces whose axes are of different methods, on the same inputs or on inputs of their own: energies beside densities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hunch.analysis import difference_score, fix_regions
from hunch.models import NAE, Flow, Sample, ScorerError, ScorerSpace, UnknownMetricError, load_space, make_space
from hunch.models.generated_table import generated_table
from hunch.models.scorer_space import BACKGROUND
from hunch.models.train import loop
from hunch.table import Table

FLOW: dict[str, Any] = {"device": "cpu", "hidden": 4, "steps": 1, "max_epochs": 1}
TINY: dict[str, Any] = {"device": "cpu", "hidden": 8, "latent": 2, "max_epochs": 2, "batch_size": 64}
TINY |= {"nae_epochs": 1, "latent_steps": 1, "input_steps": 1, "replay": 64}
NAMES = ("light", "heavy", "tau21")
RADIUS = {"radius": 1.0, "jets": 2}


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    made = loop.TrainingSettings

    def short(**options: Any) -> Any:
        return made(**{**options, "min_steps": 10, "max_steps": 10})

    monkeypatch.setattr("hunch.models.energy.nae.TrainingSettings", short)
    monkeypatch.setattr("hunch.models.energy.training.COMPARED", 32)


def rows(n: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal([1.0 + shift, 20.0, 0.5], [0.3, 4.0, 0.1], size=(n, 3))


def images(n: int, seed: int, *, at: int = 1) -> np.ndarray:
    """Return images (n, 2, 4, 4) of two jets an event, around a pixel."""
    y, x = np.mgrid[:4, :4]
    rng = np.random.default_rng(seed)
    made = np.exp(-((y - at) ** 2) - (x - at) ** 2) * rng.exponential(size=(n, 2, 4, 4)) + 1e-6
    return made / made.sum(axis=(2, 3), keepdims=True)


def as_columns(x: np.ndarray, **settings: Any) -> Table:
    """Return rows or images as the table that a processor makes of events."""
    if x.ndim == 2:
        columns, name = dict(zip(NAMES, x.T, strict=True)), "features"
    else:
        columns, name = {"image_1": x[:, 0], "image_2": x[:, 1]}, "images"
    return Table(columns, {"representation": name, "settings": RADIUS | settings})


def check_regions(space: ScorerSpace, background: Any, signal: Any) -> None:
    """Check that a search's regions keep as many held-out events as they are asked for, and more of the signal."""
    held = space.losses(background)
    assert np.isfinite(held).all()
    np.testing.assert_allclose(space.score_of(held), difference_score(held, space.alpha))
    regions = fix_regions([held], fraction=0.2, n_regions=2, names=space.axis_names, axes=space.axis_names)
    share = [
        float((np.asarray(regions.assign(losses, np.zeros(len(losses), dtype=np.int64))) >= 0).mean())
        for losses in (held, space.losses(signal))
    ]
    assert share[0] == pytest.approx(0.2, abs=0.03)
    assert share[1] > 0.6


@pytest.mark.parametrize("energy", [BACKGROUND, "near"])
def test_energies_and_densities_of_the_same_rows_are_axes_of_one_space(energy: str, tmp_path: Path) -> None:
    nae, flow = NAE(inputs="rows", **TINY), Flow(**FLOW)
    background, prior = (nae, flow) if energy == BACKGROUND else (flow, nae)
    space = ScorerSpace(background, {"near": prior}, alpha=0.7)
    x, far = rows(400, 1), rows(150, 2, shift=3.0)
    space.fit(Sample(x, NAMES, event=np.arange(400)), priors={"near": Sample(far, NAMES)}, checkpoint=tmp_path / "c")
    assert not list(tmp_path.iterdir())
    assert space.axis_names == (BACKGROUND, "near")
    assert repr(space).startswith("ScorerSpace(NAE, Flow" if energy == BACKGROUND else "ScorerSpace(Flow, NAE")
    losses = space.losses(x)
    for number, name in enumerate(space.axis_names):
        own = space.scorers[name].score(x)
        np.testing.assert_allclose(losses[:, number], own / own.std(), rtol=1e-6)
    np.testing.assert_allclose(space.score(x), losses[:, 0] - 0.7 * losses[:, 1])
    # columns are taken by name on every axis
    turned = {name: x[:, NAMES.index(name)] for name in ("tau21", "light", "heavy")}
    np.testing.assert_array_equal(space.losses(turned), losses)
    space.save(tmp_path / "space")
    again = load_space(tmp_path / "space")
    np.testing.assert_array_equal(again.losses(x), losses)
    check_regions(space, rows(2000, 3), rows(300, 4, shift=3.0))
    # the metric of one axis, which the other one does not have
    with pytest.raises(UnknownMetricError, match=r"axis '(background|near)', Flow: no metric 'autoencoder'"):
        space.configured(metric="autoencoder")
    plain = load_space(tmp_path / "space", metric={energy: "autoencoder"})
    assert isinstance(plain, ScorerSpace)
    own = nae.score(x, metric="autoencoder")
    np.testing.assert_allclose(plain.losses(x)[:, space.axis_names.index(energy)], own / own.std(), rtol=1e-6)
    plain.save(tmp_path / "plain")
    stored = load_space(tmp_path / "plain").configured(metric={energy: "autoencoder"})  # type: ignore[attr-defined]
    np.testing.assert_array_equal(stored.losses(x), plain.losses(x))
    with pytest.raises(ScorerError, match="no axis 'nera'; did you mean 'near'"):
        space.configured(metric={"nera": "energy"})


def test_an_energy_of_images_stands_beside_a_density_of_rows(tmp_path: Path) -> None:
    space = ScorerSpace(NAE(inputs="images", normalise=True, **TINY), {"near": Flow(**FLOW)})
    given = {BACKGROUND: as_columns(3 * images(400, 1), pixels=4, smear=0.0), "near": as_columns(rows(400, 1))}
    space.fit(given, priors={"near": as_columns(rows(150, 2, shift=3.0))})
    assert space.input_names == ("image_1", "image_2", *NAMES)
    assert space.jets_ == {BACKGROUND: 2, "near": 1}
    losses = space.losses(given)
    jets = space.scorers[BACKGROUND].score(images(400, 1).reshape(800, 4, 4)).reshape(400, 2)
    np.testing.assert_allclose(np.corrcoef(jets.sum(axis=1), losses[:, 0])[0, 1], 1)
    space.save(tmp_path / "space")
    again = load_space(tmp_path / "space")
    np.testing.assert_array_equal(again.losses(given), losses)
    signal = {BACKGROUND: as_columns(images(300, 5, at=2)), "near": as_columns(rows(300, 4, shift=3.0))}
    check_regions(space, {BACKGROUND: as_columns(images(2000, 3)), "near": as_columns(rows(2000, 3))}, signal)
    for own in (space, again):
        with pytest.raises(ScorerError, match=r"made with other settings .*: smear = 1\.0, trained on 0\.0"):
            own.losses(given | {BACKGROUND: as_columns(images(5, 1), smear=1.0), "near": as_columns(rows(5, 1))})
    assert list(generated_table(space, 3).columns) == ["jet"]


def test_how_the_columns_of_every_axis_were_made_is_kept(tmp_path: Path) -> None:
    """The background's own settings say nothing of how the images of a prior's axis were made."""
    space = ScorerSpace(Flow(**FLOW), {"near": NAE(inputs="images", **TINY)})
    given = {BACKGROUND: as_columns(rows(120, 1)), "near": as_columns(images(120, 1), smear=0.0)}
    other = {BACKGROUND: as_columns(rows(120, 1)), "near": as_columns(images(120, 1), smear=1.0)}
    space.fit(given, priors={"near": as_columns(images(120, 2), smear=0.0)}).save(tmp_path / "space")
    for own in (space, load_space(tmp_path / "space")):
        assert own.losses(given).shape == (120, 2)
        with pytest.raises(ScorerError, match=r"smear = 1\.0, trained on 0\.0"):
            own.losses(other)
    with pytest.raises(ScorerError, match=r"prior 'near': its columns .*: smear = 2\.0, trained on 0\.0"):
        space.fit(given, priors={"near": as_columns(images(120, 2), smear=2.0)})


def test_a_space_of_two_methods_by_name() -> None:
    space = make_space(
        "NAE",
        kind="rows",
        priors=("near", "far"),
        options={"hidden": 8},
        seed=3,
        prior_scorer="Flow",
        prior_options={"hidden": 4},
    )
    assert isinstance(space, ScorerSpace)
    background, near, far = space.scorers.values()
    assert isinstance(background, NAE)
    assert (background.inputs, background.hidden) == ("rows", 8)
    assert isinstance(near, Flow)
    assert near.hidden == 4
    # each axis has the seed that it has in a space of one method
    alone = make_space("Flow", kind="rows", priors=("near", "far"), seed=3)
    assert isinstance(alone, ScorerSpace)
    assert [s.seed for s in (near, far)] == [s.seed for s in list(alone.scorers.values())[1:]]  # type: ignore[attr-defined]
    read = space.configured(metric=(("background", "autoencoder"),))
    assert [read.axis_metric(axis) for axis in read.axis_names] == ["autoencoder", *Flow.metrics[:1] * 2]


def test_a_method_that_spans_has_no_axes_beside_it() -> None:
    for first, second in (("Quak", "Flow"), ("Flow", "Quak")):
        with pytest.raises(ScorerError, match="Quak spans a space by itself, and has no axes of another method"):
            make_space(first, kind="rows", priors=("near",), prior_scorer=second)
    with pytest.raises(ScorerError, match="Flow takes rows, not images; what takes images: Combined, ConvVae"):
        make_space("NAE", kind="images", priors=("near",), prior_scorer="Flow")
    with pytest.raises(ScorerError, match="hiden"):
        make_space("NAE", kind="rows", priors=("near",), prior_scorer="Flow", prior_options={"hiden": 3})
