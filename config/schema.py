"""A complete analysis: the schema of an analysis file, its defaults, and what follows from its keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from ..errors import IN_QUOTES, HunchError
from ..folds import FoldPlan, fold_plan
from ..table import QUAK_FEATURES, is_table
from .checks import check_analysis
from .methods import (
    OWN_KEYS,
    REPRESENTED_BY,
    SPACE_KEYS,
    checked_options,
    checked_parts,
    laid_out,
    method_class,
    method_names,
    unknown,
)
from .quantities import ENERGY, energies_in, known_unit, luminosity_in_fb
from .sections import (
    CountSettings,
    ExpectedSettings,
    LimitSettings,
    ObservableKey,
    Options,
    Pair,
    PlaneScanSettings,
    Positive,
    RegionSettings,
    Samples,
    Section,
    Width,
)

if TYPE_CHECKING:
    from ..processors.representations import Representation

__all__ = ["FEW_FEATURES", "Analysis"]

SQRT_S = 13_000.0  # GeV, where the analysis says nothing else
ENERGY_KEYS = ("fit_range", "masses", "sqrt_s")
"""Keys in the observable's unit."""

FEW_FEATURES = ("mJ_1", "mJ_2", "tau21_1", "tau21_2", "tau32_1", "tau32_2")
"""Training columns where a family of hypotheses is searched through: its density ratios are better in six dimensions."""


class Analysis(Section):
    """A complete analysis. Only `samples.data` and `output` have no default.

    seed: of training, folds and pseudo-experiments; representation: what an event becomes, a name, or a mapping of `name` and the
    fields of its class; jets: cuts of the jets, fields of it too; features: columns that rows are made of; observable: the column
    that is hunted in; scorer: the method, a name, or a mapping of `name`, `per_jet`, `metric` and the fields of its class;
    prior_scorer: another method for the axes of the priors, likewise, of `name`, `metric` and fields; training: fields of it too; without_exposure: whether the model of an exposed search is trained without exposure too, for what the report says of
    the sculpting before; hunt: for a bump in the observable, or a counting experiment; repeats: what happens to events
    that repeat within a sample; folds: of data where there is no background sample, or with weak_supervision, which lets the other
    folds of the data narrow down the hypotheses; width: of the signal relative to its mass, [lowest, highest] or a number; after_first: sigma of a first excess
    beside which a second is looked for; held_out: share of the background kept from training to fix regions on;
    fit_range, masses: [low, high], found from the spectrum when absent, and sqrt_s: in the observable's unit; luminosity: fb^-1, for limits on
    cross-sections; energies and the luminosity may have a unit, as in 3 TeV and 137/fb; blind: held-out background stands in for the data, expected results only; executor, workers, scheduler:
    coffea's; skip_bad_files: count unreadable files instead of stopping.
    """

    samples: Samples
    output: Annotated[str, Field(min_length=1)]
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    representation: Options = Field(default_factory=lambda: {"name": "features"})
    features: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] | None = None
    observable: ObservableKey | None = None
    jets: Options = Field(default_factory=dict)
    scorer: Options = Field(default_factory=lambda: {"name": "Quak"})
    prior_scorer: Options | None = None
    training: Options = Field(default_factory=dict)
    without_exposure: bool = True
    hunt: Literal["bump", "count"] = "bump"
    count: CountSettings = Field(default_factory=CountSettings)
    regions: RegionSettings = Field(default_factory=RegionSettings)
    repeats: Literal["refuse", "drop"] = "refuse"
    folds: Annotated[int, Field(ge=3, le=20)] = 5
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.5
    weak_supervision: bool = False
    fit_range: Pair | None = None
    masses: Pair | None = None
    width: Width | None = None
    sqrt_s: Positive = SQRT_S
    background_function: str = "gaussian_process"
    combination: Literal["fisher", "stouffer", "simes", "cauchy", "tippett", "harmonic", "harmonic_bound"] | None = None
    pseudo_experiments: Annotated[int, Field(ge=1)] = 5_000
    after_first: Positive | None = None
    limits: LimitSettings = Field(default_factory=LimitSettings)
    luminosity: Annotated[Positive | None, BeforeValidator(luminosity_in_fb)] = None
    blind: bool = False
    plane_scan: PlaneScanSettings | None = None
    expected_discovery: ExpectedSettings | None = None
    executor: Literal["iterative", "futures", "dask"] = "futures"
    workers: Annotated[int, Field(ge=1)] | None = None
    scheduler: str | None = None
    skip_bad_files: bool = False

    @field_validator("representation", "scorer", "prior_scorer", mode="before")
    @classmethod
    def named(cls, given: Any) -> Any:
        """A name alone is a mapping of `name`; a mapping without one has the default's."""
        if isinstance(given, str):
            return {"name": given}
        if isinstance(given, Mapping) and not isinstance(given.get("name", ""), str):
            raise ValueError(  # noqa: TRY004 - what pydantic takes
                f"a name is expected, and name is {given['name']!r}; {IN_QUOTES}"
            )
        return given

    @field_validator("observable", mode="before")
    @classmethod
    def column(cls, given: Any) -> Any:
        """A name alone is a column in GeV."""
        return {"name": given} if isinstance(given, str) else given

    @model_validator(mode="before")
    @classmethod
    def energy_in_its_unit(cls, given: Any) -> Any:
        """Energies with a unit are put in the observable's; where that is TeV or MeV, the default of sqrt_s is the same energy in it."""
        if not isinstance(given, Mapping):
            return given
        observable = given.get("observable")
        stated = observable.get("unit", "GeV") if isinstance(observable, Mapping) else "GeV"
        unit = known_unit(stated) if isinstance(stated, str) else "GeV"
        found = {**given, **energies_in(unit, given, ENERGY_KEYS)}
        if unit != "GeV" and unit in ENERGY and "sqrt_s" not in given and given.get("hunt") != "count":
            found["sqrt_s"] = SQRT_S / ENERGY[unit]
        return found

    @field_validator("background_function")
    @classmethod
    def known_function(cls, text: str) -> str:
        """Families are named; anything else must be a formula of x or m, p1, p2, ..."""
        if text in {"gaussian_process", "dijet", "exponential", "bernstein"}:
            return text
        from ..analysis import family_orders

        try:
            family_orders(text)
        except HunchError as error:
            raise ValueError(str(error)) from error
        return text

    @model_validator(mode="after")
    def possible(self) -> Analysis:
        """Keys go together, and the method can do what is asked of it."""
        check_analysis(self)
        return self

    @property
    def axis_names(self) -> tuple[str, ...]:
        """Names of the axes that the space will have, hypotheses of a mosaic aside."""
        names = ("background", *self.samples.priors)
        if self.per_jet == "concat":
            return tuple(f"{name} jet {jet + 1}" for name in names for jet in range(len(self.represented.inputs)))
        return (*names, *(("family",) if self.has_family and self.samples.priors else ()))

    @property
    def represented(self) -> Representation:
        """What an event becomes: tables of the user's own where all samples are tables of rows, else a representation."""
        from ..processors.representations import REPRESENTATIONS, representation_of

        options = dict(self.representation)
        name = str(options.pop("name", "features"))
        if name not in REPRESENTATIONS:
            raise ValueError(f"representation: {unknown(name, REPRESENTATIONS)}")
        tables = all(is_table(file) for files in self.sample_files().values() for file in files)
        if name == "features" and tables and self.features is not None and not options:
            name = "table"
        if name == "table" and self.jets:
            raise ValueError("jets: cuts are of event files, and the samples are tables")
        cls = REPRESENTATIONS[name]
        allowed = {f.name for f in dataclasses.fields(cls)} - set(REPRESENTED_BY)
        chosen = checked_options("representation", cls, options, allowed, extra={"name"}, own=REPRESENTED_BY)
        cuts = checked_options("jets", cls, self.jets, allowed, own=REPRESENTED_BY)
        for key in chosen.keys() & cuts.keys():
            raise ValueError(f"key 'jets.{key}': is given in representation too")
        if name in {"features", "table"}:
            chosen |= (
                {"features": self.features or self._default_features} if name == "features" or self.features else {}
            )
        elif self.features is not None:
            raise ValueError(f"features: are columns of representation features or table, not of {name}")
        if self.observable is not None:
            chosen["observable"] = self.observable.name
            if name == "table":
                chosen["unit"] = self.observable.unit
            elif "unit" in self.observable.model_fields_set:
                raise ValueError(
                    f"key 'observable.unit': is that of a table's column; columns of {name} have their own"
                )
        elif self.hunt == "count":
            chosen["observable"] = None
        try:
            return representation_of(name, **chosen, **cuts)
        except HunchError as error:
            said = str(error).removeprefix(f"{name}: ")
            words = ((k, (f"{k}:", f"no {k.removesuffix('s')} ")) for k in (*cuts, *chosen))
            blamed = next((k for k, begins in words if said.startswith(begins)), None)
            if "is the observable, which is hunted in" in said:
                blamed = "features"
            section = "jets" if blamed in cuts else "representation"
            told = said.removeprefix(f"{blamed}: ")
            own = blamed in {"features", "observable"}
            at = section if blamed is None else blamed if own else f"{section}.{blamed}"
            raise ValueError(f"key {at!r}: {told}") from error

    def represented_of(self, sample: str) -> Representation:
        """What an event of a sample becomes: `represented`, but of the exposure one jet where `samples.exposure_jets` says so."""
        representation = self.represented
        if sample != "exposure" or self.samples.exposure_jets is None:
            return representation
        from ..processors import single_jet_of

        return single_jet_of(representation)

    @property
    def _default_features(self) -> tuple[str, ...]:
        """The 12 QUAK features, or six of them where a family is searched through; never the observable."""
        few = self.weak_supervision or (self.can_be_mosaic and self.regions.shape in {None, "mosaic"})
        chosen = (f for f in (FEW_FEATURES if few else QUAK_FEATURES) if not self._one_jet or f.endswith("_1"))
        return tuple(f for f in chosen if f != self.hunted)

    @property
    def _one_jet(self) -> bool:
        return 1 in (self.representation.get("jets"), self.jets.get("jets"))

    @property
    def hunted(self) -> str | None:
        """The observable's name: as given, none in a counting experiment, else the mass of the dijet or of the one jet."""
        if self.observable is not None:
            return self.observable.name
        return None if self.hunt == "count" else "mJ_1" if self._one_jet else "mjj"

    @property
    def scorer_name(self) -> str:
        """The method's name."""
        return str(self.scorer.get("name", "Quak"))

    @property
    def method(self) -> Any:
        """The method's class."""
        if self.scorer_name not in method_names():
            raise ValueError(f"scorer: {unknown(self.scorer_name, method_names())}")
        return method_class(self.scorer_name)

    @property
    def per_jet(self) -> str:
        """How the losses of two jets are put together: "sum", "max" or "concat"."""
        given = self.scorer.get("per_jet", "sum")
        allowed = ("sum", "max", "concat")
        if given not in allowed:
            raise ValueError(f"key 'scorer.per_jet': {unknown(str(given), allowed)}")
        return str(given)

    @property
    def metric(self) -> str | None:
        """Which of the scorer's metrics spans the axes, None for its default; a class that spans a space has none to choose."""
        given = self.scorer.get("metric")
        if given is None:
            return None
        known = () if self.method.spans else tuple(self.method.metrics)
        if given not in known:
            raise ValueError(f"key 'scorer.metric': {unknown(str(given), known)}")
        return str(given)

    @property
    def scorer_options(self) -> Options:
        """The constructor's arguments that are given, of `scorer` and `training`."""
        method = self.method
        _ = self.per_jet, self.metric
        from ..models.scorer import scorer_fields

        allowed = set(scorer_fields(method)) - set(OWN_KEYS)
        own = {k: v for k, v in self.scorer.items() if k not in SPACE_KEYS}
        chosen = checked_options("scorer", method, own, allowed, extra=set(SPACE_KEYS))
        other = checked_options("training", method, self.training, allowed)
        for key in chosen.keys() & other.keys():
            raise ValueError(f"key 'training.{key}': is given in scorer too")
        sections = {**dict.fromkeys(other, "training"), **dict.fromkeys(chosen, "scorer")}
        found = checked_parts(method, {**other, **chosen}, sections)
        return laid_out(found, self.represented) if self.scorer_name in {"Encoded", "Combined"} else found

    @property
    def prior_method(self) -> Any:
        """The class of the axes of the priors, None where it is the method's own."""
        if self.prior_scorer is None:
            return None
        name = str(self.prior_scorer.get("name", ""))
        if "name" not in self.prior_scorer:
            raise ValueError(
                "key 'prior_scorer': has no name of a method; allowed: a name, or a mapping of name and options"
            )
        if name not in method_names():
            raise ValueError(f"prior_scorer: {unknown(name, method_names())}")
        return method_class(name)

    @property
    def prior_options(self) -> Options:
        """The constructor's arguments of the axes of the priors, where they have a method of their own; they train on the device of the scorer."""
        method, given = self.prior_method, dict(self.prior_scorer or {})
        if method is None:
            return {}
        from ..models.scorer import scorer_fields

        fields = set(scorer_fields(method))
        own = {**OWN_KEYS, "device": "scorer.device", "exposure": "scorer.exposure", "pretrained": "scorer.pretrained"}
        chosen = {key: value for key, value in given.items() if key not in {"name", "metric"}}
        found = checked_options("prior_scorer", method, chosen, fields - set(own), extra={"name", "metric"}, own=own)
        device = {"device": self.scorer_options["device"]} if {"device"} & fields & set(self.scorer_options) else {}
        return {**device, **found}

    @property
    def axis_metric(self) -> str | tuple[tuple[str, str], ...] | None:
        """The metric of all axes, or pairs of axis and metric where the priors have a method of their own; None for each one's default."""
        if self.prior_method is None:
            return self.metric
        of_priors = (self.prior_scorer or {}).get("metric")
        if of_priors is not None and of_priors not in self.prior_method.metrics:
            raise ValueError(f"key 'prior_scorer.metric': {unknown(str(of_priors), self.prior_method.metrics)}")
        pairs = [(name, str(of_priors)) for name in self.samples.priors if of_priors is not None]
        return (*([("background", self.metric)] if self.metric is not None else []), *pairs)

    @property
    def is_exposed(self) -> bool:
        """Whether the background's model is trained with outlier exposure."""
        return "exposure" in self.method.uses and self.samples.exposure is not None

    @property
    def hypotheses(self) -> int:
        """Number of hypotheses that training needs: the regions of a mosaic at most, else 0."""
        regions = self.region_settings
        return (regions.number or 0) if regions.shape == "mosaic" else 0

    @property
    def axis(self) -> str:
        """Which losses stand for the signal: of the "family", or of the "priors" as given."""
        return self.regions.axis or ("family" if self.has_family else "priors")

    @property
    def plan(self) -> FoldPlan:
        """Which model trains on, calibrates with and hunts in which event."""
        return fold_plan(
            background=self.samples.background is not None,
            folds=self.folds,
            held_out=self.held_out,
            weak=self.weak_supervision,
        )

    @property
    def has_family(self) -> bool:
        """Whether the method makes a family of hypotheses of its priors, as far as it is asked to."""
        return bool(self.method.mosaic) and bool(self.scorer_options.get("family", True))

    @property
    def can_be_mosaic(self) -> bool:
        """Whether regions can be neighbourhoods of hypotheses: a hunt for a bump by one model of a family of two priors or more."""
        one_model = self.samples.background is not None and not self.weak_supervision
        return (
            self.hunt == "bump"
            and one_model
            and len(self.samples.priors) >= 2
            and self.axis == "family"
            and self.has_family
        )

    @property
    def region_settings(self) -> RegionSettings:
        """The regions with nothing absent: a mosaic where one model has several priors, else slices of the difference."""
        shape = self.regions.shape or ("mosaic" if self.can_be_mosaic else "difference")
        number, fraction = (24, 0.15) if shape == "mosaic" else (3, 0.02)
        return self.regions.model_copy(
            update={
                "shape": shape,
                "number": self.regions.number or number,
                "fraction": self.regions.fraction or fraction,
            }
        )

    @property
    def combination_method(self) -> str:
        """How the regions' p-values are combined: as given, or Simes for a mosaic and Fisher for other shapes."""
        from ..analysis import SHAPES

        return self.combination or SHAPES[self.region_settings.shape or "difference"].combination

    def sample_files(self) -> dict[str, tuple[str, ...]]:
        """Return sample name -> files: "data", others where given, "prior.NAME" and "signal.NAME"."""
        named = {"data": self.samples.data}
        for name in ("background", "validation", "exposure"):
            files = getattr(self.samples, name)
            if files is not None:
                named[name] = files
        priors = {f"prior.{name}": files for name, files in self.samples.priors.items()}
        return {**named, **priors, **{f"signal.{name}": files for name, files in self.samples.signals.items()}}
