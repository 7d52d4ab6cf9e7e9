"""Speed of the generation of whole events, beside the matrix products alone that its decoder needs, in turns in one run; with and without writing.

The network is that of arXiv:1901.00875: 20 latent dimensions, 6 layers of 128 in the decoder, and lists of 21 objects of 5 numbers, some eight of them filled, as in a channel of
arXiv:2105.14027; its weights are those of a training of some seconds on made-up events, since speed does not depend on them. The floor is the products of all layers in single precision, without biases,
activations, random numbers and the way back to momenta, on blocks that stay in the cache. EVENTS sets how many events are generated (1,000,000); the seconds of ten million are so many times
as long. Wall time on all threads that torch may use, since threads are the point; the processor time of both sides stands beside it, which a shared machine changes less.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hunch.models import EventVae, Sample
from hunch.models.autoencoders.event_generator import BLOCK, EventGenerator
from hunch.models.train.threads import allowed_threads, side_by_side
from hunch.processors import Objects
from hunch.workflow.generate import write_generated

EVENTS = int(os.environ.get("EVENTS", "1000000"))
SLOTS, LATENT, BUFFER = 21, 20, 100_000
TEN_MILLION, BAR_SECONDS, BAR_FLOOR = 10_000_000, 60.0, 0.5
FLOOR_BLOCKS = 64
"""Blocks of a piece of the floor's work."""


def made_up(n: int) -> np.ndarray:
    """Return lists (n, 21, 5) of missing momentum and 4 to 13 objects."""
    rng = np.random.default_rng(0)
    pt = np.sort(25 * np.exp(rng.exponential(0.9, (n, SLOTS))), axis=1)[:, ::-1].copy()
    filled = np.arange(SLOTS) <= rng.integers(4, 14, n)[:, None]
    eta, phi = rng.normal(0, 1, (n, SLOTS)).clip(-2.3, 2.3), rng.uniform(-np.pi, np.pi, (n, SLOTS))
    eta[:, 0] = 0
    category = rng.choice(np.arange(1, 8), size=(n, SLOTS), p=[0.5, 0.2, 0.06, 0.06, 0.06, 0.06, 0.06])
    category[:, 0] = 0
    mass = np.where(np.isin(category, [1, 2]), rng.exponential(0.1, (n, SLOTS)), 0)
    found = np.stack([pt, eta, phi, pt * np.cosh(eta) * np.exp(mass), category], axis=-1)
    return np.where(filled[..., None], found, 0.0)


def generator() -> EventGenerator:
    """Return the generator of a model of a short training, with a buffer of as many entries as the paper's."""
    made = {"representation": "objects", "settings": Objects(layout="list").settings()}
    x = Sample(made_up(4000)[:, None], names=("objects",), made=made)
    vae = EventVae(latent=LATENT, max_epochs=3, buffer=4000, beta=1e-6, device="cpu").fit(x)
    own = EventGenerator(vae=vae)
    wide = own.drawn_around.between(own.drawn_around, BUFFER)
    return EventGenerator(vae=vae, buffer=wide)


def floor(made: EventGenerator, n: int) -> None:
    """Multiply as many rows as n events need with all weights of the decoder, on as many threads."""
    network = made.vae.network_
    assert network is not None
    weights = [p.detach()[0].float().contiguous() for p in list(network.weights)[len(network.weights) // 2 :]]
    x = [torch.randn(BLOCK, len(weight)) for weight in weights]

    def piece(number: int) -> int:
        y = [torch.empty(BLOCK, weight.shape[1]) for weight in weights]
        for _ in range(FLOOR_BLOCKS):
            for start, weight, end in zip(x, weights, y, strict=True):
                torch.mm(start, weight, out=end)
        return number

    pieces = -(-n // (BLOCK * FLOOR_BLOCKS))
    threads = allowed_threads(pieces)
    running = map(piece, range(pieces)) if threads == 1 else side_by_side(piece, threads=threads)
    for _ in range(pieces):
        next(iter(running))


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Return wall and processor time of some work."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def run() -> list[dict[str, Any]]:
    """Return seconds of ten million events against the aims, and processor time against the floor."""
    made = generator()
    made.generate(1000)  # compiles
    found: dict[str, tuple[float, float]] = {}

    def timed(name: str, work: Callable[[], object]) -> None:
        wall, processor = seconds(work)
        known = found.get(name, (np.inf, np.inf))
        found[name] = min(known[0], wall), min(known[1], processor)

    def stream() -> None:
        for _ in made.stream(EVENTS):
            pass

    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            timed("floor", lambda: floor(made, EVENTS))
            timed("generated", stream)
        for end in ("parquet", "root"):
            path = Path(folder) / f"made.{end}"
            timed(end, lambda path=path: write_generated(made, EVENTS, path))
            path.unlink()
    scale = TEN_MILLION / EVENTS
    case = f"{EVENTS} whole events on {allowed_threads(64)} threads, as ten million"

    def row(name: str, of: str, bar: float | None) -> dict[str, Any]:
        ours = found[of][0] * scale
        ratio = BAR_SECONDS / ours
        return {
            "name": f"{case}: {name}",
            "ours": ours,
            "reference": BAR_SECONDS,
            "ratio": ratio,
            "bar": bar,
            "unit": "s",
        }

    def against(name: str, of: str, bar: float | None) -> dict[str, Any]:
        ours, reference = found[of][1] * scale, found["floor"][1] * scale
        told = f"{case}: {name}, processor time against the matrix products alone"
        return {"name": told, "ours": ours, "reference": reference, "ratio": reference / ours, "bar": bar, "unit": "s"}

    return [
        row("in memory", "generated", 1.0),
        row("written as a table (parquet)", "parquet", 1.0),
        row("written as an event file (ROOT)", "root", None),
        against("in memory", "generated", BAR_FLOOR),
        against("written as a table (parquet)", "parquet", None),
        against("written as an event file (ROOT)", "root", None),
    ]
