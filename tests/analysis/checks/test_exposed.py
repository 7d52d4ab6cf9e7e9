"""Sculpting before and after exposure: seen where the plain losses follow a mass, gone where the exposed ones do not."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hunch.analysis import FitRange, RegionChoice, Scored, exposed_sculpting, mass_edges
from hunch.analysis.checks.exposed import rank_in_fold
from hunch.analysis.page import EXPOSED, write_page
from hunch.analysis.regions.scored import choose_regions
from hunch.errors import InputError
from hunch.files import finite
from hunch.table import Observable

WINDOW = FitRange(tuple(mass_edges(2000.0, 6000.0).tolist()), "given")
CHOICE = RegionChoice(number=2, fraction=0.2)


@pytest.fixture(scope="module")
def made() -> tuple[Scored, Scored, Any]:
    rng = np.random.default_rng(12)
    n = 8000
    mass, jet = 1900 * (1 - rng.random(n)) ** (-1 / 5), rng.exponential(60, n) + 20
    fold = rng.integers(0, 3, n)
    noise = rng.normal(size=(n, 2)) * (1 + 10 * fold[:, None])  # models of folds have scales of their own
    exposed = Scored("held out", mass, noise[:, :1], fold)
    follows = noise[:, 1:] + (jet[:, None] / 60 + mass[:, None] / 1000) * (1 + 10 * fold[:, None])
    return exposed, dataclasses.replace(exposed, losses=follows), jet


def compared(exposed: Scored, plain: Scored, jet: Any, choice: RegionChoice = CHOICE) -> Any:
    regions = choose_regions(exposed, WINDOW, choice, expected_events=4000)
    return exposed_sculpting(
        exposed,
        plain,
        regions,
        WINDOW,
        choice,
        expected_events=4000,
        masses=((Observable.of("mJ_1"), jet),),
        observable=Observable(),
        seed=3,
    )


def test_sculpting_is_seen_before_and_gone_after(made: tuple[Scored, Scored, Any]) -> None:
    exposed, plain, jet = made
    found = compared(exposed, plain, jet)
    inside = WINDOW.inside(exposed.mass)
    assert [m.observable.name for m in found] == ["mjj", "mJ_1"]
    for mass in found:
        names = ["region 0", "region 1", "all regions"]
        assert [s.region for s in mass.before] == [s.region for s in mass.after] == names
        assert mass.before[-1].jsd > 5 * mass.before[-1].floor_95
        assert mass.after[-1].jsd < 2 * mass.after[-1].floor_95
        assert mass.before_half.inverse < 0.2 * mass.after_half.inverse
        assert mass.before_half.eps_b == pytest.approx(0.5, abs=0.01)
        # every event that passes is drawn, those beyond the axis in its outermost bins
        assert mass.inclusive.sum() == inside.sum()
        assert mass.passing.sum(axis=1).tolist() == [mass.before[-1].n_events, mass.after[-1].n_events]
        assert np.allclose(mass.passing_half.sum(axis=1), inside.sum() / 2, atol=2)
    assert "mjj" in repr(found[0])
    json.dumps(finite(found[1].as_dict()), allow_nan=False)


def test_one_region_needs_no_sum(made: tuple[Scored, Scored, Any]) -> None:
    found = compared(*made, choice=RegionChoice(number=1, fraction=0.2))
    assert [s.region for s in found[0].after] == ["region 0"]


def test_losses_are_ranked_among_those_of_the_same_model(made: tuple[Scored, Scored, Any]) -> None:
    exposed = made[0]
    rank = rank_in_fold(exposed)
    for fold in range(3):
        own = exposed.fold == fold
        assert np.sort(rank[own])[[0, -1]] == pytest.approx([0.5 / own.sum(), 1 - 0.5 / own.sum()])
        assert (np.argsort(rank[own]) == np.argsort(exposed.losses[own, 0])).all()


def test_other_events_are_refused(made: tuple[Scored, Scored, Any]) -> None:
    exposed, plain, jet = made
    other = dataclasses.replace(plain, name="others", mass=plain.mass[::-1])
    with pytest.raises(InputError, match="others: are not the events of held out"):
        compared(exposed, other, jet)


def test_the_page_shows_both_and_what_random_selections_give(made: tuple[Scored, Scored, Any], tmp_path: Path) -> None:
    found = compared(*made)
    result = {"configuration": {}, "exposure": {"sculpting": [finite(m.as_dict()) for m in found]}}
    result["training"] = [{"rows": [900], "exposed_rows": 300, "exposure_effective": 0.75}]
    drawn: list[str] = []
    write_page(tmp_path / "page.html", EXPOSED, result, figure=lambda name, _: drawn.append(name) or "")
    page = (tmp_path / "page.html").read_text()
    before, after = found[1].before[-1], found[1].after[-1]
    for value in (before.jsd, before.floor, after.jsd, after.floor, after.floor_95):
        assert f"<td>{value:.4f}</td>" in page
    assert "The model was exposed to 300 events" in page
    assert "75 % are effective" in page
    assert page.count("all regions") == 2
    assert "mJ_1 [GeV], of the heavier jet" in page
    assert f"{found[1].before_half.inverse:.0f} without exposure" in page
    assert drawn == ["exposed_0", "exposed_half_0", "exposed_1", "exposed_half_1"]
    write_page(tmp_path / "none.html", EXPOSED, {"configuration": {}}, figure=lambda *_: "")
    assert (tmp_path / "none.html").read_text().strip() == ""
