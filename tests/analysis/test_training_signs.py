"""Records of trainings: what their figures tell, and that it is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hunch.analysis import TrainingRecord, negatives_figure, training_figure, training_records, training_signs
from hunch.analysis.counting_page import TEMPLATE as COUNTING
from hunch.analysis.figures.training_figures import draw_negatives, draw_trainings, panels_of
from hunch.analysis.page import HEAD, TRAINED, figures_of, write_page
from hunch.errors import InputError

EPOCHS = 20


def record(best: int = 12, **changed: Any) -> TrainingRecord:
    """Return a training of a normalised autoencoder without a sign of trouble, but for what is changed: a value of all epochs, or one each."""
    own: dict[str, Any] = {
        "positive": 0.9,
        "negative": 1.0,
        "gap": -0.1,
        "latent_acceptance": 0.6,
        "input_acceptance": 0.5,
        "latent_displacement": 0.4,
        "input_displacement": 0.3,
        "wasserstein": np.where(np.arange(EPOCHS) == best - 1, 1.1, 1.2),
    }
    more = {name: changed.pop(name) for name in ("setbacks", "given_up") if name in changed}
    figures = {name: np.broadcast_to(value, EPOCHS).astype(float) for name, value in (own | changed).items()}
    return TrainingRecord("fold 1", figures, best, "wasserstein", **more)


def encoder(collapse: str = "", *, frozen: bool = False, **changed: float) -> TrainingRecord:
    """Return a training of a contrastive encoder."""
    own = {"alignment": 0.1, "uniformity": -2.0, "rank": 5.0} | changed
    figures = {name: np.full(EPOCHS, value) for name, value in own.items()}
    return TrainingRecord("fold 1", figures, 12, collapse=collapse, frozen=frozen)


RISING = np.where(np.arange(EPOCHS) == 4, 1.1, np.where(np.arange(EPOCHS) > 16, 2.0, 1.2))
SIGNS: dict[str, tuple[TrainingRecord, str]] = {
    "negatives too low": (record(gap=0.6), "negatives have a lower energy than the data (gap +0.6 beside 0.9)"),
    "negatives too high": (record(gap=-2.0), "the chains do not reach where the model has its density"),
    "stuck on the sphere": (record(latent_acceptance=0.02), "the latent chain accepts 2 % of its steps"),
    "stuck in x": (record(input_acceptance=0.0), "the chain of inputs accepts 0 % of its steps and hardly moves"),
    "short steps": (record(input_acceptance=0.99), "A larger input_step and input_noise"),
    "rising": (record(5, wasserstein=RISING), "rises at the end, from 1.1 in epoch 5 to 2:"),
    "still falling": (record(20, wasserstein=np.linspace(3, 1, EPOCHS)), "at its lowest in the last epoch"),
    "never better": (record(1), "at its lowest in the first epoch: this training brought the model no closer"),
    "nothing better": (record(0), "no epoch was better than the start"),
    "diverged": (record(setbacks=(3,)), "the training diverged once (in epoch 3); the epoch was taken back"),
    "often": (record(setbacks=(3, 3, 7)), "diverged 3 times (in epoch 3, 7)"),
    "a point": (
        encoder("point", uniformity=-0.01),
        "has collapsed to a point: different events have the same projection (uniformity -0.01, rank 5)",
    ),
    "a line": (
        encoder("line", rank=1.2),
        "has collapsed to a line: events differ in one direction of the representation alone",
    ),
    "given up": (record(setbacks=(21,) * 5, given_up=True), "until it was given up in epoch 21: a lower learning rate"),
}


@pytest.mark.parametrize("sign", SIGNS)
def test_a_sign_of_trouble_is_said(sign: str) -> None:
    found, words = SIGNS[sign]
    assert [told for told in training_signs(found) if words in told] == training_signs(found)
    assert training_signs(found)


def test_no_trouble_is_said_where_there_is_none() -> None:
    assert training_signs(record()) == []
    # a sampler that corrects nothing takes every step
    assert training_signs(record(latent_acceptance=1.0, input_acceptance=1.0)) == []
    assert training_signs(TrainingRecord("", {"spread": np.ones(3)}, 2)) == []


def stored() -> dict[str, Any]:
    """Return the record of two models that were trained side by side, the second of which stopped after two epochs."""
    return {
        "epochs": 3,
        "best_epoch": [3, 1],
        "select": "distance",
        "monitor": {"distance": [[3.0, 1.0], [2.0, 2.0], [1.0, None]], "spread_of_rows": [[1.0, 1.0]] * 3},
        "setbacks": [2],
        "settings": {"max_epochs": 10, "patience": 2},
    }


def test_records_are_those_of_every_model() -> None:
    first, second = training_records(stored(), "axis")
    assert (first.name, second.name) == ("axis 1", "axis 2")
    np.testing.assert_array_equal(second.figures["distance"], [1.0, 2.0, np.nan])
    assert (first.at_best("distance"), second.at_best("distance"), first.at_best("none")) == (1.0, 1.0, None)
    # it ended before its last epoch and without having waited; the other one had waited
    assert (first.given_up, second.given_up) == (True, False)
    assert first.as_dict()["chosen_by"] == 1.0
    assert training_records({"rows": [100]}, "axis") == []
    assert training_records(stored() | {"monitor": {}}, "axis") == []


def test_every_figure_has_a_panel_and_the_chosen_epoch_is_marked() -> None:
    other = training_records(stored(), "other")
    panels = panels_of([record(), *other])
    assert [panel.label.split(" [")[0].split("\n")[0] for panel in panels][:6] == [
        *("energy", "gap", "acceptance", "latent move", "move of inputs", "Wasserstein")
    ]
    assert [panel.label for panel in panels[6:]] == ["distance", "spread of rows"]
    drawn = training_figure([record(setbacks=(4, 4)), *other])
    _, energy, *_, wasserstein, distance, _ = drawn.axes
    dots = [line.get_xdata() for line in energy.lines if line.get_marker() == "o"]
    assert np.ravel(dots).tolist() == [12, 12]
    assert [line.get_xdata() for line in wasserstein.lines if line.get_marker() == "v"] == [[4]]
    assert np.ravel([line.get_xdata() for line in distance.lines if line.get_marker() == "o"]).tolist() == [3, 1]
    with pytest.raises(InputError, match="no figures of epochs"):
        training_figure([])


def test_images_of_other_sizes_are_refused() -> None:
    images = np.random.default_rng(0).random((2, 3, 4, 6))
    (axes,) = negatives_figure(images, images[0]).axes
    (shown,) = axes.images
    assert shown.get_array().shape == (3 * 6 - 2, 3 * 8 - 2)
    for frames, events in ((images, images[0, :, :3]), (images[0], images[0]), (images[:0], images[0])):
        with pytest.raises(InputError, match=r"\(times, n, rows, columns\) and \(k, rows, columns\) of one size"):
            negatives_figure(frames, events)


def test_an_encoder_has_a_record_of_what_it_collapsed_to_and_panels() -> None:
    training = {
        "monitor": {
            "alignment": [[0.1], [0.2]],
            "uniformity": [[-2.0], [-0.01]],
            "rank": [[5.0], [1.0]],
            "separation": [[1.0], [1.0]],
        },
        "select": None,
        "best_epoch": [2],
        "epochs": 2,
        "collapse": "point",
        "frozen": True,
    }
    (found,) = training_records(training, "model")
    assert (found.collapse, found.frozen) == ("point", True)
    assert found.as_dict()["collapse"] == "point"
    assert found.as_dict()["frozen"] is True
    assert not {"collapse", "frozen"} & encoder().as_dict().keys()
    assert training_signs(encoder()) == []
    assert [panel.label for panel in panels_of([found])] == ["alignment", "separation", "uniformity", "effective rank"]


@pytest.mark.usefixtures("fast_hunt")
def test_a_page_tells_of_an_encoder_and_of_energies_on_top(tmp_path: Path) -> None:
    words = {
        "encoder": "The encoder has learnt from pairs of versions of the same event",
        "frozen": "It was trained before, and taken as it is",
        "energies": "The model draws events of its own (negatives)",
    }
    energies = TrainingRecord("fold 1", record().figures, 12, "wasserstein_mean")
    cases: list[tuple[dict[str, TrainingRecord], set[str]]] = [
        ({"encoder of all axes": encoder()}, {"encoder"}),
        ({"encoder of all axes": encoder(frozen=True), "background": energies}, set(words)),
        ({"background": energies, "near": energies}, {"energies"}),
        ({"near": record()}, set()),
    ]
    for trainings, expected in cases:
        axes = [{"name": name, "models": [own.as_dict()]} for name, own in trainings.items()]
        result: dict[str, Any] = {"configuration": {}, "how_trained": {"axes": axes}}
        write_page(tmp_path / "page.html", HEAD + TRAINED, result, title="page", figure=figures_of(tmp_path))
        page = (tmp_path / "page.html").read_text(encoding="utf-8")
        assert {name for name, said in words.items() if said in page} == expected


@pytest.mark.usefixtures("fast_hunt")
def test_a_page_shows_the_trainings_and_their_signs(tmp_path: Path) -> None:
    trainings = {"background": [record(), record(setbacks=(3,))], "near<b>": [record()]}
    draw_trainings(trainings, tmp_path)
    draw_negatives(np.ones((1, 2, 4, 4)), np.ones((2, 4, 4)), tmp_path)
    axes = [{"name": name, "models": [own.as_dict() for own in records]} for name, records in trainings.items()]
    for template in (HEAD + TRAINED, COUNTING[: COUNTING.index("<h1>")] + TRAINED):
        result: dict[str, Any] = {"configuration": {}, "how_trained": {"axes": axes}}
        write_page(tmp_path / "page.html", template, result, title="page", figure=figures_of(tmp_path))
        page = (tmp_path / "page.html").read_text(encoding="utf-8")
        assert page.count('src="data:image/png') == 3
        assert "triangles epochs that diverged" in page
        assert page.count("the training diverged once (in epoch 3)") == 1
        assert "<td>fold 1</td><td>20</td><td>12</td><td>wasserstein, 1.1</td><td>0</td>" in page
        assert "near&lt;b&gt;: no sign of trouble in these figures" in page
        assert "near<b>" not in page
    write_page(tmp_path / "page.html", HEAD + TRAINED, {"configuration": {}}, title="page", figure=figures_of(tmp_path))
    assert "Training" not in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert TRAINED in COUNTING
