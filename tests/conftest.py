"""Fixtures for all rooms: files this project did not make, and a seeded generator."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Find a file of ../shared/data (or $HUNCH_SHARED/data); skip where it is absent, fail where CI requires it."""
    folder = Path(os.environ.get("HUNCH_SHARED", ROOT.parent / "shared")) / "data"

    def find(name: str) -> Path:
        path = folder / name
        if path.exists():
            return path
        reason = f"{path} is not there: set HUNCH_SHARED to the folder that holds data/{name}"
        if os.environ.get("HUNCH_REQUIRE_SHARED"):
            pytest.fail(reason)
        pytest.skip(reason)

    return find


@pytest.fixture
def rng() -> np.random.Generator:
    """Return the generator every test draws from."""
    return np.random.default_rng(20260611)


@pytest.fixture
def heeds_interrupts() -> Callable[[], None]:
    """Return a `preexec_fn` that undoes an ignored SIGINT, which children of a background job inherit."""

    def restore() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return restore


@pytest.fixture
def small_family(monkeypatch: pytest.MonkeyPatch) -> None:
    """Search a family of a tenth of the hypotheses: what is tested is what happens around it."""
    from hunch.models.density import family as morphing
    from hunch.models.density import quak

    monkeypatch.setattr(morphing, "BROAD", 40)
    monkeypatch.setattr(morphing, "REFINED", 20)
    monkeypatch.setattr(quak, "FAMILY_EVENTS", 4_000)


@pytest.fixture
def fast_hunt(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out of a hunt what other tests see and takes two thirds of its time: pyhf's q0, the uniformity check, all
    but one of the other background functions, drawing.

    Figures are made, and files with nothing but the beginning of a PNG are written for them. A slow test hunts in full.
    """
    if request.node.get_closest_marker("slow"):
        return
    monkeypatch.setattr("hunch.analysis.spectrum_hunt.q0_row", lambda found, _: (None,) * len(found.masses))
    monkeypatch.setattr("hunch.analysis.spectrum_hunt.local_p_uniformity", lambda *_, **__: ())
    monkeypatch.setattr("hunch.analysis.goodness.envelope.ALTERNATIVES", ("exponential",))
    monkeypatch.setattr(
        "matplotlib.figure.Figure.savefig", lambda _, path, **__: Path(path).write_bytes(b"\x89PNG\r\n\x1a\n")
    )


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Give the package's logger back as it was: a command sets it up for its own standard error."""
    logger = logging.getLogger("hunch")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before
