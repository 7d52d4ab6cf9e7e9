"""Optimal transport of jets: all pairs of 200 jets of 30 to 90 particles, exact and Sinkhorn, against POT.

The peers are a loop of POT's `emd2` as its examples write it, POT's kernel alone on costs that are ready (what nothing
that uses this solver can undercut, short of handing it easier problems) and the package `wasserstein`, which needs
numpy < 2 and so a python of its own: `python3 -m venv DIR && DIR/bin/pip install "numpy<2" wasserstein`, and its path in
the environment variable WASSERSTEIN_PYTHON; without it that peer is not measured. All take turns on the same pairs, with
one thread and with as many as there are cores (the loops shared out among as many); a ratio is the median of those of
the turns. Sinkhorn's lines give its rate at each size of batch beside the exact rate of the same pairs with one thread,
and its error: they have no bar, they show where it pays.

The loss between images of 40 x 40 pixels that a network trains with, value and gradient, is measured with one thread
beside POT's exact solver on the same pairs and, where it is installed (`pip install geomloss`), beside GeomLoss at the same
regularisation length, and so is its error.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.__main__ import Unavailable
from hunch.models.distance.clouds import Clouds, clouds_from_constituents
from hunch.models.distance.grid_transport import GridTransport
from hunch.models.distance.sinkhorn import sinkhorn
from hunch.models.distance.transport import wasserstein
from hunch.processors import jet_images, padded_constituents

JETS, FEWER, FEWEST = 200, 100, 20
BATCHES = (1, 8, 32, 128)
REPEATS = 7
IMAGES, SOME, TURNS = 256, 16, 3  # of the loss between images; those that POT is timed on
SMOOTH, BLUR = (1.5, 1.5), 0.1  # pixels: images are smoothed to be like reconstructions; the regularisation length


def jets(n: int) -> Clouds:
    """Return n jets of 30 to 90 particles with unit pT sums."""
    return clouds_from_constituents(particles(n), normalise=True)


def particles(n: int) -> npt.NDArray[np.float64]:
    """Return the pT, eta and phi (n, 90, 3) of jets of 30 to 90 particles; the others have no pT."""
    rng = np.random.default_rng(0)
    made = np.concatenate([rng.exponential(1.0, (n, 90, 1)) ** 2, rng.normal(0, 0.3, (n, 90, 2))], axis=2)
    made[..., 0] *= np.arange(90) < rng.integers(30, 91, (n, 1))
    return made


def shared_out(work: Callable[[int, int], float], pairs: list[tuple[int, int]], threads: int) -> list[float]:
    """Run a peer's loop over the pairs in as many threads."""

    def loop(k: int) -> list[float]:
        return [work(i, j) for i, j in pairs[k::threads]]

    found = [0.0] * len(pairs)
    with ThreadPoolExecutor(threads) as pool:
        for k, part in enumerate(pool.map(loop, range(threads))):
            found[k::threads] = part
    return found


# at equal sums its energy mover's distance is W1 / R, whatever R: nothing is left over that R would charge for
PEER = """
import sys, time
import numpy as np
import wasserstein
jets = np.load(sys.argv[1])
weights, points, starts = jets["weights"], jets["points"], jets["starts"]
events = [np.column_stack([weights[a:b], points[a:b]]) for a, b in zip(starts[:-1], starts[1:])]
for line in sys.stdin:
    solver = wasserstein.PairwiseEMD(R=1.0, beta=1.0, norm=False, num_threads=int(line), verbose=0, throw_on_error=True)
    start = time.perf_counter()
    solver(events)
    distances = solver.emds()
    seconds = time.perf_counter() - start
    np.save(sys.argv[2], distances)
    print("seconds", seconds, flush=True)
"""


class OtherPython:
    """The package `wasserstein` on some jets, in a process of the python that WASSERSTEIN_PYTHON names."""

    def __init__(self, python: str, clouds: Clouds, folder: Path) -> None:
        self.found = folder / "distances.npy"
        np.savez(folder / "jets.npz", weights=clouds.weights, points=clouds.points, starts=clouds.starts)
        command = [python, "-c", PEER, str(folder / "jets.npz"), str(self.found)]
        try:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        except OSError as error:
            raise Unavailable(f"WASSERSTEIN_PYTHON is {python!r}, which cannot be run: {error}") from error

    def __call__(self, threads: int) -> tuple[float, npt.NDArray[np.float64]]:
        """Return the seconds it takes for all pairs, and the distances (n, n)."""
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("the other python has no pipes")
        try:
            self.process.stdin.write(f"{threads}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended: the next lines say so
        answer = ""
        while not answer.startswith("seconds "):
            answer = self.process.stdout.readline()
            if not answer:
                raise Unavailable(f"the python of WASSERSTEIN_PYTHON ended with code {self.process.wait()}; see above")
        return float(answer.split()[1]), np.load(self.found)

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def exact(threads: int) -> list[dict[str, Any]]:
    """Return the lines of exact transport with so many threads: against each peer, and the largest difference."""
    import ot
    from ot.lp.emd_wrap import emd_c

    clouds = jets(JETS)
    few = clouds.take(np.arange(FEWER))
    one = [few.jet(i) for i in range(FEWER)]
    pairs = list(itertools.combinations(range(FEWER), 2))
    costs = {(i, j): ot.dist(one[i][1], one[j][1], "euclidean") for i, j in pairs}
    upper = tuple(np.array(pairs).T)
    seconds: dict[str, list[float]] = {"ours": [], "loop": [], "kernel": []}
    python = os.environ.get("WASSERSTEIN_PYTHON")
    if python:
        seconds["package"] = []
    else:
        print("transport: WASSERSTEIN_PYTHON is not set, the package wasserstein was not measured", file=sys.stderr)
    error = 0.0
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        package = None
        if python:
            package = OtherPython(python, few, Path(folder))
            stack.callback(package.close)
            package(threads)
        wasserstein(few, threads=threads)
        for _ in range(REPEATS):
            start = time.perf_counter()
            ours = wasserstein(few, threads=threads)
            seconds["ours"].append(time.perf_counter() - start)
            if package:
                took, theirs = package(threads)
                seconds["package"].append(took)
                error = max(error, float(np.abs(theirs - ours).max()))
            start = time.perf_counter()
            loop = shared_out(
                lambda i, j: ot.emd2(one[i][0], one[j][0], ot.dist(one[i][1], one[j][1], "euclidean")), pairs, threads
            )
            seconds["loop"].append(time.perf_counter() - start)
            start = time.perf_counter()
            shared_out(lambda i, j: emd_c(one[i][0], one[j][0], costs[i, j], 10**8, 1)[1], pairs, threads)
            seconds["kernel"].append(time.perf_counter() - start)
            error = max(error, float(np.abs(loop - ours[upper]).max()))
    start = time.perf_counter()
    wasserstein(clouds, threads=threads)
    whole = JETS * (JETS - 1) / 2 / (time.perf_counter() - start)
    print(
        f"exact, {threads} threads: {whole:.0f} pairs/s over all {JETS} jets, largest difference {error:.1e}",
        file=sys.stderr,
    )
    name = f"transport_exact_{threads}_threads"
    rates = {peer: len(pairs) / np.array(took) for peer, took in seconds.items()}
    bars = {"loop": 1.0, "kernel": 0.9, "package": 1.0}
    return [
        *(line(f"{name}_{peer}", rates["ours"], rates[peer], bar) for peer, bar in bars.items() if peer in rates),
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


def loss() -> list[dict[str, Any]]:
    """Return the lines of Wass(1) as a loss between images: its rate against the peers', and its mean error."""
    import ot
    from scipy.ndimage import gaussian_filter

    images = jet_images(padded_constituents(particles(IMAGES))).images
    smooth = gaussian_filter(images, (0, *SMOOTH)) + 1e-7
    image, made = (
        torch.from_numpy(x.reshape(IMAGES, -1) / x.sum(axis=(1, 2)).reshape(-1, 1)).float() for x in (images, smooth)
    )
    side = images.shape[1]
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    points = torch.stack([rows.flatten(), columns.flatten()], dim=1).double()
    cost = torch.cdist(points, points).numpy()

    def exact_one(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> float:
        there = x > 0
        return float(ot.emd2(x[there] / x.sum(), y / y.sum(), cost[there], numItermax=10**7))

    peers: dict[str, Callable[[], Any]] = {
        "exact": lambda: [
            exact_one(x, y) for x, y in zip(*(a.detach().double().numpy()[:SOME] for a in (image, made)), strict=True)
        ]
    }
    try:
        from geomloss import SamplesLoss
    except ImportError:
        print("transport: geomloss is not installed, its loss was not measured", file=sys.stderr)
    else:
        theirs = SamplesLoss("sinkhorn", p=1, blur=BLUR, debias=True, backend="tensorized")
        place = points.float().expand(1, -1, -1).contiguous()
        peers["geomloss"] = lambda: theirs(image[:1], place, made[:1].requires_grad_(), place).sum().backward()
    counts = {"exact": SOME, "geomloss": 1}
    grid = GridTransport(side, side, blur=BLUR)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds: dict[str, list[float]] = {name: [] for name in ("ours", *peers)}
        for _ in range(TURNS):
            start = time.perf_counter()
            found = grid(image, made.requires_grad_())
            found.sum().backward()
            seconds["ours"].append(time.perf_counter() - start)
            for name, peer in peers.items():
                start = time.perf_counter()
                peer()
                seconds[name].append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    distance = np.array(peers["exact"]())
    error = float(np.mean(np.abs(found.detach().numpy()[:SOME] - distance)))
    ours = IMAGES / np.array(seconds["ours"])
    return [
        *(line(f"transport_loss_{name}", ours, counts[name] / np.array(seconds[name]), 1.0) for name in peers),
        {
            "name": "transport_loss_error",
            "ours": error,
            "reference": 0.25,
            "ratio": 0.25 / error,
            "bar": 1.0,
            "unit": "pixels",
        },
    ]


def line(name: str, ours: npt.ArrayLike, reference: npt.ArrayLike, bar: float | None) -> dict[str, Any]:
    """Return a line of rates in pairs/s, each of one or more turns: their medians and the median ratio."""
    return {
        "name": name,
        "ours": float(np.median(ours)),
        "reference": float(np.median(reference)),
        "ratio": float(np.median(np.asarray(ours) / reference)),
        "bar": bar,
        "unit": "pairs/s",
    }


def run() -> list[dict[str, Any]]:
    """Return the lines of exact transport, of Sinkhorn and of the loss between images."""
    try:
        import ot  # noqa: F401
    except ImportError as error:
        raise Unavailable("POT is not installed: pip install pot") from error
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    lines = [found for threads in sorted({1, min(cores, 16)}) for found in exact(threads)]
    lines += regularised("cpu")
    lines += loss()
    if torch.cuda.is_available():
        lines += regularised("cuda")
    else:
        print("transport: no CUDA device, Sinkhorn on a GPU was left out", file=sys.stderr)
    return lines
