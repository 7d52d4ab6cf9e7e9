"""The command line in this process, and a small file of events for it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from hunch.cli import main


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs the command line with some arguments and returns exit status, stdout and stderr."""

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


@pytest.fixture
def write_jets() -> Callable[[Path], Path]:
    """Return a function that writes two events of two jets and one of a single jet."""
    return written_jets


def written_jets(path: Path) -> Path:
    """Write two events of two jets and one of a single jet."""
    particles = ak.zip({"pt": [[100.0, 90.0], [80.0], [70.0, 60.0]], "eta": [[0.0, 0.5], [0.0], [0.1, 0.2]],
                        "phi": [[0.0, 3.0], [1.0], [0.0, 3.1]]})  # fmt: skip
    identity = {name: np.arange(1, 4) for name in ("run", "luminosityBlock", "event")}
    with uproot.recreate(path) as file:
        file.mktree("Events", {**dict.fromkeys(identity, "int64"), "PFCands": particles.type})
        file["Events"].extend({**identity, "PFCands": particles})
    return path
