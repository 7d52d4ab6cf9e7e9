"""Whole events to a counting p-value: an autoencoder of events, methods on its latent space, combinations of them, and QUAK with a prior."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from hunch.config import read_analysis
from hunch.errors import HunchError
from hunch.models import load_space
from hunch.workflow import run

from .test_objects import write_objects

VAE: dict[str, Any] = {"name": "EventVae", "max_epochs": 2, "latent": 3, "hidden": 8, "blocks": 1}
FLOW: dict[str, Any] = {"name": "Flow", "max_epochs": 2, "hidden": 8}
QUAK: dict[str, Any] = {"name": "Quak", "max_epochs": 2, "hidden": 8, "steps": 2}


def analysis(folder: Path, scorer: dict[str, Any], *, priors: bool = False) -> Path:
    samples: dict[str, Any] = {
        "data": [str(write_objects(folder / "data.root", 700, 1))],
        "background": [str(write_objects(folder / "background.root", 700, 2))],
        "signals": {"many": [str(write_objects(folder / "signal.root", 200, 3, signal=True))]},
    }
    if priors:
        samples["priors"] = {"near": [str(write_objects(folder / "prior.root", 200, 4, signal=True))]}
    content = {
        "samples": samples,
        "output": str(folder / "out"),
        "representation": "objects",
        "scorer": scorer,
        "hunt": "count",
        "count": {"efficiency": 0.1},
        "executor": "iterative",
    }
    (folder / "analysis.yaml").write_text(yaml.safe_dump(content))
    return folder / "analysis.yaml"


@pytest.mark.parametrize(
    ("scorer", "priors"),
    [
        ({**VAE, "metric": "sigma_radius"}, False),
        ({"name": "Encoded", "encoder": VAE, "scorer": QUAK}, True),
        (
            {
                "name": "Combined",
                "metric": "and",
                "scorers": [{"name": "Encoded", "encoder": "FourVectors", "scorer": FLOW}, {**VAE, "metric": "radius"}],
            },
            False,
        ),
    ],
    ids=["EventVae", "Quak on a latent space", "Combined"],
)
def test_whole_events_are_counted(scorer: dict[str, Any], priors: bool, tmp_path: Path) -> None:
    run(read_analysis(analysis(tmp_path, scorer, priors=priors)), progress=False)
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["counting"]["result"]["observed"] > 0
    assert 0 <= result["counting"]["result"]["p_value"] <= 1
    space = load_space(tmp_path / "out" / "models" / "fold_0")
    assert space.axis_names == (("background", "near") if priors else ("background",))
    # half of the background, and the prior
    assert 300 < len(space.trained_on) - 200 * priors < 400


@pytest.mark.parametrize(
    ("scorer", "told"),
    [
        ({"name": "Combined", "scorers": ["EventVae"]}, r"key 'scorer\.scorers': 1 are named, 2 or more"),
        (
            {"name": "Combined", "scorers": ["EventVae", "Flow"]},
            r"key 'scorer\.scorers': number 2: Flow takes rows, not sets; what takes sets: .*EventVae",
        ),
        (
            {"name": "Combined", "scorers": ["EventVae", {"name": "EventVae", "latnt": 3}]},
            r"unknown key 'scorer\.scorers\[1\]\.latnt'; did you mean 'latent'",
        ),
        (
            {"name": "Combined", "scorers": ["EventVae", {"name": "Encoded", "encoder": {"name": "EventVae", "beta": "x"}}]},
            r"key 'scorer\.scorers\[1\]\.encoder\.beta'",
        ),
        (
            {"name": "Combined", "scorers": ["EventVae", {"name": "Encoded", "encoder": "JetCLR"}]},
            r"key 'scorer\.scorers\[1\]\.encoder': JetCLR takes single jets",
        ),
        ({"name": "EventVae", "beta": 2}, r"key 'scorer\.beta': beta is 2.*allowed: 0 to 1"),
        ({"name": "Encoded", "encoder": {"name": "FourVectors", "components": 0}}, r"components is 0, allowed: 1 or more"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_named_by_its_key(scorer: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(HunchError, match=told):
        read_analysis(analysis(tmp_path, scorer))
