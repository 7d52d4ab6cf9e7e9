"""Searches with classical scorers: beside each other, read from a configuration, scored as a stream; what cannot be is refused by name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from hunch.cli import main
from hunch.config import ConfigError, read_analysis
from hunch.models import GaussianMixture, KernelDensity, ScorerSpace, load_space
from hunch.table import Table, read_table, write_table
from hunch.workflow import run
from hunch.workflow.layout import model_paths, score_path

pytestmark = pytest.mark.usefixtures("fast_hunt")

NAMES = ("mJ_1", "mJ_2", "tau21_1")
MIXTURE: dict[str, Any] = {"name": "GaussianMixture", "components": 2}


def events(n: int, seed: int, *, near: bool = False) -> dict[str, np.ndarray]:
    """Return the columns of events: a mass, and features whose spread tells those that are near a signal."""
    rng = np.random.default_rng(seed)
    features = {
        "mJ_1": 80 + 30 * near + rng.gamma(2.0, 20.0, n),
        "mJ_2": 60 + rng.gamma(2.0, 20.0, n),
        "tau21_1": rng.beta(3, 2 + 4 * near, n),
    }
    identity = {"event": np.arange(n) + 100_000 * seed}
    return {"mjj": np.minimum(2000 * (1 - rng.random(n)) ** (-1 / 6), 8000.0), **features, **identity}


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes tables of events and an analysis of them; its options are further keys of the analysis."""

    def write(**more: Any) -> Path:
        for name, n in (("data", 900), ("background", 900), ("prior", 200)):
            write_table(tmp_path / f"{name}.parquet", Table(events(n, len(name), near=name == "prior"), {}))
        content: dict[str, Any] = {
            "samples": {
                "data": ["data.parquet"],
                "background": ["background.parquet"],
                "priors": {"near": ["prior.parquet"]},
            },
            "output": "out",
            "representation": "table",
            "features": list(NAMES),
            "scorer": MIXTURE,
            "regions": {"number": 1, "fraction": 0.3},
            "folds": 3,
            "fit_range": [2000, 6000],
            "background_function": "dijet",
            "pseudo_experiments": 20,
            "limits": {"points": 1},
            "executor": "iterative",
        }
        (tmp_path / "analysis.yaml").write_text(yaml.safe_dump(content | more, sort_keys=False))
        return tmp_path / "analysis.yaml"

    return write


def test_two_methods_are_the_axes_of_a_search_and_score_a_stream(
    written: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = written(prior_scorer={"name": "KernelDensity", "bandwidth": 0.4, "max_rows": 150})
    analysis = read_analysis(path)
    result = run(analysis, progress=False)
    assert 0 < result["best"]["p_global"] <= 1
    assert result["regions"]["axes"] == ["background", "near"]
    folder = model_paths(analysis)[0]
    space = load_space(folder)
    assert isinstance(space, ScorerSpace)
    mixture, kernels = space.scorers.values()
    assert isinstance(mixture, GaussianMixture)
    assert isinstance(kernels, KernelDensity)
    assert (mixture.components, kernels.bandwidth, len(kernels.fitted_["rows"])) == (2, 0.4, 150)
    assert mixture.input_names == NAMES
    # the axes tell the prior from the background
    near, ordinary = (np.stack(list(events(300, 77, near=near).values())[1:4], axis=1) for near in (True, False))
    assert np.median(space.score(near)) > np.quantile(space.score(ordinary), 0.8)
    scored = read_table(score_path(analysis, "data"))
    assert np.isfinite(scored["loss_background"]).all()
    x = events(50, 99)
    order = ("mJ_2", "tau21_1", "mJ_1")
    lines = [",".join(map(repr, row)) for row in np.stack([x[name] for name in order], axis=1).tolist()]
    (tmp_path / "rows.csv").write_text("\n".join([",".join(order), *lines]) + "\n")
    hunch = ["hunch", "--quiet"]
    streamed = ["score", "--stream", str(folder), str(tmp_path / "rows.csv"), "-o", str(tmp_path / "scores.csv")]
    monkeypatch.setattr(sys, "argv", [*hunch, *streamed])
    main()
    found = [float(line.rsplit(",", 1)[-1]) for line in (tmp_path / "scores.csv").read_text().splitlines()[1:]]
    np.testing.assert_allclose(found, space.score(np.stack([x[name] for name in NAMES], axis=1)), rtol=1e-12)
    monkeypatch.setattr(sys, "argv", [*hunch, "export", str(folder), "-o", str(tmp_path / "model.onnx")])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    said = "axis 'background': GaussianMixture cannot be exported as ONNX; allowed: ConvVae, Flow, NAE, Quak, Vae"
    assert said in capfd.readouterr().err
    assert not (tmp_path / "model.onnx").exists()


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "covariance": ({**MIXTURE, "covariance": "dag"}, "no covariance 'dag'; did you mean 'diag'"),
    "components": ({**MIXTURE, "components": 0}, "components is 0, allowed: 1 to 10000"),
    "half a component": (
        {**MIXTURE, "components": 2.5},
        "key 'scorer.components': input should be a valid integer, found 2.5",
    ),
    "an option of another": ({**MIXTURE, "clusters": 3}, "unknown key 'scorer.clusters'"),
    "bandwidth": ({"name": "KernelDensity", "bandwidth": "scot"}, "no bandwidth 'scot'; did you mean 'scott'"),
    "a metric": ({**MIXTURE, "metric": "mahalanobi"}, "did you mean 'mahalanobis'"),
    "target": ({"name": "DeepSvdd", "target": 0}, "target is 0.0, allowed: none, or a finite number other than 0"),
    "scaling": ({"name": "KMeans", "scaling": "none"}, "no scaling 'none'"),
}


@pytest.mark.parametrize("name", BAD)
def test_options_are_refused_when_the_analysis_is_read(name: str, written: Callable[..., Path]) -> None:
    scorer, said = BAD[name]
    with pytest.raises(ConfigError) as refused:
        read_analysis(written(scorer=scorer))
    assert said in str(refused.value)


def test_they_stand_on_a_representation_that_is_learnt(written: Callable[..., Path]) -> None:
    inner = {"name": "KMeans", "clusters": 5, "metric": "distance"}
    options = {"representation": {"name": "constituents"}, "scorer": {"name": "Encoded", "scorer": inner}}
    path = written()
    content = yaml.safe_load(path.read_text())
    del content["features"]
    path.write_text(yaml.safe_dump(content | options, sort_keys=False))
    assert read_analysis(path).scorer_options["scorer"] == inner
    with pytest.raises(ConfigError, match=r"key 'scorer\.scorer\.clusters': clusters is 0, allowed: 1 to 100000"):
        read_analysis(path, ["scorer.scorer.clusters=0"])
