"""Speed of a search with jet images and a convolutional VAE, and of one with the representations of an encoder, beside its two parts alone.

Ours is `run_search` over an event file in this process. The reference is the time that the same chunks take to become images, or constituents,
and nothing else, and the time that the trained space takes for all of them at once; in turns in one run. The encoder is a `JetCLR` of width 128 with 2 layers, of 30
constituents, with a `Quak` on 8 numbers a jet; an event has two jets. Times are the processor's, so that rates are of one core.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from hunch.analysis import fix_regions
from hunch.folds import fold_plan
from hunch.models.space import Sample, load_space, make_space
from hunch.processors import (
    Constituents,
    Images,
    Running,
    TableProcessor,
    read_inputs,
    run_search,
    run_table,
    sample_of,
)
from hunch.processors.chunks import Representation
from hunch.processors.runner import open_files, process_files

from .process import CHUNK, repeat, sample

EVENTS, ROUNDS, BAR = 2_000, 2, 0.8
EDGES = (1000.0, 2000.0, 3000.0, 5000.0)
RUNNING = Running(executor="iterative", chunk_size=CHUNK, progress=False)


SEARCHES: dict[str, tuple[Representation, str, dict[str, Any]]] = {
    "images_search": (Images(), "ConvVae", {"max_epochs": 1}),
    "encoded_search": (
        Constituents(max_constituents=30),
        "Encoded",
        {"encoder": {"name": "JetCLR", "dims": 8, "max_epochs": 1}},
    ),
}
"""Name of a line -> representation, method and its options."""


def run() -> list[dict[str, Any]]:
    """Return events/s of the searches against those of their parts; best of two, in turns."""
    return [line(name, *parts) for name, parts in SEARCHES.items()]


def line(told: str, representation: Representation, method: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the line of one search."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seed = sample(folder)
        searched = repeat(seed, EVENTS, folder / "searched.root")
        # without hashes of events: those that are searched are copies of these, which a search would refuse
        trained = Sample(
            read_inputs(run_table(seed, representation, RUNNING).table, representation), representation.inputs
        )
        make_space(method, kind=representation.kind, options=options).fit(trained).save(folder / "space")
        space = load_space(folder / "space")
        regions = fix_regions([space.losses(trained)], fraction=0.5)
        x = sample_of(run_table(searched, representation, RUNNING).table, representation)
        ours, parts = [], []
        for _ in range(ROUNDS + 1):  # the first round warms up
            begin = time.process_time()
            found = run_search(
                searched,
                representation,
                RUNNING,
                spaces=[folder / "space"],
                regions=regions,
                plan=fold_plan(background=True),
                edges=EDGES,
            )
            middle = time.process_time()
            process_files(open_files(searched)[0], TableProcessor(representation), RUNNING)
            losses = space.losses(x)
            parts.append(time.process_time() - middle)
            ours.append(middle - begin)
            if not found.cutflow["kept"] or not np.isfinite(losses).all():
                raise RuntimeError(f"the benchmark's events were not kept: {found.cutflow}")
    mine, reference = EVENTS / min(ours[1:]), EVENTS / min(parts[1:])
    return {
        "name": told,
        "ours": mine,
        "reference": reference,
        "ratio": mine / reference,
        "bar": BAR,
        "unit": "events/s",
    }
