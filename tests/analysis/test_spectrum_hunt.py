"""A hunt in given spectra: large ones, shapes that the function lacks, bumps, turn-ons, and input that is no spectrum."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hunch.analysis import (
    HuntSettings,
    SignalShape,
    choose_background,
    goodness_of_fit,
    hunt,
    hunt_spectra,
    spectrum_hunt,
)
from hunch.analysis import spectrum_result as result_of_spectra
from hunch.analysis.figures.p_values import scan_figure
from hunch.analysis.goodness.fit_quality import fit_qualities
from hunch.analysis.ranges.fit_range import masses_note, range_of_spectrum, scan_masses
from hunch.analysis.spectra.bins import DIJET_EDGES, as_hist
from hunch.analysis.spectra.files import read_spectra
from hunch.analysis.spectra.signal_shape import signal_templates
from hunch.cli.analyses import answer
from hunch.errors import InputError
from hunch.workflow.given_spectra import hunt_files

EDGES = np.array([890.0, 944, *(e for e in DIJET_EDGES if e <= 5455)])  # 40 bins
CENTRES = 0.5 * (EDGES[1:] + EDGES[:-1])
T = np.log(CENTRES / CENTRES[0]) / np.log(CENTRES[-1] / CENTRES[0])
SHAPE = SignalShape()
SETTINGS = HuntSettings(sqrt_s=8000, pseudo_experiments=40)


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out pyhf's q0 and the checks, seconds a hunt, where they are not what is tested."""
    monkeypatch.setattr(spectrum_hunt, "q0_row", lambda found, _: (None,) * len(found.masses))
    monkeypatch.setattr(spectrum_hunt, "local_p_uniformity", lambda *_, **__: ())


def expected(events: float, *, ripple: float = 0.0, waves: float = 0.0, phase: float = 0.0) -> np.ndarray[Any, Any]:
    """Return a falling spectrum like the dijets of 8 TeV, with a smooth ripple of so many waves over ln m."""
    x = CENTRES / 8000
    shape = (1 - x) ** 7 * x ** -(5.5 + 0.15 * np.log(x)) * (1 + ripple * np.sin(2 * np.pi * T * waves + phase))
    shape *= np.diff(EDGES)
    return np.asarray(events * shape / shape.sum())


def bump(mass: float, strength: float, background: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    template = signal_templates(SHAPE, [mass], EDGES)[0]
    return np.asarray(strength * np.sqrt(background[template > 0.02 * template.max()].sum()) * template)


def window(counts: np.ndarray[Any, Any], edges: np.ndarray[Any, Any] = EDGES, **options: Any) -> Any:
    return range_of_spectrum(np.asarray(counts, dtype=float), edges, shape=SHAPE, sqrt_s=8000, **options)


def test_the_order_goes_on_where_one_parameter_alone_does_not_pay(rng: np.random.Generator) -> None:
    counts = rng.poisson(expected(6.6e6, ripple=0.055, waves=1.03, phase=2.7), size=(30, 40)).astype(float)
    fit = choose_background(counts, EDGES, sqrt_s=8000)
    p = goodness_of_fit(counts, fit.expected, fit.n_parameters)
    assert fit.converged.all()
    assert (p < 1e-3).mean() < 0.1  # three quarters of them stop at order 2 with p < 1e-4 else


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("sqrt_s", [8000.0, 13000.0])
def test_6_6_million_events_are_described_and_no_discovery(sqrt_s: float, rng: np.random.Generator) -> None:
    p = []
    for seed in range(3):
        counts = rng.poisson(expected(6.6e6, ripple=0.03, waves=0.75, phase=0.4))
        settings = HuntSettings(sqrt_s=sqrt_s, pseudo_experiments=60, seed=seed)
        found = hunt_spectra({"all": as_hist(EDGES, counts)}, settings=settings, progress=False)
        assert found.fit_range.chosen.startswith("all bins: no turn-on")
        assert found.no_significance is None
        assert found.hunt.fit_p[0] > 0.01
        assert found.hunt.scan.converged.all()
        assert found.hunt.global_p is not None
        p.append(found.hunt.global_p.p)
    assert min(p) > 0.03


def test_where_every_function_fails_no_significance_is_quoted(rng: np.random.Generator) -> None:
    counts = rng.poisson(expected(6.6e6, ripple=0.25, waves=4))
    found = hunt_spectra({"all": as_hist(EDGES, counts)}, settings=SETTINGS, fit_range=(890, 5455), progress=False)
    assert found.hunt.combined.min() < 1e-9  # what would be called a discovery
    best = result_of_spectra(found)["best"]
    assert best["p_global"] is None
    assert best["z_global"] is None
    assert "does not describe all" in best["no_significance"]
    assert any("no significance is quoted" in note and "and with a signal at" in note for note in found.notes)
    assert found.hunt.global_p is None


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(("events", "strength"), [(6.6e6, 12), (6.6e6, 30), (2e4, 12)])
def test_a_real_bump_is_not_taken_for_a_failing_function(
    events: float, strength: float, rng: np.random.Generator
) -> None:
    background = expected(events)
    counts = rng.poisson(background + bump(2000, strength, background))
    found = hunt_spectra({"all": as_hist(EDGES, counts)}, settings=SETTINGS, progress=False)
    assert found.no_significance is None
    assert found.fit_range.low < 1200
    assert found.hunt.scan.z.max() > 0.6 * strength
    assert found.hunt.masses[found.hunt.best] == pytest.approx(2000, rel=0.04)
    assert found.hunt.global_p is not None
    assert found.hunt.global_p.above == 0


@pytest.mark.parametrize("seed", [49, 73])
def test_a_threshold_inside_the_first_bin_costs_one_bin(seed: int) -> None:
    """Their other bins are no reason to drop more of them."""
    counts = np.random.default_rng(seed).poisson(expected(2e4)).astype(float)
    counts[0] = np.round(0.4 * counts[0])
    found = window(counts)
    assert found.low == EDGES[1]
    assert "a threshold lies inside the first" in found.chosen


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(
    ("events", "hole", "left"),
    [(2e5, slice(12, 13), 0.0), (2e5, slice(6, 7), 0.8), (3000, slice(8, 9), 0.0), (2e5, slice(12, 15), 0.0)],
)
def test_a_hole_is_not_made_an_excess_of_its_neighbours(events: float, hole: slice, left: float) -> None:
    counts = np.random.default_rng(0).poisson(expected(events)).astype(float)
    counts[hole] = np.round(left * counts[hole])
    found = hunt_spectra({"all": as_hist(EDGES, counts)}, settings=SETTINGS, progress=False)
    assert found.fit_range.low == EDGES[0]  # no event is left out for it
    assert found.no_significance is not None
    assert any("fits the spectrum with p" in note for note in found.notes)


def test_a_smooth_excess_of_many_sigma_is_no_bump(rng: np.random.Generator) -> None:
    counts = rng.poisson(expected(6.6e6, ripple=0.26, waves=1.38, phase=4.0)).astype(float)
    found = hunt(
        {"all": as_hist(EDGES, counts)},
        np.geomspace(950, 4500, 40),
        settings=HuntSettings(8000.0, pseudo_experiments=0),
    )
    assert fit_qualities(found, ["all"])[0].unfit or found.largest_z[0] < 4


def test_the_range_starts_above_a_turn_on_and_says_so(rng: np.random.Generator) -> None:
    on = 1 / (1 + np.exp(-(CENTRES - 1300) / 60))
    counts = rng.poisson(expected(2e6) * on).astype(float)
    found = window(counts)
    assert 1400 < found.low < 2400
    assert "2 signal widths above a turn-on" in found.chosen
    assert found.turn_on is not None
    assert found.turn_on.seen
    assert found.high == EDGES[-1]
    inside = window(counts, fit_range=(EDGES[3], EDGES[-1]))
    assert (inside.low, inside.turn_on) == (EDGES[3], found.turn_on)
    assert inside.chosen.startswith("given; it starts inside a turn-on that may reach")
    assert window(counts, fit_range=(found.low, EDGES[-1])).chosen == "given"


def test_a_range_with_a_third_of_the_events_is_refused(rng: np.random.Generator) -> None:
    steep = np.exp(-CENTRES / 100) / (1 + np.exp(-(CENTRES - 1300) / 60)) * np.diff(EDGES)
    counts = rng.poisson(2e4 * steep / steep.sum()).astype(float)
    with pytest.raises(
        InputError, match=r"more than two thirds, lie below \d+ GeV.*turn-on.*Give a fit range \(--fit-range LOW HIGH\)"
    ):
        window(counts)
    assert window(counts, fit_range=(1607, 5455)).low == 1607


@pytest.mark.parametrize(
    ("name", "low", "words"),
    [
        ("peak_2055_events_at_1300", 1000, "all bins: no turn-on, S = 650 is that of a bump"),
        ("dplfall_1e6_no_signal", 1000, "all bins: no turn-on"),
        ("wide_0.1_2500_z30", 1530, "all bins: no turn-on"),
        ("pythia_qcd_pool_no_signal", 2775, "2 signal widths above a turn-on that may reach 2659 GeV"),
    ],
)
def test_the_range_of_hard_spectra(name: str, low: float, words: str, shared_data: Callable[[str], Path]) -> None:
    (given,) = read_spectra([shared_data(f"found/spectra/{name}.json")]).spectra.values()
    found = range_of_spectrum(given.values(), given.axes[0].edges, shape=SHAPE, sqrt_s=13_000)
    assert found.low == low
    assert words in found.chosen


def test_leading_and_trailing_empty_bins(rng: np.random.Generator) -> None:
    counts = rng.poisson(expected(1e5)).astype(float)
    counts[:5] = 0
    with pytest.raises(InputError, match=rf"from 890 to {EDGES[5]:g} GeV are zero.*--fit-range {EDGES[5]:g} 5455"):
        window(counts)
    assert window(counts, fit_range=(EDGES[5], 5455)).low == EDGES[5]
    with pytest.raises(InputError, match=rf"below {EDGES[5]:g} GeV are all zero"):
        window(counts, fit_range=(890, 5455))
    cut = rng.poisson(expected(1e5)).astype(float)
    cut[15:] = 0
    with pytest.raises(InputError, match=rf"from {EDGES[15]:g} to 5455 GeV are zero.*--fit-range 890 {EDGES[15]:g}"):
        window(cut)
    assert window(cut, fit_range=(890, EDGES[15])).high == EDGES[15]
    counts[4] = 10  # a sparse start is no cut
    assert window(counts).low in EDGES[4:7]
    sparse = rng.poisson(expected(400)).astype(float)  # a tight region: most of its bins are empty, and that is data
    assert window(sparse).high == EDGES[-1]


@pytest.mark.parametrize(
    ("counts", "options", "words"),
    [
        (np.zeros(40), {}, ["empty"]),
        (expected(1e5).round(), {"fit_range": (500, 3000)}, ["wider than the spectrum", "890 to 5455"]),
        (expected(1e5).round(), {"fit_range": (3000, 2000)}, ["low and then high"]),
        (expected(1e5).round(), {"fit_range": (1000, 1010)}, ["no bin"]),
        (expected(1e5).round(), {"fit_range": (890, 1058)}, ["3 bins with events", "parameters"]),
    ],
)
def test_ranges_that_no_fit_can_use(counts: np.ndarray[Any, Any], options: Any, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        window(counts, **options)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_edges_beyond_sqrt_s() -> None:
    edges = np.append(EDGES, [7000.0, 9000.0])
    counts = np.append(expected(1e6).round(), [0, 0])
    assert window(counts, edges).high == 7000
    with pytest.raises(InputError, match="sqrt_s = 8000"):
        window(np.append(expected(1e6).round(), [0, 1]), edges)


@pytest.mark.parametrize("family", ["dijet", "gaussian_process"])
def test_bins_beyond_sqrt_s_are_left_out_where_they_are_empty(family: str) -> None:
    edges, counts = np.append(EDGES, [7000.0, 9000.0]), expected(1e6).round()
    options: Any = {"shape": SignalShape(), "sqrt_s": 8000.0, "family": family}
    assert range_of_spectrum(np.append(counts, [0, 0]), edges, **options).high == 7000
    with pytest.raises(InputError, match="bins that reach sqrt_s = 8000 GeV"):
        range_of_spectrum(np.append(counts, [0, 1]), edges, **options)


def test_masses_follow_the_width_and_stay_inside() -> None:
    counts = expected(1e6).round()
    found = window(counts)
    narrow, wide = (scan_masses(found, counts, width=w) for w in (0.035, 0.1))
    assert len(narrow) > 1.5 * len(wide)
    assert wide[0] >= 890 * 1.19
    assert scan_masses(found, counts, width=0.035, masses=(2000, 2200)).tolist() == [
        m for m in narrow.tolist() if 2000 <= m <= 2200
    ]
    with pytest.raises(InputError, match=r"fit range, 890 to 5455"):
        scan_masses(found, counts, width=0.035, masses=(500, 2000))
    with pytest.raises(InputError, match=r"too short to scan for a resonance of width 0\.45"):
        scan_masses(found, counts, width=0.45)


def test_masses_that_were_asked_for_and_are_not_scanned_are_counted() -> None:
    counts = expected(3e4).round()
    found = window(counts)
    every = scan_masses(found, counts, width=0.035)

    def told(low: float, high: float) -> list[str]:
        grid = scan_masses(found, counts, width=0.035, masses=(low, high))
        return masses_note(found, counts, grid, width=0.035, masses=(low, high))

    assert masses_note(found, counts, every, width=0.035, masses=None) == []
    assert told(2000, 2200) == []
    assert told(every[0], every[-1]) == []
    (note,) = told(2000, found.high)
    left = int(np.log(found.high / every[-1]) / np.log(every[-1] / every[-2]) + 0.5)
    assert note.startswith(f"masses [2000, {found.high:g}] GeV: the last mass scanned is {every[-1]:.0f} GeV, ")
    assert note.endswith("above it are left out: beyond it fewer than 10 events are left")
    assert abs(int(note.split("GeV, ")[1].split()[0]) - left) <= 1
    (note,) = told(found.low, 2000)
    assert note.endswith("below it are left out: two widths clear of the ends of the fit range")
    full = expected(1e8).round()
    grid = scan_masses(found, full, width=0.035, masses=(2000, found.high))
    (note,) = masses_note(found, full, grid, width=0.035, masses=(2000, found.high))
    assert note.endswith("above it are left out: two widths clear of the ends of the fit range")
    with pytest.raises(
        InputError, match=r"hold none of the .* masses of the scan, .* and 10 events at the last mass or"
    ):
        told(every[-1] * 1.05, found.high)


def test_regions_are_hunted_together_with_their_own_fits(
    rng: np.random.Generator, truth: Callable[..., Any], edges: np.ndarray[Any, Any]
) -> None:
    spectra = {n: as_hist(edges, rng.poisson(truth(e))) for n, e in {"tight": 300, "loose": 4000}.items()}
    found = hunt_spectra(spectra, settings=HuntSettings(pseudo_experiments=30), progress=False)
    result = result_of_spectra(found)
    assert [r["name"] for r in result["scan"]["regions"]] == ["tight", "loose"]
    assert [r["events"] for r in result["regions"]["regions"]] == [int(h.sum()) for h in spectra.values()]
    assert len(result["scan"]["p_combined"]) == len(result["scan"]["masses"])
    assert 1 / 31 <= result["best"]["p_global"] <= 1


@pytest.mark.parametrize(
    ("counts", "masses", "word"),
    [
        (np.zeros(40), [2000], "empty"),
        (np.full(40, 1.5), [2000], r"bin 0 \(890 to 944 GeV\) holds 1.5"),
        (np.full(40, -1.0), [2000], "holds -1"),
        (np.full(40, 5.0), [800], "between 890 and 5455 GeV.*800"),
        (np.full(40, 5.0), [], "none is given"),
    ],
)
def test_hunt_refuses_what_it_cannot_fit(counts: np.ndarray[Any, Any], masses: list[float], word: str) -> None:
    with pytest.raises(InputError, match=word):
        hunt([as_hist(EDGES, counts)], masses, settings=HuntSettings(pseudo_experiments=1))


def test_hunt_needs_bins_for_its_parameters() -> None:
    with pytest.raises(InputError, match="4 bins are too few"):
        hunt([as_hist(EDGES[:5], [9, 5, 3, 1])], [1000.0], settings=HuntSettings(pseudo_experiments=1))


@pytest.mark.usefixtures("fast_hunt")
def test_many_regions_are_told_what_fisher_does_to_them(tmp_path: Path, rng: np.random.Generator) -> None:
    edges = np.array([e for e in DIJET_EDGES if 1530 <= e <= 4010], dtype=float)
    counts = {f"r{i}": rng.poisson(300 * np.exp(-np.arange(len(edges) - 1) / 4)).tolist() for i in range(8)}
    source = tmp_path / "many.json"
    source.write_text(json.dumps({"edges": edges.tolist(), "counts": counts}))
    options: dict[str, Any] = {"pseudo_experiments": 10, "masses": (2000.0, 2200.0), "progress": False}
    told = hunt_files([str(source)], tmp_path / "out", **options)
    assert "8 regions are combined by Fisher's method" in told["notes"][0]
    chosen = hunt_files([str(source)], tmp_path / "out", combination="fisher", **options)
    assert not any("Fisher" in note for note in chosen["notes"])


@pytest.mark.usefixtures("fast")
def test_the_best_mass_of_an_excess_of_50_sigma(shared_data: Callable[[str], Path]) -> None:
    given = read_spectra([shared_data("found/p_floor_mass/b2500.json")])
    found = hunt_spectra(given.spectra, settings=HuntSettings(pseudo_experiments=20), progress=False)
    result = result_of_spectra(found)
    best = result["best"]
    assert best["mass"] == pytest.approx(2500, rel=0.02)  # 2440 is the first mass where p is smaller than 1e-300
    assert (best["p_local"], best["p_local_is_bound"]) == (1e-300, True)
    # quoted: before the process was chosen again, which is the larger p; ranked by: after
    assert best["z_local"] == pytest.approx(best["z_local_first"])
    assert 37.5 < best["z_local"] < best["z_local_asymptotic"]
    assert best["z_local_asymptotic"] == max(result["scan"]["z_combined"])
    assert result["scan"]["regions"][0]["z_largest"] == pytest.approx(best["z_local_asymptotic"])
    told = answer(result).splitlines()[1:3]
    assert told[0] == f"local:  p < 1e-300, {best['z_local']:.2f} sigma"
    assert told[1] == "global: p < 0.048, more than 1.67 sigma (20 pseudo-experiments)"
    lines = scan_figure(found.hunt, found.names).get_lines()
    lowest = [min(line.get_ydata()) for line in lines if len(line.get_ydata()) > 2]
    assert min(lowest) < -570  # log10 p, drawn as far down as it goes
