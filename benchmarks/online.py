"""Exported scorers in ONNX Runtime on one core: events a second against bare matrix products, and one event's latency.

A QUAK space of 4 and of 12 columns, and normalised autoencoders of images of 20 x 20 pixels, dense and convolutional. The products are those of the networks
alone, of a convolution those of its patches, on the same numbers of events, by the faster of numpy and torch on one thread: no masks, biases, activations,
patches, scaling or losses. Rates of both sides are taken in turns, in one run. Latency is that of one event
from call to answer, with its distribution, beside that of one event's products; a busy machine shows up in its tail. Agreement is the largest relative
difference from torch's scores.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks.__main__ import Unavailable
from hunch.models import NAE, Quak
from hunch.models.export.onnx_export import export_onnx
from hunch.models.export.onnx_scorer import OnnxScorer

SPACES = {4: 32, 12: 64}
"""Columns -> hidden width of the default Quak."""
SIDE = 20
ROWS = {"quak": (4096, 16_384), "dense": (4096, 16_384), "conv": (256, 1024)}
TURNS, CALLS = 5, 20_000
AGREEMENT = 1e-5
Layers = list[tuple[int, np.ndarray]]
Calls = dict[str, Callable[[], Any]]


def sample(n: int, width: int, seed: int) -> np.ndarray:
    """Return correlated rows, the last column heavy-tailed: the column map has all its knots."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, width)) @ (np.eye(width) + 0.3 * rng.normal(size=(width, width)))
    x[:, -1] = rng.exponential(size=n) ** 2
    return x


def fitted(width: int) -> Quak:
    """Return the default Quak of two priors and a family, hardly trained: its weights do not change its speed."""
    x = sample(4000, width, 0)
    priors = {"a": x[:2000] + 0.5 * x.std(axis=0), "b": 1.2 * x[2000:]}
    return Quak(device="cpu", max_epochs=1).fit(x, priors=priors)


def images(n: int, seed: int) -> np.ndarray:
    """Return images (n, 20, 20) that sum to one, of some bright pixels."""
    x = np.random.default_rng(seed).exponential(size=(n, SIDE, SIDE)) ** 3
    return np.asarray(x / x.sum(axis=(1, 2), keepdims=True))


def autoencoder(architecture: str) -> NAE:
    """Return a normalised autoencoder of the default sizes, hardly trained."""
    quick = dict.fromkeys(("max_epochs", "nae_epochs", "latent_steps", "input_steps"), 1)
    return NAE(architecture=architecture, device="cpu", batch_size=32, **quick).fit(images(200, 0))


def layers_of(scorer: Quak | NAE) -> Layers:
    """Return how many rows of each matrix (m, in, out) an event is: of a convolution's patches one a pixel."""
    if isinstance(scorer, Quak):
        assert scorer.density_ is not None
        return [(1, w.detach().numpy()) for step in scorer.density_.network.flow.networks for w in step.weights]
    assert scorer.network_ is not None
    found, sizes = [], scorer.network_.sizes
    for number, weight in enumerate(scorer.network_.weights()):
        fine = number < 2 or number >= 2 * scorer.network_.depth - 3
        pixels = 1 if weight.dim() == 3 else sizes.numbers if fine else sizes.coarse
        found.append((pixels, (weight if weight.dim() == 3 else weight.flatten(2).transpose(1, 2)).numpy()))
    return found


def products(layers: Layers, n: int, dtype: Any) -> Calls:
    """Return the networks' matrix products on n events, by numpy and by torch."""
    rng = np.random.default_rng(0)
    sets = []
    kept: dict[tuple[int, ...], np.ndarray] = {}
    for rows, weight in layers:
        m, width, out = weight.shape
        for shape in ((m, n * rows, width), (m, n * rows, out)):
            if shape not in kept:
                kept[shape] = rng.normal(size=shape).astype(dtype)
        sets.append((kept[m, n * rows, width], weight.astype(dtype), kept[m, n * rows, out]))
    tensors = [tuple(map(torch.from_numpy, arrays)) for arrays in sets]
    outputs = [np.empty_like(out) for _, _, out in sets]
    torch_outputs = [torch.empty_like(out) for _, _, out in tensors]

    def by_numpy() -> None:
        for (x, w, _), out in zip(sets, outputs, strict=True):
            np.matmul(x, w, out=out)

    def by_torch() -> None:
        for (x, w, _), out in zip(tensors, torch_outputs, strict=True):
            torch.bmm(x, w, out=out)

    return {"numpy": by_numpy, "torch": by_torch}


def fastest(calls: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Return each call's shortest time in seconds, taken in turns."""
    best = dict.fromkeys(calls, np.inf)
    for call in calls.values():
        call()
    for _ in range(TURNS):
        for name, call in calls.items():
            for _ in range(3):
                start = time.perf_counter()
                call()
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def latencies(call: Callable[[int], Any]) -> np.ndarray:
    """Return the times (CALLS,) of a call, told its number, in microseconds, after 1,000 to warm up."""
    times = np.empty(CALLS + 1000)
    for i in range(len(times)):
        start = time.perf_counter_ns()
        call(i)
        times[i] = time.perf_counter_ns() - start
    return times[1000:] / 1e3


def line(
    name: str, ours: float, reference: float | None, ratio: float | None, bar: float | None, unit: str
) -> dict[str, Any]:
    return {"name": name, "ours": ours, "reference": reference, "ratio": ratio, "bar": bar, "unit": unit}


def run() -> list[dict[str, Any]]:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise Unavailable(f"needs onnx and onnxruntime: {error}") from error
    lines = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1), tempfile.TemporaryDirectory() as folder:
            for width, hidden in SPACES.items():
                quak = fitted(width)
                assert quak.stacked(width).hidden == hidden
                draw = partial(sample, width=width)
                lines += of_scorer(quak, draw, ROWS["quak"], Path(folder), f"online.{width}_columns")
            for architecture in ("dense", "conv"):
                nae = autoencoder(architecture)
                name = f"online.nae_{architecture}_{SIDE}x{SIDE}"
                lines += of_scorer(nae, images, ROWS[architecture], Path(folder), name)
    finally:
        torch.set_num_threads(threads)
    return lines


def of_scorer(
    scorer: Quak | NAE, draw: Callable[..., np.ndarray], rows: tuple[int, ...], folder: Path, name: str
) -> list[dict[str, Any]]:
    """Return the lines of a scorer exported in both precisions; draw: n and a seed -> events."""
    lines = []
    for precision in ("double", "float"):
        exported = OnnxScorer(export_onnx(scorer, folder / "scorer.onnx", precision=precision))
        lines += measured(scorer, exported, draw, rows, f"{name}.{precision}")
    return lines


def measured(
    scorer: Quak | NAE, exported: OnnxScorer, draw: Callable[..., np.ndarray], rows: tuple[int, ...], name: str
) -> list[dict[str, Any]]:
    """Return the lines of one exported scorer."""
    lines, layers = [], layers_of(scorer)
    bar = 0.5 if isinstance(scorer, Quak) else None
    for n in rows:
        x = draw(n, seed=1).astype(exported.dtype)

        def ours(x: np.ndarray = x) -> None:
            for first in range(0, len(x), exported.rows):
                exported.session.run(["score"], {"x": x[first : first + exported.rows]})

        times = fastest({"ours": ours, **products(layers, n, exported.dtype)})
        bare = min(times["numpy"], times["torch"])
        lines.append(line(f"{name}.rows_{n}", n / times["ours"], n / bare, bare / times["ours"], bar, "events/s"))
    x = draw(5000, seed=2).astype(exported.dtype)
    events = [{"x": event[None]} for event in x]
    took = latencies(lambda i: exported.session.run(["score"], events[i % len(events)]))
    # the median tells which of the two is the floor
    alone = min(
        (latencies(lambda _, call=call: call()) for call in products(layers, 1, exported.dtype).values()), key=np.median
    )
    for label, level in (("median", 0.5), ("99.9%", 0.999)):
        own, bare = (float(np.quantile(times, level)) for times in (took, alone))
        lines.append(line(f"{name}.latency_{label}", own, bare, bare / own, None, "us"))
    expected, found = scorer.score(x), exported.score(x)
    if exported.dtype is np.float64 or isinstance(scorer, NAE):
        worst = float(np.max(np.abs(found - expected) / np.abs(expected)))
        exact = exported.dtype is np.float64
        reference = AGREEMENT if exact else None
        lines.append(line(f"{name}.agreement", worst, reference, AGREEMENT / worst, 1.0 if exact else None, "relative"))
    else:
        lines.append(line(f"{name}.agreement", float(np.max(np.abs(found - expected))), None, None, None, "nats"))
    return lines
