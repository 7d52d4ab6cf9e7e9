"""An exported QUAK space in ONNX Runtime on one core: rows a second against bare matrix products, and one row's latency.

The products are those of the networks alone, on the same numbers of rows, by the faster of numpy and torch on one
thread: no masks, biases, activations, scaling or losses. Both sides in turns, in one run. Latency is that of one row
from call to answer, with its distribution; a busy machine shows up in its tail. Agreement is the largest relative
difference from torch's scores.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks.__main__ import Unavailable
from hunch.models import Quak
from hunch.models.export.onnx_export import export_onnx
from hunch.models.export.onnx_scorer import OnnxScorer

SPACES = {4: 32, 12: 64}
"""Columns -> hidden width of the default Quak."""
ROWS = (4096, 16_384)
TURNS, CALLS = 5, 20_000
AGREEMENT = 1e-5


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


def products(quak: Quak, n: int, dtype: Any) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return the networks' matrix products on n rows, by numpy and by torch."""
    assert quak.density_ is not None
    steps = quak.density_.network.flow.networks
    rng = np.random.default_rng(0)
    weights = [weight.detach().numpy().astype(dtype) for network in steps for weight in network.weights]
    inputs = {w.shape[1]: rng.normal(size=(len(w), n, w.shape[1])).astype(dtype) for w in weights}
    outputs = {w.shape[2]: np.empty((len(w), n, w.shape[2]), dtype) for w in weights}
    pairs = [(inputs[w.shape[1]], w, outputs[w.shape[2]]) for w in weights]
    tensors = [tuple(torch.from_numpy(a) for a in pair) for pair in pairs]

    def by_numpy() -> None:
        for x, w, out in pairs:
            np.matmul(x, w, out=out)

    def by_torch() -> None:
        for x, w, out in tensors:
            torch.bmm(x, w, out=out)

    return by_numpy, by_torch


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


def latencies(scorer: OnnxScorer, x: np.ndarray) -> np.ndarray:
    """Return the times (CALLS,) of scoring one row, in microseconds, after 1,000 to warm up."""
    rows = [{"x": row[None]} for row in x.astype(scorer.dtype)]
    times = np.empty(CALLS + 1000)
    for i in range(len(times)):
        start = time.perf_counter_ns()
        scorer.session.run(["score"], rows[i % len(rows)])
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
                for precision in ("double", "float"):
                    exported = OnnxScorer(export_onnx(quak, Path(folder) / "quak.onnx", precision=precision))
                    lines += measured(quak, exported, width, f"online.{width}_columns.{precision}")
    finally:
        torch.set_num_threads(threads)
    return lines


def measured(quak: Quak, exported: OnnxScorer, width: int, name: str) -> list[dict[str, Any]]:
    """Return the lines of one exported scorer."""
    lines = []
    for n in ROWS:
        x = sample(n, width, 1).astype(exported.dtype)
        by_numpy, by_torch = products(quak, n, exported.dtype)
        times = fastest(
            {"ours": lambda x=x: exported.session.run(["score"], {"x": x}), "numpy": by_numpy, "torch": by_torch}
        )
        bare = min(times["numpy"], times["torch"])
        lines.append(line(f"{name}.rows_{n}", n / times["ours"], n / bare, bare / times["ours"], 0.5, "rows/s"))
    x = sample(5000, width, 2).astype(exported.dtype)
    times_us = latencies(exported, x)
    for label, level in (("median", 0.5), ("99.9%", 0.999)):
        lines.append(line(f"{name}.latency_{label}", float(np.quantile(times_us, level)), None, None, None, "us"))
    expected = quak.score(x)
    found = exported.score(x)
    if exported.dtype is np.float64:
        worst = float(np.max(np.abs(found - expected) / np.abs(expected)))
        lines.append(line(f"{name}.agreement", worst, AGREEMENT, AGREEMENT / worst, 1.0, "relative"))
    else:
        lines.append(line(f"{name}.agreement", float(np.max(np.abs(found - expected))), None, None, None, "nats"))
    return lines
