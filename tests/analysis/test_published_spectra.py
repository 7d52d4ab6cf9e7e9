"""Mass spectra that experiments published: their numbers as they stand there, and the published verdict again.

Every file of `tests/data/spectra` is tried, so that a new one needs no new test. Beside the numbers it states where they are
from (`source`), how they came to be (`made`), with which options to hunt (`hunt`) and what was published of them (`published`;
`excess`: [low, high] GeV of one that was found, else null).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hunch.analysis import (
    BumpHunt,
    HuntSettings,
    SignalShape,
    hunt,
    hunt_spectra,
    read_luminosity,
    read_spectra,
    signal_templates,
    spectrum_hunt,
)
from hunch.analysis.spectra.bins import as_hist
from hunch.errors import InputError

FOLDER = Path(__file__).resolve().parents[1] / "data" / "spectra"
FILES = sorted(FOLDER.glob("*.json"))
FAMILIES = tuple(dict.fromkeys((HuntSettings().family, "dijet", "gaussian_process")))
"""Backgrounds that must give the published verdicts; the default is among them, whatever it is."""
every_file = pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
every_family = pytest.mark.parametrize("family", FAMILIES)


@dataclass(frozen=True)
class Published:
    """One published spectrum: what its file states, and its counts (bins,) in bins with these edges (bins + 1,) GeV."""

    stated: dict[str, Any]
    edges: np.ndarray[Any, Any]
    counts: np.ndarray[Any, Any]

    def hunt(self, family: str, *, counts: np.ndarray[Any, Any] | None = None, experiments: int = 0) -> BumpHunt:
        """Hunt in all bins as the file says, in these counts in place of its own if any."""
        spectra = {"published": as_hist(self.edges, self.counts if counts is None else counts)}
        settings = self.settings(family, experiments)
        return hunt(spectra, self.masses, shape=self.shape, settings=settings, progress=False)

    def settings(self, family: str, experiments: int) -> HuntSettings:
        """Return the settings of a hunt."""
        sqrt_s = float(self.stated["hunt"]["sqrt_s"])
        return HuntSettings(sqrt_s=sqrt_s, family=family, pseudo_experiments=experiments, seed=16)

    @property
    def shape(self) -> SignalShape:
        """Return the signal that the file says to hunt for."""
        return SignalShape(width=self.stated["hunt"].get("width", SignalShape().width))

    @property
    def masses(self) -> np.ndarray[Any, Any]:
        """Return 80 masses from two widths above the first edge to where ten events are left, GeV."""
        above = np.cumsum(self.counts[::-1])[::-1]
        return np.geomspace(self.edges[0] * (1 + 2 * self.shape.width), self.edges[:-1][above >= 10][-1], 80)


def published(path: Path, *, luminosity: str | None = None) -> Published:
    stated = json.loads(path.read_text(encoding="utf-8"))
    given = luminosity or stated["hunt"].get("luminosity")
    read = read_spectra(
        [path], sqrt_s=stated["hunt"]["sqrt_s"], luminosity=None if given is None else read_luminosity(given)
    )
    found = read.spectra[path.stem]
    return Published(stated, found.axes[0].edges, found.values())


def test_there_are_spectra_of_several_kinds() -> None:
    assert {p.stem for p in FILES} >= {"cms_dijet_13tev", "atlas_dijet_13tev", "cms_diphoton_13tev"}


@every_file
def test_a_file_states_where_its_numbers_are_from_and_adds_up(path: Path) -> None:
    given = published(path)
    assert set(given.stated["source"]) == {"paper", "doi", "record", "licence", "read_from"}
    assert all({*given.stated["source"].values(), given.stated["made"], given.stated["published"]["verdict"]})
    assert abs(given.counts.sum() - given.stated["total"]) <= given.stated["total_open"]


def test_counts_from_densities_are_those_that_the_record_has_beside_them() -> None:
    given = published(FOLDER / "cms_dijet_13tev.json")
    beside = np.array(given.stated["event_yield"], dtype=float)
    # five digits of either column, and the whole number between them
    digits = sum(0.5 * 10 ** (np.floor(np.log10(np.maximum(n, 1))) - 4) for n in (beside, given.counts))
    assert (np.abs(given.counts - beside) <= np.maximum(digits, 1)).all()
    assert given.counts[-6:].tolist() == [8, 8, 8, 0, 3, 1]


@pytest.mark.parametrize("name", ["cms_dijet_13tev", "cms_four_jets_13tev"])
@pytest.mark.parametrize("luminosity", ["138.00/fb", "136.50/fb"])
def test_another_luminosity_gives_no_whole_numbers(name: str, luminosity: str) -> None:
    with pytest.raises(InputError, match=r"no whole number .* Is the unit or the luminosity another\?"):
        published(FOLDER / f"{name}.json", luminosity=luminosity)


@every_family
@every_file
def test_the_background_describes_a_published_spectrum_and_nothing_sticks_out(path: Path, family: str) -> None:
    given = published(path)
    found = given.hunt(family)
    excess = given.stated["published"]["excess"]
    if excess is None:
        assert found.fit_p[0] > 0.01
        assert found.z_combined.max() < 3.5
    else:
        assert excess[0] <= found.masses[found.best] <= excess[1]
        assert found.z_combined.max() > 3


@every_family
def test_the_background_is_the_published_one(family: str) -> None:
    given = published(FOLDER / "atlas_dijet_13tev.json")
    theirs = np.array(given.stated["fit"])
    distance = (given.hunt(family).background.expected[0] - theirs) / np.sqrt(theirs)
    # another method than ours: in the bulk both are within 0.3 of a bin's statistical error, in the tail within 0.7
    assert np.abs(distance[theirs > 100]).max() < 0.5
    assert np.abs(distance).max() < 1.2


@every_family
@every_file
def test_a_bump_in_a_published_spectrum_is_found(path: Path, family: str) -> None:
    given = published(path)
    mass = given.masses[len(given.masses) // 2]
    template = signal_templates(given.shape, [mass], given.edges)[0]
    beneath = given.counts[template > 0.02 * template.max()].sum()
    found = given.hunt(family, counts=given.counts + np.round(8 * np.sqrt(beneath) * template))
    assert found.masses[found.best] == pytest.approx(mass, rel=given.shape.width)
    assert found.z_combined.max() > 5


@pytest.mark.slow
@every_family
@every_file
def test_the_global_p_is_none_of_a_discovery_where_none_was_published(path: Path, family: str) -> None:
    given = published(path)
    found = given.hunt(family, experiments=400)
    assert found.global_p is not None
    if given.stated["published"]["excess"] is None:
        assert found.global_p.p > 0.02
    else:
        assert found.global_p.p < 0.05


@pytest.mark.slow
@every_file
def test_no_published_spectrum_is_cut_or_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # pyhf's q0 and the check of local p are not what is tested, and take longer than the rest
    monkeypatch.setattr(spectrum_hunt, "q0_row", lambda found, _: (None,) * len(found.masses))
    monkeypatch.setattr(spectrum_hunt, "local_p_uniformity", lambda *_, **__: ())
    given = published(path)
    spectra = {"published": as_hist(given.edges, given.counts)}
    settings = given.settings(HuntSettings().family, 0)
    found = hunt_spectra(spectra, shape=given.shape, settings=settings, progress=False)
    assert found.no_significance is None
    assert (found.fit_range.low, found.fit_range.high) == (given.edges[0], given.edges[-1])  # none has a turn-on
