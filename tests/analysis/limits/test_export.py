"""What other programs read back: histograms and datacards that rebuild the model, and tables that HEPData accepts."""

from __future__ import annotations

import dataclasses
import importlib
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
import yaml

from hunch.analysis import BumpHunt, HuntSettings, LimitModel, SignalErrors, cls_limits, hunt, limit_model
from hunch.analysis.limits.asymptotic import asymptotic_limits
from hunch.analysis.limits.backgrounds import RegionBackground, standard
from hunch.analysis.limits.export import write_datacard, write_hepdata, write_histograms
from hunch.analysis.limits.fit import Likelihood, likelihood_of
from hunch.analysis.limits.workspace import build
from hunch.analysis.spectra.bins import as_hist
from hunch.analysis.spectra.files import read_spectra
from hunch.errors import InputError, printable

Array = np.ndarray[Any, Any]
NAMES = ["region 0", "region 1 (loose)"]


@pytest.fixture(scope="module")
def found(edges: Array, truth: Callable[..., Array]) -> BumpHunt:
    rng = np.random.default_rng(17)
    spectra = [as_hist(edges, rng.poisson(truth(n)).astype(float)) for n in (2000, 6000)]
    return hunt(spectra, [2200, 2600, 3300], settings=HuntSettings(pseudo_experiments=0))


@pytest.fixture(scope="module")
def model(found: BumpHunt) -> LimitModel:
    errors = SignalErrors(scale=(0.02, 0.01), efficiency=0.05, luminosity=0.02, region_efficiencies=(0.0, 0.1))
    made = limit_model(found, 2600, names=NAMES, efficiencies=[0.5, 0.3], errors=errors)
    assert isinstance(made, LimitModel)
    return made


def likelihood_of_card(card: Path) -> Likelihood:
    """Rebuild the likelihood from a datacard and its histograms, as combine would."""
    lines = [line.split() for line in card.read_text().splitlines() if not line.startswith(("#", "-"))]
    keys = {line[0]: line for line in lines}
    cells = [line[1:] for line in lines if line[0] == "bin"]
    channels, columns = cells[0], cells[1]
    processes = next(line[1:] for line in lines if line[0] == "process")
    nuisances = [line for line in lines if len(line) > 1 and line[1] in {"shape", "lnN"}]
    assert int(keys["imax"][1]) == len(channels)
    assert int(keys["jmax"][1]) == len(set(processes)) - 1
    assert int(keys["kmax"][1]) == len(nuisances)
    counts, signal, backgrounds = [], [], []
    shapes: dict[str, list[Any]] = {}
    factors: dict[str, list[float]] = {}
    with uproot.open(card.with_name(keys["shapes"][3])) as file:

        def read(name: str) -> Array:
            return np.asarray(file[name].values())

        for channel, total in zip(channels, keys["observation"][1:], strict=True):
            own = [i for i, c in enumerate(columns) if c == channel]
            at = {processes[i]: i for i in own}
            counts.append(read(f"{channel}/data_obs"))
            assert int(total) == counts[-1].sum()
            signal.append(read(f"{channel}/signal"))
            centre = read(f"{channel}/background")
            moves, precision = [], []
            for name, kind, *values in nuisances:
                if kind == "lnN":
                    value = values[at["signal"]]
                    factors.setdefault(name, []).append(1.0 if value == "-" else float(value))
                elif values[at["signal"]] == "1":
                    sides = [read(f"{channel}/signal_{name}{side}") for side in ("Up", "Down")]
                    shapes.setdefault(name, []).append(sides)
                elif values[at["background"]] != "-":
                    up, down = (read(f"{channel}/background_{name}{side}") for side in ("Up", "Down"))
                    np.testing.assert_allclose(up * down, centre**2, rtol=1e-6)
                    moves.append(np.log(up / centre))
                    precision.append(0.0 if float(values[at["background"]]) > 1 else 1.0)
            basis = np.stack(moves, axis=1)
            backgrounds.append(RegionBackground(basis, np.log(centre), np.array(precision), np.zeros(len(moves))))
    moved = {name: (np.array([h for h, _ in s]), np.array([w for _, w in s])) for name, s in shapes.items()}
    log_normal = {name: (np.array(v), 1 / np.array(v)) for name, v in factors.items()}
    return likelihood_of(
        np.array(counts), [standard(b) for b in backgrounds], np.array(signal), shapes=moved, factors=log_normal
    )


def test_datacard_and_its_histograms_hold_the_whole_model(model: LimitModel, tmp_path: Path) -> None:
    card, root = write_datacard(model, tmp_path / "combine")
    assert (card.name, root.name) == ("datacard_2600.txt", "histograms_2600.root")
    ours = asymptotic_limits(model.likelihood, 0.05)
    np.testing.assert_allclose(asymptotic_limits(likelihood_of_card(card), 0.05), ours, rtol=1e-5)
    assert f"r = 1 is {model.unit:.10g} signal events" in card.read_text().splitlines()[0]
    lines = [line.split() for line in card.read_text().splitlines()]
    assert ["luminosity", "lnN", "1.02", "-", "1.02", "-"] in lines
    assert ["region_1_loose_efficiency", "lnN", "-", "-", "1.1", "-"] in lines
    assert ["signal_scale", "shape", "1", "-", "1", "-"] in lines
    with uproot.open(root) as file:
        np.testing.assert_array_equal(file["region_0/signal"].axis().edges(), model.edges)
        up, down = (file[f"region_0/signal_signal_scale{side}"].values() for side in ("Up", "Down"))
    centres = 0.5 * (model.edges[1:] + model.edges[:-1])
    assert np.average(centres, weights=up) > np.average(centres, weights=down)
    assert sorted(p.name for p in card.parent.iterdir()) == [card.name, root.name]


def test_spectra_in_root_are_the_hunted_ones(found: BumpHunt, tmp_path: Path) -> None:
    with uproot.open(write_histograms(found, tmp_path / "spectra.root", names=NAMES)) as file:
        for r, folder in enumerate(("region_0", "region_1_loose")):
            values, edges = file[f"{folder}/data_obs"].to_numpy()
            np.testing.assert_array_equal(values, found.counts[r])
            np.testing.assert_array_equal(edges, found.edges)
            np.testing.assert_array_equal(file[f"{folder}/background"].values(), found.background.expected[r])


@pytest.mark.parametrize(
    ("names", "bins"),
    [
        (("2018_mjj", "2018-mjj"), ("bin_2018_mjj", "bin_2018_mjj_2")),
        (("a b", "a_b"), ("a_b_2", "a_b")),
        (("é", "+"), ("bin", "bin_2")),
        (("A", "a"), ("A", "a_2")),
        (("x" * 5000, "line\nimax 7"), ("x" * 60, "line_imax_7")),
    ],
)
def test_names_are_made_valid_stay_different_and_the_card_says_which_is_which(
    found: BumpHunt, tmp_path: Path, names: tuple[str, ...], bins: tuple[str, ...]
) -> None:
    model = limit_model(found, 2600, names=names, efficiencies=[0.5, 0.3])
    assert isinstance(model, LimitModel)
    assert model.names == names
    assert tuple(model.channels.values()) == bins
    assert build(model)[0].config.channels == sorted(bins)
    card, root_file = write_datacard(model, tmp_path)
    lines = card.read_text(encoding="utf-8").splitlines()
    cells = [line.split() for line in lines if not line.startswith("#")]
    assert [c[1:] for c in cells if c[0] == "bin"] == [list(bins), [b for b in bins for _ in range(2)]]
    assert [c[1] for c in cells if c[0] == "imax"] == ["2"]
    nuisances = [c[0] for c in cells if c[1:2] == ["shape"]]
    assert all(re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) for name in (*bins, *nuisances))
    assert len(set(nuisances)) == len(nuisances)
    for name, own in zip(names, bins, strict=True):
        told = f"# {own} is region {printable(name)!r}"
        assert (told in lines) == (name != own)
    with uproot.open(root_file) as file:
        assert {key.split("/")[0] for key in file.keys(cycle=False, recursive=False)} == set(bins)
    write_histograms(found, tmp_path / "spectra.root", names=names)
    with uproot.open(tmp_path / "spectra.root") as file:
        assert set(file.keys(cycle=False, recursive=False)) == set(bins)


def test_bins_of_a_file_that_begin_with_a_digit(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    spectra = read_spectra([shared_data("found/datacard_digit/2018_mjj.json")]).spectra
    hunted = hunt(spectra, [2000.0], settings=HuntSettings(pseudo_experiments=0))
    model = limit_model(hunted, 2000.0, names=list(spectra))
    assert isinstance(model, LimitModel)
    text = write_datacard(model, tmp_path)[0].read_text()
    assert "# bin_2018_mjj is region '2018_mjj'" in text
    assert not re.search(r"^(bin|process) .*\s\d\w*_", text, re.MULTILINE)


def test_hepdata_tables_are_valid_and_hold_the_numbers(found: BumpHunt, tmp_path: Path) -> None:
    from hepdata_validator.full_submission_validator import FullSubmissionValidator

    failed = found.scan.converged.copy()
    failed[0, 1] = False
    hunted = dataclasses.replace(found, scan=dataclasses.replace(found.scan, converged=failed))
    set_at = cls_limits(found, names=NAMES, masses=[2200, 2600], efficiencies=[0.5, 0.3], luminosity=10.0)
    gap = set_at.expected.copy()
    gap[0] = np.nan
    set_at = dataclasses.replace(set_at, expected=gap, failures={2200.0: "made to fail"})
    files = write_hepdata(hunted, tmp_path / "hepdata", names=NAMES, limits=set_at)
    assert sorted(f.name for f in files) == [
        "limits.yaml",
        "p_value_scan.yaml",
        "spectrum_region_0.yaml",
        "spectrum_region_1_loose.yaml",
        "submission.yaml",
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["hepdata"]
    validator = FullSubmissionValidator()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves the files it read to the garbage collector
        valid = validator.validate(directory=str(tmp_path / "hepdata"))
    assert valid, validator.get_messages()
    tables = {f.stem: yaml.safe_load(f.read_text()) for f in files if f.stem != "submission"}

    limit = tables["limits"]
    assert [v["value"] for v in limit["independent_variables"][0]["values"]] == [2600]
    observed, expected = limit["dependent_variables"]
    assert observed["header"]["units"] == "fb"
    assert observed["values"][0]["value"] == pytest.approx(set_at.observed[1] / 10, rel=1e-5)
    errors = {e["label"]: e["asymerror"] for e in expected["values"][0]["errors"]}
    middle = expected["values"][0]["value"]
    for label, low, high in (("1 sigma", 1, 3), ("2 sigma", 0, 4)):
        assert middle + errors[label]["minus"] == pytest.approx(set_at.expected[1, low] / 10, rel=1e-4)
        assert middle + errors[label]["plus"] == pytest.approx(set_at.expected[1, high] / 10, rel=1e-4)
    described = [d for d in yaml.safe_load_all((tmp_path / "hepdata/submission.yaml").read_text()) if "name" in d]
    told = next(d for d in described if d["name"] == "limits")["description"]
    assert "1 masses have no limit and are left out" in told
    assert "Nuisances of the signal: mass scale 1 %, resolution 10 %." in told

    first, _, combined, z = tables["p_value_scan"]["dependent_variables"]
    assert first["values"][1]["value"] == "-"
    assert first["values"][0]["value"] == pytest.approx(found.scan.p[0, 0], rel=1e-5)
    assert [v["value"] for v in combined["values"]] == pytest.approx(found.combined.tolist(), rel=1e-5)
    assert len(z["values"]) == 3
    counts, background = tables["spectrum_region_0"]["dependent_variables"]
    assert [v["value"] for v in counts["values"]] == found.counts[0].tolist()
    bins = tables["spectrum_region_0"]["independent_variables"][0]["values"]
    assert [b["low"] for b in bins] == found.edges[:-1].tolist()
    assert all(b["errors"][0]["symerror"] > 0 for b in background["values"])


def test_without_hepdata_lib_its_name_is_said(found: BumpHunt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(InputError, match="need hepdata_lib: pip install hepdata_lib"):
        write_hepdata(found, tmp_path / "hepdata")
    assert not list(tmp_path.iterdir())
