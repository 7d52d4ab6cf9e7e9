"""The campaign of mutated files: it tells outcomes apart, and a small one ends without a traceback, crash or hang."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]


def dies() -> None:
    os.kill(os.getpid(), 9)


def swells() -> None:
    bytearray(10**12)


def sleeps() -> None:
    time.sleep(60)


def refuses(text: str = "hunch: x.csv: no column 'mjj'") -> None:
    print(text, file=sys.stderr)
    raise SystemExit(2)


@pytest.mark.parametrize(
    ("does", "kind"),
    [
        (lambda: 3, "answer"),
        (refuses, "message"),
        (lambda: refuses("a\x1b[31m"), "wordy"),
        (lambda: refuses("a\n" * 50), "wordy"),
        (lambda: refuses(""), "no message"),
        (lambda: sys.exit(1), "no message"),
        (lambda: {}["x"], "traceback"),
        (dies, "crash"),
        (swells, "blow-up"),
        (sleeps, "hang"),
    ],
)
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_outcomes_are_told_apart(
    does: Callable[[], Any], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    from forked import start  # type: ignore[import-not-found]

    child = start(lambda *_: does(), tmp_path, tmp_path, limit_s=0.5, memory=2**30)
    while (outcome := child.outcome()) is None:
        time.sleep(0.005)
    assert outcome.kind == kind


@pytest.mark.parametrize("name", ["mutate_bytes", "mutate_text", "mutate_json", "mutate_yaml"])
def test_mutations_change_the_file_and_come_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import mutate  # type: ignore[import-not-found]

    data = b'{"low": [1.5, 2.5], "name": "a b", "x": {"y": [1, 2, 3]}}'
    mutated = [getattr(mutate, name)(data, np.random.default_rng(seed)) for seed in range(200)]
    assert mutated == [getattr(mutate, name)(data, np.random.default_rng(seed)) for seed in range(200)]
    assert len(set(mutated)) > 60
    assert sum(one != data for one in mutated) > 150


@pytest.mark.slow
def test_a_small_campaign_fails_nowhere(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, FOLDER / "fuzz.py", "-n", "12", "--seed", "20", "--keep", tmp_path / "kept"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=280,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "\n0 mutants ended as none should" in ran.stdout
