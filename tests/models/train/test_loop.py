"""The training loop: resume, early stopping, independence of stacked members."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from hunch.models import Quak, TrainingDivergedError, TrainingSettings, Vae
from hunch.models.train import checkpoint as checkpoint_module
from hunch.models.train import loop as training_module
from hunch.models.train.loop import resolve_device, train_stack

QUICK = {"device": "cpu", "hidden": 16, "batch_size": 64}


class Mean(torch.nn.Module):
    """m numbers; the loss is the squared distance of each row to its member's number."""

    def __init__(self, members: int) -> None:
        super().__init__()
        self.centre = torch.nn.Parameter(torch.zeros(members, 1))

    def losses(self, x: torch.Tensor, *, generator: torch.Generator, progress: float) -> torch.Tensor:
        assert 0 <= progress <= 1
        return (x[..., 0] - self.centre).square()


def train(model: Mean, samples: list[torch.Tensor], held: list[torch.Tensor], **options: float) -> dict[str, object]:
    settings = TrainingSettings(**{"max_epochs": 8, "learning_rate": 0.05, **options})  # type: ignore[arg-type]
    return train_stack(model, model, samples, held, settings=settings, seed=1, device=torch.device("cpu"))


def test_each_member_learns_its_own_sample_whatever_its_size() -> None:
    samples = [torch.full((700, 1), 1.0), torch.full((30, 1), -2.0), torch.full((5000, 1), 0.5)]
    model = Mean(3)
    record = train(model, samples, samples)
    assert model.centre[:, 0].tolist() == pytest.approx([1.0, -2.0, 0.5], abs=0.01)
    assert record["rows"] == [700, 30, 5000]


def test_best_weights_on_the_validation_sample_are_kept() -> None:
    # Training pulls towards 1, validation says 0.3: the best epoch is on the way.
    model = Mean(1)
    record = train(
        model, [torch.ones(500, 1)], [torch.full((200, 1), 0.3)], max_epochs=40, patience=5, learning_rate=0.002
    )
    assert model.centre.item() == pytest.approx(0.3, abs=0.1)
    assert record["epochs"] == record["best_epoch"][0] + 5  # type: ignore[index]


def test_a_finished_member_stays_while_the_others_go_on() -> None:
    model = Mean(2)
    samples = [torch.ones(500, 1), torch.ones(500, 1)]
    held = [torch.full((200, 1), 0.3), torch.ones(200, 1)]
    record = train(model, samples, held, max_epochs=40, patience=3, learning_rate=0.003)
    assert model.centre[0].item() == pytest.approx(0.3, abs=0.1)
    assert model.centre[1].item() == pytest.approx(1.0, abs=0.1)
    assert record["best_epoch"][0] + 3 < record["best_epoch"][1]  # type: ignore[index]


def test_repeated_rows_of_a_short_validation_sample_do_not_count() -> None:
    long, short = torch.zeros(5000, 1), torch.tensor([[0.0], [1.0], [1.0]])
    record = train(Mean(2), [long, long], [long, short], max_epochs=1, learning_rate=1e-9)
    assert record["validation_loss"] == pytest.approx([0.0, 2 / 3], abs=1e-6)


def killed_after(monkeypatch: pytest.MonkeyPatch, epochs: int) -> None:
    """Make the training stop as a killed one does: right after it wrote its n-th checkpoint."""
    written = 0

    def write(*arguments: object) -> None:
        nonlocal written
        checkpoint_module.write_checkpoint(*arguments)  # type: ignore[arg-type]
        written += 1
        if written == epochs:
            raise KeyboardInterrupt

    monkeypatch.setattr(training_module, "write_checkpoint", write)


def test_a_resumed_training_equals_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    x, prior = rng.normal(size=(400, 2)), rng.normal(1, 1, (200, 2))
    whole = Quak(max_epochs=6, **QUICK).fit(x, priors={"p": prior})
    path = tmp_path / "run.checkpoint"
    with monkeypatch.context() as patch:
        killed_after(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            Quak(max_epochs=6, **QUICK).fit(x, priors={"p": prior}, checkpoint=path)
    assert path.is_file()
    with caplog.at_level(logging.INFO):
        resumed = Quak(max_epochs=6, **QUICK).fit(x, priors={"p": prior}, checkpoint=path)
    assert "resumed after epoch 3" in caplog.text
    assert not list(tmp_path.iterdir())
    assert resumed.density_ is not None
    assert whole.density_ is not None
    for name, tensor in whole.density_.tensors().items():
        assert torch.equal(tensor, resumed.density_.tensors()[name]), name
    assert resumed.training_ == whole.training_


@pytest.mark.parametrize("damage", ["other data", "truncated"])
def test_a_foreign_or_damaged_checkpoint_starts_from_scratch(
    damage: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rng: np.random.Generator,
    caplog: pytest.LogCaptureFixture,
) -> None:
    x, path = rng.normal(size=(300, 2)), tmp_path / "c"
    with monkeypatch.context() as patch:
        killed_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            Vae(max_epochs=4, **QUICK).fit(x + 0.1 * (damage == "other data") * x**2, checkpoint=path)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-20])
    resumed = Vae(max_epochs=4, **QUICK).fit(x, checkpoint=path)
    assert "from scratch" in caplog.text
    assert np.array_equal(resumed.score(x), Vae(max_epochs=4, **QUICK).fit(x).score(x))


def test_divergence_is_an_error() -> None:
    with pytest.raises(TrainingDivergedError, match="epoch 1"):
        train(Mean(1), [torch.full((100, 1), float("inf"))], [torch.ones(100, 1)])


def test_progress_is_off_by_default_and_rare_in_a_log(
    rng: np.random.Generator,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = rng.normal(size=(200, 2))
    with caplog.at_level(logging.INFO):
        Vae(max_epochs=3, **QUICK).fit(x)
        Vae(max_epochs=3, **QUICK).fit(x, progress=True)  # a log, and over within 30 s
        assert not caplog.messages
        monkeypatch.setattr(training_module, "LOG_EVERY", 0.0)
        Vae(max_epochs=3, **QUICK).fit(x, progress=True)
    assert [m.startswith(f"training: epoch {i} of at most 3") for i, m in enumerate(caplog.messages, 1)] == [True] * 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "training" not in captured.err


def test_thread_count_is_bounded_and_restored(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    seen = []
    original = training_module.train_epoch
    monkeypatch.setattr(
        training_module, "train_epoch", lambda *a, **k: (seen.append(torch.get_num_threads()), original(*a, **k))[1]
    )
    before = torch.get_num_threads()
    torch.set_num_threads(7)
    try:
        Vae(max_epochs=1, **QUICK).fit(rng.normal(size=(200, 2)))
        assert torch.get_num_threads() == 7
    finally:
        torch.set_num_threads(before)
    assert seen == [1]  # until the first trial


def test_device_auto_is_cuda_where_there_is_one() -> None:
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve_device("cpu").type == "cpu"
