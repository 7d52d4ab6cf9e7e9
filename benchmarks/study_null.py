"""No signal, no discovery: 100 pseudo-datasets drawn from held-out simulated QCD, hunted with a fixed scorer.

`make study ONLY=null`. Local p at three masses must be uniform (Kolmogorov-Smirnov p > 0.01), and the number of datasets
with a global p below 0.05 is stated. A pseudo-dataset of about 10,000
events is drawn without replacement (events drawn twice are bumps where events are few) from a pool of 120,000 or more;
the pool's own fluctuation, common to all datasets, is then 0.3 of a dataset's statistical error.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import stats

from hunch.analysis import (
    HuntSettings,
    RegionChoice,
    Scored,
    find_fit_range,
    fit_signal_shape,
    hunt,
    mass_grid,
    spectrum,
)
from hunch.analysis.regions.scored import choose_regions, regions_of_events
from hunch.analysis.resonance_search import spurious_signals

from . import simulated
from .study_regions import NEIGHBOURHOODS, axes_of, draw, scored, trained

MORE_SEEDS = tuple(map(int, os.environ.get("QCD_SEEDS", "309,310,311,401,402,403").split(",")))
N_DATASETS = 100
N_DATA = 10_000
N_EXPERIMENTS = 200


def run() -> dict[str, Any]:
    """Hunt in every pseudo-dataset; returns KS p at three masses and the count of small global p."""
    quak, calibration, first, priors = trained()
    more = [scored(quak, simulated.table("qcd", 20_000, seed), "pool") for seed in MORE_SEEDS]
    parts = [first, *more]
    mass, losses, fold = (np.concatenate([getattr(p, key) for p in parts]) for key in ("mass", "losses", "fold"))
    pool = Scored("pool", mass, losses, fold, axes=first.axes)
    settings = HuntSettings(pseudo_experiments=N_EXPERIMENTS, combination="simes")
    window = find_fit_range(calibration.mass, sqrt_s=settings.sqrt_s, reach=float(pool.mass.max()))
    expected = round(float(window.inside(pool.mass).mean()) * N_DATA)
    choice = RegionChoice("mosaic", NEIGHBOURHOODS, 0.15, axes=axes_of(quak, "neighbourhoods"))
    regions = choose_regions(calibration, window, choice, expected_events=expected)
    shape = fit_signal_shape(priors)
    masses = mass_grid(window, pool.mass[:N_DATA])
    columns = [int(np.argmin(np.abs(masses - m))) for m in (3000.0, 3500.0, 4200.0)]
    # the order of the background starts where the held-out events put it, as in analysis.search
    checked = spurious_signals(
        calibration, regions, window, masses, shape=shape, expected_events=expected, settings=settings
    )
    settings = replace(settings, lowest_orders=tuple(s.lowest for s in checked))
    rng = np.random.default_rng(42)
    local, glob = [], []
    for i in range(N_DATASETS):
        data = draw(pool, rng.choice(len(pool.mass), rng.poisson(N_DATA), replace=False))
        region = regions_of_events(data, regions)
        spectra = [spectrum(data.mass[region == r], window.edges) for r in range(regions.n_regions)]
        found = hunt(spectra, masses, shape=shape, settings=replace(settings, seed=i), progress=False)
        assert found.global_p is not None
        local.append(found.combined[columns])
        glob.append(found.global_p.p)
        if i % 10 == 9:
            print(f"{i + 1} of {N_DATASETS}", file=sys.stderr, flush=True)
    p = np.array(local)
    ks = [float(stats.kstest(p[:, j], "uniform").pvalue) for j in range(len(columns))]
    return {
        "command": "make study ONLY=null",
        "datasets": N_DATASETS,
        "events_each": N_DATA,
        "pool": len(pool.mass),
        "regions": regions.n_regions,
        "regions_fraction": regions.fraction,
        "lowest_orders": list(settings.lowest_orders or ()),
        "masses": masses[columns].tolist(),
        "ks_p": ks,
        "share_below_0.05": (p < 0.05).mean(axis=0).tolist(),
        "global_below_0.05": int((np.array(glob) < 0.05).sum()),
        "global_p_ks": float(stats.kstest(glob, "uniform").pvalue),
        "smallest_global_p": float(min(glob)),
    }
