"""An exported normalised autoencoder scores as torch does: rows, images and sets, both networks, alone and as the axes of a space."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from hunch.models import NAE, Flow, NonFiniteError, NotFittedError, ScorerError, ScorerSpace, ShapeError, load_scorer
from hunch.models.energy.coordinates import fit_coordinates
from hunch.models.energy.networks import SphereAutoencoder
from hunch.models.export.onnx_export import export_onnx
from hunch.models.export.onnx_scorer import OnnxScorer

QUICK: dict[str, Any] = dict.fromkeys(("max_epochs", "nae_epochs", "latent_steps", "input_steps"), 1)
QUICK |= {"batch_size": 64, "replay": 64, "hidden": 10, "channels": 3, "device": "cpu"}
CASES: dict[str, dict[str, Any]] = {
    "rows": {"inputs": "rows"},
    "dense": {"inputs": "images", "normalise": True},
    "conv": {"inputs": "images", "architecture": "conv"},
    "unbounded": {"inputs": "images", "architecture": "conv", "lipschitz": 0.0},
    "sets": {"inputs": "sets"},
    "four-vectors": {"inputs": "sets"},
}


def jets(kind: str, n: int, seed: int, *, numbers: int = 3) -> np.ndarray:
    """Return rows (n, 4), images of two jets (n, 2, 8, 6) that sum to one, or sets (n, 2, 5, numbers) of one to five constituents."""
    rng = np.random.default_rng(seed)
    if kind == "rows":
        x = rng.normal(size=(n, 4))
        x[:, 1] = rng.standard_t(1.5, size=n) * 1e3
        x[:, 2] = np.where(rng.random(n) < 0.5, 0.0, rng.exponential(size=n))
        x[:, 3] = rng.poisson(8.0, size=n)
        return x
    if kind == "images":
        x = rng.exponential(size=(n, 2, 8, 6)) ** 3
        return np.asarray(x / x.sum(axis=(2, 3), keepdims=True))
    x = 0.1 * rng.normal(size=(n, 2, 5, numbers))
    x[..., 0] = 30 * np.exp(10 * x[..., 0])
    x[np.arange(5) >= rng.integers(1, 6, (n, 2))[..., None]] = 0.0
    return x


def events(name: str, n: int, seed: int) -> np.ndarray:
    options = CASES[name]
    found = jets(options["inputs"], n, seed, numbers=4 if name == "four-vectors" else 3)
    return found if options["inputs"] == "rows" else found[:, 0]


def drawn(options: dict[str, Any], x: np.ndarray, seed: int) -> NAE:
    """Return a scorer with the coordinates of events x and drawn networks, whose biases are none of the zeros that a training starts from."""
    nae = NAE(seed=seed, **QUICK, **options)
    nae.coordinates_ = fit_coordinates(nae.inputs, x, seed=0)
    for i, name in enumerate(("network_", "autoencoder_")):
        network = SphereAutoencoder(1, nae._sizes(x.shape[1:]), seed=10 * seed + i, lipschitz=nae.lipschitz).double()
        for bias in network.requires_grad_(requires_grad=False).biases:
            bias.normal_(std=0.3, generator=torch.Generator().manual_seed(seed))
        setattr(nae, name, network)
    return nae


@functools.cache
def fitted(name: str) -> NAE:
    return drawn(CASES[name], events(name, 150, 0), 1)


def space_of(kind: str, priors: list[str], jets_of: np.ndarray, **options: Any) -> ScorerSpace:
    """Return a space of drawn scorers."""
    given = {"inputs": kind, **options}
    x = jets_of if kind == "rows" else jets_of.reshape(-1, *jets_of.shape[2:])
    background, *others = (drawn(given, x, 1 + i) for i in range(1 + len(priors)))
    return ScorerSpace(background, dict(zip(priors, others, strict=True))).fit(
        jets_of, priors=dict.fromkeys(priors, jets_of), fitted=True
    )


@pytest.mark.parametrize("name", CASES)
def test_a_normalised_autoencoder_scores_as_torch_does(name: str, tmp_path: Path) -> None:
    nae, x = fitted(name), events(name, 300, 1)
    x = 7 * x if nae.normalise else x
    for metric in nae.metrics:
        exact = OnnxScorer(export_onnx(nae, tmp_path / "double.onnx", metric=metric))
        close = OnnxScorer(export_onnx(nae, tmp_path / "float.onnx", metric=metric, precision="float"))
        for some in (x, x[:1], x[:0]):
            expected = nae.score(some, metric=metric)
            # an issue asks for 1e-5; rounding is far below it, so that a small mistake shows
            np.testing.assert_allclose(exact.score(some), expected, rtol=1e-12, err_msg=metric)
            np.testing.assert_allclose(close.score(some), expected, rtol=2e-5, err_msg=metric)
    assert not np.allclose(nae.score(x), nae.score(x, metric="autoencoder"), rtol=1e-6)


def test_rows_far_off_score_as_torch_does(tmp_path: Path) -> None:
    nae, x = fitted("rows"), events("rows", 10, 1)
    far = np.concatenate([x * size for size in (1e2, 1e6, 1e290)])
    np.testing.assert_allclose(OnnxScorer(export_onnx(nae, tmp_path / "m.onnx")).score(far), nae.score(far), rtol=1e-12)


@pytest.mark.parametrize("precision", ["double", "float"])
def test_what_stands_in_an_empty_slot_does_not_count(precision: str, tmp_path: Path) -> None:
    nae, x = fitted("sets"), events("sets", 50, 1)
    exported = OnnxScorer(export_onnx(nae, tmp_path / "m.onnx", precision=precision))
    before = exported.score(x)
    empty = np.broadcast_to((x[..., :1] <= 0) & (np.arange(3) > 0), x.shape)
    assert empty.any()
    assert np.array_equal(exported.score(np.where(empty, np.finfo(np.float64).max, x)), before)


def test_the_file_holds_what_it_runs_and_says_what_it_is(tmp_path: Path) -> None:
    """The column map of rows has a Jacobian, which no energy needs."""
    nae = NAE(seed=1, **QUICK, **CASES["rows"]).fit(events("rows", 150, 0))
    nae.save(tmp_path / "scorer")
    path = export_onnx(nae, tmp_path / "m.onnx")
    assert export_onnx(load_scorer(tmp_path / "scorer"), tmp_path / "b.onnx").read_bytes() == path.read_bytes()
    model = onnx.load(path)
    used = {name for node in model.graph.node for name in node.input}
    made = {name for node in model.graph.node for name in node.output} - {"score"}
    assert made | {tensor.name for tensor in model.graph.initializer} | {"x"} == used
    held = {entry.key: entry.value for entry in model.metadata_props}
    assert (held["class"], held["architecture"], held["metric"]) == ("NAE", "dense autoencoder of rows", "energy")
    assert OnnxScorer(export_onnx(fitted("sets"), tmp_path / "s.onnx")).shape == (5, 3)


@pytest.mark.parametrize(
    ("kind", "priors", "ways"),
    [
        ("rows", ["a", "b"], [("energy", "sum")]),
        ("images", [], [(None, "sum"), ("autoencoder", "max")]),
        ("sets", ["a"], [(None, "sum"), ("energy", "max"), ("autoencoder", "concat")]),
    ],
)
def test_spaces_score_as_torch_does(kind: str, priors: list[str], ways: list[tuple[str, str]], tmp_path: Path) -> None:
    space, x = space_of(kind, priors, jets(kind, 150, 0)), jets(kind, 40, 9)
    for metric, way in ways:
        read = space.configured(metric=metric, per_jet=way)
        for score in read.metrics:
            exported = OnnxScorer(export_onnx(read, tmp_path / "m.onnx", metric=score))
            assert exported.axis_names == read.axis_names
            for some in (x, x[:1]):
                np.testing.assert_allclose(exported.score(some), read.score(some, metric=score), rtol=1e-10, atol=1e-12)


def test_an_energy_and_a_density_of_the_same_rows_are_one_graph(tmp_path: Path) -> None:
    x = jets("rows", 150, 0)
    flow = Flow(hidden=4, steps=1, max_epochs=1, device="cpu").fit(x)
    space = ScorerSpace(drawn(CASES["rows"], x, 1), {"near": flow}, metric={"background": "autoencoder"}).fit(
        x, fitted=True
    )
    exported = OnnxScorer(export_onnx(space, tmp_path / "m.onnx"))
    assert exported.metadata["architecture"] == "NAE, Flow"
    np.testing.assert_allclose(
        exported.score(jets("rows", 40, 9)), space.score(jets("rows", 40, 9)), rtol=1e-9, atol=1e-9
    )
    pictures = jets("images", 150, 0)
    mixed = ScorerSpace(drawn({"inputs": "images"}, pictures[:, 0], 1), {"near": flow})
    mixed.fit({"background": pictures, "near": x}, fitted=True)
    with pytest.raises(ScorerError, match="axes take different inputs cannot be exported as ONNX"):
        export_onnx(mixed, tmp_path / "mixed.onnx")


def test_events_of_one_jet_come_with_or_without_its_axis(tmp_path: Path) -> None:
    nae, x = fitted("conv"), jets("images", 150, 3)[:, :1]
    space = space_of("images", [], x, architecture="conv")
    for scorer in (nae, space):
        exported = OnnxScorer(export_onnx(scorer, tmp_path / "m.onnx"))
        assert np.array_equal(exported.score(x), exported.score(x[:, 0]))
        np.testing.assert_allclose(exported.score(x), scorer.score(x), rtol=1e-12)
        with pytest.raises(ShapeError, match=r"events of .*6, 8\), .*8, 6\) are expected"):
            exported.score(np.swapaxes(x[:, 0], 1, 2))
        with pytest.raises(NonFiniteError, match="NaN or infinity in 1 of 150 jets, first 3"):
            exported.score(np.where(np.arange(150)[:, None, None, None] == 3, np.nan, x))


def test_what_cannot_be_exported_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFittedError):
        export_onnx(NAE(), tmp_path / "m.onnx")
    with pytest.raises(ScorerError, match="did you mean 'energy'"):
        export_onnx(fitted("rows"), tmp_path / "m.onnx", metric="energies")
    assert list(tmp_path.iterdir()) == []
