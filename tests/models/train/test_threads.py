"""Threads of torch: as many as there are members within bounds, and models that do not depend on them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from hunch.models import TrainingSettings
from hunch.models.density.densities import Architecture
from hunch.models.train import loop as training_module
from hunch.models.train import threads as threads_module
from hunch.models.train.disco import Decorrelated
from hunch.models.train.loop import train_stack
from hunch.models.train.objective import Objective
from hunch.models.train.threads import few_threads, training_threads


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let torch have four threads on any machine."""
    monkeypatch.setattr(threads_module, "allowed_threads", lambda limit: min(4, limit))
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_thread_a_member_within_the_limit_and_the_cores() -> None:
    assert [training_threads(m, 4, by_member=True) for m in (1, 2, 4, 7)] == [1, 2, 4, 4]
    assert training_threads(7, 3, by_member=True) == 3
    assert training_threads(7, 9, by_member=True) == 4
    assert training_threads(7, 4, by_member=False) == 1


def test_torch_gets_back_what_it_had() -> None:
    torch.set_num_threads(3)
    with few_threads(2):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 3
    with pytest.raises(KeyboardInterrupt), few_threads(1):
        raise KeyboardInterrupt
    assert torch.get_num_threads() == 3


def test_one_thread_where_the_rounding_would_depend_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    plain = training_module.train_epoch
    monkeypatch.setattr(
        training_module, "train_epoch", lambda *a, **k: (used.append(torch.get_num_threads()), plain(*a, **k))[1]
    )
    rows = [torch.randn(300, 3, generator=torch.Generator().manual_seed(k)) for k in range(2)]
    settings = TrainingSettings(max_epochs=1, batch_size=100, min_steps=2)
    for members, wrapped in ((2, False), (1, False), (2, True)):
        objective = Objective(Architecture("maf").build(members, 3, seed=0))
        data = rows[:members]
        if wrapped:
            objective = Decorrelated(objective, strength=0.0)
            data = [torch.cat([r, r[:, :1]], dim=1) for r in data]
        train_stack(objective, data, data, settings=settings, seed=0, device=torch.device("cpu"))
    assert used == [2, 1, 1]


@pytest.mark.parametrize("name", ["maf", "vae", "flow_vae"])
@pytest.mark.parametrize("members", [2, 5])
def test_models_do_not_depend_on_threads(name: str, members: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [torch.randn(600, 6, generator=torch.Generator().manual_seed(k)) for k in range(members)]
    settings = TrainingSettings(max_epochs=2, batch_size=300, min_steps=6, max_steps=6)
    found = []
    for many in (1, 2):
        monkeypatch.setattr(training_module, "training_threads", lambda *_, n=many, **__: n)
        model = Architecture(name).build(members, 6, seed=0)
        train_stack(Objective(model), rows, rows, settings=settings, seed=0, device=torch.device("cpu"))
        found.append(list(model.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
