"""Three ways against sculpting, before and after: a penalty in training (DisCo), a map (DDT-like), quantile regression.

`make study ONLY=decorrelation`; EVENTS is the number of QCD events (40,000), half to train on, a quarter to fix the regions
with and a quarter to judge by. The score is QUAK's difference of one background and one prior (Z'(3500) -> X(500) Y(100) has
a prior with other masses, X(400) Y(130)); on the 12 QUAK features it hardly knows the mass, so pT of the harder jet is a
13th. One region keeps a tenth of the background. Sculpting is the Jensen-Shannon divergence of its m_jj spectrum from the
inclusive one, on events that fixed nothing, beside the 95 % quantile of random selections of the same size; dCorr^2 is that
of being kept or not with m_jj; sic the signal's efficiency over the root of the background's.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from hunch.analysis import Regions, fix_regions
from hunch.analysis.checks.background_only import sculpting
from hunch.analysis.regions.dependence import distance_correlation
from hunch.models import Quak, Sample
from hunch.table import QUAK_FEATURES, Table

from . import simulated
from .simulated import Floats, Masses, told

PRIOR: Masses = (3500, 400, 130)
EPOCHS = int(os.environ.get("EPOCHS", "40"))
STRENGTH = 20.0
FRACTION = 0.1
ABOVE = simulated.TRAIN_ABOVE
COLUMNS = (*QUAK_FEATURES, "pt_1")
BINS = 30
MOST = 8000  # events of a distance correlation


def above(table: Table) -> tuple[Floats, Floats]:
    """Return the features (n, 13) and m_jj (n,) of the events above the turn-on."""
    kept = table.select(table["mjj"] >= ABOVE)
    return kept.matrix(COLUMNS), np.asarray(kept["mjj"], dtype=np.float64)


def judged(
    name: str, regions: Regions, qcd: tuple[Floats, Floats], signal: tuple[Floats, Floats], edges: Floats
) -> dict[str, Any]:
    """Return the figures of one region, from losses (n, 2) and m_jj of QCD and signal that fixed nothing."""
    rng = np.random.default_rng(4)
    mjj = qcd[1]
    kept = {kind: regions.assign(x, mass=m) >= 0 for kind, (x, m) in {"qcd": qcd, "signal": signal}.items()}
    spectra = [np.histogram(m, edges)[0].astype(np.float64) for m in (mjj, mjj[kept["qcd"]])]
    found = sculpting(*spectra, region=name, rng=rng)
    rows = rng.permutation(len(mjj))[:MOST]
    return {
        "jsd": round(found.jsd, 5),
        "random_95": round(found.floor_95, 5),
        "dcorr2_of_kept": round(distance_correlation(kept["qcd"][rows].astype(np.float64), mjj[rows]), 5),
        "eps_b": round(float(kept["qcd"].mean()), 4),
        "sic": round(float(kept["signal"].mean() / np.sqrt(max(kept["qcd"].mean(), 1e-9))), 2),
    }


def run() -> dict[str, Any]:
    """Train with and without the penalty, fix each kind of boundary, judge all on the same events."""
    n = simulated.events() // 2
    background, mass = above(simulated.table("qcd", n, simulated.TRAIN_SEED))
    prior = simulated.table("zprime_xy", simulated.prior_events(), simulated.PRIOR_SEEDS[PRIOR], PRIOR)
    held, held_mjj = above(simulated.table("qcd", n, simulated.TEST_SEED))
    signal, signal_mjj = above(
        simulated.table("zprime_xy", max(simulated.events() // 10, 200), simulated.SIGNAL_SEED, simulated.SIGNAL)
    )
    half = len(held) // 2
    edges = np.quantile(held_mjj[:half], np.linspace(0, 1, BINS + 1))
    edges[[0, -1]] = 0.0, np.inf
    rows = []
    for strength in (0.0, STRENGTH):
        quak = Quak(seed=0, device="cpu", family=False, max_epochs=EPOCHS, decorrelation=strength)
        quak.fit(Sample(background, observable=mass), priors={"prior": prior.matrix(COLUMNS)})
        losses, of_signal = quak.losses(held), quak.losses(signal)
        for how in (None, "map", "quantile"):
            regions = fix_regions(
                [losses[:half]], fraction=FRACTION, n_regions=1, decorrelation=how, mass=[held_mjj[:half]]
            )
            name = " + ".join(part for part in ("DisCo" if strength else "", how or "one cut") if part)
            figures = judged(name, regions, (losses[half:], held_mjj[half:]), (of_signal, signal_mjj), edges)
            rows.append(told({"training": "DisCo" if strength else "plain", "boundary": how or "one cut", **figures}))
    return {
        "command": "make study ONLY=decorrelation",
        "events": simulated.events(),
        "columns": len(COLUMNS),
        "prior": list(PRIOR),
        "signal": list(simulated.SIGNAL),
        "strength": STRENGTH,
        "judged": {"qcd": len(held) - half, "signal": len(signal)},
        "rows": rows,
    }
