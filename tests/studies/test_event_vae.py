"""The study of VAEs on whole events: its tables hold what they say, on small made events."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks import study_event_vae as study
from hunch.analysis import evaluate


def made(sample: str) -> np.ndarray:
    """Events (n, 19, 3) of a few objects; signals have more of them."""
    signal = sample not in {"train", "background"}
    rng = np.random.default_rng(sum(map(ord, sample)))
    n = 3000 if sample == "background" else 300
    pt = 15 + rng.exponential(20, (n, 19))
    keep = rng.uniform(size=(n, 19)) < (0.5 if signal else 0.2)
    keep[:, [0, 1]] = True
    parts = [pt, rng.uniform(-2, 2, (n, 19)), rng.uniform(-np.pi, np.pi, (n, 19))]
    events = np.where(keep[..., None], np.stack(parts, axis=-1), 0.0)
    events[:, 0, 1] = 0
    return events


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    caches = [
        study.vae,
        study.autoencoder,
        study.rows_of,
        study.method_scores,
        study.combined_scores,
        study.number_scores,
    ]
    for cached in caches:
        cached.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "events", made)
        patch.setattr(study, "EPOCHS", 1)
        patch.setattr(study, "LATENT", 2)
        patch.setattr(study, "BETAS", (1.0, 0.0))
        patch.setattr(study, "METHODS", ["KMeans", "Flow", "DeepSvdd"])
        yield
    for cached in caches:
        cached.cache_clear()


def test_figures_are_those_of_each_signal() -> None:
    row = next(row for row in study.numbers() if row["number"] == "number of objects")
    for process in study.SIGNALS:
        count = {name: (made(name)[:, 1:, 0] > 0).sum(axis=1).astype(float) for name in ("background", process)}
        label = np.repeat([0, 1], [3000, 300])
        auc = evaluate(np.concatenate([count["background"], count[process]]), label).auc
        assert row[f"auc_{process.removeprefix('event_')}"] == pytest.approx(auc, abs=1e-3)
    assert row["median_improvement"] > 3


@pytest.mark.slow
def test_every_model_has_a_row_and_one_is_selected(tmp_path: Path) -> None:
    rows = study.beta()
    assert [row["beta"] for row in rows] == [1.0, 0.0]
    assert rows[0]["talk_variance"] == 1.0
    assert rows[1]["average_variance"] < rows[0]["average_variance"]
    assert {(row["method"], row["input"]) for row in study.methods()} == {
        (method, given) for method in study.METHODS for given in (study.OBJECTS, study.LATENTS)
    }
    assert len(study.combinations()) == 2 * 4
    found = study.selected()
    # two betas of five metrics, the autoencoder, three methods on two inputs, two pairs by four rules
    assert {row["of_models"] for row in found} == {2 * 5 + 1 + 3 * 2 + 2 * 4}
    assert len(found) == 3
    study.draw_walks(tmp_path)
    assert (tmp_path / study.WALKS).is_file()


def test_padding_that_is_counted_makes_the_score_a_number_of_objects() -> None:
    rows = study.padding()
    assert [(row["model"], row["empty_slots"]) for row in rows] == [
        ("EventAutoencoder", "left out"),
        ("EventVae", "left out"),
        ("EventAutoencoder", "counted"),
        ("EventVae", "counted"),
    ]
    assert rows[2]["correlation_with_number_of_objects"] > rows[0]["correlation_with_number_of_objects"]
