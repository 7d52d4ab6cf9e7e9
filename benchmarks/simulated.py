"""Samples that studies share, simulated once and kept, and the figures of merit that they quote; no study of its own.

Tables are kept in the folder HUNCH_STUDY (.study). EVENTS sets the QCD events, half to train on and half to test on; all
other sizes follow from it; TRAININGS how often a model is trained anew. A sample's name holds its masses, size and seed, so that another EVENTS is another sample.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hunch.analysis import Metrics, evaluate
from hunch.processors import Features, Running, run_table
from hunch.samples import simulate
from hunch.table import QUAK_FEATURES, Table, read_table, write_table

Floats = npt.NDArray[np.float64]
Masses = tuple[int, int, int]

SIGNAL: Masses = (3500, 500, 100)
TRAIN_SEED, TEST_SEED, SIGNAL_SEED, EXACT_SEED = 201, 202, 101, 111
PRIOR_SEEDS: dict[Masses, int] = {
    SIGNAL: EXACT_SEED,
    (3500, 400, 60): 301,
    (3500, 400, 80): 302,
    (3500, 400, 130): 303,
    (3500, 600, 80): 307,
    (3500, 600, 130): 308,
    (3500, 600, 200): 309,
    (3500, 250, 200): 314,
}
TRAIN_ABOVE = 2800.0  # GeV, of m_jj: the cut of arXiv:2011.03550
WINDOW = (3000.0, 4200.0)  # GeV, of the m_jj of events that are tested
KINDS: dict[str, dict[str, Any]] = {"QUAK": {}, "QUAK of VAEs": {"architecture": "vae", "family": False}}
"""Name -> options: the default, and the method as arXiv:2011.03550 has it."""
HIDDEN = (84, 42, 21, 10)  # of the supervised network, 12 inputs and one output


def events() -> int:
    """Return the number of QCD events that the studies use."""
    return int(os.environ.get("EVENTS", "40000"))


def prior_events() -> int:
    """Return the events of one prior's sample."""
    return max(3 * events() // 80, 150)


def sample_path(process: str, n: int, seed: int, masses: Masses | None = None) -> Path:
    """Return where a sample's table is kept."""
    name = "_".join(map(str, (process, *(masses or ()), n, seed)))
    return Path(os.environ.get("HUNCH_STUDY", ".study")) / f"{name}.parquet"


def table(process: str, n: int, seed: int, masses: Masses | None = None) -> Table:
    """Simulate and process n events, or read the table that an earlier study left; the events themselves are not kept."""
    path = sample_path(process, n, seed, masses)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = path.with_suffix(".root")
        simulate(
            process,
            n,
            made,
            seed=seed,
            workers=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            parameters=dict(zip(("m_zprime", "m_x", "m_y"), map(float, masses), strict=True)) if masses else None,
            progress=sys.stderr.isatty(),
        )
        write_table(path, run_table(made, Features(), Running(progress=False)).table)
        made.unlink()
    return read_table(path)


def training_background() -> Floats:
    """Return the QUAK features (n, 12) of QCD to train on."""
    found = table("qcd", events() // 2, TRAIN_SEED)
    return found.select(found["mjj"] >= TRAIN_ABOVE).matrix(QUAK_FEATURES)


def prior(masses: Masses) -> Floats:
    """Return the QUAK features (n, 12) of Z' -> X Y with these masses; those of the signal are other events than tested."""
    return table("zprime_xy", prior_events(), PRIOR_SEEDS[masses], masses).matrix(QUAK_FEATURES)


def tested() -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return the QUAK features (n, 12) of QCD and signal inside the window, and 1 for signal; for evaluation alone."""
    parts = [table("qcd", events() // 2, TEST_SEED), table("zprime_xy", max(events() // 10, 200), SIGNAL_SEED, SIGNAL)]
    inside = [t.select((t["mjj"] >= WINDOW[0]) & (t["mjj"] < WINDOW[1])) for t in parts]
    features = np.concatenate([t.matrix(QUAK_FEATURES) for t in inside])
    return features, np.repeat(np.arange(2), [len(t) for t in inside])


def sizes(label: npt.NDArray[np.int64], trainings: int) -> dict[str, Any]:
    """Return what every study states about its samples."""
    return {
        "events": events(),
        "signal": list(SIGNAL),
        "training_background": len(training_background()),
        "training_prior": prior_events(),
        "tested_background": int((label == 0).sum()),
        "tested_signal": int((label == 1).sum()),
        "window": list(WINDOW),
        "trainings": trainings,
    }


def supervised(background: Floats, signal: Floats, x: Floats, *, seed: int) -> Floats:
    """Return the scores (n,) of a supervised network of 12-84-42-21-10-1, trained on background against a prior."""
    network = MLPClassifier(HIDDEN, batch_size=200, early_stopping=True, max_iter=500, random_state=seed)
    model = make_pipeline(StandardScaler(), network)
    model.fit(np.concatenate([background, signal]), np.repeat([0, 1], [len(background), len(signal)]))
    return log_odds(model.predict_proba(x)[:, 1])


def log_odds(p: Floats) -> Floats:
    """Return ln(p / (1 - p)), finite."""
    p = np.clip(p, 1e-300, 1 - 1e-16)
    return np.asarray(np.log(p) - np.log1p(-p))


def summary(scores: Sequence[Floats], label: npt.NDArray[np.int64]) -> dict[str, float]:
    """Return mean AUC and largest SIC of repeated trainings with errors.

    Errors are those of the test sample and of the mean over trainings in quadrature. Scores that are compared share the
    test sample, so their difference is better known than these errors say.
    """
    found = [evaluate(score, label) for score in scores]
    auc, auc_error = with_error(found, "auc")
    sic, sic_error = with_error(found, "max_sic")
    return {"auc": auc, "auc_error": auc_error, "max_sic": sic, "max_sic_error": sic_error}


def with_error(found: Sequence[Metrics], name: str) -> tuple[float, float]:
    """Return the mean of one figure over trainings and its error."""
    values = np.array([getattr(m, name) for m in found])
    statistical = float(np.mean([getattr(m, f"{name}_error") for m in found]))
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return round(float(values.mean()), 4), round(float(np.hypot(statistical, spread / np.sqrt(len(values)))), 4)


def told(row: dict[str, Any]) -> dict[str, Any]:
    """Show a row on stderr as the study goes on, and hand it back."""
    print(row, file=sys.stderr, flush=True)
    return row
