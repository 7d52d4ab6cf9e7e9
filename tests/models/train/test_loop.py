"""The training loop: resume, early stopping, independence of stacked members."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from hunch.models import Quak, TrainingDivergedError, TrainingSettings, Vae
from hunch.models.train import checkpoint as checkpoint_module
from hunch.models.train import loop as training_module
from hunch.models.train.loop import Resident, resolve_device, train_stack
from hunch.models.train.objective import Batch, Objective, WrappedObjective

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
    return train_stack(Objective(model), samples, held, settings=settings, seed=1, device=torch.device("cpu"))


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


@pytest.mark.parametrize("damage", ["other data", "truncated", "empty", "no header", "arrays are missing"])
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
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "no header":
        path.write_bytes((10**18).to_bytes(8, "little") + b"{}")
    elif damage == "arrays are missing":
        with safe_open(path, framework="pt") as file:
            header, kept = file.metadata(), file.get_tensor("progress.best_loss")
        save_file({"progress.best_loss": kept}, path, metadata=header)
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
    assert seen == [1]  # one member


def test_device_auto_is_cuda_where_there_is_one() -> None:
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve_device("cpu").type == "cpu"


class Averaging(Objective):
    """A mean that is scored by its running average, which every step moves: a buffer that `after_step` changes."""

    select = "distance"

    def __init__(self, model: Mean) -> None:
        super().__init__(model)
        model.register_buffer("average", torch.full((len(model.centre), 1), 9.0))

    def losses(self, batch: Batch, *, generator: torch.Generator, progress: float) -> torch.Tensor:
        pull = 0.01 * (batch["x"][..., 0] - self.model.average).square()
        return super().losses(batch, generator=generator, progress=progress) + pull

    def after_step(self) -> None:
        self.model.average.lerp_(self.model.centre.detach(), 0.05)

    def monitor(self) -> dict[str, torch.Tensor]:
        """How far the centre is from a place of its own for each member: chosen otherwise than by the loss."""
        return {"distance": (self.model.centre[:, 0] - 0.4).abs(), "average": self.model.average[:, 0]}


def averaged(samples: list[torch.Tensor], checkpoint: Path | None = None, **options: Any) -> tuple[Averaging, Any]:
    objective = Averaging(Mean(len(samples)))
    settings = TrainingSettings(
        **{"max_epochs": 12, "patience": 3, "learning_rate": 0.01, "min_steps": 10, "batch_size": 50, **options}
    )
    record = train_stack(
        objective, samples, samples, settings=settings, seed=1, device=torch.device("cpu"), checkpoint=checkpoint
    )
    return objective, record


def test_state_figures_and_choice_survive_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = torch.randn(200, 1, generator=torch.Generator().manual_seed(2))
    samples = [1 + 0.1 * noise, -3 + 0.1 * noise]
    whole, record = averaged(samples)
    # the second moves away from its place and stops at once; the first is kept where it was nearest
    first, second = record["best_epoch"]
    assert second + 3 < record["epochs"]
    distances = [epoch[0] for epoch in record["monitor"]["distance"]]
    assert first == 1 + int(np.argmin(distances))
    assert record["monitor"]["distance"][-1][1] is None
    assert record["select"] == "distance"
    # the best epoch's buffer, not the last one's
    averages = [epoch[0] for epoch in record["monitor"]["average"]]
    assert whole.model.average[0].item() == pytest.approx(averages[first - 1])
    assert averages[first - 1] != pytest.approx(averages[-1])
    for kill in (2, second + 4):  # before and after the second has stopped
        path = tmp_path / f"killed {kill}"
        with monkeypatch.context() as patch:
            killed_after(patch, kill)
            with pytest.raises(KeyboardInterrupt):
                averaged(samples, path)
        resumed, again = averaged(samples, path)
        assert again == record
        for name, value in whole.model.state_dict().items():
            assert torch.equal(resumed.model.state_dict()[name], value), (kill, name)


class Whole(Objective):
    """Notes how many rows come at once while nothing is learned."""

    def __init__(self, model: Mean, *, whole: bool) -> None:
        super().__init__(model)
        self.whole_batch, self.held, self.seen = whole, [], torch.zeros(0)

    def losses(self, batch: Batch, *, generator: torch.Generator, progress: float) -> torch.Tensor:
        if progress == 1.0:
            self.held.append(batch["x"].shape[1])
        return super().losses(batch, generator=generator, progress=progress)


@pytest.mark.parametrize(("whole", "batches"), [(True, [40, 40, 40]), (False, [1024, 1024])])
def test_a_batch_that_must_be_whole_is(whole: bool, batches: list[int]) -> None:
    rows = torch.arange(float(110 if whole else 2048))[:, None]
    objective = Whole(Mean(1), whole=whole)
    settings = TrainingSettings(max_epochs=1, batch_size=40, learning_rate=1e-9, min_steps=1, max_steps=1)
    record = train_stack(objective, [rows], [rows], settings=settings, seed=0, device=torch.device("cpu"))
    assert objective.held == batches
    # every row counts once
    assert record["validation_loss"][0] == pytest.approx(float(rows.square().mean()), rel=1e-6)


@pytest.mark.parametrize("once", [True, False])
def test_a_row_comes_once_in_a_batch_that_must_be_whole(once: bool) -> None:
    data = Resident([torch.arange(100.0)[:, None], torch.arange(30.0)[:, None]], torch.device("cpu"))
    rows = data.shuffled([0, 1], 50, 64, 3, 0, once=once)
    assert rows.shape == (50, 2, 64)
    kinds = [len(batch.unique()) for batch in rows[:, 0]]
    assert (min(kinds) == 64) is once
    # all rows come, and those of a sample that fills no batch come as they may
    assert rows[:, 0].unique().tolist() == [*range(100)]
    assert rows[:, 1].unique().tolist() == [*range(100, 130)]


class Beside(WrappedObjective):
    """Collects the rows of a stream and of the sample."""

    def __init__(self, inner: Objective) -> None:
        super().__init__(inner)
        self.own: list[torch.Tensor] = []
        self.stream: list[torch.Tensor] = []

    def losses(self, batch: Batch, *, generator: torch.Generator, progress: float) -> torch.Tensor:
        if progress < 1.0:
            self.own.append(batch["x"][0, :, 0])
            self.stream.append(batch["exposure"][:, 0])
        return super().losses(batch, generator=generator, progress=progress)


def test_a_stream_has_an_order_of_its_own() -> None:
    rows, other = torch.arange(100.0)[:, None], torch.arange(60.0)[:, None]
    objective = Beside(Objective(Mean(1)))
    settings = TrainingSettings(max_epochs=1, batch_size=20, learning_rate=1e-9, min_steps=6, max_steps=6)
    train_stack(
        objective,
        [rows],
        [rows],
        settings=settings,
        seed=0,
        device=torch.device("cpu"),
        streams={"exposure": (other, other)},
    )
    seen = torch.cat(objective.stream)
    assert seen[:60].sort().values.tolist() == list(range(60))  # a permutation, and then another
    assert seen[60:].sort().values.tolist() == list(range(60))
    assert seen[:60].tolist() != seen[60:].tolist()
    assert torch.cat(objective.own)[:60].tolist() != seen[:60].tolist()


class Leaping(Objective):
    """A number that is far from its rows, and has diverged where an epoch moves it further than the limit of that epoch."""

    rolls_back = True

    def __init__(self, model: Mean, limits: tuple[float, ...]) -> None:
        super().__init__(model)
        model.register_buffer("before", torch.zeros(len(model.centre), 1))
        model.register_buffer("epochs", torch.zeros(len(model.centre), 1))
        self.limits = limits

    def monitor(self) -> dict[str, torch.Tensor]:
        moved = (self.model.centre - self.model.before).abs()[:, 0].detach()
        limit = self.limits[min(int(self.model.epochs[0]), len(self.limits) - 1)]
        self.model.before.copy_(self.model.centre.detach())
        self.model.epochs.add_(1)
        return {"moved": moved, "excess": moved - limit}

    def diverged(self, figures: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return ~(figures["excess"] <= 0)


def leaped(
    limits: tuple[float, ...], checkpoint: Path | None = None, *, wrapped: bool = False, **options: Any
) -> tuple[Mean, Any]:
    model = Mean(2)
    rows = torch.full((200, 1), 1000.0)
    objective: Objective = Leaping(model, limits)
    settings = TrainingSettings(
        **{"max_epochs": 6, "patience": 6, "learning_rate": 1.0, "min_steps": 10, "batch_size": 20, **options}
    )
    record = train_stack(
        WrappedObjective(objective) if wrapped else objective,
        [rows, rows - 3],
        [rows, rows - 3],
        settings=settings,
        seed=1,
        device=torch.device("cpu"),
        checkpoint=checkpoint,
    )
    return model, record


LIMITS = (6.0, 6.0, 1.5)  # a step is at most 1, an epoch has ten


@pytest.mark.parametrize("wrapped", [False, True])
def test_an_epoch_that_diverges_is_taken_back_and_tried_again_at_half_the_rate(
    wrapped: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[tuple[int, float, list[float], float]] = []
    original = training_module.train_epoch

    def noted(objective: Objective, data: Any, streams: Any, active: Any, optimiser: Any, **options: Any) -> float:
        centre = objective.model.centre
        steps = float(optimiser.state[centre]["step"]) if centre in optimiser.state else 0.0
        tried.append((options["epoch"], options["slower"], centre.flatten().tolist(), steps))
        return original(objective, data, streams, active, optimiser, **options)

    monkeypatch.setattr(training_module, "train_epoch", noted)
    model, record = leaped(LIMITS, wrapped=wrapped)
    assert record["setbacks"] == [1, 3, 3]
    assert [caplog.messages[k].split(":")[1] for k in range(3)] == [
        f" epoch {n} diverged and is taken back" for n in (1, 3, 3)
    ]
    assert "moved" in caplog.messages[0]
    assert [(epoch, slower) for epoch, slower, _, _ in tried] == [
        *[(0, 1.0), (0, 0.5), (1, 0.5), (2, 0.5), (2, 0.25), (2, 0.125)],
        *[(epoch, 0.125) for epoch in (3, 4, 5)],
    ]
    # the parameters, and what the optimiser knows, are those from before the epoch
    assert tried[0][2:] == tried[1][2:]
    assert tried[3][2:] == tried[4][2:] == tried[5][2:]
    assert [steps for *_, steps in tried] == [0, 0, 10, 20, 20, 20, 30, 40, 50]
    assert record["epochs"] == 6
    assert len(record["monitor"]["moved"]) == 6
    assert max(row[0] for row in record["monitor"]["excess"]) <= 0
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert 5 < model.centre[0].item() < 15


@pytest.mark.parametrize("kill", range(1, 9))
def test_a_training_that_is_killed_around_a_setback_resumes(
    kill: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, record = leaped(LIMITS)
    path = tmp_path / "c"
    with monkeypatch.context() as patch:
        killed_after(patch, kill)
        with pytest.raises(KeyboardInterrupt):
            leaped(LIMITS, path)
    resumed, again = leaped(LIMITS, path)
    assert again == record
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_a_training_that_diverges_on_and_on_ends_with_its_best_epoch(tmp_path: Path) -> None:
    good, _ = leaped((20.0, 20.0), max_epochs=2)
    model, record = leaped((20.0, 20.0, 1e-6), max_epochs=2 + 4)
    assert record["setbacks"] == [3] * training_module.MOST_SETBACKS
    assert (record["epochs"], record["best_epoch"]) == (2, [2, 2])
    assert not torch.equal(model.centre, good.centre)  # the schedule is another one
    assert model.centre[0].item() == pytest.approx(record["monitor"]["moved"][0][0] + record["monitor"]["moved"][1][0])
    # no epoch was any good: the first parameters stay, and the record is one of JSON
    never, record = leaped((0.0,))
    assert never.centre.tolist() == [[0.0], [0.0]]
    assert (record["epochs"], record["best_epoch"], record["validation_loss"]) == (0, [0, 0], [None, None])
    assert record["monitor"] == {}
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_a_loss_that_is_not_finite_is_taken_back_where_epochs_are() -> None:
    class Broken(Leaping):
        def losses(self, batch: Batch, *, generator: torch.Generator, progress: float) -> torch.Tensor:
            found = super().losses(batch, generator=generator, progress=progress)
            return found / 0 if 0.5 < progress < 1 else found

    model = Mean(1)
    rows = torch.full((200, 1), 1000.0)
    settings = TrainingSettings(max_epochs=4, learning_rate=1.0, min_steps=10, batch_size=20)
    record = train_stack(Broken(model, (20.0,)), [rows], [rows], settings=settings, seed=1, device=torch.device("cpu"))
    assert record["setbacks"] == [3] * training_module.MOST_SETBACKS
    assert record["best_epoch"] == [2]
    assert torch.isfinite(model.centre).all()
