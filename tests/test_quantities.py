"""Numbers as people write them in an analysis file, and what can be known to be wrong from the file alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hunch.analysis import read_luminosity
from hunch.config import Analysis, ConfigError, read_analysis

MINIMAL = "samples:\n  data: [data.csv]\n  background: [qcd.csv]\n  priors:\n    near: [near.csv]\noutput: out\n"
"""Seven lines with a key behind it."""


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Analysis]:
    for name in ("data.csv", "qcd.csv", "near.csv", "data.root", "qcd.root", "near.root"):
        (tmp_path / name).write_bytes(b"")

    def reading(text: str, *overrides: str, minimal: str = MINIMAL) -> Analysis:
        (tmp_path / "analysis.yaml").write_text(minimal + text, encoding="utf-8")
        return read_analysis(tmp_path / "analysis.yaml", overrides)

    return reading


def key_of(analysis: Analysis, key: str) -> Any:
    found: Any = analysis
    for part in key.split("."):
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    return found


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("luminosity: 137/fb", "luminosity", 137.0),
        ("luminosity: 137 fb^-1", "luminosity", 137.0),
        ("luminosity: 137 fb-1", "luminosity", 137.0),
        ("luminosity: 0.137/ab", "luminosity", 137.0),
        ("luminosity: 19700/pb", "luminosity", 19.7),
        ("luminosity: 1.5e2", "luminosity", 150.0),
        ("sqrt_s: 13 TeV", "sqrt_s", 13_000.0),
        ("sqrt_s: 13.6TeV", "sqrt_s", 13_600.0),
        ("sqrt_s: 1e4", "sqrt_s", 10_000.0),
        ("fit_range: [2 TeV, 7000 GeV]", "fit_range", (2000.0, 7000.0)),
        ("masses: [2.5e3, 4 TeV]", "masses", (2500.0, 4000.0)),
        ("observable: {name: mjj, unit: TeV}\nfeatures: [a]\nmasses: [2500 GeV, 4]", "masses", (2.5, 4.0)),
        ("observable: {name: mjj, unit: tev}\nfeatures: [a]", "observable.unit", "TeV"),
        ("observable: {name: mjj, unit: tev}\nfeatures: [a]", "sqrt_s", 13.0),
        ("observable: {name: mjj, unit: keV}\nfeatures: [a]", "sqrt_s", 13e9),
        ("pseudo_experiments: 1e3", "pseudo_experiments", 1000),
        (
            "training: {max_epochs: 1e1, learning_rate: 1e-3}",
            "scorer_options",
            {"max_epochs": 10, "learning_rate": 1e-3},
        ),
        ("limits: {scale_error: 1e-2}", "limits.scale_error", 0.01),
        ("limits: {resolution_error: [0.1, 2e-1]}", "limits.resolution_error", (0.1, 0.2)),
        ("limits: {scale_error: [[2e3, 1e-2, 0.02]]}", "limits.scale_error", ((2000, 0.01, 0.02),)),
    ],
)
def test_numbers_are_read_as_people_write_them(read: Callable[..., Analysis], text: str, key: str, value: Any) -> None:
    assert key_of(read(text), key) == value


def test_the_command_line_reads_a_luminosity_as_the_file_does() -> None:
    assert read_luminosity("0.137/ab").per_pb == pytest.approx(137_000)
    assert read_luminosity("137 fb^-1").per_pb == pytest.approx(137_000)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("luminosity: lots", "key 'luminosity': a number in fb^-1 is expected, or one with its unit, as in 137/fb"),
        ("luminosity: 137 GeV", "key 'luminosity': a number in fb^-1"),
        ("luminosity: -3/fb", "key 'luminosity'"),
        ("sqrt_s: 13 km", "key 'sqrt_s'"),
        ("sqrt_s: -13 TeV", "key 'sqrt_s'"),
        (
            "observable: {name: mjj, unit: cm}\nfeatures: [a]\nsqrt_s: 13 TeV",
            "sqrt_s: '13 TeV' is an energy, and the observable is in cm",
        ),
        ("fit_range: []", "key 'fit_range': two numbers, [low, high], are expected, none given"),
        ("fit_range: [1000]", "key 'fit_range': two numbers, [low, high], are expected, 1 given"),
        ("fit_range: [3000, 2000]", "fit_range: [3000, 2000] must rise"),
        ("fit_range: [2000, 2000]", "fit_range: [2000, 2000] must rise"),
        ("fit_range: [2000, 2010]", "fit_range: [2000, 2010] is too short to scan: it holds one bin"),
        ("fit_range: [2000, 3000]\nmasses: [3500, 4000]", "masses: [3500, 4000] lie outside of fit_range [2000, 3000]"),
        ("fit_range: [2 TeV, 14 TeV]", "below sqrt_s = 13000"),
        ("scheduler: tcp://a:1", "scheduler: is of executor: dask, and executor is futures"),
        ("training: {max_epochs: 0}", "key 'training.max_epochs'"),
        ("limits: {scale_error: 0.7}", "key 'limits.scale_error': is relative, 0 or more and below 0.5; found 0.7"),
        (
            "limits: {scale_error: [0.1]}",
            "key 'limits.scale_error': is one number, [up, down], or a list of [mass, up, down]",
        ),
        ("limits: {resolution_error: wide}", "key 'limits.resolution_error': is one number"),
        ("limits: {luminosity_error: -0.1}", "key 'limits.luminosity_error'"),
    ],
)
def test_what_the_file_alone_tells_is_refused(read: Callable[..., Analysis], text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert said in str(caught.value)
    assert ": line " in str(caught.value)
    assert ": line 1:" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["priors:", "priors: []", "priors: {near: []}", "priors: {near: }", "background:", "exposure: []", "signals:"],
)
def test_a_sample_without_files_is_said(read: Callable[..., Analysis], text: str) -> None:
    key = "samples.priors.near" if "near" in text else f"samples.{text.partition(':')[0]}"
    with pytest.raises(ConfigError, match=f"line 3: key '{key}': names no file; leave the key out"):
        read("output: out\n", minimal=f"samples:\n  data: [data.csv]\n  {text}\n")


def test_no_priors_are_no_mistake(read: Callable[..., Analysis]) -> None:
    assert read("output: out\n", minimal="samples:\n  data: [data.csv]\n  priors: {}\n").samples.priors == {}


@pytest.mark.parametrize(
    ("file", "overrides", "said"),
    [
        ("", ["representation=images"], "scorer: Quak takes rows, and representation images gives images"),
        (
            "scorer: Flow\n",
            ["representation=images"],
            "scorer: Flow takes rows, and representation images gives images",
        ),
        ("representation: images\nscorer: ConvVae\n", ["scorer=Quak"], "scorer: Quak takes rows"),
        ("representation: images\nscorer: ConvVae\n", ["pixels=30"], "scorer: images of 30 x 30 pixels"),
        ("weak_supervision: true\n", ["scorer=Flow"], "weak_supervision: needs a method whose hypotheses"),
        ("fit_range: [2000, 5000]\n", ["sqrt_s=4000"], "fit_range: [2000, 5000] must rise and stay below sqrt_s"),
        ("", ["training.max_epochs=0"], "key 'training.max_epochs'"),
        ("jets: {min_pt: 300}\n", ["jets.max_pt=200"], "key 'jets."),
        (
            "features: [mJ_1]\n",
            ["representation=images", "scorer=ConvVae"],
            "features: are columns of representation features",
        ),
    ],
)
def test_what_comes_by_the_command_line_is_said_of_it(
    read: Callable[..., Analysis], file: str, overrides: list[str], said: str
) -> None:
    events = MINIMAL.replace(".csv", ".root")
    with pytest.raises(ConfigError) as caught:
        read(file, *overrides, minimal=events)
    assert str(caught.value).startswith(f"on the command line: {said}")
    read(file, minimal=events)


def test_a_mistake_of_the_file_is_said_of_its_line_whatever_the_command_line(read: Callable[..., Analysis]) -> None:
    with pytest.raises(ConfigError, match="line 7: key 'seed'"):
        read("seed: x\n", "folds=4")
