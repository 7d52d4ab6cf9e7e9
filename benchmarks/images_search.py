"""Speed of a search with jet images and a convolutional VAE, beside its two parts alone, taken in turns in one run.

Ours is `run_search` over an event file in this process. The reference is the time that the same chunks take to become images,
and nothing else, and the time that the trained space takes for all these images at once.
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
from hunch.processors import Images, Running, TableProcessor, read_inputs, run_search, run_table, sample_of
from hunch.processors.runner import open_files, process_files

from .process import CHUNK, repeat, sample

EVENTS, ROUNDS, BAR = 2_000, 2, 0.8
EDGES = (1000.0, 2000.0, 3000.0, 5000.0)
RUNNING = Running(executor="iterative", chunk_size=CHUNK, progress=False)


def run() -> list[dict[str, Any]]:
    """Return events/s of the search against those of its parts; best of two, in turns."""
    images = Images()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seed = sample(folder)
        searched = repeat(seed, EVENTS, folder / "searched.root")
        # without hashes of events: those that are searched are copies of these, which a search would refuse
        trained = Sample(read_inputs(run_table(seed, images, RUNNING).table, images), images.inputs)
        make_space("ConvVae", kind="images", options={"max_epochs": 1}).fit(trained).save(folder / "space")
        space = load_space(folder / "space")
        regions = fix_regions([space.losses(trained)], fraction=0.5)
        x = sample_of(run_table(searched, images, RUNNING).table, images)
        ours, parts = [], []
        for _ in range(ROUNDS + 1):  # the first round warms up
            begin = time.perf_counter()
            found = run_search(
                searched,
                images,
                RUNNING,
                spaces=[folder / "space"],
                regions=regions,
                plan=fold_plan(background=True),
                edges=EDGES,
            )
            middle = time.perf_counter()
            process_files(open_files(searched)[0], TableProcessor(images), RUNNING)
            losses = space.losses(x)
            parts.append(time.perf_counter() - middle)
            ours.append(middle - begin)
            if not found.cutflow["kept"] or not np.isfinite(losses).all():
                raise RuntimeError(f"the benchmark's events were not kept: {found.cutflow}")
    mine, reference = EVENTS / min(ours[1:]), EVENTS / min(parts[1:])
    return [
        {
            "name": "images_search",
            "ours": mine,
            "reference": reference,
            "ratio": mine / reference,
            "bar": BAR,
            "unit": "events/s",
        }
    ]
