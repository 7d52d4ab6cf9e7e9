"""The batched engine's z against pyhf over a grid of events, mass and injected signal, and pyhf's p that is never combined."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyhf
import pytest
from scipy import stats

from hunch.analysis import (
    SignalShape,
    choose_background,
    combine,
    discovery_p,
    fit_background,
    scan_spectra,
    signal_templates,
)
from hunch.analysis.significance.q0 import signal_window, spectrum_model
from hunch.errors import InputError

SQRT_S = 13_000.0
EVENTS = (1e3, 1e4, 1e5, 1e6)
MASSES = (1800.0, 2200.0, 2700.0, 3300.0, 4000.0, 4800.0)
SIZES = (0.0, 1.0, 3.0, 5.0)  # sigma of a signal on a known background
FEWEST = 10.0  # events that each bin of the window expects
Array = np.ndarray[Any, Any]
Truth = Callable[..., Array]


@dataclass(frozen=True)
class Point:
    """One spectrum of the grid with an excess, and the batched engine's z of it."""

    events: float
    mass: float
    size: float
    order: int
    counts: Array
    template: Array
    z: float

    def allowed(self) -> float:
        return max(0.01 * self.z, 0.02)


def point(
    expected: Array,
    edges: Array,
    mass: float,
    size: float,
    rng: Any,
    *,
    family: str = "dijet",
    order: int | None = None,
) -> Point | None:
    """Draw a spectrum; None where its fitted signal is not positive."""
    template = signal_templates(SignalShape(), [mass], edges)[0]
    yield_ = size / np.sqrt((template**2 / expected).sum())
    counts = rng.poisson(expected + yield_ * template).astype(float)
    fit = (
        choose_background(counts, edges, sqrt_s=SQRT_S, family=family)
        if order is None
        else fit_background(counts, edges, order, sqrt_s=SQRT_S, family=family)
    )
    found = scan_spectra(counts, fit, template[None], edges, sqrt_s=SQRT_S, family=family)
    assert found.converged.all()
    if found.signal[0, 0] <= 0:
        return None
    return Point(float(np.round(expected.sum())), mass, size, int(fit.order[0]), counts, template, float(found.z[0, 0]))


@pytest.fixture(scope="module")
def grid(edges: Array, truth: Truth) -> list[Point]:
    rng = np.random.default_rng(9)
    made = []
    for events, mass, size in itertools.product(EVENTS, MASSES, SIZES):
        window = signal_window(signal_templates(SignalShape(), [mass], edges)[0])
        if truth(events)[window].min() >= FEWEST:
            made.append(point(truth(events), edges, mass, size, rng))
    return [p for p in made if p is not None]


def pyhf_z(p: Point, edges: Array, **options: Any) -> float:
    found = discovery_p(p.counts, edges, p.template, p.order, sqrt_s=SQRT_S, **options)
    assert found is not None, p
    return float(stats.norm.isf(found))


def test_z_is_pyhfs_all_over_the_grid(grid: list[Point], edges: Array) -> None:
    assert len(grid) >= 50
    assert {p.events for p in grid} == set(EVENTS)
    assert {p.size for p in grid} == set(SIZES)
    assert len({p.order for p in grid}) >= 3
    differences = np.array([abs(pyhf_z(p, edges) - p.z) for p in grid])
    worst = grid[int(differences.argmax())]
    told = f"{len(grid)} points: worst |dZ| {differences.max():.4f} at {worst.events:g} events, {worst.mass:g} GeV, z = {worst.z:.2f}"
    print(told)  # noqa: T201
    for p, difference in zip(grid, differences, strict=True):
        assert difference < p.allowed(), p
    assert differences.max() < 0.005


@pytest.mark.parametrize(("family", "order"), [("bernstein", 4), ("bernstein", 6), ("exponential", 2)])
def test_z_is_pyhfs_for_other_families(family: str, order: int, edges: Array) -> None:
    rng = np.random.default_rng(17)
    shape = np.exp(-(0.5 * (edges[1:] + edges[:-1]) - edges[0]) / 1100.0) * np.diff(edges)
    compared = 0
    for events, mass, size in itertools.product((1e4, 1e6), (2000.0, 3000.0), (1.0, 4.0)):
        p = point(events * shape / shape.sum(), edges, mass, size, rng, family=family, order=order)
        if p is not None:
            assert abs(pyhf_z(p, edges, family=family) - p.z) < 0.005, p
            compared += 1
    assert compared >= 4


def test_p_is_that_of_hypotest(grid: list[Point], edges: Array) -> None:
    p = next(p for p in grid if p.z > 3)
    built = spectrum_model(p.counts, edges, p.template, p.order, sqrt_s=SQRT_S)
    assert built is not None
    model, data = built
    pyhf.schema.validate(model.spec, "model.json")  # it is built without
    pyhf.set_backend("numpy", pyhf.optimize.minuit_optimizer(tolerance=1e-3))
    asked = float(pyhf.infer.hypotest(0.0, data, model, test_stat="q0"))
    assert discovery_p(p.counts, edges, p.template, p.order, sqrt_s=SQRT_S) == pytest.approx(asked, rel=1e-3)


def test_pyhfs_p_of_deficits_is_refused_by_every_combination(edges: Array, truth: Truth) -> None:
    template = signal_templates(SignalShape(), [2600.0], edges)[0]
    counts = [np.round(truth(n) - 0.8 * np.sqrt(n) * template) for n in (5000, 20_000, 60_000)]
    p = [discovery_p(c, edges, template, 2, sqrt_s=SQRT_S) for c in counts]
    assert p == [0.5, 0.5, 0.5]
    for method in ("fisher", "stouffer", "simes"):
        with pytest.raises(InputError, match="q0 caps deficits"):
            combine([v or 0.0 for v in p], method)


def test_no_model_where_the_spectrum_is_nearly_empty(edges: Array) -> None:
    counts = np.zeros(len(edges) - 1)
    template = signal_templates(SignalShape(), [2600.0], edges)[0]
    assert discovery_p(counts, edges, template, 2, sqrt_s=SQRT_S) is None
    counts[:3] = [40, 20, 10]
    assert discovery_p(counts, edges, template, 2, sqrt_s=SQRT_S) is None
    counts[:6] = [40, 20, 10, 5, 2, 1]
    assert discovery_p(counts, edges, template, 2, sqrt_s=SQRT_S) is not None
