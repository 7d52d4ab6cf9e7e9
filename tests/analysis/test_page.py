"""A search from losses to a page: the answer is finite JSON, figures are files, the page stands alone."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hunch.analysis import (
    HuntSettings,
    RegionChoice,
    Scored,
    TailFit,
    cls_limits,
    draw_figures,
    expected_discovery,
    result_of,
    search,
    write_report,
)
from hunch.analysis.figures.spectrum_figures import poisson_interval, signed_pulls
from hunch.analysis.page import picture
from hunch.analysis.results import best_of, scan_of
from hunch.errors import InputError
from hunch.files import finite

pytestmark = pytest.mark.filterwarnings("ignore:jsonschema.RefResolver is deprecated:DeprecationWarning")


def events(rng: np.random.Generator, n: int, name: str, n_signal: int = 0) -> Scored:
    """Background with losses independent of mass; signal at 3 TeV with a large background and a small prior loss."""
    mjj = 1530 * rng.uniform(0.002, 1, size=n) ** (-1 / 6.0)
    losses = rng.normal(size=(n, 3))
    truth = np.zeros(n + n_signal, dtype=np.uint8)
    truth[n:] = 1
    signal = rng.normal([3.0, -3.0, 0.0], size=(n_signal, 3))
    mass = np.concatenate([mjj, rng.normal(3000, 100, n_signal)])
    return Scored(name, mass, np.concatenate([losses, signal]), np.zeros(n + n_signal, dtype=np.int64), truth)


@pytest.fixture(scope="module")
def samples() -> tuple[Scored, Scored, Any]:
    rng = np.random.default_rng(41)
    return events(rng, 15_000, "data", 60), events(rng, 15_000, "background"), rng.normal(3000, 100, 2000)


@pytest.fixture(scope="module")
def found(samples: tuple[Scored, Scored, Any]) -> Any:
    data, background, prior = samples
    return search(
        data,
        background,
        inclusive=background.mass,
        prior_masses={"two_prong": prior},
        choice=RegionChoice(fraction=0.06),
        settings=HuntSettings(pseudo_experiments=50, seed=1),
        progress=False,
    )


@pytest.fixture(scope="module")
def page(found: Any, samples: tuple[Scored, Scored, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    data, background, _ = samples
    draw_figures(
        found, folder / "figures", data=data, priors={}, inclusive=background.mass, inclusive_name="background"
    )
    result = result_of(found) | {
        "hunch": "0",
        "seed": 1,
        "cutflow": {"read": len(data.mass)} | found.cutflow,
        "samples": {"data": {"events": 1, "cutflow": {"read": 1}, "skipped_files": [["bad.root", "<truncated>"]]}},
        "features": ["a", "b"],
        "versions": {"numpy": np.__version__},
        "configuration": {"output": "<out>"},
    }
    write_report(folder / "report.html", result, folder / "figures")
    return folder


def test_the_caption_names_both_signals(found: Any, page: Path, tmp_path: Path) -> None:
    said = "fit with signals at 3000 GeV and 3500 GeV, and the pulls of both"
    assert said not in (page / "report.html").read_text(encoding="utf-8")
    second = {"mass": 3500.0, "p_local": 0.01, "z_local": 2.3, "p_local_by": "asymptotic", "p_global": None}
    result = result_of(found) | {"second": second | {"first": {"mass": 3000.0}}, "configuration": {"after_first": 3}}
    result |= {"hunch": "0", "seed": 1, "versions": {}, "cutflow": {}}
    write_report(tmp_path / "report.html", result, page / "figures")
    assert said in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_signal_is_found(found: Any) -> None:
    best = found.hunt.best
    assert abs(found.hunt.masses[best] / 3000 - 1) < 0.03
    assert found.hunt.combined[best] < 1e-3
    assert found.metrics["loss difference"].auc > 0.95


def test_the_cutflow_adds_up(found: Any, samples: tuple[Scored, Scored, Any]) -> None:
    assert sum(found.cutflow.values()) == len(samples[0].mass)
    for r, histogram in enumerate(found.spectra):
        assert histogram.values().sum() == found.cutflow[f"region {r}"]
        assert histogram.values(flow=True).sum() == histogram.values().sum()


def test_labels_change_nothing_but_metrics(found: Any, samples: tuple[Scored, Scored, Any]) -> None:
    data, background, prior = samples
    blind = search(
        dataclasses.replace(data, truth=None),
        dataclasses.replace(background, truth=None),
        inclusive=background.mass,
        prior_masses={"two_prong": prior},
        choice=RegionChoice(fraction=0.06),
        settings=HuntSettings(pseudo_experiments=50, seed=1),
        progress=False,
    )
    first, second = result_of(found), result_of(blind)
    assert second.pop("metrics") == {}
    del first["metrics"]
    assert first == second


def test_the_answer_is_strict_json(found: Any) -> None:
    result = result_of(found)
    assert json.loads(json.dumps(result, allow_nan=False)) == json.loads(json.dumps(result))
    best = result["best"]
    masses = result["scan"]["masses"]
    assert best["p_local_asymptotic"] == min(result["scan"]["p_combined"])
    # fifty experiments calibrate nothing: the asymptotic p before the process was chosen again, if that is larger
    assert best["p_local_by"] == "asymptotic"
    assert best["p_local"] >= best["p_local_asymptotic"]
    assert best["z_local_first"] <= best["z_local_asymptotic"] + 1
    assert best["mass"] == masses[int(np.argmin(result["scan"]["p_combined"]))]
    assert 1 / 51 <= best["p_global"] <= 1
    assert best["p_global_is_bound"] == (best["pseudo_experiments_above"] == 0)
    assert best["p_global_upper_95"] > best["pseudo_experiments_above"] / 50
    # 50 experiments have no tail to fit
    assert (best["p_global_tail"], best["z_global_tail"], best["p_global_tail_interval"]) == (None, None, None)
    for region in result["scan"]["regions"]:
        fitted = max(z for z, ok in zip(region["z_local"], region["converged"], strict=True) if ok)
        assert region["z_largest"] == pytest.approx(max(fitted, 0.0), abs=1e-9)
        assert 0 < region["p_global_gross_vitells"] <= 1
        assert len(region["p_local"]) == len(region["p_q0_pyhf"]) == len(masses)
        for q0, signal in zip(region["p_q0_pyhf"], region["signal_yield"], strict=True):
            assert q0 is None or signal > 0


def test_a_fit_that_failed_has_no_error_rather_than_infinity(found: Any) -> None:
    scan = dataclasses.replace(found.hunt.scan, error=np.full_like(found.hunt.scan.error, np.inf))
    failed = dataclasses.replace(found, hunt=dataclasses.replace(found.hunt, scan=scan))
    assert result_of(failed)["scan"]["regions"][0]["signal_yield_error"][0] is None


def test_what_no_fit_tells_is_a_dash_on_the_page(found: Any, tmp_path: Path) -> None:
    unknown = dict.fromkeys(("fitted", "error", "pull_mean", "pull_width", "coverage_68"), (math.nan,) * 4)
    linearity = dataclasses.replace(found.linearity, slope=math.nan, offset=math.nan, **unknown)
    result = result_of(dataclasses.replace(found, linearity=linearity))
    json.dumps(result, allow_nan=False)
    about = {"hunch": "0", "seed": 1, "cutflow": {}, "features": ["a"], "versions": {}, "configuration": {}}
    write_report(tmp_path / "report.html", result | about, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<tr><td>slope</td><td></td><td>–</td>" in page
    assert page.count("<td>– ± –</td><td>–, –</td><td>–</td>") == 4


def test_each_figure_is_a_pdf_and_a_png(page: Path) -> None:
    names = {p.stem for p in (page / "figures").iterdir()}
    expected = {"fit_range", "quak_plane", "p_value_scan", "sculpting", "roc_sic", *(f"spectrum_{r}" for r in range(3))}
    assert names == expected
    for name in names:
        assert (page / "figures" / f"{name}.pdf").read_bytes()[:5] == b"%PDF-"
        png = (page / "figures" / f"{name}.png").read_bytes()
        assert png[:4] == b"\x89PNG"
        assert len(png) > 5000


def test_the_page_holds_its_figures_and_no_links(page: Path) -> None:
    text = (page / "report.html").read_text(encoding="utf-8")
    images = re.findall(r'<img[^>]*src="([^"]{30})', text)
    assert len(images) == len(list((page / "figures").glob("*.png")))
    assert all(i.startswith("data:image/png;base64,") for i in images)
    assert re.findall(r"https?://|<script|<link|src=\"(?!data:)|url\(", text) == []
    assert "&lt;truncated&gt;" in text  # user text is escaped
    assert "bad.root" in text
    assert "{{" not in text

    opened: list[str] = []

    class Balance(HTMLParser):
        def handle_starttag(self, tag: str, attrs: Any) -> None:
            if tag not in {"meta", "img", "br"}:
                opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag

    Balance().feed(text)
    assert opened == []


ATTACK = "\"'><script>document.title=1</script><img src=x onerror=alert(1)>{{ 7*7 }}\x00\x1b[31m\ud800\u202e"


def test_a_name_reaches_the_page_as_text(found: Any, page: Path, tmp_path: Path) -> None:
    names = tuple(f"{ATTACK}{r}" for r in range(3))
    bias = dataclasses.replace(found.bias, regions=names, undescribed=(ATTACK,), same={ATTACK: ATTACK})
    named = dataclasses.replace(found, names=names, notes=(ATTACK,), bias=bias)
    told = dict.fromkeys(("spectrum_0", "expected_0", f"limits_{ATTACK}"), next(page.glob("figures/*.png")))
    limits = cls_limits(found.hunt, masses=[3000.0], efficiencies=[0.3, 0.3, 0.3]).as_dict()
    skipped = {"events": 1, "cutflow": {"read": 1}, "skipped_files": [[ATTACK, ATTACK]]}
    about: dict[str, Any] = {
        "hunch": ATTACK, "seed": 1, "versions": {ATTACK: ATTACK}, "features": [ATTACK], "cutflow": {ATTACK: 1},
        "samples": {ATTACK: skipped}, "configuration": {ATTACK: ATTACK},
        "limits": {"notes": [ATTACK], "signals": {ATTACK: limits}},
        "validation": {
            "checks": [{"name": ATTACK, "found": ATTACK, "allowed": ATTACK, "passed": True}], "bias": bias.as_dict()
        },
    }  # fmt: skip
    result = result_of(named) | about
    result["validation"]["bias"] = result["bias"]
    share = {"points": 2, "experiments": 0, "efficiencies": [0.3, 0.3, 0.3], "luminosity": 10.0, "progress": False}
    result["expected_discovery"] = {ATTACK: finite(expected_discovery(found.hunt, **share).as_dict())}
    result["observable"] = {"name": ATTACK, "unit": ATTACK, "label": ATTACK}
    result["best"]["no_significance"] = ATTACK
    write_report(tmp_path / "report.html", result, tmp_path, told)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert text.count("&lt;script&gt;") > 20
    assert "this hunt expects of a signal like" in text
    assert "saturated deviance" in text
    assert text.count(r"\x00\x1b[31m\ud800\u202e") > 20
    assert not set("\0\x1b\u202e") & set(text)

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: Any) -> None:
            assert tag != "script"
            assert {name for name, _ in attrs} <= {
                "lang",
                "charset",
                "name",
                "content",
                "http-equiv",
                "class",
                "alt",
                "src",
            }
            assert tag != "img" or dict(attrs)["src"].startswith("data:image/png;base64,")

    Tags().feed(text)
    assert "default-src 'none'" in text  # and where all of that fails no script runs


def test_the_tail_fit_is_shown_where_there_is_one(found: Any, page: Path, tmp_path: Path) -> None:
    text = (page / "report.html").read_text(encoding="utf-8")
    assert "at 95 % confidence" in text
    assert "global p of that" in text
    assert "extrapolation" not in text
    tail = TailFit(p=2.3e-7, z=5.05, low=1.1e-7, high=4.5e-7, n_tail=100, threshold=6.0, scale=1.0, shape=0.0, ks=0.5)
    glob = dataclasses.replace(found.hunt.global_p, tail=tail)
    result = result_of(dataclasses.replace(found, hunt=dataclasses.replace(found.hunt, global_p=glob)))
    best = result["best"]
    assert (best["p_global_tail"], best["z_global_tail"]) == (2.3e-7, 5.05)
    assert best["p_global_tail_interval"] == [1.1e-7, 4.5e-7]
    about = {"hunch": "0", "seed": 1, "cutflow": {}, "versions": {}, "configuration": {}}
    write_report(tmp_path / "report.html", result | about, tmp_path)
    shown = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "p = 2.3e-07 (5.05 σ), 1.1e-07 to 4.5e-07 at 68 %: an extrapolation" in shown


def test_what_is_no_picture_is_not_handed_on(tmp_path: Path) -> None:
    (tmp_path / "id_rsa").write_text("private")
    (tmp_path / "figure.png").symlink_to(tmp_path / "id_rsa")
    with pytest.raises(InputError, match=r"figure.png: is no PNG figure"):
        picture(tmp_path / "figure.png")


def test_no_global_p_is_null_everywhere(found: Any) -> None:
    best = best_of(found.hunt, "the function fails")
    for name in ("p_global", "p_global_upper_95", "p_global_tail", "z_global_tail", "p_global_tail_interval"):
        assert best[name] is None
    bare = dataclasses.replace(found.hunt, global_p=None)
    assert scan_of(bare, found.names, found.q0_p)["regions"][0]["p_global_gross_vitells"] is None


def test_an_empty_range_is_refused(samples: tuple[Scored, Scored, Any]) -> None:
    data, background, _ = samples
    with pytest.raises(InputError, match="fit_range"):
        search(data, background, fit_range=(10.0, 20.0), progress=False)


def test_pulls_and_intervals() -> None:
    counts, expected = np.array([0.0, 4.0, 100.0]), np.array([2.0, 4.0, 120.0])
    pulls = signed_pulls(counts, expected)
    assert pulls[0] == pytest.approx(-2.0)
    assert pulls[1] == 0
    assert pulls[2] == pytest.approx(-20 / np.sqrt(113), rel=0.02)
    down, up = poisson_interval(counts)  # Garwood: 0 +1.84, 4 -1.91 +3.16
    assert (down[0], up[0]) == (0, pytest.approx(1.841, abs=1e-3))
    assert (down[1], up[1]) == (pytest.approx(1.914, abs=1e-3), pytest.approx(3.163, abs=1e-3))
