"""Experiments that were killed go on where they were, to the last bit of what an undisturbed run gives."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hunch.analysis import HuntSettings, hunt
from hunch.analysis.checks import background_only, global_p, injection
from hunch.analysis.checks.background_only import local_p_uniformity
from hunch.analysis.checks.global_p import hunt_experiments
from hunch.analysis.checks.injection import injection_linearity
from hunch.analysis.limits import cls
from hunch.analysis.significance import experiments as pseudo
from hunch.analysis.significance.bumphunt import BumpHunt
from hunch.analysis.significance.experiments import pseudo_experiments
from hunch.analysis.spectra.bins import as_hist
from hunch.pieces import NONE_KEPT, Pieces

EDGES = np.linspace(1500, 4500, 21)
CENTRES = 0.5 * (EDGES[1:] + EDGES[:-1])
SETTINGS = HuntSettings(family="exponential", pseudo_experiments=0, seed=3)


@pytest.fixture(scope="module")
def found() -> BumpHunt:
    rng = np.random.default_rng(5)
    spectra = [as_hist(EDGES, rng.poisson(n * np.exp(-CENTRES / 700))) for n in (9000, 4000)]
    return hunt(spectra, [2000.0, 2500.0, 3000.0], settings=SETTINGS, progress=False)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pseudo, "BLOCK", 10)


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, str, int], Iterator[list[int]]]:
    """Return a function that has another one killed at its n-th call, and returns the list of its calls."""

    def kill(module: Any, name: str, at: int) -> list[int]:
        original, calls = getattr(module, name), []

        def counted(*args: Any, **options: Any) -> Any:
            calls.append(1)
            if len(calls) == at:
                raise KeyboardInterrupt
            return original(*args, **options)

        monkeypatch.setattr(module, name, counted)
        return calls

    return kill


def experiments(found: BumpHunt, pieces: Pieces, *, seed: int = 3) -> Any:
    return pseudo_experiments(
        found.background.expected,
        found.edges,
        found.templates,
        float(found.log_combined.min()),
        at=found.best,
        settings=dataclasses.replace(found.experiment_settings, pseudo_experiments=45, seed=seed),
        progress=False,
        pieces=pieces,
    )


def uniformity(found: BumpHunt, pieces: Pieces) -> Any:
    options: Any = {"shape": found.shape, "settings": found.experiment_settings, "names": ("a", "b")}
    return local_p_uniformity(found.background.expected, EDGES, found.masses[:2], n=45, pieces=pieces, **options)


def injections(found: BumpHunt, pieces: Pieces) -> Any:
    options: Any = {"shape": found.shape, "settings": found.settings, "n": 20}
    return injection_linearity(found.background.expected[0], EDGES, 2500.0, pieces=pieces, **options)


def outer(found: BumpHunt, pieces: Pieces) -> Any:
    spectra = np.random.default_rng(1).poisson(found.background.expected, (4, 2, 20)).astype(float)
    return hunt_experiments(spectra, found, inner=20, seed=2, progress=False, pieces=pieces)


def limits(found: BumpHunt, pieces: Pieces) -> Any:
    return cls.cls_limits(found, efficiencies=[0.5, 0.2], pieces=pieces)


LOOPS: dict[str, tuple[Any, Any, str, int, int]] = {
    "pseudo-experiments": (experiments, pseudo, "procedure", 3, 5),
    "uniformity": (uniformity, background_only, "procedure", 3, 5),
    "injections": (injections, injection, "procedure", 3, 5),
    "outer experiments": (outer, global_p, "hunt", 3, 4),
    "limits": (limits, cls, "asymptotic_limits", 3, 3),
}
"""Loop -> what runs it, and the function whose n-th call of so many is killed."""


def same(one: Any, other: Any) -> bool:
    if dataclasses.is_dataclass(one):
        return all(same(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    return bool(one == other or (one != one and other != other))  # noqa: PLR0124 - a NaN equals a NaN here


@pytest.mark.parametrize("loop", LOOPS)
def test_a_killed_loop_goes_on_to_the_same_bits(
    loop: str, found: BumpHunt, tmp_path: Path, killed: Callable[[Any, str, int], list[int]]
) -> None:
    do, module, name, at, calls_in_all = LOOPS[loop]
    undisturbed = do(found, NONE_KEPT)
    pieces = Pieces(tmp_path, "key")
    calls = killed(module, name, at)
    with pytest.raises(KeyboardInterrupt):
        do(found, pieces)
    assert len(calls) == at
    assert same(do(found, pieces), undisturbed)
    assert len(calls) == at + calls_in_all - (at - 1)
    assert same(do(found, pieces), undisturbed)
    assert len(calls) == at + calls_in_all - (at - 1)


def test_pieces_of_another_seed_are_not_taken_up(found: BumpHunt, tmp_path: Path) -> None:
    pieces = Pieces(tmp_path, "key")
    experiments(found, pieces)
    assert same(experiments(found, pieces, seed=4), experiments(found, NONE_KEPT, seed=4))
    assert not same(experiments(found, pieces, seed=4).smallest, experiments(found, pieces).smallest)
