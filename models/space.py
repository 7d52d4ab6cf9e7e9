"""What a search works in: a space whose axes say how anomalous an event is to the background and to each prior.

`make_space` returns one of any method: the method itself where it spans a space (`Quak`), else one scorer for the background and
one for each prior (`ScorerSpace`). A search infers each event once, by `losses`; everything else is made from these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

from .inputs import ScorerError
from .sample import Events, Sample, as_sample
from .scorer import Scorer, check_options, for_kind, load_scorer, method_class, scorer_fields
from .scorer_space import PER_JET, Metric, ScorerSpace

__all__ = ["PER_JET", "Sample", "ScorerSpace", "Space", "as_sample", "load_space", "make_space"]

Matrix = npt.NDArray[np.float64]


@runtime_checkable
class Space(Protocol):
    """A fitted or unfitted space; `Quak` and `ScorerSpace` are two.

    input_names: of the inputs' columns that it was fitted with; trained_on: the sorted hashes of all events that it has seen in
    `fit` and `narrow`, those for validation too. Both are stored with it. alpha: weight of the priors in differences.
    """

    trained_on: npt.NDArray[np.uint64]
    alpha: float

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs' columns of the training, in order; none where they had none."""

    @property
    def axis_names(self) -> tuple[str, ...]:
        """Names of the columns of `losses`."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names that `score_of` takes; the first is the default."""

    def fit(
        self,
        sample: Events,
        *,
        priors: Mapping[str, Events] | None = None,
        exposure: Events | None = None,
        validation: Events | None = None,
        checkpoint: str | Path | None = None,
        progress: bool = False,
    ) -> Self:
        """Train on background events and on those of each prior, and return self."""

    def losses(self, x: Events) -> Matrix:
        """Return the losses (n, axes) of events, whose named columns are put in the order of the training."""

    def score_of(self, losses: Matrix, metric: str | None = None) -> Matrix:
        """Return the scores (n,) of losses (n, axes), larger = more anomalous."""

    def score(self, x: Events, *, metric: str | None = None) -> Matrix:
        """Return `score_of` of the losses of events."""

    def save(self, path: str | Path) -> None:
        """Write the folder that `load_space` reads."""


def make_space(
    scorer: str,
    *,
    kind: str,
    priors: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    alpha: float = 1.0,
    hypotheses: int = 0,
    prior_scorer: str | None = None,
    prior_options: Mapping[str, Any] | None = None,
) -> Space:
    """Return an unfitted space of a method.

    scorer: a name of SCORERS; kind: of the events, "rows", "images" or "sets"; priors: their names; options: of the method's
    constructor, of which `exposure` and `pretrained` are for the background's axis alone; seed: each axis has its own, derived from it
    and the axis' number; alpha: weight of the priors in the difference; hypotheses: neighbourhoods of a mosaic, for methods that can
    train them; prior_scorer, prior_options: another method for the axes of the priors, as NAE beside Flow, and its options; neither may be one that spans a space by itself. Raises ScorerError for a method that there is not, one
    that does not take the kind, an option that it does not have, and hypotheses that it cannot train, naming what fits.
    """
    fitting = for_kind(kind)
    cls, options = method_class(scorer, among=fitting), dict(options or {})
    if scorer not in fitting:
        takes = " and ".join(cls.takes)
        raise ScorerError(f"{scorer} takes {takes}, not {kind}; what takes {kind}: {', '.join(fitting) or 'nothing'}")
    check_options(cls, options)
    if len(set(priors)) < len(priors):
        raise ScorerError(f"a prior is named twice: {', '.join(priors)}")
    if hypotheses and not cls.mosaic:
        able = ", ".join(name for name in fitting if method_class(name).mosaic)
        raise ScorerError(f"{scorer} cannot train {hypotheses} hypotheses for a mosaic; what can: {able or 'nothing'}")
    prior_cls = cls if prior_scorer is None else method_class(prior_scorer, among=fitting)
    if prior_scorer is not None:
        for name, own_class in ((scorer, cls), (prior_scorer, prior_cls)):
            if own_class.spans:
                raise ScorerError(
                    f"{name} spans a space by itself, and has no axes of another method beside it; what has: {', '.join(axes_for(kind))}"
                )
        if prior_scorer not in fitting:
            takes = " and ".join(prior_cls.takes)
            raise ScorerError(f"{prior_scorer} takes {takes}, not {kind}; what takes {kind}: {', '.join(fitting)}")
        check_options(prior_cls, dict(prior_options or {}))
    if cls.spans:
        own = {"seed": seed, "alpha": alpha, "hypotheses": hypotheses}
        known = scorer_fields(cls)
        return cast("Space", cls(**({k: v for k, v in own.items() if k in known} | options)))
    first = options.pop("seed", seed)
    background = cast("Scorer", cls(**{**of_kind(scorer, options, kind), "seed": axis_seed(first, 0)}))
    # the background's axis alone is exposed and starts from a pretrained one
    if prior_scorer is None:
        fields = scorer_fields(cls)
        prior_options = options | {
            name: value for name, value in (("exposure", "none"), ("pretrained", "")) if name in fields
        }
    beside = of_kind(prior_scorer or scorer, dict(prior_options or {}), kind)
    others = [
        cast("Scorer", prior_cls(**{**beside, "seed": axis_seed(first, number)}))
        for number in range(1, 1 + len(priors))
    ]
    return ScorerSpace(background, dict(zip(priors, others, strict=True)), alpha=alpha)


def axes_for(kind: str) -> list[str]:
    """Return the methods that take a kind of events and are one axis each."""
    return [name for name in for_kind(kind) if not method_class(name).spans]


def of_kind(scorer: str, options: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return the options of a method with those that a kind of events gives; raises ScorerError for others of the same name."""
    cls = method_class(scorer)
    given = cls.kind_options.get(kind, {})
    options = {**cls.kind_defaults.get(kind, {}), **options}
    for name, value in given.items():
        if options.get(name, value) != value:
            raise ScorerError(f"{scorer}: option {name} is {options[name]!r}, with {kind} it is {value!r}")
    return {**options, **given}


def axis_seed(seed: int, number: int) -> int:
    """Return the seed of an axis, which depends on the space's and the axis' number alone."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def load_space(path: str | Path, *, metric: Metric = None, per_jet: str = "sum") -> Space:
    """Return the fitted space of a folder, set to how it is read.

    metric: which of the scorers' metrics spans the axes, None for the first, or axis -> metric, or pairs of these; per_jet: how the jets of an event are put together
    ("sum", "max", "concat"). Raises ScorerFolderError, ScorerError for a folder that holds no space, and for a metric or a `per_jet`
    that a space of densities of whole events, which has neither, is asked for.
    """
    found = load_scorer(path)
    name = type(found).__name__
    if isinstance(found, ScorerSpace):
        return found.configured(metric=metric, per_jet=per_jet)
    if not isinstance(found, Space):
        raise ScorerError(f"{path}: holds a {name}, which is no space; make_space makes one of it")
    if metric is not None or per_jet != "sum":
        asked = f"metric {metric!r}" if metric is not None else f"per_jet {per_jet!r}"
        raise ScorerError(f"{path}: {asked} cannot be chosen: the axes of {name} are losses of whole events")
    return found
