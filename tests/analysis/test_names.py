"""Names that somebody else gave: every figure shows them letter by letter, whatever is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from hunch.analysis import Limits, hunt
from hunch.analysis.checks.injection import Linearity
from hunch.analysis.figures.base import literal, save_figure, style
from hunch.analysis.figures.brazil_band import limit_figure
from hunch.analysis.figures.check_figures import pull_figure
from hunch.analysis.figures.counting_figure import counting_figure
from hunch.analysis.figures.p_values import scan_figure
from hunch.analysis.figures.region_figures import plane_figure, roc_figure, sculpting_figure
from hunch.analysis.figures.spectrum_figures import inclusive_figure, range_figure, spectrum_figure
from hunch.analysis.significance.procedure import HuntSettings
from hunch.analysis.spectra.bins import as_hist
from hunch.table import Observable

EDGES = np.geomspace(1000, 5000, 31)
FALLING = np.round(1e6 * (np.diff(EDGES)) * (EDGES[1:] / 1000) ** -5.0 / 100)
NAMES = {
    "$x^{2}$": "$x^{2}$",
    r"a_$b^\frac{": r"a_$b^\frac{",
    r"\$5\$": r"\$5\$",
    r"\alpha & {\it b} #1 %": r"\alpha & {\it b} #1 %",
    "_hidden": " _hidden",
    "one\nlocal: p = 1e-9": r"one\nlocal: p = 1e-9",
    "nul\x00bell\x07\x1b[31mred": r"nul\x00bell\x07\x1b[31mred",
    "\ud800half": r"\ud800half",
    "right\u202eleft": r"right\u202eleft",
    "very_long_" * 500: "very_long_very_long_…ery_long_very_long_",
}
"""Name -> what a reader sees."""


def seen(drawn: Any) -> list[str]:
    """Return every text of a figure as matplotlib draws it; a text with mathematics in it as it is written."""
    figure = drawn.figure if isinstance(drawn, Axes) else drawn
    assert isinstance(figure, Figure)
    texts = [t for t in figure.findobj(Text) if t.get_text()]
    return [t._preprocess_math(t.get_text())[0] for t in texts]  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def found() -> Any:
    settings = HuntSettings(pseudo_experiments=0)
    return hunt([as_hist(EDGES, FALLING)], np.geomspace(1300, 4000, 6), settings=settings)


def figures(found: Any, name: str) -> dict[str, Any]:
    """Draw every figure that shows a name."""
    rng = np.random.default_rng(1)
    losses, ones = rng.normal(size=(50, 2)), np.ones(3)
    linearity = Linearity(name, 2e3, 1.0, *((tuple(ones),) * 8), (0, 0, 0), 10, 1.0, 0.0, 20.0)
    limits = Limits(
        masses=ones * [1, 2, 3], observed=ones, expected=np.ones((3, 5)), confidence=0.95, blind=False, failures={},
        dropped={}, background=ones, asymptotic=ones > 0, efficiencies=ones[:, None], experiment_errors=np.full((3, 6), np.nan), experiments=0, p=ones * np.nan,
    )  # fmt: skip
    unit = Observable.of("mass", name)
    return {
        "scan": scan_figure(found, [name]),
        "spectrum": spectrum_figure(found, 0, name),
        "sculpting": sculpting_figure(FALLING, {name: FALLING}, EDGES, "data"),
        "range": range_figure(FALLING, EDGES, EDGES, None, name, (1e3, 5e3)),
        "inclusive": inclusive_figure(EDGES[:-1], EDGES, None, name, (1e3, 5e3)),
        "plane": plane_figure({"data": losses, name: losses}, {"data": np.zeros(50, dtype=int)}, 1),
        "losses": plane_figure({name: losses[:, :1]}, {}, 1),
        "roc": roc_figure({name: losses[:, 0]}, np.arange(50) % 2),
        "counting": counting_figure(losses[:, 0], np.zeros(50), np.zeros((1, 1)), title=name),
        "axes": counting_figure(losses, np.zeros(50), np.zeros((1, 2)), labels=(name, name)),
        "limits": limit_figure(limits, name),
        "pulls": pull_figure([linearity]),
        "unit": range_figure(FALLING, EDGES, EDGES, None, "data", (1e3, 5e3), observable=unit),
        "column": range_figure(FALLING, EDGES, EDGES, None, "data", (1e3, 5e3), observable=Observable.of(name, "GeV")),
    }


HOSTILE = "_$a^{b}$\n\x1b[31m\\$"


def test_every_figure_shows_a_name_letter_by_letter(found: Any) -> None:
    for which, drawn in figures(found, HOSTILE).items():
        assert any(r"_$a^{b}$\n\x1b[31m\$" in text for text in seen(drawn)), (which, seen(drawn))


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_name_can_be_drawn_and_is_shown_as_it_is(name: str, tmp_path: Path) -> None:
    with style():
        figure = Figure(figsize=(7, 4))
        axes = figure.subplots()
    axes.plot([1, 2], label=literal(name))
    axes.set_xlabel(f"{literal(name)} and $m_{{jj}}$")  # beside mathematics of ours
    entry = axes.legend().get_texts()[0]
    assert entry._preprocess_math(entry.get_text()) == (NAMES[name], False)  # type: ignore[attr-defined]
    assert all(path.stat().st_size > 1000 for path in save_figure(figure, tmp_path, "drawn"))


def test_a_name_is_shortened_in_its_middle() -> None:
    assert literal("a" * 40) == "a" * 40
    first, second = (literal("a" * 300 + end) for end in ("x", "y"))
    assert (len(first), first[-1], second[-1]) == (40, "x", "y")
