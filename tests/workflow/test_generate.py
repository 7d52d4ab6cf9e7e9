"""Generated whole events in files: what `hunch process` reads of an event file are the events that were generated, and `hunch generate` says what is wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hunch.cli import main
from hunch.errors import HunchError, InputError
from hunch.models import EventVae, Sample, load_scorer
from hunch.models.autoencoders.event_generator import EventGenerator
from hunch.processors import Objects, Running, run_table
from hunch.table import read_table, table_info
from hunch.workflow.generate import event_generator, write_generated

N = 300
OPTIONS: dict[str, Any] = {"max_epochs": 2, "latent": 4, "hidden": 16, "blocks": 1, "batch_size": 64, "device": "cpu"}
LAYOUTS = {"list": Objects(layout="list", max_objects=6), "classes": Objects(max_electrons=1, max_muons=1, max_jets=4)}


def events(layout: str) -> np.ndarray:
    """Events (n, 7, 5) in a list or (n, 7, 3) in classes, inside the acceptance of both."""
    rng = np.random.default_rng(0)
    pt = np.sort(25 * np.exp(rng.exponential(0.8, (N, 7))), axis=1)[:, ::-1].copy()
    filled = np.arange(7) <= rng.integers(2, 7, N)[:, None]
    eta, phi = rng.uniform(-2, 2, (N, 7)), rng.uniform(-np.pi, np.pi, (N, 7))
    eta[:, 0] = 0
    category = rng.choice([1, 2, 3, 4, 5, 6, 7], size=(N, 7))
    category[:, 0] = 0
    mass = np.where(np.isin(category, [1, 2]), rng.exponential(0.2, (N, 7)), 0)
    parts = [pt, eta, phi, pt * np.cosh(eta) * np.exp(mass), category]
    return np.where(filled[..., None], np.stack(parts[: 5 if layout == "list" else 3], axis=-1), 0.0)


@pytest.fixture(scope="module", params=list(LAYOUTS))
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Return the layout and the folder of a VAE that was trained on it."""
    own = LAYOUTS[request.param]
    sample = Sample(
        events(request.param)[:, None],
        names=("objects",),
        made={"representation": "objects", "settings": own.settings()},
    )
    folder = tmp_path_factory.mktemp("vae") / "vae"
    EventVae(**OPTIONS, buffer=200).fit(sample).save(folder)
    return request.param, folder


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hunch", "--quiet", *arguments])
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = int(stop.code or 0)
        out, err = capfd.readouterr()
        return status, out, err

    return run


def test_an_event_file_processed_is_what_was_generated(stored: tuple[str, Path], tmp_path: Path) -> None:
    layout, folder = stored
    found = event_generator(folder, gamma=0.3)
    assert found is not None
    generator, names, made = found
    path = tmp_path / "made.root"
    counts = write_generated(generator, 2000, path, names=names, made=made, seed=3)
    assert counts.events == 16_384
    expected = generator.generate(2000, seed=3).events
    table = run_table(path, LAYOUTS[layout], Running(executor="iterative", progress=False)).table
    assert len(table) == 2000
    np.testing.assert_allclose(table["objects"], expected, rtol=2e-6, atol=1e-6)
    np.testing.assert_array_equal(table["met"], expected[:, 0, 0])
    if layout == "list":
        assert set(np.unique(expected[:, 1:, 4])) == set(range(8))
    else:
        assert generator.layout.classes == {"e": 1, "mu": 2, "jet": 3}


def test_a_table_holds_the_same_events_and_says_how_they_were_made(stored: tuple[str, Path], tmp_path: Path) -> None:
    layout, folder = stored
    generator, names, made = event_generator(folder, alpha=0.5, gamma=0.1, where={"n_jet": (1, 9)}) or (None, (), {})
    assert isinstance(generator, EventGenerator)
    path = tmp_path / "made.parquet"
    write_generated(generator, 20_000, path, names=names, made=made, seed=1)
    table = read_table(path)
    np.testing.assert_array_equal(table["objects"], generator.generate(20_000, seed=1).events)
    metadata = table_info(path).metadata
    assert metadata["settings"]["layout"] == layout
    assert metadata["generated"]["where"] == {"n_jet": [1, 9]}
    assert metadata["generated"]["alpha"] == 0.5
    # the model scores its own events from that table
    scores = load_scorer(folder).score(Sample(table["objects"][:50, None].astype(float), names=("objects",)))
    assert np.isfinite(scores).all()


def test_the_command_writes_events_of_a_window(
    stored: tuple[str, Path], tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    _, folder = stored
    path = tmp_path / "made.root"
    status, out, err = call(
        "generate", str(folder), "-n", "500", "-o", str(path), "--where", "n_jet=2:inf", "--gamma", "0.2"
    )
    assert (status, err) == (0, "")
    assert "500 events of" in out
    assert "rejected" in out
    table = run_table(path, LAYOUTS[stored[0]], Running(executor="iterative", progress=False)).table
    assert len(table) == 500
    assert (table["n_jet"] >= 2).all()
    prior = tmp_path / "prior.parquet"
    assert call("generate", str(folder), "-n", "20", "-o", str(prior), "--prior")[0] == 0
    assert len(read_table(prior)) == 20


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--where", "met=5"], "--where 'met=5': QUANTITY=LOW:HIGH is expected"),
        (["--where", "=1:2"], "QUANTITY=LOW:HIGH is expected"),
        (["--where", "met=9e5:inf"], "where: met=900000:inf: none of the 200 events of the buffer lies in or near"),
        (["--where", "mass=1:2"], "no quantity 'mass' of an event; allowed: met, ht"),
        (["--gamma", "-1"], "gamma is -1.0, allowed: a number from 0 on"),
        (["--prior", "--gamma", "0.1"], "--prior: draws have the spread of the prior"),
        (["--axis", "w"], "axis 'w': EventVae is one model"),
    ],
)
def test_wrong_calls_say_what_is_allowed(
    stored: tuple[str, Path],
    tmp_path: Path,
    call: Callable[..., tuple[int, str, str]],
    arguments: list[str],
    told: str,
) -> None:
    status, _, err = call("generate", str(stored[1]), "-n", "5", "-o", str(tmp_path / "a.root"), *arguments)
    assert status == 2
    assert told in err
    assert not list(tmp_path.iterdir())


def test_events_of_no_known_class_are_no_event_file(tmp_path: Path) -> None:
    vae = EventVae(**OPTIONS, buffer=100).fit(events("classes"))
    generator = EventGenerator(vae=vae)
    with pytest.raises(InputError, match=r"what these events were made of is not known.*write a table"):
        write_generated(generator, 5, tmp_path / "a.root")
    with pytest.raises(HunchError, match=r"ends in \.parquet or \.root"):
        write_generated(generator, 5, tmp_path / "a.csv")
    write_generated(generator, 5, tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet")["objects"].shape == (5, 7, 3)
