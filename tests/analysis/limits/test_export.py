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

from hunch.analysis import BumpHunt, HuntSettings, LimitModel, cls_limits, hunt, limit_model, model_cls
from hunch.analysis.limits.export import write_datacard, write_hepdata, write_histograms
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
    made = limit_model(found, 2600, names=NAMES, efficiencies=[0.5, 0.3])
    assert isinstance(made, LimitModel)
    return made


def model_of_card(card: Path) -> dict[str, Any]:
    """Rebuild the pyhf workspace from a datacard and its histograms, as combine would its likelihood."""
    lines = [line.split() for line in card.read_text().splitlines() if not line.startswith(("#", "-"))]
    keys = {line[0]: line for line in lines}
    cells = [line[1:] for line in lines if line[0] == "bin"]
    channels, columns = cells[0], cells[1]
    processes = next(line[1:] for line in lines if line[0] == "process")
    nuisances = [line for line in lines if len(line) > 1 and line[1] == "shape"]
    assert int(keys["imax"][1]) == len(channels)
    assert int(keys["jmax"][1]) == len(set(processes)) - 1
    assert int(keys["kmax"][1]) == len(nuisances)
    made: dict[str, Any] = {c: {"name": c, "samples": []} for c in channels}
    observations = []
    with uproot.open(card.with_name(keys["shapes"][3])) as file:
        for channel, total in zip(channels, keys["observation"][1:], strict=True):
            data = file[f"{channel}/data_obs"].values()
            assert int(total) == data.sum()
            observations.append({"name": channel, "data": data.tolist()})
        for i, (channel, process) in enumerate(zip(columns, processes, strict=True)):
            values = file[f"{channel}/{process}"].values()
            moved = {
                n[0]: [file[f"{channel}/{process}_{n[0]}{side}"].values() for side in ("Up", "Down")]
                for n in nuisances
                if n[2:][i] == "1"
            }
            if process == "signal":
                modifiers: list[dict[str, Any]] = [
                    {"name": n, "type": "histosys", "data": {"hi_data": hi.tolist(), "lo_data": lo.tolist()}}
                    for n, (hi, lo) in moved.items()
                ]
                modifiers.append({"name": "mu", "type": "normfactor", "data": None})
                made[channel]["samples"].append({"name": process, "data": values.tolist(), "modifiers": modifiers})
                continue
            for k in range(len(values)):
                modifiers = [
                    {"name": n, "type": "normsys", "data": {"hi": hi[k] / values[k], "lo": lo[k] / values[k]}}
                    for n, (hi, lo) in moved.items()
                ]
                data = np.where(np.arange(len(values)) == k, values, 0.0).tolist()
                made[channel]["samples"].append({"name": f"{process}_{k}", "data": data, "modifiers": modifiers})
    parameters = [{"name": "mu", "inits": [1.0], "bounds": [[0.0, 100.0]]}]
    measurement = {"name": "card", "config": {"poi": "mu", "parameters": parameters}}
    channel_list = list(made.values())
    return {
        "version": "1.0.0",
        "channels": channel_list,
        "observations": observations,
        "measurements": [measurement],
    }


def test_datacard_and_its_histograms_hold_the_whole_model(model: LimitModel, tmp_path: Path) -> None:
    card, root = write_datacard(model, tmp_path / "combine")
    assert (card.name, root.name) == ("datacard_2600.txt", "histograms_2600.root")
    read = dataclasses.replace(model, workspace=model_of_card(card))
    observed, expected = model_cls(read, 0.8)
    wanted, band = model_cls(model, 0.8)
    assert observed == pytest.approx(wanted, rel=1e-4)
    np.testing.assert_allclose(expected, band, rtol=1e-4)
    assert f"r = 1 is {model.unit:.10g} signal events" in card.read_text().splitlines()[0]
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
    assert model.build()[0].config.channels == sorted(bins)
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
    assert (
        "1 masses have no limit and are left out" in next(d for d in described if d["name"] == "limits")["description"]
    )

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
