"""The studies of jet images at small size, on made-up jets: who may see which sample, and the tables' shape."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import study_jet_images, study_transport_axes
from hunch.models import wasserstein_rowwise
from hunch.models.clouds import clouds_from_constituents, clouds_from_images
from hunch.table import QUAK_FEATURES, Table

SIDE = 16
PRONGS = {"qcd": 1, "w": 2, "top": 3}


def made_up(kind: str, n: int, seed: int) -> np.ndarray:
    """Images (n, 16, 16) of one, two or three blobs."""
    rng = np.random.default_rng(seed)
    images = np.zeros((n, SIDE, SIDE), dtype=np.float32)
    number = PRONGS[kind]
    for k in range(number):
        angle = 2 * np.pi * k / number
        centre = SIDE / 2 + (number > 1) * 4 * np.array([np.cos(angle), np.sin(angle)])
        points = np.clip(rng.normal(centre, 1.0, (n, 15, 2)), 0, SIDE - 1).astype(int)
        np.add.at(images, (np.arange(n)[:, None], points[..., 0], points[..., 1]), rng.exponential(size=(n, 15)))
    return images / images.sum(axis=(1, 2), keepdims=True)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Make everything small; return the samples asked for, in order."""
    asked: list[tuple[str, int]] = []

    def images(kind: str, n: int, seed: int, min_quarks: int | None = None) -> np.ndarray:
        asked.append((kind, seed))
        return made_up(kind if min_quarks is None else "qcd", n, seed)

    monkeypatch.setattr(study_jet_images, "images", images)
    for name, value in {"JETS": 240, "EPOCHS": 2, "TRANSPORTED": 10, "SCANNED": ()}.items():
        monkeypatch.setattr(study_jet_images, name, value)
    return asked


def test_references_and_supervised(small: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_jet_images, "PARTS", ["transport", "supervised"])
    monkeypatch.setattr(study_jet_images, "TO_QCD", study_jet_images.TO_QCD[:4:3])
    result = json.loads(json.dumps(study_jet_images.run()))
    average, five = result["transport"]
    assert (average["k"], five["k"], five["method"]) == ("average", 5, "min")
    assert five["top_auc"] > 0.95
    assert (five["top_talk"], five["w_eps_s_talk"]) == (0.87, 0.05)
    assert [row["signal"] for row in result["supervised"]] == ["top", "w"]
    assert result["supervised"][0]["auc"] > 0.9
    assert result["supervised"][1]["eps_s"] > 0.7
    judged = {("qcd", 602), ("top", 603), ("w", 604)}
    seen = set(small) - judged
    assert seen == {("qcd", 601), ("qcd", 606), ("top", 607), ("w", 608)}


def test_tops_that_hold_less_and_both_sides_of_a_reference(
    small: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_jet_images, "PARTS", ["spread", "partly_held", "top_reference"])
    monkeypatch.setattr(study_jet_images, "TO_QCD", study_jet_images.TO_QCD[:4:3])
    monkeypatch.setattr(study_jet_images, "TO_TOP", study_jet_images.TO_TOP[:1])
    result = json.loads(json.dumps(study_jet_images.run()))
    top, w = result["partly_held"]  # the average image is left out
    assert (top["signal"], top["k"], w["signal"]) == ("top", 5, "w")
    assert top["auc_whole"] > 0.95
    assert 0.3 < top["auc_part"] < 0.7
    assert (top["auc_talk"], w["eps_s_talk"]) == (0.87, 0.05)
    (spread,) = result["spread_of_four_qcd_samples"]
    low, high = map(float, spread["top_auc"].split(" to "))
    assert 0.9 < low <= high <= 1
    far, near = result["top_reference"]
    assert (far["anomalous"], near["anomalous"]) == ("far", "near")
    assert near["top_auc"] > 0.8
    assert far["top_auc"] < 0.2
    assert far["w_auc"] == pytest.approx(1 - near["w_auc"], abs=0.002)
    assert {("qcd", 601), ("qcd", 606), ("top", 605), ("top", 609), ("w", 610)} == set(small) - {
        ("qcd", 602),
        ("top", 603),
        ("w", 604),
    }


def test_vaes_see_qcd_alone(small: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_jet_images, "PARTS", ["vae", "hyperparameters", "latent"])
    monkeypatch.setattr(study_jet_images, "VAES", {("mse", 2, 1e-7): {"loss": (0.83, 0.48, 0.65, 0.14)}})
    result = json.loads(json.dumps(study_jet_images.run()))
    assert [row["score"] for row in result["vae"]] == ["loss", "latent_radius"]
    assert result["hyperparameters"][0]["validation_loss"] > 0
    assert abs(result["latent"][0]["pearson"]) <= 1
    assert set(small) == {("qcd", 601), ("qcd", 602), ("top", 603), ("w", 604)}


def test_an_events_distance_is_the_mean_of_its_jets() -> None:
    first, second = (made_up("w", 6, seed) for seed in (1, 2))
    table = Table({"image_1": first, "image_2": second})
    clouds = clouds_from_constituents(study_transport_axes.points(table))
    found = wasserstein_rowwise(clouds.take(np.arange(3)), clouds.take(np.arange(3, 6)))
    own = [clouds_from_images(x, normalise=True) for x in (first, second)]
    parts = [wasserstein_rowwise(c.take(np.arange(3)), c.take(np.arange(3, 6))) for c in own]
    np.testing.assert_allclose(found, (parts[0] + parts[1]) / 2, rtol=1e-6)


def test_transport_as_an_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    def pair(name: str, n: int, masses: object = None) -> tuple[Table, Table]:
        seed = study_transport_axes.SEEDS[name]
        rng = np.random.default_rng(seed)
        shift = 0.0 if masses is None else 1.0
        features = {column: rng.normal(shift, 1.0, n) for column in QUAK_FEATURES}
        kind = "qcd" if masses is None else "w"
        images = {f"image_{jet}": made_up(kind, n, seed + jet) for jet in (1, 2)}
        return Table({"mjj": np.full(n, 3500.0), **features}), Table(images)

    monkeypatch.setattr(study_transport_axes, "pair", pair)
    monkeypatch.setattr(study_transport_axes, "EVENTS", 600)
    monkeypatch.setattr(study_transport_axes, "EPOCHS", 4)
    result = json.loads(json.dumps(study_transport_axes.run()))
    auc = {(row["prior"], row["axes"]): row["auc"] for row in result["rows"]}
    assert len(auc) == 9
    assert auc["near", "transport to QCD and to the prior"] > 0.95
    assert auc["near", "background loss, transport to the prior"] > 0.9
