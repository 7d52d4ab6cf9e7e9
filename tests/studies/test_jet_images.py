"""The studies of jet images at small size, on made-up jets: who may see which sample, and the tables' shape."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import study_jet_images, study_jet_preprocessing, study_transport_axes
from hunch.models import wasserstein_rowwise
from hunch.models.distance.clouds import clouds_from_constituents, clouds_from_images
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
    judged = {("qcd", 602), ("top", 603), ("w", 604), ("top", 609), ("w", 610)}
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
    assert set(small) == {("qcd", 601), ("qcd", 602), ("top", 603), ("w", 604), ("top", 609)}
    assert result["vae"][0]["part_of_top_auc"] == pytest.approx(0.5, abs=0.15)  # the made-up ones look like QCD


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


def test_what_the_talk_leaves_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows for every setting; references and tested jets are different ones; a coarse detector keeps the pT."""
    study = study_jet_preprocessing
    asked: list[tuple[str, int]] = []

    def constituents(kind: str, n: int, seed: int, min_quarks: int | None = None) -> np.ndarray:
        asked.append((kind, seed))
        rng = np.random.default_rng(seed)
        prongs = PRONGS[kind if min_quarks is None else "qcd"]
        axes = 0.3 * (prongs > 1) * np.array([[np.cos(a), np.sin(a)] for a in 2 * np.pi * np.arange(prongs) / prongs])
        points = axes[rng.integers(prongs, size=(n, 20))] + rng.normal(0, 0.05, (n, 20, 2))
        return np.concatenate([rng.exponential(size=(n, 20, 1)), points], axis=2)

    monkeypatch.setattr(study, "constituents", constituents)
    for name, value in {"TESTED": 25, "DENSE": 5, "REFERENCES": 2}.items():
        monkeypatch.setattr(study, name, value)
    monkeypatch.setattr(study, "SETTINGS", {name: study.SETTINGS[name] for name in list(study.SETTINGS)[::6]})
    monkeypatch.setattr(study, "PARTS", ["images"])
    result = json.loads(json.dumps(study.run()))
    assert len(result["rows"]) == 2 * len(study.DISTANCES)
    assert {row["images"] for row in result["rows"]} == {"as in jet_images", "towers of 0.1 x 0.087"}
    assert float(result["rows"][1]["top auc"].split()[0]) > 0.9
    assert {row["w eps_s near"] == "-" for row in result["rows"] if row["references"] == "qcd"} == {True}
    assert all(0 <= float(row["w eps_s near"].split()[0]) <= 1 for row in result["rows"] if row["references"] != "qcd")
    assert result["rows"][1]["part of top auc"] != result["rows"][1]["top auc"]
    judged = {("qcd", 602), ("top", 603), ("w", 604), ("top", 609)}
    assert set(asked) - judged == {("qcd", 601), ("top", 605), ("top", 616)}
    jets = constituents("top", 30, 1)
    seen = study.towers(jets, np.random.default_rng(0))
    np.testing.assert_allclose(seen[..., 0].sum(axis=1), jets[..., 0].sum(axis=1))
    assert (seen[..., 0] > 0).sum() < (jets[..., 0] > 0).sum()
    moved = (seen[..., :1] * seen[..., 1:]).sum(axis=1) - (jets[..., :1] * jets[..., 1:]).sum(axis=1)
    assert np.abs(moved / jets[..., 0].sum(axis=1)[:, None]).max() < 0.05


def test_networks_of_all_sizes_see_qcd_alone(small: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_jet_preprocessing
    monkeypatch.setattr(study, "PARTS", ["networks"])
    monkeypatch.setattr(study, "TESTED", 20)
    monkeypatch.setattr(study, "NETWORKS", (("mse", 1, 1e-8),))
    monkeypatch.setattr(study, "VAES", {("mse", 1, 1e-8): {"loss": (0.79, 0.37, 0.46, 0.04)}})
    monkeypatch.setattr(
        study, "SIZES", ({"latent": 1, "hidden": 2, "channels": 4}, {"latent": 16, "hidden": 64, "channels": 4})
    )
    result = json.loads(json.dumps(study.run()))
    narrow, wide = result["networks"]
    assert (narrow["latent"], wide["latent"]) == (1, 16)
    assert wide["validation_loss"] < 0.9 * narrow["validation_loss"]
    # squares of dim pixels are small; the part looks like QCD
    assert narrow["top auc"] < narrow["part of top auc"] < 0.7
    assert (wide["talk: top, w"], wide["score"]) == ("0.79 0.46", "loss")
    assert set(small) == {("qcd", 601), ("qcd", 602), ("top", 603), ("w", 604), ("top", 609)}


def test_constituents_are_simulated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUNCH_STUDY", str(tmp_path))
    jets = study_jet_preprocessing.constituents("top", 4, 1, min_quarks=1)
    assert jets.shape == (4, 200, 3)
    assert (jets[..., 0].sum(axis=1) > 400).all()
    assert [path.name for path in tmp_path.iterdir()] == ["constituents_top_1_4_1.parquet"]
    monkeypatch.setattr(study_jet_images, "simulate", None)
    assert np.array_equal(study_jet_preprocessing.constituents("top", 4, 1, min_quarks=1), jets)


def test_mean_images_are_drawn(small: list[tuple[str, int]], tmp_path: Path) -> None:
    result = study_jet_images.mean_images(tmp_path)
    widths = {row["jets"]: row["width_phi"] for row in result["mean_images"]}
    assert widths["qcd"] < widths["w"]
    assert (tmp_path / result["mean_images_figure"]).stat().st_size > 5000
    assert set(small) == {("qcd", 602), ("top", 603), ("w", 604)}
