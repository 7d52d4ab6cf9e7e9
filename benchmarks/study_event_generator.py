"""Whole events that a beta-VAE generates around its training's latent Gaussians, beside simulated ones: the figures of arXiv:1901.00875, copies, and no gain of statistics.

`make study ONLY=event_generator`; EVENTS sets the simulated events (20,000, a third of which train; shared by all parts), EPOCHS of the training (60), MODELS those of the part "statistics" (6), each trained on another
share of the training events. PROCESS is what is simulated (event_sm), PARTS which tables are made. All figures stand beside their ceiling, which two independent simulated samples of the same size have; a
number of delta_kin means nothing else. `delta_kin_published` has the term that the published code calls Wasserstein, of bin heights. Those of gamma, alpha and beta are chosen by nobody here: the grid is shown.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hunch.analysis import (
    EventFigures,
    classifier_auc,
    copied_share,
    event_figures,
    event_quantities,
    generation_figure,
    statistical_floor,
)
from hunch.models import EventGenerator, EventVae, LatentBuffer, Sample
from hunch.processors import Objects, Running, run_table
from hunch.samples import simulate
from hunch.table import Table, read_table, write_table

from .reference_jets import study_folder
from .simulated import told

Floats = npt.NDArray[np.float64]
Quantities = Mapping[str, Floats]
EPOCHS = int(os.environ.get("EPOCHS", "60"))
MODELS = int(os.environ.get("MODELS", "6"))
PROCESS = os.environ.get("PROCESS", "event_sm")
PARTS = os.environ.get("PARTS", "grid,window,statistics").split(",")
BETA, LATENT = 1e-6, 20
GRID = ((1.0, 0.0), (1.0, 0.02), (1.0, 0.05), (1.0, 0.1), (1.0, 0.3), (0.0, 0.05), (5.0, 0.0))
"""alpha and gamma."""
SEED, DRAW_SEED = 2001, 1
DRAWN = ("met", "pt_j1", "eta_j1", "m_2j")
MOST_COPIED = 3000  # events whose nearest neighbours are looked for
RARE = 0.98
"""Quantile of the missing momentum above which the window is."""
LEAST = 200  # events that have a quantity, in each sample


def events() -> int:
    """Return how many events are simulated."""
    return int(os.environ.get("EVENTS", "20000"))


def representation() -> Objects:
    """Return lists of objects, as few as events of this kind have."""
    return Objects(layout="list", max_objects=10)


def simulated() -> Table:
    """Return the table of all simulated events, from the folder HUNCH_STUDY where an earlier study left it."""
    path = study_folder() / f"lists_{PROCESS}_{events()}_{SEED}.parquet"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = path.with_suffix(".root")
        simulate(
            PROCESS,
            events(),
            made,
            seed=SEED,
            workers=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            multiple_interactions=False,
            progress=sys.stderr.isatty(),
        )
        write_table(path, run_table(made, representation(), Running(executor="iterative", progress=False)).table)
        made.unlink()
    return read_table(path)


def trained(x: Floats, metadata: Mapping[str, Any], *, seed: int = 0) -> EventVae:
    """Return a beta-VAE of events (n, slots, 5), all of which are in its buffer but those that stop the training."""
    sample = Sample(x[:, None], names=("objects",), made=dict(metadata))
    return EventVae(beta=BETA, latent=LATENT, max_epochs=EPOCHS, buffer=len(x), seed=seed).fit(sample)


def enough(*samples: Quantities) -> list[str]:
    """Return the quantities that enough events of all samples have."""
    return [name for name in samples[0] if all(np.isfinite(own[name]).sum() >= LEAST for own in samples)]


def figures_row(name: str, figures: EventFigures) -> dict[str, Any]:
    """Return the figures of merit of a sample."""
    return {
        "events": name,
        "delta_kin": round(figures.delta_kin, 1),
        "delta_kin_published": round(figures.delta_kin_published, 1),
        "clipped": figures.clipped,
        "delta_de": float(f"{figures.delta_de:.3g}"),
        "holes": round(figures.holes[0], 4),
    }


def rows_of(quantities: Quantities, names: list[str], n: int) -> Floats:
    """Return the first n events as rows of quantities."""
    return np.stack([quantities[name][:n] for name in names], axis=1)


def grid(train: Floats, thirds: tuple[Floats, Floats], metadata: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return figures of merit, AUC of a classifier, copies and physicality against alpha and gamma, beside their ceilings, and the reconstructed training events'."""
    vae = trained(train, metadata)
    half, other = (event_quantities(x) for x in thirds)
    training = event_quantities(train)
    n = min(len(train), *(len(x) for x in thirds))
    samples: dict[str, tuple[Quantities, dict[str, float]]] = {"simulated": (other, {}), "training": (training, {})}
    for alpha, gamma in GRID:
        made = EventGenerator(vae=vae, alpha=alpha, gamma=gamma).generate(n, seed=DRAW_SEED)
        shares = {k: round(v, 4) for k, v in made.physicality.shares().items() if k != "rejected"}
        samples[f"alpha {alpha:g}, gamma {gamma:g}"] = event_quantities(made.events), shares
    made = EventGenerator(vae=vae, buffer=LatentBuffer.prior(LATENT), gamma=0.0).generate(n, seed=DRAW_SEED)
    samples["prior"] = event_quantities(made.events), {}
    names = enough(half, *(own for own, _ in samples.values()))
    rows = []
    for name, (own, shares) in samples.items():
        mine, real = ({k: sample[k][:n] for k in names} for sample in (own, half))
        auc, error = classifier_auc(mine, real)
        most = min(n, MOST_COPIED)
        copies = copied_share(rows_of(own, names, most), rows_of(training, names, n), rows_of(half, names, most))
        figures = event_figures(mine, real, angles=angles_of(names))
        rows.append(
            told(
                figures_row(name, figures)
                | {
                    "auc": round(auc, 4),
                    "auc_error": round(error, 4),
                    "copied": round(copies.share, 3),
                    "copied_error": round(copies.error, 3),
                    "copied_if_new": copies.expected,
                }
                | {k: shares.get(k, "-") for k in ("unordered", "below_momentum", "outside", "empty")}
            )
        )
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [name for name in DRAWN if name in names]
    usual = samples["alpha 1, gamma 0.05"][0]
    pairs = [{k: sample[k][np.isfinite(sample[k])] for k in drawn} for sample in (usual, half)]
    generation_figure(*pairs).savefig(folder / "event_generator.png", dpi=55, metadata={"Software": None})
    latent = LatentBuffer(*vae.buffer_) if vae.buffer_ is not None else LatentBuffer.prior(LATENT)
    return {
        "quantities": len(names),
        "average_latent_sigma": float(f"{latent.sigma.mean():.3g}"),
        "grid": rows,
        "figure": "event_generator.png",
    }


def angles_of(names: list[str]) -> tuple[str, str]:
    """Return the two azimuths of the histogram of holes: those of the two leading jets where there are enough."""
    return ("phi_j1", "phi_j2") if {"phi_j1", "phi_j2"} <= set(names) else ("phi_met", "phi_l1")


def window(train: Floats, thirds: tuple[Floats, Floats], metadata: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return rare events of large missing momentum: how many entries of the buffer they stand on, how many draws are rejected, and the mean there beside the simulated one."""
    del folder
    vae = trained(train, metadata)
    real = np.concatenate([x[:, 0, 0] for x in thirds])
    lowest = float(np.quantile(real, RARE))
    generator = EventGenerator(vae=vae, where={"met": (lowest, np.inf)})
    made = generator.generate(len(train), seed=DRAW_SEED)
    inside, own = real[real >= lowest], made.events[:, 0, 0].astype(np.float64)
    row = {
        "met_above": round(lowest, 1),
        "buffer": len(generator.drawn_around),
        "generated": len(own),
        "rejected": round(made.physicality.rejected / made.physicality.events, 3),
        "mean_met": round(float(own.mean()), 2),
        # the generated ones stand on so many entries of the buffer, and on no more
        "error": round(float(own.std() / np.sqrt(len(generator.drawn_around))), 2),
        "simulated_mean_met": round(float(inside.mean()), 2),
        "simulated_error": round(float(inside.std() / np.sqrt(len(inside))), 2),
    }
    return {"window": [told(row)]}


def statistics(
    train: Floats, thirds: tuple[Floats, Floats], metadata: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    """Return the error of the mean of missing momentum from n generated events of models that were trained on N events each, against n, beside those of independent ones."""
    del folder
    own = np.array_split(train, MODELS)
    every = np.concatenate([train, *thirds])[:, 0, 0]
    sizes = [len(own[-1]) // 4, len(own[-1]), 4 * len(own[-1]), 40 * len(own[-1])]
    means: dict[int, list[float]] = {n: [] for n in sizes}
    for seed, x in enumerate(own):
        met = EventGenerator(vae=trained(x, metadata, seed=seed)).generate(sizes[-1], seed=DRAW_SEED).events[:, 0, 0]
        for n in sizes:
            means[n].append(float(met[:n].mean(dtype=np.float64)))
    found = statistical_floor(means, truth=float(every.mean()), spread=float(every.std()), trained_on=len(own[-1]))
    return {
        "statistics": [
            told({k: round(v, 3) if isinstance(v, float) else v for k, v in vars(one).items()}) for one in found
        ]
    }


def run(folder: Path = Path(__file__).parents[1] / "docs" / "results") -> dict[str, Any]:
    """Make all tables, or those of PARTS, and the figure in a folder."""
    table = simulated()
    x = np.asarray(table["objects"], dtype=np.float64)
    train, *thirds = np.array_split(x, 3)
    result: dict[str, Any] = {
        "command": "make study ONLY=event_generator",
        "process": PROCESS,
        "trained_on": len(train),
        "beta": BETA,
        "latent": LATENT,
        "epochs": EPOCHS,
        "models": MODELS,
    }
    parts = {"grid": grid, "window": window, "statistics": statistics}
    for name in PARTS:
        result |= parts[name](train, (thirds[0], thirds[1]), table.metadata, folder)
    return result
