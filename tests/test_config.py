"""The user's YAML: the smallest one is complete, and every mistake is named with file, line, key and nearest key."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hunch.config import Analysis, ConfigError, read_analysis
from hunch.table import Observable

MINIMAL = """\
samples:
  data: [data.root]
  background: [qcd.root]        # optional
  priors:
    two_prong: [xy.root]
output: out
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    for name in ("data.root", "data2.root", "qcd.root", "xy.root", "t.csv", "t.parquet"):
        (tmp_path / name).write_bytes(b"")

    def put(text: str) -> Path:
        path = tmp_path / "analysis.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return put


def test_the_smallest_configuration_is_complete(write: Callable[[str], Path], tmp_path: Path) -> None:
    analysis = read_analysis(write(MINIMAL))
    assert analysis.output == str(tmp_path / "out")
    assert analysis.sample_files() == {
        "data": (str(tmp_path / "data.root"),),
        "background": (str(tmp_path / "qcd.root"),),
        "prior.two_prong": (str(tmp_path / "xy.root"),),
    }
    assert analysis.sqrt_s == 13_000
    assert (analysis.region_settings.number, analysis.region_settings.shape) == (3, "difference")
    assert analysis.combination_method == "fisher"
    assert analysis.fit_range is None
    assert analysis.features is None
    assert analysis.executor == "futures"
    representation = analysis.represented
    assert (representation.name, representation.kind) == ("features", "rows")
    assert representation.observable == Observable()
    assert (representation.settings()["radius"], representation.settings()["min_pt"]) == (1.0, 50.0)
    assert representation.settings()["max_deta"] is None
    assert (analysis.scorer_name, analysis.scorer_options, analysis.hunt) == ("Quak", {}, "bump")
    assert analysis.skip_bad_files is False


def test_several_priors_are_hunted_in_a_mosaic(write: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "xyz.root").write_bytes(b"")
    two = MINIMAL.replace("[xy.root]", "[xy.root]\n    three_prong: [xyz.root]")

    def found(more: str) -> tuple[str | None, int | None, str]:
        analysis = read_analysis(write(two + more))
        return analysis.region_settings.shape, analysis.region_settings.number, analysis.combination_method

    assert found("") == ("mosaic", 24, "simes")
    assert found("regions: {number: 10}\ncombination: cauchy\n") == ("mosaic", 10, "cauchy")
    # a model a fold, each with neighbourhoods of its own
    assert found("weak_supervision: true\n") == ("difference", 3, "fisher")
    assert found("regions: {axis: priors}\n") == ("difference", 3, "fisher")
    # a counting experiment has one region and needs no hypotheses
    counted = read_analysis(write(two + "hunt: count\n"))
    assert counted.hypotheses == 0
    assert len(counted.represented.inputs) == 12
    with pytest.raises(ConfigError, match=r"regions.shape: mosaic needs one model"):
        found("weak_supervision: true\nregions: {shape: mosaic}\n")


def test_data_alone_is_enough(write: Callable[[str], Path]) -> None:
    analysis = read_analysis(write("samples: {data: [data.root]}\noutput: out\n"))
    assert list(analysis.sample_files()) == ["data"]
    assert analysis.folds >= 3


def test_paths_are_relative_to_the_file(
    write: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(MINIMAL)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert read_analysis("../analysis.yaml").sample_files() == read_analysis(path).sample_files()
    absolute = MINIMAL.replace("data.root", str(tmp_path / "data.root"))
    assert read_analysis(write(absolute)).samples.data == (str(tmp_path / "data.root"),)


def test_settings_are_read(write: Callable[[str], Path]) -> None:
    analysis = read_analysis(
        write(MINIMAL + "fit_range: [1500, 7000]\nregions: {shape: plane, number: 4}\nseed: 3\njets: {radius: 0.8}\n")
    )
    assert analysis.fit_range == (1500, 7000)
    assert (analysis.regions.shape, analysis.regions.number) == ("plane", 4)
    assert (analysis.seed, analysis.represented.settings()["radius"]) == (3, 0.8)


MISTAKES = {
    "unknown key": (MINIMAL + "fit_rnage: [1000, 2000]\n", 7, "unknown key 'fit_rnage'; did you mean 'fit_range'"),
    "unknown nested key": (MINIMAL + "regions:\n  numbr: 3\n", 8, "regions.numbr'; did you mean 'number'"),
    "unknown sample": (MINIMAL.replace("background", "backgrund"), 3, "did you mean 'background'"),
    "nothing near": (MINIMAL + "qqqqqq: 1\n", 7, "unknown key 'qqqqqq'; allowed: samples, output"),
    "missing output": (MINIMAL.replace("output: out\n", ""), 1, "key 'output' is missing"),
    "missing data": (MINIMAL.replace("  data: [data.root]\n", ""), 1, "key 'samples.data' is missing"),
    "key twice": (MINIMAL + "output: other\n", 7, "key 'output' is given twice"),
    "nested key twice": ("samples:\n  data: [data.root]\n  data: [qcd.root]\noutput: o\n", 3, "given twice"),
    "word for number": (MINIMAL + "seed: three\n", 7, "key 'seed'"),
    "number in quotes": (MINIMAL + "sqrt_s: '13000'\n", 7, "key 'sqrt_s'"),
    "yes for number": (MINIMAL + "folds: true\n", 7, "key 'folds'"),
    "number for list": (MINIMAL.replace("[data.root]", "3"), 2, "key 'samples.data'"),
    "word for list": (MINIMAL.replace("[data.root]", "data.root"), 2, "key 'samples.data'"),
    "empty list": (MINIMAL.replace("[data.root]", "[]"), 2, "key 'samples.data'"),
    "number in list": (MINIMAL.replace("[data.root]", "\n    - data.root\n    - 7"), 4, "key 'samples.data[1]'"),
    "list for mapping": (MINIMAL.replace("    two_prong: [xy.root]", "    [xy.root]"), 4, "key 'samples.priors'"),
    "negative": (MINIMAL + "jets:\n  min_pt: -1\n", 8, "key 'jets.min_pt'"),
    "nan": (MINIMAL + "sqrt_s: .nan\n", 7, "key 'sqrt_s'"),
    "falling range": (MINIMAL + "fit_range: [5000, 1000]\n", 7, "fit_range"),
    "three numbers": (MINIMAL + "fit_range: [1, 2, 3]\n", 7, "fit_range"),
    "above sqrt_s": (MINIMAL + "masses: [1000, 14000]\n", 7, "masses"),
    "unknown choice": (MINIMAL + "combination: fischer\n", 7, "'fisher'"),
    "prior's name": (MINIMAL.replace("two_prong", "a/b"), 4, "a/b"),
    "column twice": (MINIMAL + "features: [a, b, a]\n", 7, "features"),
    "mass as feature": (MINIMAL + "features: [mjj, tau21_1]\n", 7, "mjj"),
    "label as feature": (MINIMAL + "features: [truth_signal]\n", 7, "truth_signal"),
    "missing file": (MINIMAL.replace("data.root", "dota.root"), 2, "did you mean 'data.root'"),
    "missing second file": (MINIMAL.replace("[data.root]", "\n    - data.root\n    - no.root"), 4, "samples.data[1]"),
    "directory": (MINIMAL.replace("data.root", "."), 2, "is a directory"),
    "file in two samples": (MINIMAL.replace("qcd.root", "data.root"), 3, "is also in samples.data"),
    "under another spelling": (MINIMAL.replace("qcd.root", "./data.root"), 3, "is also in samples.data"),
    "file twice": (MINIMAL.replace("[data.root]", "[data.root, data.root]"), 2, "listed twice"),
    "kinds mixed": (MINIMAL.replace("[data.root]", "[data.root, t.csv]"), 2, "event files and tables"),
    "output is a file": (MINIMAL.replace("output: out", "output: data2.root"), 6, "is a file"),
}


MISTAKES |= {
    "representation": (MINIMAL + "representation: imges\n", 7, "'imges' is not known; did you mean 'images'"),
    "field of it": (
        MINIMAL + "representation: {name: images, pixel: 8}\n",
        7,
        "representation.pixel'; did you mean 'pixels'",
    ),
    "its type": (MINIMAL + "representation:\n  name: images\n  pixels: many\n", 9, "key 'representation.pixels'"),
    "its value": (MINIMAL + "representation: {name: images, pixels: 0}\n", 7, "pixels"),
    "cut": (MINIMAL + "jets: {radus: 1}\n", 7, "unknown key 'jets.radus'; did you mean 'radius'"),
    "cut twice": (
        MINIMAL + "representation: {name: images, radius: 1.0}\njets: {radius: 0.8}\n",
        8,
        "key 'jets.radius': is given",
    ),
    "observable": (MINIMAL + "observable: mJ1\n", 7, "did you mean 'mJ_1'"),
    "method": (MINIMAL + "scorer: Quack\n", 7, "'Quack' is not known; did you mean 'Quak'"),
    "field of a method": (MINIMAL + "scorer: {name: Vae, latnt: 2}\n", 7, "scorer.latnt'; did you mean 'latent'"),
    "its number": (MINIMAL + "training:\n  max_epochs: ten\n", 8, "key 'training.max_epochs'"),
    "field twice": (
        MINIMAL + "scorer: {name: Vae, latent: 2}\ntraining: {latent: 3}\n",
        8,
        "key 'training.latent': is given in scorer",
    ),
    "seed of a method": (MINIMAL + "scorer: {name: Vae, seed: 2}\n", 7, "is the analysis' own key seed"),
    "wrong kind": (MINIMAL + "scorer: ConvVae\n", 7, "ConvVae takes images, and representation features gives rows"),
    "rows of images": (
        MINIMAL + "representation: images\n",
        1,
        "methods for images: Combined, ConvVae, EventToEnsemble",
    ),
    "metric": (MINIMAL + "representation: images\nscorer: {name: ConvVae, metric: msee}\n", 8, "did you mean 'mse'"),
    "metric of Quak": (MINIMAL + "scorer: {name: Quak, metric: family}\n", 7, "key 'scorer.metric'"),
    "per_jet of rows": (MINIMAL + "scorer: {name: Vae, per_jet: max}\n", 7, "scorer.per_jet: max puts jets together"),
    "concat": (MINIMAL + "representation: images\nscorer: {name: ConvVae, per_jet: concat}\n", 8, "hunt: count"),
    "per_jet that is a list": (
        MINIMAL + "representation: images\nscorer: {name: ConvVae, per_jet: [max]}\n",
        8,
        "key 'scorer.per_jet': \"['max']\" is not known",
    ),
    "axes of the priors without a method": (
        MINIMAL + "scorer: Vae\nprior_scorer: {latent: 3}\n",
        8,
        "key 'prior_scorer': has no name of a method",
    ),
    "weak without family": (MINIMAL + "scorer: Vae\nweak_supervision: true\n", 8, "narrow down (Quak); scorer is Vae"),
    "family of none": (MINIMAL + "scorer: Vae\nregions: {axis: family}\n", 8, "with hypotheses (Quak); scorer is Vae"),
    "exposure": (MINIMAL.replace("output", "  exposure: [data2.root]\noutput"), 6, "Quak has no outlier exposure"),
    "exposure that nothing uses": (
        MINIMAL.replace("output", "  exposure: [data2.root]\noutput")
        + "representation: constituents\nscorer: ConstituentVae\n",
        6,
        "nothing uses it; scorer.exposure says how",
    ),
    "exposure without a sample": (
        MINIMAL + "representation: constituents\nscorer: {name: ConstituentVae, exposure: kl}\n",
        8,
        "scorer.exposure: kl needs samples.exposure",
    ),
    "exposure that nothing of a flow uses": (
        MINIMAL.replace("output", "  exposure: [data2.root]\noutput") + "scorer: Flow\n",
        6,
        "methods with it: ConstituentVae, ConvVae, Vae",
    ),
    "exposure matched to a column of none": (
        MINIMAL.replace("output", "  exposure: [data2.root]\noutput")
        + "scorer: {name: Vae, exposure: kl, exposure_match: mJ_3}\n",
        8,
        "scorer.exposure_match: 'mJ_3' is not known; did you mean 'mJ_",
    ),
    "exposure matched to no observable": (
        MINIMAL.replace("output", "  exposure: [data2.root]\noutput").replace(".root", ".csv")
        + "features: [a, b]\nrepresentation: table\nhunt: count\nscorer: {name: Vae, exposure: kl}\n",
        11,
        "representation table has none; name it, as observable: mass, or take another one here: none, a, b",
    ),
    "one jet an event matched to the mass of two": (
        MINIMAL.replace("output", "  exposure: [data2.root]\n  exposure_jets: 1\noutput")
        + "representation: images\nscorer: {name: ConvVae, exposure: kl}\n",
        10,
        "scorer.exposure_match: observable is mjj, which one jet an event (samples.exposure_jets: 1) does not have; allowed: none",
    ),
    "one jet an event of rows": (
        MINIMAL.replace("output", "  exposure: [data2.root]\n  exposure_jets: 1\noutput")
        + "scorer: {name: Vae, exposure: kl}\n",
        7,
        "samples.exposure_jets: features: its inputs are not those of single jets; those of images and constituents are",
    ),
    "one jet an event of no exposure": (
        MINIMAL.replace("output", "  exposure_jets: 1\noutput"),
        6,
        "samples.exposure_jets: is of samples.exposure, and there is none",
    ),
    "nothing to leave out": (
        MINIMAL + "without_exposure: false\n",
        7,
        "without_exposure: is of a search with samples.exposure, and there is none",
    ),
    "images matched to a jet mass": (
        MINIMAL.replace("output", "  exposure: [data2.root]\noutput")
        + "representation: images\nscorer: {name: ConvVae, exposure: kl, exposure_match: jet_mass}\n",
        9,
        "no exposure_match 'jet_mass'; allowed: observable, none",
    ),
    "jets at rest brought to a mass at their pT": (
        MINIMAL.replace("output", "  exposure: [data2.root]\noutput")
        + "representation: {name: constituents, coordinates: four_vectors, align: rest_frame}\n"
        + "scorer: {name: ConstituentVae, exposure: kl, exposure_match: rescaled}\n",
        9,
        "jets at rest (align: rest_frame) have none",
    ),
    "the energy mover's distance of jets at rest": (
        MINIMAL
        + "representation: {name: constituents, coordinates: four_vectors, align: rest_frame}\n"
        + "scorer: {name: ConstituentVae, metric: emd}\n",
        8,
        "scorer.metric: emd is of pT, eta and phi",
    ),
    "four-vectors as points": (
        MINIMAL + "representation: {name: constituents, coordinates: four_vectors}\nscorer: EventToEnsemble\n",
        7,
        "coordinates: relative is needed",
    ),
    "features of images": (
        MINIMAL + "representation: images\nscorer: ConvVae\nfeatures: [mJ_1]\n",
        9,
        "features: are columns of",
    ),
    "count alone": ("samples: {data: [data.root]}\noutput: out\nhunt: count\n", 1, "count.expectation: sample needs"),
    "count in a hunt": (MINIMAL + "count: {efficiency: 0.1}\n", 7, "count: is of hunt: count"),
    "bump in a count": (MINIMAL + "hunt: count\nfit_range: [1000, 2000]\n", 8, "fit_range: is of hunt: bump"),
    "regions in a count": (MINIMAL + "hunt: count\nregions: {number: 2}\n", 8, "regions.number: is of hunt: bump"),
    "one axis": (
        MINIMAL.replace("  priors:\n    two_prong: [xy.root]\n", "") + "hunt: count\ncount: {expectation: abcd}\n",
        6,
        "needs two axes",
    ),
    "axis": (
        MINIMAL + "hunt: count\ncount: {expectation: abcd, axes: [background, twoprong]}\n",
        8,
        "did you mean 'two_prong'",
    ),
    "axes of a sample": (MINIMAL + "hunt: count\ncount: {axes: [background, family]}\n", 8, "count.axes: are of"),
    "architecture": (MINIMAL + "training: {architecture: mfa}\n", 7, "did you mean 'maf'"),
    "solver": (
        MINIMAL + "representation: images\nscorer: {name: EventToEnsemble, solver: exct}\n",
        8,
        "did you mean 'exact'",
    ),
    "pixels and blocks": (
        MINIMAL + "representation: {name: images, pixels: 6}\nscorer: ConvVae\n",
        8,
        "cannot be halved 2 times",
    ),
    "files of a table": (MINIMAL + "representation: table\nfeatures: [a]\n", 2, "data.root is no table"),
    "images in CSV": (
        MINIMAL.replace("data.root", "t.csv") + "representation: images\nscorer: ConvVae\n",
        2,
        "cannot hold images",
    ),
    "unit of an event file": (MINIMAL + "observable: {name: mJ_1, unit: TeV}\n", 7, "is that of a table's column"),
    "identity as feature": (MINIMAL + "features: [tau21_1, event]\n", 7, "features: event tells events apart"),
    "label as observable": (MINIMAL + "observable: truth_signal\n", 7, "observable: truth_signal is a label"),
    "mass of one jet as feature": (
        MINIMAL + "representation: {name: features, jets: 1}\nfeatures: [mJ_1, tau21_1]\n",
        8,
        "features: mJ_1 is hunted in",
    ),
    "observable as feature": (
        MINIMAL + "hunt: count\nobservable: mJ_1\nfeatures: [mJ_1, tau21_1]\n",
        9,
        "key 'features': 'mJ_1' is the observable",
    ),
    "observable of a table": (
        MINIMAL + "representation: {name: table, observable: m}\n",
        7,
        "key 'representation.observable': is the analysis' own key observable",
    ),
    "unit of a table": (
        MINIMAL + "representation: {name: table, unit: TeV}\n",
        7,
        "key 'representation.unit': is the analysis' own key observable.unit",
    ),
    "weak supervision without family": (
        MINIMAL + "training: {family: false}\nweak_supervision: true\n",
        8,
        "and family is false",
    ),
    "an axis twice": (
        MINIMAL + "hunt: count\ncount: {expectation: abcd, axes: [background, background]}\n",
        8,
        "background is named twice",
    ),
    "limits in a count": (MINIMAL + "hunt: count\nlimits: {points: 2}\n", 8, "limits.points: is of hunt: bump"),
    "expected in a count": (
        MINIMAL + "hunt: count\nexpected_discovery: {}\n",
        8,
        "expected_discovery: is of hunt: bump",
    ),
    "no yields": (MINIMAL + "expected_discovery: {yields: []}\n", 7, "expected_discovery.yields"),
    "a yield of nothing": (MINIMAL + "expected_discovery: {yields: [3, 0]}\n", 7, "expected_discovery.yields[1]"),
    "another key of it": (MINIMAL + "expected_discovery: {mases: 3}\n", 7, "did you mean 'masses'"),
    "sqrt_s in a count": (MINIMAL + "hunt: count\nsqrt_s: 8000\n", 8, "sqrt_s: is of hunt: bump"),
    "negative decorrelation": (MINIMAL + "training: {decorrelation: -1}\n", 7, "decorrelation is -1"),
    "decorrelation of Flow": (MINIMAL + "scorer: {name: Flow, decorrelation: -1}\n", 7, "decorrelation is -1"),
    "decorrelation from nothing": (
        MINIMAL + "hunt: count\nscorer: {name: Flow, decorrelation: 5}\n",
        8,
        "key 'scorer.decorrelation': needs an observable",
    ),
    "no hidden units": (MINIMAL + "training: {hidden: 0}\n", 7, "hidden is 0"),
    "device": (MINIMAL + "training: {device: gpu}\n", 7, "no device 'gpu'; allowed: auto, cpu, cuda"),
    "device of images": (
        MINIMAL + "representation: images\nscorer: {name: ConvVae, device: gpu}\n",
        8,
        "no device 'gpu'; allowed: auto, cpu, cuda",
    ),
    "device of transport": (
        MINIMAL + "representation: images\nscorer: {name: EventToEnsemble, solver: sinkhorn, device: gpu}\n",
        8,
        "no device 'gpu'; allowed: auto, cpu, cuda",
    ),
    "epochs of images": (
        MINIMAL + "representation: images\nscorer: {name: ConvVae, max_epochs: 0}\n",
        8,
        "max_epochs is 0",
    ),
    "no features": (MINIMAL + "features: []\n", 7, "list should have at least 1 item"),
    "unknown count": (MINIMAL + "count: {eficiency: 0.1}\n", 7, "did you mean 'efficiency'"),
    "repeats": (MINIMAL + "repeats: keep\n", 7, "'refuse' or 'drop'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(mistake: str, write: Callable[[str], Path]) -> None:
    text, line, expected = MISTAKES[mistake]
    path = write(text)
    with pytest.raises(ConfigError) as caught:
        read_analysis(path)
    message = str(caught.value)
    assert expected in message
    assert f"{path}: line {line}: " in message


def test_a_file_of_other_keys_is_no_analysis_in_one_line(write: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match=r"is no analysis: samples and output are needed; found: edges, counts$"):
        read_analysis(write('{"edges": [1, 2], "counts": [3]}'))


def test_every_mistake_is_reported_at_once(write: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError) as caught:
        read_analysis(write(MINIMAL + "sed: 1\nfolds: 2\n"))
    assert len(str(caught.value).splitlines()) == 2


def test_found_value_is_shown(write: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match="found 'three'"):
        read_analysis(write(MINIMAL + "seed: three\n"))


def test_files_that_are_no_configuration(write: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file"):
        read_analysis(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="is a directory"):
        read_analysis(tmp_path)
    for text in ("", "# nothing\n", "- a\n", "word\n", "3"):
        with pytest.raises(ConfigError, match="holds no keys"):
            read_analysis(write(text))
    with pytest.raises(ConfigError, match=r"no YAML: .*line 2"):
        read_analysis(write("samples: [\n"))
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="no text file"):
        read_analysis(tmp_path / "b.yaml")


def test_a_table_beside_event_files_of_another_sample_is_left_to_the_stages(write: Callable[[str], Path]) -> None:
    analysis = read_analysis(write(MINIMAL.replace("data.root", "t.csv") + "features: [mJ_1]\n"))
    assert analysis.samples.data[0].endswith("t.csv")


def test_old_keys_mean_what_they_meant_and_new_ones_are_read(write: Callable[[str], Path]) -> None:
    old = read_analysis(write(MINIMAL + "jets: {radius: 0.8}\ntraining: {architecture: nsf, max_epochs: 3}\n"))
    assert old.represented.settings()["radius"] == 0.8
    assert old.scorer_options == {"architecture": "nsf", "max_epochs": 3}
    images = MINIMAL + "representation: {name: images, pixels: 8}\nscorer: {name: ConvVae, latent: 4, per_jet: max}\n"
    new = read_analysis(write(images + "jets: {min_pt: 200}\n"))
    assert new.represented.inputs == ("image_1", "image_2")
    assert (new.represented.settings()["pixels"], new.represented.settings()["min_pt"]) == (8, 200)
    assert (new.scorer_options, new.per_jet, new.axis) == ({"latent": 4}, "max", "priors")
    jet = read_analysis(write(MINIMAL + "representation: {name: features, jets: 1}\nobservable: mJ_1\n"))
    assert jet.represented.observable == Observable.of("mJ_1")
    assert "mJ_1" not in jet.represented.inputs
    for key in ("representation: {name: features, jets: 1}\n", "jets: {jets: 1}\n"):
        usual = read_analysis(write(MINIMAL + key))
        assert usual.represented.observable == Observable.of("mJ_1")
        assert "mJ_1" not in usual.represented.inputs
        assert "tau21_1" in usual.represented.inputs
    table = MINIMAL.replace("data.root", "t.csv").replace("qcd.root", "t.parquet").replace("two_prong: [xy.root]", "{}")
    own = read_analysis(write(table + "features: [a, b]\nobservable: {name: energy, unit: TeV}\n"))
    assert own.represented.name == "table"
    assert own.represented.observable == Observable.of("energy", "TeV")


def test_keys_given_on_the_command_line_take_the_place_of_the_files(write: Callable[[str], Path]) -> None:
    path = write(MINIMAL + "regions: {fraction: 0.1}\n")
    found = read_analysis(path, ["representation=images", "scorer=ConvVae", "pixels=8", "latent=4", "regions.number=2"])
    assert (found.represented.name, found.represented.settings()["pixels"]) == ("images", 8)
    assert (found.scorer_name, found.scorer_options) == ("ConvVae", {"latent": 4})
    assert (found.regions.number, found.regions.fraction) == (2, 0.1)
    other = read_analysis(
        path, ["latent=8", "scorer.per_jet=max", "pixels=8", "scorer=ConvVae", "representation=images"]
    )
    assert (other.scorer_options, other.per_jet) == ({"latent": 8}, "max")
    assert other.represented.settings()["pixels"] == 8
    for wrong, said in (("fraction", "KEY=VALUE is expected"), ("regons.number=2", "did you mean 'regions'")):
        with pytest.raises(ConfigError, match=said):
            read_analysis(path, [wrong])


PIECES = [
    *re.split(r"(\s)", MINIMAL),
    *("[", "]", "{", "}", ": ", "- ", "\n", "  ", "&a", "*a", "<<: ", "!!python/object:os.system", "? ", "~", "1e400"),
    *("2001-01-01", "0x1f", "fit_range: ", "seed: ", "jets: ", "null", "true", "'", '"', "|", "%", "\t", "\x00", "é"),
]


def message_of(path: Path) -> str:
    """Return the error's message, or the path itself where the file is an analysis; anything else is raised."""
    try:
        assert isinstance(read_analysis(path), Analysis)
    except ConfigError as error:
        return str(error)
    return str(path)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=25).map("".join)))
def test_any_text_gives_an_analysis_or_a_named_error(text: str, write: Callable[[str], Path]) -> None:
    path = write("")
    path.write_text(text, encoding="utf-8", newline="", errors="surrogatepass")
    assert str(path) in message_of(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    key=st.sampled_from(
        [
            *Analysis.model_fields,
            "samples.data",
            "samples.priors",
            "samples.priors.a",
            "jets.radius",
            "scorer.latent",
            "scorer.name",
            "representation.name",
            "representation.features",
            "observable.name",
            "training.hidden",
        ]
    ),
    value=st.sampled_from(["~", "[]", "{}", "-1", "1e400", ".nan", "''", "[[1]]", "{a: 1}", "{1: 2}", "? [1]\n : 2"]),
)
def test_any_value_of_a_key_gives_an_analysis_or_a_named_error(
    key: str, value: str, write: Callable[[str], Path]
) -> None:
    nested = value
    for part in reversed(key.split(".")):
        nested = f"{{{part}: {nested}}}"
    base = MINIMAL if not key.startswith(("samples", "output")) else ""
    text = base + nested[1:-1] + "\n"
    path = write(text)
    assert str(path) in message_of(path)


@pytest.mark.parametrize("name", ["no", "Yes", "on", "2018", "0123", "1.5", "null", "2018-01-01"])
def test_a_name_that_yaml_reads_as_something_else_is_kept_as_it_is_written(
    write: Callable[[str], Path], name: str
) -> None:
    for written in (name, f"'{name}'"):
        assert list(read_analysis(write(MINIMAL.replace("two_prong:", f"{written}:"))).samples.priors) == [name]


@pytest.mark.parametrize(
    "line",
    ["observable: off", "observable: {name: on}", "representation: no", "representation: {name: no}", "scorer: null",
     "scorer: {name: 2018}", "features: [mJ_1, no]", "background_function: no", "regions: {shape: off}", "scheduler: 2018"],
)  # fmt: skip
def test_a_value_that_is_no_name_says_how_to_write_one(write: Callable[[str], Path], line: str) -> None:
    with pytest.raises(ConfigError, match="stands in quotes") as raised:
        read_analysis(write(MINIMAL + line + "\n"))
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("regions:", "key 'regions': input should be a valid mapping, found nothing"),
        ("blind: 3", "key 'blind': input should be a valid boolean, found 3"),
        ("luminosity: yes", "key 'luminosity': input should be a valid number, found true"),
        ("combination: fischer", "'harmonic_bound', found 'fischer'; did you mean 'fisher'?"),
        ("background_function: foo", "no background family 'foo'; allowed: gaussian_process, dijet, exponential, bernstein, or a formula of x, p1, p2, ..."),
        ("features: [mJ_1, mJ_2, mJ_1]", "features: column 'mJ_1' is named twice"),
    ],
)  # fmt: skip
def test_messages_end_in_words_of_the_file_and_repeat_nothing(
    write: Callable[[str], Path], line: str, told: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        read_analysis(write(MINIMAL + line + "\n"))
    assert str(raised.value).endswith(told)


def test_one_data_file_that_is_no_name_is_one_message(write: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match=r"key 'samples.data\[0\]': .*found false; .*in quotes") as raised:
        read_analysis(write("samples: {data: [no]}\noutput: out\n"))
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("spectra.root", "a file of the limits has that name"),
        ("a" * 201, "has 201 characters, and names files; allowed: 200"),
    ],
)
def test_a_signal_whose_files_could_not_be_written_is_refused(
    name: str, said: str, write: Callable[[str], Path]
) -> None:
    with pytest.raises(ConfigError, match=rf"line 5: key 'samples.signals': .*{said}"):
        read_analysis(
            write(
                f"samples:\n  data: [data.root]\n  priors:\n    two: [xy.root]\n  signals:\n    {name}: [qcd.root]\noutput: out\n"
            )
        )


def test_files_and_folders_whose_name_is_no_text_are_refused(write: Callable[[str], Path], tmp_path: Path) -> None:
    """No result could tell of them: it would be written and never read again."""
    odd = tmp_path / os.fsdecode(b"t\xff")
    odd.mkdir()
    with pytest.raises(ConfigError, match="its name is no text in UTF-8"):
        read_analysis(write(MINIMAL).rename(odd / "analysis.yaml"))
    (tmp_path / os.fsdecode(b"data\xff.root")).touch()
    with pytest.raises(ConfigError, match=r"line 2: key 'samples.data\[0\]': .*its name is no text in UTF-8"):
        read_analysis(write(MINIMAL.replace("data.root", "data*.root")))


def test_a_width_is_one_or_two_that_rise(write: Callable[[str], Path]) -> None:
    assert read_analysis(write(MINIMAL)).width is None
    assert read_analysis(write(MINIMAL + "width: 0.05\n")).width == 0.05
    assert read_analysis(write(MINIMAL + "width: [0.01, 0.10]\n")).width == (0.01, 0.10)
    for wrong in ("[0.1, 0.01]", "[0.1, 0.1, 0.2]", "wide", "2", "[0.01, 2]", "yes"):
        with pytest.raises(ConfigError) as raised:
            read_analysis(write(MINIMAL + f"width: {wrong}\n"))
        told = str(raised.value)
        assert "key 'width': a number between 0 and 1 is expected, or two that rise, [lowest, highest]" in told
        assert "\n" not in told
