"""What a contrastive training minimises, notes, and calls a collapse."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest
import torch

from hunch.models.contrastive.jet_augmentations import JetAugmentations
from hunch.models.contrastive.losses import alignment, effective_rank, nt_xent, uniformity
from hunch.models.contrastive.set_transformer import SetTransformer, TransformerSizes
from hunch.models.contrastive.training import ContrastiveObjective, collapse_of, named_collapse
from hunch.models.train.loop import TrainingSettings, train_stack

SIZES = TransformerSizes(3, width=8, heads=2, layers=1, feedforward=8, dims=4, projection=3)


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sets(m: int, b: int) -> torch.Tensor:
    x = torch.rand((m, b, 6, 3), generator=generator())
    return torch.where((torch.arange(6) < torch.randint(1, 7, (m, b, 1), generator=generator()))[..., None], x, 0.0)


def objective(members: int = 2, *, dropout: float = 0.0, **options: Any) -> ContrastiveObjective:
    given: dict[str, Any] = {
        "versions": JetAugmentations().pair,
        "features": lambda x: (x, x[..., 0]),
        "loss": "nt_xent",
        "temperature": 0.1,
    }
    return ContrastiveObjective(SetTransformer(members, SIZES, seed=2, dropout=dropout), **given | options)


def test_the_loss_is_that_of_versions_of_each_member() -> None:
    own, x = objective(), sets(2, 5)
    found = own.losses({"x": x}, generator=generator(), progress=0.5)
    assert found.shape == (2, 5)
    first, second = (part.view(x.shape) for part in JetAugmentations().pair(x.flatten(0, 1), generator()))
    projections = [own.network(part, part[..., 0])[1] for part in (first, second)]
    assert torch.allclose(found, nt_xent(projections[0], projections[1], temperature=0.1), atol=1e-5)
    # versions are drawn anew
    assert not torch.equal(found, own.losses({"x": x}, generator=generator(2), progress=0.5))


def test_dropout_is_left_out_in_validation() -> None:
    x = sets(2, 5)
    still: dict[str, Any] = {"versions": lambda x, generator: (x, x)}
    with_dropout, without = objective(dropout=0.5, **still), objective(**still)
    held = with_dropout.validation_losses({"x": x}, generator=generator())
    assert torch.equal(held, without.validation_losses({"x": x}, generator=generator()))
    assert not torch.equal(held, with_dropout.losses({"x": x}, generator=generator(), progress=0.0))


@pytest.mark.parametrize("members", [1, 2])
def test_the_figures_are_those_of_the_last_batches(members: int) -> None:
    def three(x: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        return *JetAugmentations().pair(x, generator), x.flip(1)

    own, x = objective(members, versions=three, loss="anomclr"), sets(members, 300)
    for seed in (1, 2, 3):
        own.losses({"x": x}, generator=generator(seed), progress=0.5)
    found = own.monitor()
    versions, representations = [], []
    for seed in (2, 3):
        made = [part.view(x.shape) for part in three(x.flatten(0, 1), generator(seed))]
        versions.append([own.network(part, part[..., 0])[1] for part in made])
        representations.append(own.network(made[0], made[0][..., 0])[0])
    joined = [torch.cat(parts, dim=1)[:, -512:].detach() for parts in zip(*versions, strict=True)]
    wanted = {
        "alignment": alignment(joined[0], joined[1]),
        "uniformity": uniformity(joined[0]),
        "rank": effective_rank(torch.cat(representations, dim=1)[:, -512:].detach()),
        "separation": alignment(joined[0], joined[2]),
    }
    assert set(found) == set(wanted)
    for name, values in wanted.items():
        assert found[name].shape == (members,)
        assert torch.allclose(found[name].double(), values.double(), rtol=1e-3, atol=1e-5), name
    assert own.recent == []


@pytest.mark.parametrize(
    ("uniform", "rank", "name"),
    [
        (-2.0, 5.0, ""),
        (-0.04, 5.0, "point"),
        (math.nan, 5.0, "point"),
        (-2.0, 1.2, "line"),
        (-2.0, math.nan, "line"),
        (0.0, 0.0, "point"),
    ],
)
def test_a_collapse_has_a_name(uniform: float, rank: float, name: str) -> None:
    assert named_collapse({"uniformity": uniform, "rank": rank}) == name
    record = {
        "best_epoch": [1, 2],
        "monitor": {"uniformity": [[-3.0, -3.0], [-3.0, uniform]], "rank": [[9.0, 9.0], [9.0, rank]]},
    }
    assert collapse_of(record, 1) == name
    assert collapse_of(record, 0) == ""
    assert collapse_of({"best_epoch": [0], "monitor": {}}) == ""


def test_a_collapse_is_logged_once_when_it_comes(caplog: pytest.LogCaptureFixture) -> None:
    own, x = objective(), sets(2, 40)
    with torch.no_grad():  # of the second model all events have one projection
        own.network.weights[-1][1] = 0.0
        own.network.biases[-1][1] = 1.0
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            own.losses({"x": x}, generator=generator(), progress=0.5)
            own.monitor()
    told = [record.message for record in caplog.records]
    assert len(told) == 1
    assert (
        "the representation of model 1 has collapsed to a point, different events have the same projection" in told[0]
    )


def test_a_representation_of_one_direction_is_a_line(caplog: pytest.LogCaptureFixture) -> None:
    own, x = objective(1), sets(1, 40)
    with torch.no_grad():
        own.network.weights[-2][0, :, 1:] = 0.0
    with caplog.at_level(logging.WARNING):
        own.losses({"x": x}, generator=generator(), progress=0.5)
        figures = own.monitor()
    assert float(figures["rank"]) == pytest.approx(1.0, abs=1e-3)
    assert "collapsed to a line, events differ in one direction" in caplog.text


def test_members_train_side_by_side_as_each_of_their_own() -> None:
    """With versions that draw nothing a member of a stack takes the steps that it takes alone."""
    x = sets(2, 64)
    settings = TrainingSettings(max_epochs=2, batch_size=16, min_steps=4, learning_rate=1e-2, patience=2)
    still: dict[str, Any] = {"versions": lambda x, _: (x, x.flip(1) * 1.1)}
    whole = objective(2, **still)
    record = train_stack(whole, [*x], [*x[:, :20]], settings=settings, seed=3, device=torch.device("cpu"))
    assert set(record["monitor"]) == {"alignment", "uniformity", "rank"}
    alone = objective(1, **still)
    alone.model.load_state_dict({n: p[:1].clone() for n, p in objective(2).model.state_dict().items()})
    own = train_stack(alone, [x[0]], [x[0, :20]], settings=settings, seed=3, device=torch.device("cpu"))
    assert own["validation_loss"][0] == pytest.approx(record["validation_loss"][0], rel=1e-3)
    untrained = objective(1, **still).validation_losses({"x": x[:1, :20]}, generator=generator())
    assert own["validation_loss"][0] < float(untrained.detach().mean())


def test_the_validation_batch_is_as_large_as_that_of_the_training() -> None:
    seen = []

    def versions(x: torch.Tensor, _: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(len(x))
        return x, x

    x = sets(1, 70)
    settings = TrainingSettings(max_epochs=1, batch_size=16, min_steps=1, max_steps=1)
    train_stack(
        objective(1, versions=versions), [x[0]], [x[0, :40]], settings=settings, seed=3, device=torch.device("cpu")
    )
    assert seen == [16, 16, 16, 16]
