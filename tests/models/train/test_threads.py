"""Threads of torch: the faster number is used and found again when the machine changes; models do not depend on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from hunch.models import TrainingSettings
from hunch.models.density.densities import Architecture
from hunch.models.train import threads as threads_module
from hunch.models.train.disco import Decorrelated
from hunch.models.train.loop import train_stack
from hunch.models.train.threads import TRIAL_AFTER, ThreadChoice, few_threads


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let torch have four threads on any machine."""
    monkeypatch.setattr(threads_module, "allowed_threads", lambda limit: min(4, limit))
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def run_steps(choice: ThreadChoice, now: list[float], n: int, seconds: Callable[[int], float]) -> list[int]:
    """Take n steps that last `seconds(threads)`; return the threads of each."""
    used = []
    for _ in range(n):
        with choice.step():
            used.append(torch.get_num_threads())
            now[0] += seconds(used[-1])
    return used


def clocked(limit: int = 4) -> tuple[ThreadChoice, list[float]]:
    now = [0.0]
    return ThreadChoice(limit, clock=lambda: now[0]), now


def test_the_faster_number_of_threads_is_used() -> None:
    choice, now = clocked()
    with choice:
        assert run_steps(choice, now, 8, lambda t: 1.0 / t) == [1, 1, 4, 1, 4, 4, 4, 4]
    choice, now = clocked()
    with choice:
        assert run_steps(choice, now, 8, lambda t: 10.0 if t > 1 else 1.0) == [1, 1, 4, 1, 4, 1, 1, 1]


def test_cores_that_become_busy_are_left_after_two_steps_and_tried_again_when_free() -> None:
    choice, now = clocked()
    with choice:
        assert run_steps(choice, now, 20, lambda t: 1.0 / t)[-1] == 4
        assert run_steps(choice, now, 10, lambda t: 10.0 if t > 1 else 1.0) == [4, 4, *[1] * 8]
        free = run_steps(choice, now, 3 * TRIAL_AFTER, lambda t: 1.0 / t)
    assert free[-1] == 4
    assert free.index(4) < 2 * TRIAL_AFTER


def test_trials_on_busy_cores_become_rare() -> None:
    choice, now = clocked()
    with choice:
        used = run_steps(choice, now, 3000, lambda t: 10.0 if t > 1 else 1.0)
    assert 6 <= used.count(4) <= 10
    assert now[0] < 3000 * 1.05


def test_one_thread_where_no_more_are_allowed_and_what_torch_had_afterwards() -> None:
    torch.set_num_threads(3)
    choice, now = clocked(limit=1)
    with choice:
        assert set(run_steps(choice, now, 300, lambda _: 1.0)) == {1}
    assert torch.get_num_threads() == 3
    with pytest.raises(KeyboardInterrupt), choice:
        raise KeyboardInterrupt
    assert torch.get_num_threads() == 3
    with few_threads(2):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 3


def test_one_thread_where_the_rounding_would_depend_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    limits, kept = [], []
    plain, keep = ThreadChoice.__init__, ThreadChoice.at_most
    monkeypatch.setattr(
        ThreadChoice, "__init__", lambda self, limit, **k: (limits.append(limit), plain(self, limit, **k))[1]
    )
    monkeypatch.setattr(ThreadChoice, "at_most", lambda self, n: (kept.append(n), keep(self, n))[1])
    rows = [torch.randn(300, 3, generator=torch.Generator().manual_seed(k)) for k in range(2)]
    settings = TrainingSettings(max_epochs=1, batch_size=100, min_steps=2)
    for members, wrapped in ((2, False), (1, False), (2, True)):
        model = Architecture("maf").build(members, 3, seed=0)
        data = rows[:members]
        stack = Decorrelated(model, strength=0.0) if wrapped else model  # type: ignore[arg-type]
        if wrapped:
            data = [torch.cat([r, r[:, :1]], dim=1) for r in data]
        train_stack(model, stack, data, data, settings=settings, seed=0, device=torch.device("cpu"))  # type: ignore[arg-type]
    assert limits == [4, 4, 1]
    assert kept == [2, 1, 2]


def test_no_more_threads_than_asked_for_from_then_on() -> None:
    choice, now = clocked()
    with choice:
        assert run_steps(choice, now, 20, lambda t: 1.0 / t)[-1] == 4
        choice.at_most(5)
        assert run_steps(choice, now, 2, lambda t: 1.0 / t) == [4, 4]
        choice.at_most(2)
        assert run_steps(choice, now, 7, lambda t: 1.0 / t) == [1, 1, 2, 1, 2, 2, 2]
        choice.at_most(1)
        assert set(run_steps(choice, now, 300, lambda t: 1.0 / t)) == {1}


@pytest.mark.parametrize("name", ["maf", "vae", "flow_vae"])
@pytest.mark.parametrize("members", [2, 5])
def test_models_do_not_depend_on_threads(name: str, members: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [torch.randn(600, 6, generator=torch.Generator().manual_seed(k)) for k in range(members)]
    settings = TrainingSettings(max_epochs=2, batch_size=300, min_steps=6, max_steps=6)
    found = []
    for many in (1, 2):
        monkeypatch.setattr(ThreadChoice, "step", lambda self, n=many: few_threads(n))
        model = Architecture(name).build(members, 6, seed=0)
        train_stack(model, model, rows, rows, settings=settings, seed=0, device=torch.device("cpu"))  # type: ignore[arg-type]
        found.append(list(model.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
