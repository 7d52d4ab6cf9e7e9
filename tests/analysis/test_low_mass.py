"""Another mass than the dijets': a peak at 91 GeV on a spectrum that falls from 50 to 200 GeV, by its own name on every page."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hunch.analysis import (
    FitRange,
    HuntSettings,
    RegionChoice,
    Scored,
    Search,
    draw_figures,
    hunt_of,
    mass_edges,
    mass_grid,
    plane_figure,
    result_of,
    roc_figure,
    scan_figure,
    sculpting_figure,
    search,
    spectrum_figure,
    write_hepdata,
    write_report,
    write_spectra,
)
from hunch.analysis.figures.base import literal
from hunch.analysis.figures.spectrum_figures import inclusive_figure, range_figure
from hunch.analysis.spectra.bins import RESOLUTION, search_grid
from hunch.table import MJJ, Observable

pytestmark = pytest.mark.filterwarnings("ignore:jsonschema.RefResolver is deprecated:DeprecationWarning")
OBSERVABLE = Observable.of("mJ_1")
RANGE = (50.0, 200.0)


def events(rng: np.random.Generator, n: int, name: str, n_signal: int = 0) -> Scored:
    """Background that falls as m^-3 from 40 GeV on, with losses that do not know the mass; signal at 91 GeV."""
    mass = np.concatenate([40 * rng.uniform(0.01, 1, n) ** (-1 / 2.0), rng.normal(91, 91 * RESOLUTION, n_signal)])
    losses = rng.normal(size=(n + n_signal, 2))
    losses[n:] += [2.0, -2.0]
    truth = np.arange(n + n_signal) >= n
    return Scored(name, mass, losses, np.zeros(len(mass), dtype=np.int64), truth.astype(np.uint8))


@pytest.fixture(scope="module")
def samples() -> tuple[Scored, Scored]:
    rng = np.random.default_rng(91)
    return events(rng, 30_000, "data", 60), events(rng, 30_000, "background")


def searched(data: Scored, background: Scored) -> Search:
    return search(
        data,
        background,
        inclusive=background.mass,
        prior_masses={"z": np.random.default_rng(1).normal(91, 91 * RESOLUTION, 2000)},
        choice=RegionChoice(fraction=0.06),
        settings=HuntSettings(pseudo_experiments=30, seed=1),
        observable=OBSERVABLE,
        fit_range=RANGE,
        progress=False,
    )


@pytest.fixture(scope="module")
def found(samples: tuple[Scored, Scored]) -> Search:
    return searched(*samples)


def test_bins_are_as_wide_as_the_resolution() -> None:
    edges = mass_edges(*RANGE)
    assert edges[[0, -1]] == pytest.approx(RANGE)
    np.testing.assert_allclose(np.diff(edges) / edges[:-1], RESOLUTION, rtol=0.05)
    wide = search_grid(np.geomspace(40, 200, 1000), sqrt_s=13_000)
    np.testing.assert_allclose(np.diff(wide) / wide[:-1], RESOLUTION, rtol=0.05)
    grid = mass_grid(FitRange(tuple(edges), "given"), np.geomspace(50, 199, 5000))
    # steps of half a resolution, not rounded to tens of GeV
    np.testing.assert_allclose(np.diff(grid) / grid[:-1], RESOLUTION / 2, rtol=0.05)


def test_the_peak_is_found_at_91_and_nothing_without_it(found: Search, samples: tuple[Scored, Scored]) -> None:
    hunted = found.hunt
    assert hunted.masses[hunted.best] == pytest.approx(91, rel=0.02)
    assert hunted.combined[hunted.best] < 1e-6
    assert found.fit_range.edges == tuple(mass_edges(*RANGE))
    assert sum(found.cutflow.values()) == len(samples[0].mass)
    data, background = samples
    none = searched(data.select(data.truth == 0), background)  # type: ignore[arg-type]
    assert none.hunt.combined.min() > 1e-3
    assert min(none.hunt.fit_p) > 1e-3


def texts(drawn: Axes | Figure) -> str:
    """Return every axis label, title and legend entry."""
    axes = [drawn] if isinstance(drawn, Axes) else drawn.axes
    said: list[str] = []
    for ax in axes:
        legend = ax.get_legend()
        said += [ax.get_xlabel(), ax.get_ylabel(), ax.get_title(loc="left")]
        said += [] if legend is None else [t.get_text() for t in (*legend.get_texts(), legend.get_title())]
    return "\n".join(said)


def test_every_figure_has_the_observable_on_its_axis(found: Search) -> None:
    hunted, (inclusive, regions) = found.hunt, found.sculpting_spectra
    window = (found.fit_range.low, found.fit_range.high)
    named = {"observable": OBSERVABLE}
    drawn: list[Any] = [
        scan_figure(hunted, found.names),
        spectrum_figure(hunted, 0, "region 0"),
        sculpting_figure(inclusive, {"region 0": regions[0]}, hunted.edges, "events", **named),
        range_figure(inclusive, hunted.edges, hunted.edges, None, "data", window, **named),
        inclusive_figure(np.geomspace(41, 199, 500), hunted.edges, None, "data", window, **named),
    ]
    for figure in drawn:
        assert "mJ_1 [GeV]" in texts(figure)
        assert "jj" not in texts(figure)
    at = OBSERVABLE.at(hunted.masses[hunted.best])
    assert re.fullmatch(r"(9[0-2]\.\d|9[0-2]) GeV", at)
    assert f"at {at}" in texts(drawn[0])
    assert f"fitted signal at {at}" in texts(drawn[1])


def test_figures_of_one_axis_draw_on_that_of_the_caller(found: Search) -> None:
    left, right = Figure().subplots(1, 2)
    assert scan_figure(found.hunt, found.names, ax=left) is left
    losses = {"data": np.random.default_rng(0).normal(size=(100, 2))}
    assert plane_figure(losses, {"data": np.zeros(100, dtype=np.int64)}, 1, ax=right) is right
    assert (left.get_ylabel(), right.get_xlabel()) == ("local p-value", "signal loss")
    whole = Figure()
    assert spectrum_figure(found.hunt, 0, "region 0", figure=whole) is whole
    assert len(whole.axes) == 2
    assert scan_figure(found.hunt, found.names) is not scan_figure(found.hunt, found.names)


def test_names_of_others_are_shown_letter_by_letter(found: Search) -> None:
    assert literal("cost_$ of $_x") == r"cost_\$ of \$_x"
    odd = Observable.of("a$b_$c", "US$")
    assert odd.axis_label == r"a\$b_\$c [US\$]"
    assert (odd.text, Observable.of("mjj"), Observable.of("mjj").axis_label) == ("a$b_$c", MJJ, r"$m_{jj}$ [GeV]")
    assert Observable.of("n", "").axis_label == "n"
    # a label that begins with an underscore would be left out of the legend, and one of two dollars be mathematics
    names = ("_hidden", "$bad_{$", "third")
    axes = scan_figure(named_otherwise(found, odd).hunt, names)
    assert axes.get_xlabel() == r"resonance mass, a\$b_\$c [US\$]"
    assert texts(axes).count("_hidden") == texts(axes).count(r"\$bad_{\$") == 1
    axes.figure.canvas.draw()  # mathematics that does not parse would raise here
    scores, truth = {"$a_{$": np.arange(60.0)}, np.arange(60) % 2
    assert r"\$a_{\$" in texts(roc_figure(scores, truth))  # type: ignore[arg-type]


def named_otherwise(found: Search, observable: Observable) -> Search:
    settings = dataclasses.replace(found.hunt.settings, observable=observable)
    return dataclasses.replace(found, hunt=dataclasses.replace(found.hunt, settings=settings))


def page_of(found: Search, folder: Path) -> str:
    about = {"hunch": "0", "seed": 1, "cutflow": {}, "versions": {}, "configuration": {}, "features": ["a"]}
    write_report(folder / "report.html", result_of(found) | about, folder / "f")
    return re.sub(r'src="data:[^"]*"', "", (folder / "report.html").read_text(encoding="utf-8"))


def test_the_page_says_what_was_hunted_in(found: Search, samples: tuple[Scored, Scored], tmp_path: Path) -> None:
    data, background = samples
    drawn = draw_figures(found, tmp_path / "f", data=data, priors={}, inclusive=background.mass, inclusive_name="b")
    text = page_of(found, tmp_path)
    assert text.count("<img") == len([path for path in drawn if path.suffix == ".png"])
    assert "<h1>Search for a resonance in mJ_1</h1>" in text
    assert "Fit range 50 GeV to 200 GeV" in text
    assert "jj" not in text
    assert found.regions.rule.description in text.replace("&#39;", "'")
    odd = page_of(named_otherwise(found, Observable.of("<b>m$", "TeV")), tmp_path)
    assert "<h1>Search for a resonance in &lt;b&gt;m$</h1>" in odd
    assert " GeV" not in odd.replace(found.fit_range.chosen, "")


def test_files_carry_the_observable(found: Search, tmp_path: Path) -> None:
    assert [h.axes[0].name for h in found.spectra] == ["mJ_1"] * 3
    write_spectra(tmp_path / "s.root", found.names, found.spectra)
    with uproot.open(tmp_path / "s.root") as file:
        assert file["region_0"].member("fXaxis").member("fTitle") == "mJ_1 [GeV]"
    write_spectra(tmp_path / "other.root", found.names, found.spectra, observable=Observable.of("x", "TeV"))
    with uproot.open(tmp_path / "other.root") as file:
        assert file["region_0"].member("fXaxis").member("fTitle") == "x [TeV]"
        np.testing.assert_array_equal(file["region_0"].values(), found.spectra[0].values())
    assert found.spectra[0].axes[0].label == "mJ_1 [GeV]"
    result = json.loads(json.dumps(result_of(found))) | {"configuration": {"sqrt_s": 13_000.0}}
    assert result["observable"] == {"name": "mJ_1", "unit": "GeV", "label": "mJ_1"}
    again, _ = hunt_of(result)
    assert again.settings.observable == OBSERVABLE
    np.testing.assert_allclose(again.combined, found.hunt.combined)


def test_tables_for_hepdata_carry_the_observable(found: Search, tmp_path: Path) -> None:
    pytest.importorskip("hepdata_lib")
    write_hepdata(found.hunt, tmp_path / "h", names=found.names)
    headers = [
        yaml.safe_load(path.read_text())["independent_variables"][0]["header"]
        for path in sorted((tmp_path / "h").glob("*.yaml"))
        if path.name != "submission.yaml"
    ]
    assert {"name": "mJ_1", "units": "GeV"} in headers
    assert {"name": "Resonance mass (peak of reconstructed mJ_1)", "units": "GeV"} in headers
    assert "jj" not in (tmp_path / "h" / "submission.yaml").read_text()


def test_results_tell_themselves_in_two_lines_at_most(found: Search) -> None:
    values = [
        found,
        found.hunt,
        found.hunt.global_p,
        found.hunt.background,
        found.hunt.scan,
        found.fit_range,
        found.regions,
        found.linearity,
        *found.minuit,
        *found.spurious,
    ]
    for value in values:
        text = repr(value)
        assert text.startswith(f"{type(value).__name__}(")
        assert text.count("\n") <= 1
        assert len(text) < 300
        assert "array(" not in text
    at = OBSERVABLE.at(found.hunt.masses[found.hunt.best])
    assert f"largest excess at {at}" in repr(found)
    refused = dataclasses.replace(found, no_significance="the function fails")
    assert repr(refused).endswith("no significance: the function fails)")
