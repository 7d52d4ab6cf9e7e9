"""QUAK axes of any scorers: what `Quak` gives where they are its densities, and transport beside a density."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hunch.models import (
    EventToEnsemble,
    Flow,
    NotFittedError,
    ScorerError,
    ScorerFolderError,
    ScorerSpace,
    ShapeError,
    load_scorer,
)

QUICK: dict[str, Any] = {"seed": 1, "device": "cpu", "hidden": 8, "steps": 2, "max_epochs": 3}


@pytest.fixture
def samples(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Features (n, 2) of background and prior, and images (n, 4, 4) of the same events, dark on one side."""
    made = {}
    for name, shift in (("background", 0.0), ("prior", 2.0)):
        made[name] = rng.normal(shift, 1.0, (200, 2))
        images = rng.exponential(size=(200, 4, 4))
        images[:, :, (2 if shift else 0) : (4 if shift else 2)] *= 0.02
        made[f"{name} images"] = images / images.sum(axis=(1, 2), keepdims=True)
    return made


def test_axes_are_the_scorers_own_scores_in_spreads_of_the_background(samples: dict[str, np.ndarray]) -> None:
    flow, distance = Flow(**QUICK), EventToEnsemble(distance="mae", k=1)
    space = ScorerSpace(flow, {"two_prong": distance}, alpha=0.5)
    with pytest.raises(NotFittedError):
        space.losses(samples["background"])
    events = {"background": samples["background"], "two_prong": samples["background images"]}
    space.fit(events, priors={"two_prong": samples["prior images"]})
    assert space.axis_names == ("background", "two_prong")
    alone = Flow(**QUICK).fit(samples["background"]).score(samples["background"])
    far = EventToEnsemble(distance="mae", k=1).fit(samples["prior images"]).score(samples["background images"])
    losses = space.losses(events)
    np.testing.assert_allclose(losses, np.column_stack([alone / alone.std(), far / far.std()]))
    np.testing.assert_allclose(space.score(events), losses[:, 0] - 0.5 * losses[:, 1])
    np.testing.assert_allclose(space.score(events, metric="two_prong"), space.score(events))
    np.testing.assert_array_equal(space.score(events, metric="background"), losses[:, 0])
    # an event of the prior is near the prior and far from the background
    signal = {"background": samples["prior"], "two_prong": samples["prior images"]}
    assert np.median(space.score(signal)) > np.quantile(space.score(events), 0.9)
    # scorers that are fitted stay as they are
    again = ScorerSpace(flow, {"two_prong": distance}).fit(events, fitted=True)
    np.testing.assert_array_equal(again.losses(events), losses)
    # what the background's scorer stops by
    held = {name: values[:50] for name, values in events.items()}
    space.fit(events, priors={"two_prong": samples["prior images"]}, validation=held)
    assert flow.training_["rows"] == [200]


def test_the_nearest_prior_counts(samples: dict[str, np.ndarray]) -> None:
    axes = {name: EventToEnsemble(distance="mae", k=1) for name in ("a", "b")}
    space = ScorerSpace(EventToEnsemble(distance="mae", k=1), axes)
    x = samples["background images"]
    space.fit(x, priors={"a": samples["prior images"], "b": x[:50]})
    losses = space.losses(x)
    np.testing.assert_allclose(space.score(x), losses[:, 0] - losses[:, 1:].min(axis=1))
    np.testing.assert_allclose(space.score(x, metric="b"), losses[:, 0] - losses[:, 2])


def test_a_space_is_stored_whole(samples: dict[str, np.ndarray], tmp_path: Path) -> None:
    space = ScorerSpace(Flow(**QUICK), {"two_prong": EventToEnsemble(distance="mae", k=1)}, alpha=0.5)
    with pytest.raises(NotFittedError, match="ScorerSpace is not fitted"):
        space.save(tmp_path / "space")
    events = {"background": samples["background"], "two_prong": samples["background images"]}
    space.fit(events, priors={"two_prong": samples["prior images"]}).save(tmp_path / "space")
    again = load_scorer(tmp_path / "space")
    assert isinstance(again, ScorerSpace)
    assert (again.axis_names, again.metrics, again.alpha) == (space.axis_names, space.metrics, 0.5)
    np.testing.assert_array_equal(again.losses(events), space.losses(events))
    assert isinstance(again.scorers["two_prong"], EventToEnsemble)

    class Mine(EventToEnsemble):
        pass

    other = ScorerSpace(Mine(distance="mae", k=1), {}).fit(samples["background images"])
    with pytest.raises(ScorerFolderError, match="axis 'background': no scorer 'Mine'"):
        other.save(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_what_does_not_fit_is_named(samples: dict[str, np.ndarray]) -> None:
    x, prior = samples["background images"], samples["prior images"]

    def space() -> ScorerSpace:
        return ScorerSpace(EventToEnsemble(distance="mae", k=1), {"near": EventToEnsemble(distance="mae", k=1)})

    with pytest.raises(ScorerError, match="no prior 'neer'; did you mean 'near'"):
        space().fit(x, priors={"neer": prior})
    with pytest.raises(ScorerError, match="no sample of 'near'"):
        space().fit(x)
    with pytest.raises(ScorerError, match="nothing for the axis 'near'"):
        space().fit({"background": x}, priors={"near": prior})
    with pytest.raises(ScorerError, match="no axis 'far'"):
        space().fit({"background": x, "near": x, "far": x}, priors={"near": prior})
    with pytest.raises(ShapeError, match="background 200, near 9"):
        space().fit({"background": x, "near": x[:9]}, priors={"near": prior})
    with pytest.raises(ScorerError, match="axis 'background': every background event has the same score"):
        space().fit(np.repeat(x[:1], 5, axis=0), priors={"near": prior})
    with pytest.raises(ScorerError, match="cannot be called 'background'"):
        ScorerSpace(EventToEnsemble(), {"background": EventToEnsemble()})
