"""Whole events to a counting p-value: an autoencoder of events, methods on its latent space, combinations of them, and QUAK with a prior."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from hunch.analysis.regions.challenge import read_challenge
from hunch.cli import main
from hunch.config import read_analysis
from hunch.errors import HunchError
from hunch.models import load_space
from hunch.table import read_table
from hunch.workflow import run
from hunch.workflow.compare import challenge_rows

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


def test_an_analysis_stands_beside_published_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = analysis(tmp_path, VAE)
    with pytest.raises(HunchError, match=r"calibration\.parquet: no such table; run hunch score first"):
        challenge_rows(read_analysis(path), model="mine", channel="1")
    run(read_analysis(path), progress=False)
    with pytest.raises(HunchError, match=r"no channel: .* give --channel"):
        challenge_rows(read_analysis(path), model="mine")
    rows = challenge_rows(read_analysis(path), model="mine", channel="1")
    assert [(row.signal, row.model) for row in rows] == [
        ("many", "mine"),
        ("many", "number of objects"),
        ("many", "MET"),
        ("many", "HT"),
    ]
    scored = {
        name: read_table(tmp_path / "out" / "scores" / f"{name}.parquet") for name in ("calibration", "signal.many")
    }
    loss = {name: table["loss_background"] for name, table in scored.items()}
    above = (loss["signal.many"][:, None] > loss["calibration"][None]).mean()
    assert rows[0].auc == pytest.approx(above, abs=1e-3)
    # the signal has more objects, which needs no training to see; of some 340 held-out events none has 20 above a hundredth
    assert rows[1].auc > 0.9
    assert all(math.isnan(value) for value in rows[0].eps_s)
    (tmp_path / "published.csv").write_text(
        "Signal,Model,Chan,AUC,1e-2,1e-3,1e-4\nmany,theirs,1,0.9,0.5,0.1,0.01\nfew,theirs,1,0.9,0.2,0.1,0.01\n"
    )
    out = tmp_path / "all.csv"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sys,
            "argv",
            ["hunch", "compare", str(path), str(tmp_path / "published.csv"), "--channel", "1", "-o", str(out)],
        )
        main()
    said = capsys.readouterr()
    assert "many, EventVae, channel 1: AUC" in said.out
    assert "theirs" in said.out
    assert "are of other events" in said.err
    assert len(read_challenge(out)) == 6
    # what was written stands beside what it was made of: the same rows, but for digits
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sys, "argv", ["hunch", "compare", str(path), str(out), "--channel", "1", "-o", str(tmp_path / "b.csv")]
        )
        main()
    assert (tmp_path / "b.csv").read_text() == out.read_text()


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
