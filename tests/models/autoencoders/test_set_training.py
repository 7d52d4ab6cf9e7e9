"""VAEs of constituents in a stack, kept independent of the mass, and started from weights that were trained before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hunch.models import (
    ConstituentVae,
    Sample,
    ScorerError,
    ScorerFolderError,
    ScorerSpace,
    ShapeError,
    Space,
    make_space,
)
from hunch.models.autoencoders.set_autoencoder import SetSizes, StackedSetVae
from hunch.models.autoencoders.set_scaling import jet_masses, robust_scaling
from hunch.models.autoencoders.set_training import SetPenalty, flat, member_of, stacked
from hunch.models.train import checkpoint as checkpoint_module
from hunch.models.train import loop as training_module
from hunch.models.train.disco import distance_correlation
from hunch.models.train.exposure import Exposed
from hunch.models.train.objective import Objective

OPTIONS: dict[str, Any] = {"max_epochs": 3, "latent": 3, "batch_size": 64, "device": "cpu"}
SLOTS = 8


def jets(n: int, seed: int = 0, *, wide: float = 0.2, scale: float = 30.0) -> np.ndarray:
    """Jets (n, 8, 4) along x of massless constituents, of different numbers, hardest first."""
    rng = np.random.default_rng(seed)
    pt = np.sort(rng.exponential(scale, size=(n, SLOTS)), axis=1)[:, ::-1].copy()
    pt[np.arange(SLOTS) >= rng.integers(3, SLOTS + 1, size=n)[:, None]] = 0
    eta, phi = rng.normal(0, wide, (n, SLOTS)), rng.normal(0, wide, (n, SLOTS))
    return np.stack([pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], axis=-1)


def events(x: np.ndarray, first: int = 0, **more: Any) -> Sample:
    """Return jets as events of one jet each, numbered."""
    return Sample(x[:, None], ("jet",), event=np.arange(first, first + len(x)), **more)


def space(**options: Any) -> Any:
    return make_space("ConstituentVae", kind="sets", priors=("near", "far"), options=OPTIONS | options, seed=2)


def fitted_space(made: Space, **given: Any) -> Space:
    priors = {"near": events(jets(200, 1, wide=0.4), 1000), "far": events(jets(250, 2, scale=60.0), 2000)}
    return made.fit(events(jets(300)), priors=priors, **given)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Members of every epoch that is trained."""
    found: list[int] = []
    plain = training_module.train_epoch
    monkeypatch.setattr(training_module, "train_epoch", lambda *a, **k: (found.append(len(a[3])), plain(*a, **k))[1])
    return found


@pytest.mark.parametrize("architecture", ["dense", pytest.param("lstm", marks=pytest.mark.slow)])
def test_a_space_trains_its_axes_in_one_batch_each_on_its_own(
    architecture: str, trainings: list[int], tmp_path: Path
) -> None:
    x = jets(40, seed=9)
    first = fitted_space(space(architecture=architecture))
    assert trainings == [3, 3, 3]
    np.testing.assert_array_equal(fitted_space(space(architecture=architecture)).losses(x), first.losses(x))
    assert isinstance(first, ScorerSpace)
    for number, (name, scorer) in enumerate(first.scorers.items()):
        assert isinstance(scorer, ConstituentVae)
        assert scorer.training_["stack"] == [number, 3]
        assert scorer.trained_rows() == {"background": 300, "near": 200, "far": 250}[name]
        # its own scaling and weights, saved by itself
        assert scorer.scaling_ is not None
        assert scorer.network_ is not None
        assert scorer.network_.weights[0].shape[0] == 1
        scorer.save(tmp_path / name)
    far, own = first.scorers["far"], first.scorers["background"]
    assert isinstance(far, ConstituentVae)
    assert isinstance(own, ConstituentVae)
    assert far.scaling_ is not None
    assert own.scaling_ is not None
    assert far.scaling_.spread[0, 0] > 1.5 * own.scaling_.spread[0, 0]
    # what it was trained on is nearer to it than what it was not
    assert np.median(far.score(jets(200, 2, scale=60.0))) < np.median(own.score(jets(200, 2, scale=60.0)))
    first.save(tmp_path / "space")


def test_members_of_a_stack_start_as_they_would_alone_and_have_their_own_scaling() -> None:
    sizes = SetSizes(SLOTS, 4, 3)
    alone = [StackedSetVae(1, sizes, seed=seed) for seed in (5, 6)]
    whole = stacked(alone)
    for number, network in enumerate(alone):
        for own, stack in zip(network.parameters(), whole.parameters(), strict=True):
            assert torch.equal(own[0], stack[number])
        double = member_of(whole.double(), number)
        assert torch.equal(double.weights[0].float(), network.weights[0])
    made = fitted_space(space())
    assert isinstance(made, ScorerSpace)
    near, alike = made.scorers["near"], ConstituentVae(**OPTIONS)
    assert isinstance(near, ConstituentVae)
    assert near.scaling_ is not None
    alike.seed = near.seed
    scaling = alike.fit(jets(200, 1, wide=0.4)).scaling_
    assert scaling is not None
    np.testing.assert_array_equal(near.scaling_.centre, scaling.centre)


def test_only_one_of_a_stack_is_exposed() -> None:
    two = [ConstituentVae(**OPTIONS, exposure="kl", seed=seed) for seed in (1, 2)]
    with pytest.raises(ScorerError, match="samples for 2 of the scorers of a stack are given, allowed: for one"):
        ConstituentVae.fit_stack(two, [{"x": jets(150), "exposure": jets(150, 1)}] * 2)


def test_axes_that_cannot_be_stacked_are_trained_one_after_another(trainings: list[int]) -> None:
    other = ScorerSpace(ConstituentVae(**OPTIONS), {"near": ConstituentVae(**OPTIONS | {"max_epochs": 2})})
    other.fit(jets(150), priors={"near": jets(150, 1)})
    assert trainings == [1] * 5


def test_only_the_background_axis_of_a_stack_is_exposed() -> None:
    network = StackedSetVae(3, SetSizes(SLOTS, 4, 3), seed=1)
    batch = {"x": torch.randn(3, 6, 32), "exposure": 3 * torch.randn(6, 32)}
    objective = Exposed(Objective(network), kind="kl", members=[False, True, False])

    def drawn(exposed: Exposed | Objective, given: dict[str, torch.Tensor], progress: float = 1.0) -> torch.Tensor:
        return exposed.losses(given, generator=torch.Generator().manual_seed(3), progress=progress)

    some, plain = drawn(objective, batch), drawn(Objective(network), batch)
    assert torch.equal(some[[0, 2]], plain[[0, 2]])
    # the exposed one as if it were alone, but for the draws
    own = network.parts(batch["x"], generator=torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    network.parts(batch["x"], generator=generator)
    beside = member_of(network, 1).float()
    other = beside.parts(batch["exposure"][None], generator=generator)
    paid = 2.0 * torch.relu(own.kl[1] - other.kl[0] + 2.0).mean(dim=-1)
    torch.testing.assert_close(some[1], plain[1] + paid)
    some.sum().backward()
    gradients = network.weights[0].grad
    assert gradients is not None
    network.zero_grad()
    plain.sum().backward()
    assert torch.equal(gradients[[0, 2]], network.weights[0].grad[[0, 2]])  # type: ignore[index]
    assert not torch.equal(gradients[1], network.weights[0].grad[1])  # type: ignore[index]
    objective.keep(torch.tensor([1, 2]))
    assert objective.state()["exposure.members"].tolist() == [True, False]
    objective.keep(torch.tensor([1]))
    two = {"x": batch["x"], "exposure": batch["exposure"]}
    assert torch.equal(drawn(objective, two), drawn(Objective(network), two))


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["dense", "lstm"])
def test_threads_change_no_bit_of_a_stack(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = jets(30, seed=9)
    found = []
    for threads in (1, 2):
        monkeypatch.setattr(training_module, "training_threads", lambda *a, n=threads, **k: n)
        monkeypatch.setattr("hunch.models.train.threads.allowed_threads", lambda limit: min(limit, 2))
        made = space(exposure="kl", exposure_match="none", max_epochs=2, architecture=architecture)
        found.append(fitted_space(made, exposure=events(jets(150, 7), 5000)).losses(x))
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("options", [{}, {"exposure": "kl", "exposure_match": "none", "decorrelation": 5.0}])
def test_a_killed_stack_resumes_with_the_same_bits_and_a_finished_one_is_kept(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainings: list[int]
) -> None:
    x = jets(30, seed=9)
    given = {"exposure": events(jets(150, 7), 5000)} if options else {}
    whole = fitted_space(space(**options), **given).losses(x)
    write: Callable[..., None] = checkpoint_module.write_checkpoint
    written: list[int] = []

    def killed(*arguments: Any) -> None:
        write(*arguments)
        written.append(1)
        if len(written) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training_module, "write_checkpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            fitted_space(space(**options), checkpoint=tmp_path / "c", **given)
    trainings.clear()
    with monkeypatch.context() as patch:
        patch.setattr(ScorerSpace, "_spreads", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fitted_space(space(**options), checkpoint=tmp_path / "c", **given)
    assert trainings == [3]
    assert len(list(tmp_path.glob("c.*.axis"))) == 3
    trainings.clear()
    np.testing.assert_array_equal(fitted_space(space(**options), checkpoint=tmp_path / "c", **given).losses(x), whole)
    assert trainings == []
    assert list(tmp_path.iterdir()) == []


def test_finished_axes_of_another_stack_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was trained beside an axis changes it: the steps of an epoch are those of the largest sample."""

    def fit(number: int, checkpoint: Path | None = tmp_path / "c") -> Space:
        made = make_space("ConstituentVae", kind="sets", priors=("near",), options=OPTIONS, seed=2)
        return made.fit(events(jets(150)), priors={"near": events(jets(number, 1), 1000)}, checkpoint=checkpoint)

    with monkeypatch.context() as patch:
        patch.setattr(ScorerSpace, "_spreads", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        for number in (150, 4000):
            with pytest.raises(KeyboardInterrupt):
                fit(number)
    x = jets(20, 9)
    np.testing.assert_array_equal(fit(150).losses(x), fit(150, None).losses(x))


def test_members_of_a_stack_stop_by_themselves_and_the_exposed_one_does_not(
    trainings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    exposed: list[torch.Tensor | None] = []
    keep = Exposed.__init__
    monkeypatch.setattr(Exposed, "__init__", lambda own, *a, **k: (keep(own, *a, **k), exposed.append(own.exposed))[0])
    made = space(exposure="kl", exposure_match="none", patience=1, max_epochs=8, learning_rate=0.02)
    fitted_space(made, exposure=events(jets(150, 7), 5000))
    assert trainings[0] == 3
    assert trainings[-1] == 1
    assert len(trainings) == 8
    assert [None if found is None else found.tolist() for found in exposed] == [[True, False, False]]


def test_without_lambda_early_stopping_is_that_of_the_plain_training(trainings: list[int]) -> None:
    """Bit for bit with the same options, patience too: where lambda stays 0 nothing takes the loss up and down."""
    options = OPTIONS | {"patience": 1, "max_epochs": 12, "learning_rate": 0.02}
    plain = ConstituentVae(**options).fit(jets(300))
    epochs = len(trainings)
    assert epochs < 12
    exposed = ConstituentVae(**options, exposure="kl", exposure_strength=0.0).fit(jets(300), exposure=jets(200, 3))
    assert len(trainings) == 2 * epochs
    np.testing.assert_array_equal(exposed.score(jets(50, 4)), plain.score(jets(50, 4)))


def dependence(scorer: ConstituentVae, x: np.ndarray, mass: np.ndarray) -> float:
    scores, values = torch.from_numpy(scorer.score(x)), torch.from_numpy(mass)
    return float(distance_correlation(scores, values, unbiased=True))


@pytest.mark.slow
def test_a_penalty_keeps_the_loss_independent_of_the_mass_and_goes_with_exposure() -> None:
    options = OPTIONS | {"max_epochs": 10, "batch_size": 200}
    x, tested = jets(600), jets(400, seed=4)
    bare, paid = (ConstituentVae(**options, decorrelation=strength).fit(x) for strength in (0.0, 20.0))
    # the jets' own masses where nothing else is given
    before, after = (dependence(scorer, tested, jet_masses(tested)) for scorer in (bare, paid))
    assert before > 0.1
    assert after < before / 2
    exposed = ConstituentVae(**options, decorrelation=20.0, exposure="kl", exposure_match="none")
    exposed.fit(x, exposure=jets(200, seed=3, wide=0.5))
    assert dependence(exposed, tested, jet_masses(tested)) < before / 2


def test_the_mass_is_the_one_given_else_the_observable_else_the_jets_own() -> None:
    x, tested, other = jets(200), jets(30, seed=4), np.arange(200.0)
    options = OPTIONS | {"max_epochs": 1, "decorrelation": 20.0}
    own = ConstituentVae(**options).fit(x).score(tested)
    np.testing.assert_array_equal(ConstituentVae(**options).fit(x, mass=jet_masses(x)).score(tested), own)
    observable = ConstituentVae(**options).fit(Sample(x, observable=other)).score(tested)
    np.testing.assert_array_equal(ConstituentVae(**options).fit(x, mass=other).score(tested), observable)
    assert not np.array_equal(own, observable)


def test_the_penalty_sees_jets_as_each_member_scales_them() -> None:
    x = jets(300)
    scalings = [robust_scaling(x[:150]), robust_scaling(2 * x[150:])]
    network = StackedSetVae(2, SetSizes(SLOTS, 4, 3), seed=1)
    penalty = SetPenalty(Objective(network), strength=1.0, scalings=scalings)
    seen = penalty.seen(torch.from_numpy(flat(x)).float()).double().numpy()
    for number, scaling in enumerate(scalings):
        np.testing.assert_allclose(seen[number], flat(scaling.scaled(x)), atol=1e-4)
    first, second = network.terms(torch.from_numpy(seen).float())
    mu, _ = network.encode(torch.from_numpy(seen).float())
    error = (network.decode(mu) - torch.from_numpy(seen).float()).square().mean(dim=-1)
    torch.testing.assert_close(first, error)
    assert (second >= 0).all()


def test_the_axes_of_a_space_pay_for_the_background_observable_of_each_event() -> None:
    x = np.stack([jets(300), jets(300, 5)], axis=1)
    observable = np.random.default_rng(0).exponential(size=300)
    background = Sample(x, ("a", "b"), observable=observable)
    made = make_space("ConstituentVae", kind="sets", priors=("near",), options=OPTIONS | {"decorrelation": 5.0}, seed=2)
    priors = {"near": Sample(x[:150, ::-1], ("a", "b"))}  # no mass of their own
    losses = made.fit(background, priors=priors).losses(x)
    plain = make_space("ConstituentVae", kind="sets", priors=("near",), options=OPTIONS, seed=2)
    assert not np.array_equal(plain.fit(background, priors=priors).losses(x)[:, 1], losses[:, 1])


@pytest.mark.parametrize(
    ("options", "given", "words"),
    [
        ({"decorrelation": -1.0}, {}, "decorrelation is -1.0, allowed"),
        ({"decorrelation": 5.0}, {"mass": np.ones(150)}, "mass is 1 in all 150 rows"),
        ({"decorrelation": 5.0}, {"mass": np.arange(20.0)}, r"mass has shape \(20,\), x has 150 rows"),
        (
            {"decorrelation": 5.0},
            {"mass": np.arange(150.0), "validation": jets(40, 1)},
            "needs validation_mass: the mass of each of the 40 rows",
        ),
        ({"pretrained": 3}, {}, "pretrained is 3, allowed"),
    ],
)
def test_wrong_masses_and_folders_are_said(options: dict[str, Any], given: dict[str, Any], words: str) -> None:
    with pytest.raises(ScorerError, match=words):
        ConstituentVae(**{**OPTIONS, **options}).fit(jets(150), **given)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("before")
    ConstituentVae(**OPTIONS).fit(jets(300)).save(place / "alone")
    fitted_space(space()).save(place / "space")
    return place


@pytest.mark.parametrize("of", ["alone", "space"])
def test_a_training_starts_from_what_was_trained_before(of: str, folder: Path) -> None:
    x, other = jets(50, 4), jets(300, 5, scale=50.0)
    before = ConstituentVae(**OPTIONS, pretrained=str(folder / of))
    # steps of no length: what comes out is what was started from, its scaling too
    still = ConstituentVae(**OPTIONS | {"learning_rate": 1e-30}, pretrained=str(folder / of)).fit(other)
    from hunch.models.pretrained import origin_of

    np.testing.assert_array_equal(still.score(x), origin_of(folder / of).scorer.score(x))
    tuned = before.fit(other)
    assert np.median(tuned.score(other)) < np.median(still.score(other))
    # without strength fine-tuning is the plain training that goes on
    exposed = ConstituentVae(**OPTIONS, pretrained=str(folder / of), exposure="mse", exposure_strength=0.0)
    np.testing.assert_array_equal(exposed.fit(other, exposure=jets(200, 3)).score(x), tuned.score(x))


def test_what_a_pretrained_model_had_trained_on_the_new_one_has_too(folder: Path, tmp_path: Path) -> None:
    made = space(pretrained=str(folder / "space"), exposure="kl", exposure_match="none")
    assert [getattr(scorer, "pretrained", None) for scorer in made.scorers.values()] == [str(folder / "space"), "", ""]
    background = events(jets(300, 11), 7000)
    priors = {"near": events(jets(200, 12), 8000), "far": events(jets(200, 13), 9000)}
    made.fit(background, priors=priors, exposure=events(jets(200, 14), 9500))
    assert set(range(7000, 7300)) <= set(made.trained_on.tolist())
    assert set(range(300)) | set(range(1000, 1200)) | set(range(2000, 2250)) <= set(made.trained_on.tolist())
    made.save(tmp_path / "again")
    third = space(pretrained=str(tmp_path / "again")).fit(background, priors=priors)
    assert set(range(300)) <= set(third.trained_on.tolist())


def test_a_finished_axis_is_not_taken_where_the_pretrained_folder_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit() -> Any:
        made = ScorerSpace(ConstituentVae(**OPTIONS, pretrained=str(tmp_path / "before")))
        return made.fit(jets(150), checkpoint=tmp_path / "c")

    ConstituentVae(**OPTIONS).fit(jets(300)).save(tmp_path / "before")
    with monkeypatch.context() as patch:
        patch.setattr(ScorerSpace, "_spreads", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fit()
    assert len(list(tmp_path.glob("c.*.axis"))) == 1
    ConstituentVae(**OPTIONS).fit(jets(300, 1)).save(tmp_path / "before")
    wanted = ConstituentVae(**OPTIONS, pretrained=str(tmp_path / "before")).fit(jets(150)).score(jets(20, 3))
    np.testing.assert_array_equal(fit().scorers["background"].score(jets(20, 3)), wanted)


def test_a_pretrained_scorer_of_another_shape_is_refused(folder: Path, tmp_path: Path) -> None:
    alone = str(folder / "alone")
    for options, words in (
        ({"latent": 4}, "alone: option latent is 4, allowed: 3, as the scorer there has it"),
        ({"architecture": "lstm"}, "option architecture is 'lstm', allowed: 'dense'"),
    ):
        with pytest.raises(ScorerError, match=words):
            ConstituentVae(**{**OPTIONS, **options}, pretrained=alone).fit(jets(150))
    with pytest.raises(ShapeError, match=r"jets of \(6, 4\) numbers, allowed: \(8, 4\), as pretrained, .*alone"):
        ConstituentVae(**OPTIONS, pretrained=alone).fit(jets(150)[:, :6])
    with pytest.raises(ScorerFolderError, match="no such folder"):
        ConstituentVae(**OPTIONS, pretrained=str(tmp_path / "nowhere")).fit(jets(150))
    made = ScorerSpace(ConstituentVae(**OPTIONS, pretrained=str(tmp_path / "nowhere")))
    with pytest.raises(ScorerFolderError, match="no such folder"):
        made.fit(jets(150))
