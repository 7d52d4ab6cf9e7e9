"""The study of JetCLR: which jets are whose, the linear test against a known answer, and what is drawn of turned jets."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from benchmarks import reference_jets
from benchmarks import study_jetclr as study
from hunch.models.contrastive.set_transformer import SetTransformer, TransformerSizes

Floats = npt.NDArray[np.float64]
JETS = 400


def made_up(kind: str) -> tuple[Floats, Floats, Floats]:
    """Jets whose first pT says which they are: 1, 2, ... of QCD, and 1001, ... of tops."""
    number = study.numbers_of(kind)
    jets = np.zeros((number, 3, 3))
    jets[:, 0, 0] = np.arange(1, number + 1) + (0 if kind == "qcd" else 1000)
    return study.parts_of(jets, number)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A study of 400 made-up jets."""
    for name, value in (("JETS", JETS), ("LINEAR", JETS // 4), ("TESTED", 3 * JETS // 4), ("split_jets", made_up)):
        monkeypatch.setattr(study, name, value)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("share", "tops"), [(0.0, 0), (0.01, 4), (0.5, 133), (1.0, 200)])
def test_mixtures_have_the_share_that_is_asked_for_and_no_jet_of_the_tests(share: float, tops: int) -> None:
    jets, label = study.training_jets(share, 0)
    assert (len(jets), int(label.sum())) == (JETS, tops)
    number = jets[:, 0, 0]
    np.testing.assert_array_equal(label, number > 1000)
    assert label[:tops].sum() < max(tops, 1)  # in random order
    others = np.concatenate([study.split_jets(kind)[i][:, 0, 0] for kind in ("qcd", "top") for i in (1, 2)])
    assert len(np.unique(np.concatenate([number, others]))) == len(number) + len(others) == JETS + 2 * JETS


def test_the_linear_test_reaches_the_likelihood_ratio_of_gaussians_and_is_of_other_rows(
    rng: np.random.Generator,
) -> None:
    shift = np.array([1.0, -0.5, 0.0])
    learned, tested = ((rng.normal(size=(4000, 3)), rng.normal(size=(4000, 3)) + shift) for _ in range(2))
    row = study.row_of([study.linear_scores(learned, tested)])
    # Phi(d / sqrt 2) with d the distance of the means
    assert row["auc"] == pytest.approx(0.5 * (1 + math.erf(float(np.linalg.norm(shift)) / 2)), abs=0.01)
    # half of the signal lies above d: 1 / (1 - Phi(d))
    expected = 2 / math.erfc(float(np.linalg.norm(shift)) / 2**0.5)
    assert row["rejection"] == pytest.approx(expected, rel=0.08)
    assert row["rejection_error"] == pytest.approx(expected * (expected / 4000) ** 0.5, abs=0.08)


def test_errors_have_the_spread_of_the_trainings(rng: np.random.Generator) -> None:
    pairs = [(rng.normal(size=500), rng.normal(shift, 1.0, size=500)) for shift in (0.5, 2.5)]
    rows = [study.row_of([pair]) for pair in pairs]
    both = study.row_of(pairs)
    for name, digits in (("auc", 4), ("rejection", 1)):
        values = [row[name] for row in rows]
        statistical = np.mean([row[f"{name}_error"] for row in rows])
        assert both[name] == pytest.approx(np.mean(values), abs=10**-digits)
        assert both[f"{name}_error"] == pytest.approx(
            np.hypot(statistical, abs(values[1] - values[0]) / 2), abs=2 * 10**-digits
        )


def test_a_turned_jet_keeps_pt_and_distances_and_empty_slots(rng: np.random.Generator) -> None:
    jets = rng.normal(size=(5, 4, 3))
    jets[:, 3] = 0.0
    quarter = study.turned(jets, np.pi / 2)
    np.testing.assert_allclose(quarter[..., 1], -jets[..., 2], atol=1e-15)
    np.testing.assert_allclose(quarter[..., 2], jets[..., 1], atol=1e-15)
    np.testing.assert_array_equal(quarter[..., 0], jets[..., 0])
    np.testing.assert_allclose(study.turned(jets, 2 * np.pi), jets, atol=1e-14)
    assert (quarter[:, 3] == 0).all()


def test_cosines_of_a_jet_and_itself_and_of_different_ones() -> None:
    class Encoder:
        def encode(self, jets: Floats) -> Floats:
            return jets[:, 0, 1:]

    jets = np.zeros((2, 1, 3))
    jets[:, 0] = [[1.0, 1.0, 0.0], [1.0, 0.0, 2.0]]
    same, different = study.turned_cosines(Encoder(), jets, np.array([0.0, np.pi / 3]))  # type: ignore[arg-type]
    np.testing.assert_allclose(same, [[1.0, 1.0], [0.5, 0.5]])
    np.testing.assert_allclose(different, [0.0, 0.0], atol=1e-15)


def test_the_training_with_labels_takes_the_label_for_its_target_and_not_for_an_input() -> None:
    network = SetTransformer(1, TransformerSizes(3, 8, 2, 1, 8, 8, 1), seed=0)
    seen = []

    def features(sets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(sets.shape[-1])
        return sets, sets[..., 0]

    jets = torch.rand((1, 6, 4, 4), generator=torch.Generator().manual_seed(1))
    jets[..., 3] = torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0, 0.0])[None, :, None]
    objective = study.Labelled(network, features)
    found = objective.validation_losses({"x": jets}, generator=torch.Generator())
    with torch.no_grad():
        p = network(jets[..., :3], jets[..., 0])[1][..., 0].sigmoid()
    label = jets[..., 0, 3]
    torch.testing.assert_close(found.detach(), -(label * p + (1 - label) * (1 - p)).log())
    assert set(seen) == {3}


def test_a_larger_event_file_serves_fewer_jets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUNCH_STUDY", str(tmp_path))
    made: list[Path] = []
    monkeypatch.setattr(reference_jets, "simulate", lambda _process, _n, path, **_: made.append(path))
    for name in ("nae_qcd_9_5.root", "nae_qcd_20_5.root", "nae_qcd_30_6.root", "nae_top_15_5.root"):
        (tmp_path / name).touch()
    found = [reference_jets.event_file("qcd", n, 5).name for n in (9, 10, 20)]
    assert found == ["nae_qcd_9_5.root", "nae_qcd_20_5.root", "nae_qcd_20_5.root"]
    assert not made
    assert reference_jets.event_file("qcd", 21, 5) == tmp_path / "nae_qcd_21_5.root"
    assert made == [tmp_path / "nae_qcd_21_5.root"]


def test_constituents_are_around_the_axis_and_the_first_of_a_larger_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUNCH_STUDY", str(tmp_path))
    more = reference_jets.reference_constituents("qcd", 6, seed=3, slots=20)
    fewer = reference_jets.reference_constituents("qcd", 4, seed=3, slots=20)
    sets = np.asarray(more["constituents_1"])
    assert sets.shape == (6, 20, 3)
    assert len(list(tmp_path.glob("*.root"))) == 1
    np.testing.assert_array_equal(fewer["constituents_1"], sets[:4])
    pt, angles = sets[..., 0], sets[..., 1:]
    assert (np.diff(pt, axis=1) <= 0).all()
    assert (np.abs(angles) < 0.9).all()
    centre = (pt[..., None] * angles).sum(axis=1) / pt.sum(axis=1)[:, None]
    assert (np.abs(centre) < 0.1).all()
    features = reference_jets.reference_features("qcd", 4, seed=3)
    np.testing.assert_allclose(features["mJ_1"], fewer["mJ_1"], rtol=1e-6)
    assert ((np.asarray(features["tau32_1"]) > 0) & (np.asarray(features["tau32_1"]) <= 1)).all()
