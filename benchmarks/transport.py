"""Optimal transport of jets: all pairs of 200 jets of 30 to 90 particles, exact and Sinkhorn, against POT.

The peers are a loop of POT's `emd2` as its examples write it, and POT's kernel alone on costs that are ready: what
nothing that uses this solver can undercut. Both and ours take turns on the same pairs, with one thread and with as many
as there are cores (the peers' loops shared out among as many). The package `wasserstein` cannot be installed beside this
project's numpy. Sinkhorn's lines give its rate at each size of batch beside the exact rate of the same pairs with one
thread, and its error: they have no bar, they show where it pays.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from benchmarks.__main__ import Unavailable
from hunch.models.clouds import Clouds, clouds_from_constituents
from hunch.models.sinkhorn import sinkhorn
from hunch.models.transport import wasserstein

JETS, FEWER, FEWEST = 200, 100, 20
BATCHES = (1, 8, 32, 128)
REPEATS = 3


def jets(n: int) -> Clouds:
    """Return n jets of 30 to 90 particles with unit pT sums."""
    rng = np.random.default_rng(0)
    made = np.concatenate([rng.exponential(1.0, (n, 90, 1)) ** 2, rng.normal(0, 0.3, (n, 90, 2))], axis=2)
    made[..., 0] *= np.arange(90) < rng.integers(30, 91, (n, 1))
    return clouds_from_constituents(made, normalise=True)


def shared_out(work: Callable[[int, int], float], pairs: list[tuple[int, int]], threads: int) -> list[float]:
    """Run a peer's loop over the pairs in as many threads."""

    def loop(k: int) -> list[float]:
        return [work(i, j) for i, j in pairs[k::threads]]

    found = [0.0] * len(pairs)
    with ThreadPoolExecutor(threads) as pool:
        for k, part in enumerate(pool.map(loop, range(threads))):
            found[k::threads] = part
    return found


def exact(threads: int) -> list[dict[str, Any]]:
    """Return the lines of exact transport with so many threads: against the loop, against the kernel, the error."""
    import ot
    from ot.lp.emd_wrap import emd_c

    clouds = jets(JETS)
    few = Clouds(
        clouds.weights[: clouds.starts[FEWER]], clouds.points[: clouds.starts[FEWER]], clouds.starts[: FEWER + 1]
    )
    one = [clouds.jet(i) for i in range(JETS)]
    pairs = list(itertools.combinations(range(FEWER), 2))
    costs = {(i, j): ot.dist(one[i][1], one[j][1], "euclidean") for i, j in pairs}
    wasserstein(few, threads=threads)
    rates: dict[str, list[float]] = {"ours": [], "loop": [], "kernel": []}
    error = 0.0
    for _ in range(REPEATS):
        start = time.perf_counter()
        ours = wasserstein(few, threads=threads)
        rates["ours"].append(len(pairs) / (time.perf_counter() - start))
        start = time.perf_counter()
        loop = shared_out(
            lambda i, j: ot.emd2(one[i][0], one[j][0], ot.dist(one[i][1], one[j][1], "euclidean")), pairs, threads
        )
        rates["loop"].append(len(pairs) / (time.perf_counter() - start))
        start = time.perf_counter()
        shared_out(lambda i, j: emd_c(one[i][0], one[j][0], costs[i, j], 10**8, 1)[1], pairs, threads)
        rates["kernel"].append(len(pairs) / (time.perf_counter() - start))
        error = max(error, float(np.abs(np.array(loop) - [ours[i, j] for i, j in pairs]).max()))
    start = time.perf_counter()
    wasserstein(clouds, threads=threads)
    whole = JETS * (JETS - 1) / 2 / (time.perf_counter() - start)
    print(
        f"exact, {threads} threads: {whole:.0f} pairs/s over all {JETS} jets, largest error {error:.1e}",
        file=sys.stderr,
    )
    best = {name: max(found) for name, found in rates.items()}
    name = f"transport_exact_{threads}_threads"
    return [
        line(f"{name}_loop", best["ours"], best["loop"], 1.0),
        line(f"{name}_kernel", best["ours"], best["kernel"], 0.9),
        {
            "name": f"{name}_error",
            "ours": error,
            "reference": 1e-6,
            "ratio": 1e-6 / max(error, 1e-16),
            "bar": 1.0,
            "unit": "d",
        },
    ]


def regularised(device: str) -> list[dict[str, Any]]:
    """Return Sinkhorn's lines on one device: its rate at each size of batch, and its median error."""
    clouds = jets(FEWEST if device == "cpu" else JETS)
    pairs = len(clouds) * (len(clouds) - 1) / 2
    lines = []
    for batch in BATCHES if device == "cpu" else (*BATCHES[2:], 1024, 8192):
        start = time.perf_counter()
        reference = wasserstein(clouds, threads=1)
        middle = time.perf_counter()
        found = sinkhorn(clouds, batch=batch, device=device)
        seconds = time.perf_counter() - middle
        lines.append(
            line(f"transport_sinkhorn_{device}_batch_{batch}", pairs / seconds, pairs / (middle - start), None)
        )
    above = reference > 0
    error = float(np.median(np.abs(found.distance[above] / reference[above] - 1)))
    print(f"sinkhorn, {device}: {found.converged.mean():.1%} converged to 2 %", file=sys.stderr)
    name = f"transport_sinkhorn_{device}_error"
    return [*lines, {"name": name, "ours": error, "reference": 0.01, "ratio": 0.01 / error, "bar": 1.0, "unit": ""}]


def line(name: str, ours: float, reference: float, bar: float | None) -> dict[str, Any]:
    """Return a line of rates in pairs/s."""
    return {
        "name": name,
        "ours": ours,
        "reference": reference,
        "ratio": ours / reference,
        "bar": bar,
        "unit": "pairs/s",
    }


def run() -> list[dict[str, Any]]:
    """Return the lines of exact transport and of Sinkhorn."""
    try:
        import ot  # noqa: F401
    except ImportError as error:
        raise Unavailable("POT is not installed: pip install pot") from error
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    lines = [found for threads in sorted({1, min(cores, 16)}) for found in exact(threads)]
    lines += regularised("cpu")
    if torch.cuda.is_available():
        lines += regularised("cuda")
    else:
        print("transport: no CUDA device, Sinkhorn on a GPU was left out", file=sys.stderr)
    return lines
