"""Event files made on the fly, and the LHC Olympics sample as an event file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np
import pytest
import uproot

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Events = list[list[tuple[float, ...]]]


def write_tree(path: Path, branches: dict[str, Any], *, tree: str = "Events") -> Path:
    """Write a TTree; jagged branches are lists of lists or awkward arrays, flat ones numpy arrays."""
    kinds = {name: v.type if isinstance(v, ak.Array) else v.dtype for name, v in branches.items()}
    with uproot.recreate(path) as file:
        file.mktree(tree, kinds)
        file[tree].extend(branches)
    return path


@pytest.fixture
def write_events(tmp_path: Path) -> Callable[..., Path]:
    """Write events given as lists of (pt, eta, phi[, mass[, charge]]) to an event file in the test's folder."""

    def write(name: str, events: Events, *, fields: tuple[str, ...] = ("pt", "eta", "phi"), **flat: Any) -> Path:
        n = len(events)
        counts = np.array([len(event) for event in events], dtype=np.int64)
        values = np.array([p for event in events for p in event], dtype=np.float64).reshape(-1, len(fields))
        particles = ak.zip({f: ak.unflatten(values[:, i], counts) for i, f in enumerate(fields)})
        identity = {
            "run": np.ones(n, dtype=np.uint32),
            "luminosityBlock": np.ones(n, dtype=np.uint32),
            "event": np.arange(n, dtype=np.uint64),
        }
        given = {key: np.asarray(value) for key, value in flat.items()}  # the identity may be given too
        return write_tree(tmp_path / name, {**identity, **given, "PFCands": particles})

    return write


@pytest.fixture
def random_events(rng: np.random.Generator) -> Callable[[int], Events]:
    """Make events of two back-to-back sprays of massless particles, wide enough in phi to cross +-pi often."""

    def make(n: int) -> Events:
        events = []
        for _ in range(n):
            axis, eta = rng.uniform(-np.pi, np.pi), rng.uniform(-1, 1, size=2)
            event = []
            for side in (0, 1):
                size = int(rng.integers(8, 30))
                pt = rng.exponential(20.0, size) + 1.0
                spread = rng.normal(0.0, 0.25, (2, size))
                phi = (axis + side * np.pi + spread[0] + np.pi) % (2 * np.pi) - np.pi
                event += list(zip(pt, eta[side] + spread[1], phi, strict=True))
            events.append([tuple(map(float, p)) for p in event])
        return events

    return make


@pytest.fixture(scope="session")
def lhco_file(shared_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Convert the 1000 public LHC Olympics events: pt, eta, phi of the particles and the label as truth_signal."""
    import tables

    with tables.open_file(str(shared_data("lhco_events_tiny.h5"))) as file:
        block = file.root.df.block0_values[:]
    particles = block[:, :2100].reshape(-1, 700, 3)
    real = particles[:, :, 0] > 0
    counts = real.sum(axis=1)
    jagged = {name: ak.unflatten(particles[:, :, i][real], counts) for i, name in enumerate(("pt", "eta", "phi"))}
    n = len(block)
    return write_tree(
        tmp_path_factory.mktemp("lhco") / "lhco.root",
        {
            "run": np.ones(n, dtype=np.uint32),
            "luminosityBlock": np.ones(n, dtype=np.uint32),
            "event": np.arange(n, dtype=np.uint64),
            "truth_signal": block[:, 2100].astype(np.uint8),
            "PFCands": ak.zip(jagged),
        },
    )
