"""Fixtures for the studies: their modules, and small made-up tables where they look for simulated ones."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hunch.table import QUAK_FEATURES, Table, write_table

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))  # `benchmarks` is no part of the package

EVENTS = 800


def made_up(n: int, masses: tuple[int, int, int] | None, seed: int) -> Table:
    """Return n events: QCD of light, one-prong jets, or a resonance of two-prong jets with these masses."""
    rng = np.random.default_rng(seed)
    m_zprime, m_x, m_y = masses or (0, 200, 90)
    columns = {"mjj": rng.normal(m_zprime, 100, n) if masses else 2500 + rng.exponential(700, n)}
    for jet, mass in ((1, m_x), (2, m_y)):
        columns[f"mJ_{jet}"] = mass * rng.lognormal(0, 0.25 if masses else 0.5, n)
        for name in ("tau21", "tau32", "tau43", "tau12"):
            columns[f"{name}_{jet}"] = np.clip(rng.normal(0.6 if masses and name == "tau21" else 0.7, 0.12, n), 0.01, 1)
        columns[f"ntrk_{jet}"] = rng.poisson(40, n).astype(np.float64)
    columns["pt_1"] = 0.4 * columns["mjj"] * rng.normal(1, 0.05, n)
    assert set(QUAK_FEATURES) < set(columns)
    return Table(columns)


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what fills a study's folder: QCD, the tested signal, the exact prior and other ones."""
    from benchmarks import simulated

    monkeypatch.setenv("HUNCH_STUDY", str(tmp_path))

    def fill(events: int = EVENTS) -> None:
        monkeypatch.setenv("EVENTS", str(events))
        wanted = [("qcd", events // 2, seed, None) for seed in (simulated.TRAIN_SEED, simulated.TEST_SEED)]
        wanted += [("zprime_xy", max(events // 10, 200), simulated.SIGNAL_SEED, simulated.SIGNAL)]
        wanted += [
            ("zprime_xy", simulated.prior_events(), seed, masses) for masses, seed in simulated.PRIOR_SEEDS.items()
        ]
        for process, n, seed, masses in wanted:
            write_table(simulated.sample_path(process, n, seed, masses), made_up(n, masses, seed))

    return fill
