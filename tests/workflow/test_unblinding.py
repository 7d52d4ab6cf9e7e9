"""A window in a folder: nothing tells of it, its page has what was asked for, and what opens it is held against what was fixed."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hunch.analysis.blinded_hunt import hunt_blinded
from hunch.analysis.spectra.bins import as_hist
from hunch.errors import HunchError
from hunch.workflow import given_spectra
from hunch.workflow.given_spectra import hunt_files, limit_folder, report_again, validate_folder
from hunch.workflow.unblinding import other_options, other_spectra, read_blinded

Array = np.ndarray[Any, Any]
EDGES = np.round(np.geomspace(1500.0, 6000.0, 34))
CENTRES = 0.5 * (EDGES[1:] + EDGES[:-1])
FALLING = CENTRES**-6 * np.exp(-CENTRES / 3000) * np.diff(EDGES)
COUNTS = np.random.default_rng(5).poisson(20_000 * FALLING / FALLING.sum()).astype(np.float64)
WINDOW = (2500.0, 3000.0)


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given_spectra, "hunt_blinded", functools.partial(hunt_blinded, experiments=20))
    few = functools.partial(given_spectra.expected_discovery, points=2, experiments=0)
    monkeypatch.setattr(given_spectra, "expected_discovery", few)


def spectrum(folder: Path, counts: Array = COUNTS) -> str:
    file = folder / "s.json"
    file.write_text(json.dumps({"edges": EDGES.tolist(), "counts": counts.tolist()}))
    return str(file)


@pytest.fixture(scope="module")
def blind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blind")
    with pytest.MonkeyPatch.context() as patch:
        quick(patch)
        options: dict[str, Any] = {"blind": WINDOW, "expected": [50.0], "width": (0.02, 0.05), "seed": 3}
        options |= {"after_first": 3.0, "pseudo_experiments": 40, "masses": (1500.0, 6000.0)}
        hunt_files([spectrum(folder)], folder / "out", progress=False, **options)
    return folder / "out"


def result_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "result.json").read_text()))


def test_the_page_has_what_was_asked_for_and_says_what_waits(blind: Path) -> None:
    result, page = result_of(blind), (blind / "report.html").read_text(encoding="utf-8")
    assert "Expected discovery" in page
    assert result["expected_discovery"]["signal"]["yields"] == [[50.0], [50.0]]
    assert page.count("<img") == 2
    assert "2 % wide, the narrowest of those that are scanned: 2 %" in page
    first, *others = result["notes"]
    assert (
        first
        == "--after-first, --pseudo-experiments: of no use while a window is blind; to be given again with --unblind"
    )
    assert all(note.startswith("masses [1500, 6000] GeV: the ") for note in others)
    assert len(others) == 2


def test_seeds_of_the_expectation_are_those_given(blind: Path) -> None:
    assert given_spectra.hunt_of(result_of(blind))[0].settings.seed == 3


def test_checks_and_limits_are_on_the_page(blind: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = shutil.copytree(blind, tmp_path / "out")

    class Made:
        """Checks that are made elsewhere."""

        def as_dict(self) -> dict[str, Any]:
            bias = {"families": [], "no_other_family_describes": ["s"]}
            check = {"name": "a check", "found": "of it", "allowed": "that", "passed": True}
            return {"checks": [check], "bias": bias}

    def drawn(made: Any, output: Path) -> None:
        del made
        (output / "validation").mkdir()
        shutil.copy(output / "figures" / "fit_range.png", output / "validation" / "pulls.png")

    monkeypatch.setattr(given_spectra, "validate", lambda *_, **__: Made())
    monkeypatch.setattr(given_spectra, "write_validation", drawn)
    validate_folder(out, progress=False)
    limits = limit_folder(out, points=1)
    page = (out / "report.html").read_text(encoding="utf-8")
    for words in ("a check", "with the expectation in the place of the masked bins", "s: no other family describes"):
        assert words in page
    assert page.count("<img") == 4
    assert limits["notes"][-1].startswith("limits are on a signal 2 % of its mass wide, the narrowest of 2, ")
    assert set(limits["signals"]["signal"]["observed"]) == {None}
    (out / "report.html").unlink()
    report_again(out)
    assert "a check" in (out / "report.html").read_text(encoding="utf-8")


def test_events_in_the_window_do_not_set_the_bins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    rng = np.random.default_rng(1)
    mass = 1500 * (rng.pareto(6, 4000) + 1)
    window, made = (3500.0, 6000.0), []
    for top in (4100.0, 5500.0):
        file = tmp_path / "events.csv"
        rows = [*mass[mass < window[0]], *np.linspace(window[0] + 1, top, 20)]
        file.write_text("mjj\n" + "".join(f"{m:.8f}\n" for m in rows))
        made.append(hunt_files([str(file)], tmp_path / "out", blind=window, progress=False))
    assert json.dumps(made[0], sort_keys=True) == json.dumps(made[1], sort_keys=True)
    opened = given_spectra.read_spectra([tmp_path / "events.csv"], blind=window).spectra["all events"]
    assert set(made[1]["fit_range"]["edges"]) <= set(np.asarray(opened.axes[0].edges).tolist())
    assert opened.sum() == len(rows)


def test_other_spectra_are_told(blind: Path) -> None:
    before = result_of(blind)

    def told(counts: Array, name: str = "s") -> list[str]:
        return other_spectra(before, {name: as_hist(EDGES, counts)})

    hidden = (EDGES[1:] > WINDOW[0]) & (EDGES[:-1] < WINDOW[1])
    assert told(COUNTS) == []
    assert told(np.where(hidden, 7.0, COUNTS), "renamed") == []
    (note,) = told(COUNTS + 200 * (np.arange(33) == 2))
    assert note.startswith(
        "s: is another spectrum than while the window was blind: 1 of 28 bins outside of the window differ"
    )
    assert f"with {COUNTS[2]:.0f} events then and {COUNTS[2] + 200:.0f} here" in note
    (note,) = other_spectra(before, {"s": as_hist(EDGES, COUNTS), "t": as_hist(EDGES, COUNTS)})
    assert note.startswith("the regions were s while the window was blind and are s, t")


def test_other_options_are_told(blind: Path) -> None:
    before = result_of(blind)
    now = {**before["configuration"], "width": (0.02, 0.05), "masses": None, "seed": 9, "combination": "simes"}
    ending = "a choice that the global p does not count"
    assert other_options(before, now) == [
        f"masses was [1500.0, 6000.0] while the window was blind and is not given: {ending}",
        f"combination was 'fisher' while the window was blind and is 'simes': {ending}",
    ]


def without(*keys: str) -> Callable[[dict[str, Any]], Any]:
    def drop(result: dict[str, Any]) -> None:
        of: Any = result
        for key in keys[:-1]:
            of = of[key]
        del of[keys[-1]]

    return drop


def no_range(result: dict[str, Any]) -> None:
    result["fit_range"]["edges"] = []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (without("blinded"), "is no result of a hunt with --blind"),
        (without("configuration"), "result.json: damaged, or written by another version"),
        (without("configuration", "blind"), "result.json: damaged, or written by another version"),
        (without("seed"), "result.json: damaged, or written by another version"),
        (without("regions", "regions"), "result.json: damaged, or written by another version"),
        (no_range, "edges of the fit range do not rise"),
        (
            lambda result: result["blinded"].update(window=[3, "x"]),
            "result.json: damaged, or written by another version",
        ),
        (lambda result: result["fit_range"].update(low=1501.0), "the blind hunt no longer has what it wrote"),
    ],
)
def test_what_is_no_blind_result_is_refused(
    change: Callable[[dict[str, Any]], Any], told: str, blind: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(blind, tmp_path / "out")
    result = result_of(out)
    change(result)
    (out / "result.json").write_text(json.dumps(result))
    with pytest.raises(HunchError, match=told):
        read_blinded(out, tmp_path / "open")


def test_a_blind_result_is_not_overwritten_by_what_opens_it(
    blind: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert read_blinded(blind, tmp_path)["blinded"]
    assert caplog.text == ""
    with pytest.raises(HunchError, match="holds the blind result of --unblind, which stays"):
        read_blinded(blind / "result.json", blind)
    shutil.copy(blind / "result.json", tmp_path)
    assert read_blinded(tmp_path / "result.json", tmp_path / "open") == result_of(blind)
    assert "has no stamp beside it" in caplog.text
