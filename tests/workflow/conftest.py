"""Event files of a falling dijet spectrum, small enough for a whole search in seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import awkward as ak
import numpy as np
import pytest

from hunch.samples import event_writer

Maker = Callable[..., Path]


def dijets(rng: np.random.Generator, n: int, *, prongs: int, mass: float | None = None) -> ak.Array:
    """Return the candidates of n events of two back-to-back jets of `prongs` narrow sprays each.

    The dijet mass falls as a power from 2 TeV, or is a peak at `mass` (GeV) of 3 %.
    """
    mjj = 2000 * (1 - rng.random(n)) ** (-1 / 6) if mass is None else rng.normal(mass, 0.03 * mass, n)
    per_prong = 8
    eta = np.repeat(rng.normal(0.0, 0.3, (n, 1)), 2, axis=1)
    axis = rng.uniform(-np.pi, np.pi, n)
    offset = 0.35 * rng.normal(size=(n, 2, prongs, 1, 2)) * (prongs > 1)
    spread = offset + 0.06 * rng.normal(size=(n, 2, prongs, per_prong, 2))
    share = rng.dirichlet(np.full(prongs * per_prong, 2.0), (n, 2)).reshape(n, 2, prongs, per_prong)
    pt = 0.5 * mjj[:, None, None, None] * share
    phi = axis[:, None, None, None] + np.pi * np.arange(2)[None, :, None, None] + spread[..., 1]
    values = {
        "pt": pt,
        "eta": eta[:, :, None, None] + spread[..., 0],
        "phi": (phi + np.pi) % (2 * np.pi) - np.pi,
        "mass": np.zeros_like(pt),
    }
    kept = rng.random((n, pt[0].size)) < 0.8
    counts = kept.sum(axis=1)
    flat = {name: v.reshape(n, -1)[kept].astype(np.float32) for name, v in values.items()}
    return ak.zip({name: ak.unflatten(v, counts) for name, v in flat.items()})


@pytest.fixture
def make_events(tmp_path: Path) -> Maker:
    """Return a function that writes n events of a seed to a file: QCD-like, or a resonance of two prongs a jet."""

    def make(
        name: str, n: int, seed: int, *, prongs: int = 1, mass: float | None = None, parts: tuple[int, ...] = ()
    ) -> Path:
        rng = np.random.default_rng(seed)
        made = dijets(rng, n, prongs=prongs, mass=mass)
        with event_writer(tmp_path / name, charged=False, truth=False, weighted=False) as writer:
            writer.write(made, truth_signal=None)
        return tmp_path / name

    return make


@pytest.fixture
def merged(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes the events of files, their numbers too, one after another into a new file."""
    import uproot

    def merge(name: str, *files: Path) -> Path:
        parts = []
        for path in files:
            with uproot.open(path) as file:
                parts.append(file["Events"].arrays())
        whole = ak.concatenate(parts)
        fields = ("pt", "eta", "phi", "mass")
        particles = ak.zip({f: whole[f"PFCands_{f}"] for f in fields})
        identity = {n: ak.to_numpy(whole[n]) for n in ("run", "luminosityBlock", "event")}
        with uproot.recreate(tmp_path / name) as file:
            file.mktree("Events", {**{n: v.dtype for n, v in identity.items()}, "PFCands": particles.type})
            file["Events"].extend({**identity, "PFCands": particles})
        return tmp_path / name

    return merge
