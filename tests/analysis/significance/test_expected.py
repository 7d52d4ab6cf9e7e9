"""Expected discovery: Asimov's z is pyhf's and below that of a known background, experiments agree with it, inputs that are none are refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hist
import numpy as np
import pytest

from hunch.analysis import (
    BumpHunt,
    HuntSettings,
    SignalShape,
    expected_discovery,
    expected_figure,
    hunt,
    signal_templates,
)
from hunch.analysis.significance.expected import STRENGTHS, known_background_z
from hunch.analysis.significance.q0 import q0_z, spectrum_model
from hunch.cli import cli
from hunch.errors import HunchError, InputError
from hunch.pieces import Pieces
from hunch.workflow.given_spectra import hunt_files

Array = np.ndarray[Any, Any]
Truth = Callable[..., Array]
MASSES = np.array([2000.0, 2300.0, 2700.0, 3100.0, 3500.0])
FAMILIES = ("dijet", "gaussian_process", "bernstein", "(1-x)**p1 * x**(-p2)")


def found_in(edges: Array, *rows: Array, family: str = "dijet") -> BumpHunt:
    made = [hist.Hist(hist.axis.Variable(edges, name="mjj")) for _ in rows]
    for one, row in zip(made, rows, strict=True):
        one.view()[...] = row
    return hunt(made, MASSES, settings=HuntSettings(pseudo_experiments=0, family=family), progress=False)


@pytest.fixture(scope="module")
def counts(edges: Array, truth: Truth) -> Array:
    return np.random.default_rng(3).poisson(truth(20_000))


@pytest.mark.parametrize("family", FAMILIES)
def test_no_family_refuses_fractions_of_events_or_beats_a_known_background(
    family: str, edges: Array, counts: Array
) -> None:
    found = found_in(edges, counts, family=family)
    expected = expected_discovery(found, points=3, experiments=0, progress=False)
    assert expected.masses.tolist() == [2000.0, 2700.0, 3500.0]
    np.testing.assert_allclose(expected.known_background, np.tile(STRENGTHS, (3, 1)), rtol=1e-6)
    # a Gaussian process chosen beside a signal gives a statistic, which counts a little twice
    most = 1.02 if family == "gaussian_process" else 1.0
    assert (expected.asimov <= most * expected.known_background + 1e-3).all()
    assert (np.diff(expected.asimov, axis=1) > 0).all()
    assert (expected.asimov[:, 1] > 1).all()
    assert np.isnan(expected.median).all()


@pytest.mark.parametrize("family", ["dijet", "gaussian_process"])
def test_asimovs_z_is_that_of_pyhf(family: str, edges: Array, counts: Array) -> None:
    found = found_in(edges, counts, family=family)
    expected = expected_discovery(found, points=5, yields=[60], experiments=0, progress=False)
    template = found.templates[2]
    asimov = found.background.expected[0] + 60 * template
    built = spectrum_model(
        asimov, edges, template, int(found.background.order[0]), sqrt_s=13_000.0, columns=found.columns(0)
    )
    assert built is not None
    assert expected.asimov[2, 0] == pytest.approx(q0_z(*built), abs=1e-3)


def test_experiments_agree_with_asimov_and_come_again(edges: Array, counts: Array, tmp_path: Path) -> None:
    found = found_in(edges, counts)
    options: dict[str, Any] = {"points": 2, "yields": [400.0, 150.0], "experiments": 60, "progress": False}
    expected = expected_discovery(found, **options, luminosity=100.0)
    assert expected.yields.tolist() == [[150.0, 400.0]] * 2
    assert (expected.low < expected.median).all()
    assert (expected.median < expected.high).all()
    # the median of 60 is known to 0.16; calibrated by 1000 experiments
    small = expected.asimov < 4
    assert small.any()
    np.testing.assert_allclose(expected.median[small], expected.asimov[small], atol=0.6)
    answer = expected.as_dict()
    assert answer["cross_sections_fb"] == [[1.5, 4.0]] * 2
    assert answer["fb_for_3_sigma"] == pytest.approx((expected.yield_for(3) / 100).tolist(), nan_ok=True)
    first, again = (
        expected_discovery(found, **options, pieces=Pieces(tmp_path / "pieces", "source")).as_dict() for _ in range(2)
    )
    assert str(first) == str(again)
    assert first["z_median"] == answer["z_median"]


def test_the_yield_for_a_significance_lies_between_yields(edges: Array, counts: Array) -> None:
    expected = expected_discovery(found_in(edges, counts), points=1, experiments=0, progress=False)
    (needed,) = expected.yield_for(3.0)
    at = np.interp(needed, np.append(0, expected.yields[0]), np.append(0, expected.asimov[0]))
    assert at == pytest.approx(3.0)
    assert np.isnan(expected.yield_for(1e3)).all()


def test_several_regions_share_the_signal(edges: Array, counts: Array, truth: Truth) -> None:
    found = found_in(edges, counts, np.round(truth(300)))
    with pytest.raises(InputError, match="over 2 regions needs efficiencies"):
        expected_discovery(found, progress=False)
    for wrong in ([0.5], [0.9, 0.2], [-0.1, 0.5], [0.0, 0.0], [np.nan, 0.1]):
        with pytest.raises(InputError, match="efficiencies are shares"):
            expected_discovery(found, efficiencies=wrong, progress=False)
    for none in ([], [0.0], [-3.0], [np.inf]):
        with pytest.raises(InputError, match="numbers of signal events above 0"):
            expected_discovery(found, efficiencies=[0.1, 0.8], yields=none, progress=False)
    # where there is little background the same share of a signal is worth more
    low, high = (
        expected_discovery(found, efficiencies=share, yields=[50], experiments=0, progress=False).asimov
        for share in ([0.8, 0.1], [0.1, 0.8])
    )
    assert (low < high).all()


def test_known_background_of_one_bin_is_asimovs_formula() -> None:
    s, b = 4.0, 9.0
    found = known_background_z(np.array([[s]]), np.array([[b]]))
    assert found == pytest.approx(np.sqrt(2 * ((s + b) * np.log(1 + s / b) - s)))
    assert known_background_z(np.array([[0.0]]), np.array([[0.0]])) == 0.0


def test_the_figure_says_events_or_fb(edges: Array, counts: Array) -> None:
    found = found_in(edges, counts)
    for luminosity, yields, label in ((None, None, "signal events"), (20.0, [50.0, 90.0], "[fb]")):
        made = expected_discovery(found, points=2, yields=yields, experiments=0, luminosity=luminosity, progress=False)
        against_mass, against_yield = expected_figure(made, "a $b$").axes
        assert label in against_yield.get_xlabel()
        assert label in against_mass.get_ylabel() or yields
        legend: Any = against_mass.get_legend()
        assert r"\$b\$" in legend.get_title().get_text()


def write(path: Path, edges: Array, **regions: Array) -> str:
    counts = {name: row.tolist() for name, row in regions.items()}
    path.write_text(json.dumps({"edges": edges.tolist(), "counts": counts}))
    return str(path)


@pytest.mark.slow
@pytest.mark.usefixtures("fast_hunt")
def test_a_hunt_in_spectra_writes_it_where_it_is_asked_for(edges: Array, counts: Array, tmp_path: Path) -> None:
    spectrum, out = write(tmp_path / "s.json", edges, a=counts), tmp_path / "out"
    options: dict[str, Any] = {"progress": False, "pseudo_experiments": 20, "masses": (2500.0, 2800.0)}
    (out / "figures").mkdir(parents=True)
    (out / "figures" / "expected_1.png").touch()  # of an earlier hunt for two signals
    result = hunt_files([spectrum], out, expected=[300.0], luminosity="100/fb", **options)
    found = result["expected_discovery"]["signal"]
    assert found["cross_sections_fb"][0] == [3.0]
    assert found["z_low_68"][0][0] < found["z_median"][0][0] < found["z_high_68"][0][0]
    assert (out / "figures" / "expected_0.png").is_file()
    page = (out / "report.html").read_text()
    assert "Expected discovery" in page
    assert "Local significance that this hunt expects" in page
    assert "fit bin by bin" in page
    assert not (out / ".spectra" / "pieces").exists()
    assert not list((out / "figures").glob("expected_1.*"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--expected", "many"), "--expected 'many': auto, or numbers are expected"),
        (("--efficiencies", "0.1,0.2"), "--efficiencies: only with --expected"),
        (("--expected", "auto"), "over 2 regions needs efficiencies"),
        (("--expected", "5,-3", "--efficiencies", "0.1,0.2"), "numbers of signal events above 0"),
        (("--expected", "auto", "--efficiencies", "0.1,0.2,0.3"), "in 2 disjoint regions"),
        (("--expected", "auto", "--efficiencies", "a,b"), "--efficiencies 'a,b': numbers are expected"),
    ],
)
def test_the_command_says_what_is_wrong_before_it_hunts(
    options: tuple[str, ...], said: str, edges: Array, counts: Array, tmp_path: Path
) -> None:
    spectrum = write(tmp_path / "s.json", edges, a=counts, b=counts[::-1])
    with pytest.raises(HunchError, match=re.escape(said)):
        cli.main(["hunt", spectrum, "-o", str(tmp_path / "out"), *options], standalone_mode=False)
    assert not (tmp_path / "out" / "result.json").exists()


def test_signal_shape_is_that_of_the_hunt(edges: Array, counts: Array) -> None:
    found = found_in(edges, counts)
    expected = expected_discovery(found, points=5, yields=[80], experiments=0, progress=False)
    template = signal_templates(SignalShape(), [2700.0], edges)
    assert expected.known_background[2, 0] == pytest.approx(
        float(known_background_z(80 * template, found.background.expected))
    )


def test_all_widths_that_are_scanned_are_scanned_again(edges: Array, counts: Array) -> None:
    made = hist.Hist(hist.axis.Variable(edges, name="mjj"))
    made.view()[...] = counts
    settings = HuntSettings(pseudo_experiments=0, family="gaussian_process", widths=(0.02, 0.08))
    found = hunt([made], MASSES, settings=settings, progress=False)
    expected = expected_discovery(found, points=2, yields=[100], experiments=0, progress=False)
    assert found.scans_widths
    for i, m in enumerate((0, 4)):
        template = signal_templates(SignalShape(width=float(found.widths[m])), [MASSES[m]], edges)
        known = known_background_z(100 * template, found.background.expected)
        assert expected.known_background[i, 0] == pytest.approx(float(known))
        assert 0.3 * known < expected.asimov[i, 0] < 1.02 * known
