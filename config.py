"""The user's YAML: its schema, its defaults, and errors that name key, line and the nearest key."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_type_hints

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from .errors import HunchError, nearest
from .folds import FoldPlan, fold_plan
from .table import QUAK_FEATURES, is_table, is_table_folder

if TYPE_CHECKING:
    from .processors.representations import Representation

__all__ = ["Analysis", "ConfigError", "read_analysis"]


class ConfigError(HunchError):
    """The configuration is not one; the message names file, line and key."""


class Section(BaseModel):
    """A mapping of the YAML: unknown keys are errors, types are not converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Files = Annotated[tuple[str, ...], Field(min_length=1, strict=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Pair = Annotated[tuple[Positive, Positive], Field(strict=False)]
Options = dict[str, Any]
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
FEW_FEATURES = ("mJ_1", "mJ_2", "tau21_1", "tau21_2", "tau32_1", "tau32_2")
"""Training columns where a family of hypotheses is searched through: its density ratios are better in six dimensions."""
OWN_KEYS = {
    "seed": "seed",
    "alpha": "regions.alpha",
    "hypotheses": "regions.number",
    "inputs": "representation",
}
"""Fields of scorers that an analysis sets by keys of its own."""
SPACE_KEYS = ("name", "per_jet", "metric")
"""Keys of `scorer` that are no fields of the method: which method, how two jets are put together, which metric spans the axes."""


class Samples(Section):
    """What is hunted in and what models learn from: lists of event files (ROOT) or tables (parquet, CSV, HDF5).

    exposure: events that a method with outlier exposure is shown as no background; other methods refuse it. signals: models that
    limits are set on and nothing trains on; without them limits are set on the priors. validation: background events that
    nothing trains on and nothing is fixed with, from which `hunch validate` draws its experiments.
    """

    data: Files
    background: Files | None = None
    priors: dict[str, Files] = Field(default_factory=dict)
    exposure: Files | None = None
    signals: dict[str, Files] = Field(default_factory=dict)
    validation: Files | None = None

    @field_validator("priors", "signals")
    @classmethod
    def names(cls, named: dict[str, Any]) -> dict[str, Any]:
        """Names of priors and signals become file names and score columns."""
        for name in named:
            if not NAME.fullmatch(name):
                raise ValueError(f"{name!r} names a prior or signal: letters, digits and _ . + - are allowed")
            if name in {"anomaly", "difference", "background"} or name.startswith("family"):
                raise ValueError(f"a prior or signal cannot be called {name!r}, a score has that name")
        return named


class RegionSettings(Section):
    """Shape, number and size of the regions, fixed before the scan; axis: the losses that stand for the signal.

    decorrelation: boundaries that follow the mass, as `hunch.analysis.fit_fixed_efficiency` ("map") or
    `fit_quantile_regression` ("quantile") fit them on held-out background. `Analysis.region_settings` fills in what is
    absent.
    """

    shape: Literal["difference", "plane", "l5", "tree", "mosaic"] | None = None
    axis: Literal["family", "priors"] | None = None
    number: Annotated[int, Field(ge=1, le=64)] | None = None
    fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    alpha: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    decorrelation: Literal["map", "quantile"] | None = None


class PlaneScanSettings(Section):
    """Scan of the loss plane for the place of an excess: fits in every window, never a significance."""

    degree: Annotated[int, Field(ge=1, le=12)] | None = 3
    family: Literal["dijet", "exponential"] | None = "dijet"
    width: Positive = 0.035
    min_events: Annotated[int, Field(ge=1)] = 50


class LimitSettings(Section):
    """Upper limits by CLs on every signal: at `points` masses of the scan, the best one and the signals' own.

    scale_error, resolution_error: relative, of the signal's m_jj.
    """

    points: Annotated[int, Field(ge=1, le=200)] = 12
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    scale_error: Annotated[float, Field(ge=0, lt=0.5)] = 0.01
    resolution_error: Annotated[float, Field(ge=0, lt=0.5)] = 0.10


class CountSettings(Section):
    """The counting experiment: events above a threshold, against what background there predicts.

    efficiency: share of the background above the threshold; expectation: "sample", from background events, or "abcd", from the
    data beside the threshold in two axes; axes: names of those two (the first two of the space); systematic: relative error of
    the expectation; constraint: "gamma" or "lognormal", its form.
    """

    efficiency: Annotated[float, Field(gt=0, lt=1)] = 0.01
    expectation: Literal["sample", "abcd"] = "sample"
    axes: Annotated[tuple[str, str], Field(strict=False)] | None = None
    systematic: Annotated[float, Field(ge=0, le=1)] = 0.1
    constraint: Literal["gamma", "lognormal"] = "gamma"


class ObservableKey(Section):
    """A column that is hunted in, with its unit."""

    name: Annotated[str, Field(min_length=1)]
    unit: str = "GeV"


class Analysis(Section):
    """A complete analysis. Only `samples.data` and `output` have no default.

    seed: of training, folds and pseudo-experiments; representation: what an event becomes, a name, or a mapping of `name` and the
    fields of its class; jets: cuts of the jets, fields of it too; features: columns that rows are made of; observable: the column
    that is hunted in; scorer: the method, a name, or a mapping of `name`, `per_jet`, `metric` and the fields of its class;
    training: fields of it too; hunt: for a bump in the observable, or a counting experiment; repeats: what happens to events
    that repeat within a sample; folds: of data where there is no background sample, or with weak_supervision, which lets the other
    folds of the data narrow down the hypotheses; held_out: share of the background kept from training to fix regions on;
    fit_range, masses: [low, high] GeV, found from the spectrum when absent; sqrt_s: GeV; luminosity: fb^-1, for limits on
    cross-sections; blind: held-out background stands in for the data, expected results only; executor, workers, scheduler:
    coffea's; skip_bad_files: count unreadable files instead of stopping.
    """

    samples: Samples
    output: str
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    representation: Options = Field(default_factory=lambda: {"name": "features"})
    features: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] | None = None
    observable: ObservableKey | None = None
    jets: Options = Field(default_factory=dict)
    scorer: Options = Field(default_factory=lambda: {"name": "Quak"})
    training: Options = Field(default_factory=dict)
    hunt: Literal["bump", "count"] = "bump"
    count: CountSettings = Field(default_factory=CountSettings)
    regions: RegionSettings = Field(default_factory=RegionSettings)
    repeats: Literal["refuse", "drop"] = "refuse"
    folds: Annotated[int, Field(ge=3, le=20)] = 5
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.5
    weak_supervision: bool = False
    fit_range: Pair | None = None
    masses: Pair | None = None
    sqrt_s: Positive = 13_000.0
    background_function: str = "dijet"
    combination: Literal["fisher", "stouffer", "simes", "cauchy", "tippett", "harmonic", "harmonic_bound"] | None = None
    pseudo_experiments: Annotated[int, Field(ge=1)] = 5_000
    limits: LimitSettings = Field(default_factory=LimitSettings)
    luminosity: Positive | None = None
    blind: bool = False
    plane_scan: PlaneScanSettings | None = None
    executor: Literal["iterative", "futures", "dask"] = "futures"
    workers: Annotated[int, Field(ge=1)] | None = None
    scheduler: str | None = None
    skip_bad_files: bool = False

    @field_validator("representation", "scorer", mode="before")
    @classmethod
    def named(cls, given: Any) -> Any:
        """A name alone is a mapping of `name`; a mapping without one has the default's."""
        if isinstance(given, str):
            return {"name": given}
        return given

    @field_validator("observable", mode="before")
    @classmethod
    def column(cls, given: Any) -> Any:
        """A name alone is a column in GeV."""
        return {"name": given} if isinstance(given, str) else given

    @field_validator("background_function")
    @classmethod
    def known_function(cls, text: str) -> str:
        """Families are named; anything else must be a formula of x or m, p1, p2, ..."""
        if text in {"dijet", "exponential", "bernstein"}:
            return text
        from .analysis import family_orders

        try:
            family_orders(text)
        except HunchError as error:
            raise ValueError(str(error)) from error
        return text

    @model_validator(mode="after")
    def ranges(self) -> Analysis:
        """Ranges rise and lie below sqrt(s)."""
        for key, pair in (("fit_range", self.fit_range), ("masses", self.masses)):
            if pair is not None and not (pair[0] < pair[1] < self.sqrt_s):
                raise ValueError(
                    f"{key}: [{pair[0]:g}, {pair[1]:g}] must rise and stay below sqrt_s = {self.sqrt_s:g} GeV"
                )
        if self.blind and self.samples.background is None:
            raise ValueError("blind: needs samples.background, of which held-out events stand in for the data")
        if self.blind and self.weak_supervision:
            raise ValueError("blind: cannot be with weak_supervision, which learns from the data")
        if self.weak_supervision and not self.samples.priors:
            raise ValueError("weak_supervision: needs samples.priors, whose family the data narrow down")
        if self.plane_scan is not None and not self.samples.priors:
            raise ValueError("plane_scan: needs samples.priors, the second axis of the plane")
        if self.weak_supervision and self.regions.axis == "priors":
            raise ValueError("weak_supervision: needs regions.axis: family")
        if self.regions.decorrelation is not None and self.regions.shape is not None:
            from .analysis import SHAPES

            able = [name for name, shape in SHAPES.items() if shape.follows_mass]
            if self.regions.shape not in able:
                raise ValueError(
                    f"regions.decorrelation: boundaries of shape {self.regions.shape} cannot follow the mass; "
                    f"{', '.join(able)} can"
                )
        if self.regions.shape == "mosaic" and not self._can_be_mosaic:
            raise ValueError(
                "regions.shape: mosaic needs one model of a family of priors: samples.background, at least two "
                f"samples.priors, regions.axis: family, no weak_supervision, and a method with hypotheses: {', '.join(methods_with('mosaic'))}"
            )
        if self.features is not None and len(set(self.features)) != len(self.features):
            raise ValueError("features: a column is named twice")
        hunted = self.observable.name if self.observable is not None else "mjj"
        if self.features is not None and hunted in self.features and self.hunt == "bump":
            raise ValueError(
                f"features: {hunted} is hunted in and cannot be a training column: the regions would sculpt it"
            )
        if self.features is not None and "truth_signal" in self.features:
            raise ValueError("features: truth_signal is a label and cannot be a training column")
        self._check_method()
        return self

    def _check_method(self) -> None:
        """Refuse a method, and what is asked of it, where it cannot be; nothing is read for that."""
        representation, method = self.represented, self.method
        name = self.scorer_name
        if representation.kind not in method.takes:
            fits = ", ".join(methods_for(representation.kind)) or "none yet"
            raise ValueError(
                f"scorer: {name} takes {' or '.join(method.takes)}, and representation {representation.name} gives "
                f"{representation.kind}; methods for {representation.kind}: {fits}"
            )
        shape = (getattr(representation, "pixels", 0),) * 2 if representation.kind == "images" else ()
        try:
            given = method.kind_options.get(representation.kind, {})
            method(**{**self.scorer_options, **given}).check(shape if all(shape) else ())
        except HunchError as error:
            raise ValueError(f"scorer: {error}") from error
        self._check_samples(representation)
        if self.weak_supervision and not (method.narrows and self._has_family):
            raise ValueError(
                f"weak_supervision: needs a method whose hypotheses data narrow down ({', '.join(methods_with('narrows'))}); "
                f"scorer is {name}"
            )
        if self.regions.axis == "family" and not self.samples.priors:
            raise ValueError("regions.axis: family is that of samples.priors, and there are none")
        if self.regions.axis == "family" and not self._has_family:
            raise ValueError(
                f"regions.axis: family needs a method with hypotheses ({', '.join(methods_with('mosaic'))}); scorer is {name}"
            )
        if self.samples.exposure is not None and "exposure" not in method.uses:
            able = ", ".join(n for n in method_names() if "exposure" in method_class(n).uses) or "none yet"
            raise ValueError(f"samples.exposure: {name} has no outlier exposure; methods with it: {able}")
        several = representation.kind != "rows" and len(representation.inputs) > 1
        if "per_jet" in self.scorer and not several:
            raise ValueError(f"scorer.per_jet: {self.per_jet} puts jets together, and an event here is one")
        if self.per_jet == "concat" and (self.hunt, self.count.expectation) != ("count", "abcd"):
            raise ValueError(
                "scorer.per_jet: concat keeps an axis for each jet, for hunt: count with count.expectation: abcd; "
                "regions need one background axis: sum or max"
            )
        if self.hunt == "bump" and representation.observable is None:
            raise ValueError(
                f"hunt: representation {representation.name} has no mass to look for a bump in; hunt: count"
            )
        self._check_hunt()

    def _check_samples(self, representation: Representation) -> None:
        """Refuse event files where the representation is of tables, and tables that cannot hold it."""
        for sample, files in self.sample_files().items():
            key = "samples." + sample.replace("prior.", "priors.").replace("signal.", "signals.")
            if not representation.of_events and not is_table(files[0]):
                raise ValueError(
                    f"{key}: {files[0]} is no table, and representation {representation.name} is of tables"
                )
            if representation.kind != "rows" and Path(files[0]).suffix.lower() in {".csv", ".h5", ".hdf5", ".hdf"}:
                raise ValueError(f"{key}: {files[0]} cannot hold {representation.name}; parquet can")

    def _check_hunt(self) -> None:
        """Refuse keys that the kind of hunt does not read, and a counting experiment that cannot be."""
        given = self.model_fields_set
        if self.hunt == "bump":
            if "count" in given:
                raise ValueError("count: is of hunt: count, and hunt is bump")
            return
        bump = ("fit_range", "masses", "background_function", "combination", "pseudo_experiments", "plane_scan")
        unread = [key for key in bump if key in given]
        unread += [f"regions.{key}" for key in sorted(self.regions.model_fields_set - {"alpha"})]
        if unread:
            raise ValueError(f"{unread[0]}: is of hunt: bump, and hunt is count")
        if self.count.expectation == "sample":
            if self.samples.background is None:
                raise ValueError("count.expectation: sample needs samples.background; abcd takes the data alone")
            if self.count.axes is not None:
                raise ValueError("count.axes: are of count.expectation: abcd")
            return
        names = self.axis_names
        for name in self.count.axes or ():
            if name not in names:
                raise ValueError(f"key 'count.axes': {unknown(name, names)}")
        if len(set(self.count.axes or names[:2])) != 2:
            raise ValueError(
                f"count.expectation: abcd needs two axes, and the space has {', '.join(names)}; two jets with scorer.per_jet: "
                "concat, or a prior, give a second one"
            )

    @property
    def axis_names(self) -> tuple[str, ...]:
        """Names of the axes that the space will have, hypotheses of a mosaic aside."""
        names = ("background", *self.samples.priors)
        if self.per_jet == "concat":
            return tuple(f"{name} jet {jet + 1}" for name in names for jet in range(len(self.represented.inputs)))
        return (*names, *(("family",) if self._has_family and self.samples.priors else ()))

    @property
    def represented(self) -> Representation:
        """What an event becomes: tables of the user's own where all samples are tables of rows, else a representation."""
        from .processors.representations import REPRESENTATIONS, representation_of

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
        allowed = {f.name for f in dataclasses.fields(cls)} - {"observable", "unit", "features"}
        chosen = checked_options("representation", cls, options, allowed, extra={"name", "observable"})
        cuts = checked_options("jets", cls, self.jets, allowed)
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
            section = "jets" if blamed in cuts else "representation"
            told = said.removeprefix(f"{blamed}: ")
            own = blamed in {"features", "observable"}
            at = section if blamed is None else blamed if own else f"{section}.{blamed}"
            raise ValueError(f"key {at!r}: {told}") from error

    @property
    def _default_features(self) -> tuple[str, ...]:
        """The 12 QUAK features, or six of them where a family is searched through; never the observable."""
        few = self.weak_supervision or (self._can_be_mosaic and self.regions.shape in {None, "mosaic"})
        hunted = self.observable.name if self.observable is not None else "mjj"
        one_jet = self.representation.get("jets") == 1
        chosen = (f for f in (FEW_FEATURES if few else QUAK_FEATURES) if not one_jet or f.endswith("_1"))
        return tuple(f for f in chosen if f != hunted)

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
        if given not in {"sum", "max", "concat"}:
            raise ValueError(f"key 'scorer.per_jet': {unknown(str(given), ('sum', 'max', 'concat'))}")
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
        from .models.scorer import scorer_fields

        allowed = set(scorer_fields(method)) - set(OWN_KEYS)
        own = {k: v for k, v in self.scorer.items() if k not in SPACE_KEYS}
        chosen = checked_options("scorer", method, own, allowed, extra=set(SPACE_KEYS))
        other = checked_options("training", method, self.training, allowed)
        for key in chosen.keys() & other.keys():
            raise ValueError(f"key 'training.{key}': is given in scorer too")
        return {**other, **chosen}

    @property
    def hypotheses(self) -> int:
        """Number of hypotheses that training needs: the regions of a mosaic at most, else 0."""
        regions = self.region_settings
        return (regions.number or 0) if regions.shape == "mosaic" else 0

    @property
    def axis(self) -> str:
        """Which losses stand for the signal: of the "family", or of the "priors" as given."""
        return self.regions.axis or ("family" if self._has_family else "priors")

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
    def _has_family(self) -> bool:
        return bool(self.method.mosaic) and bool(self.scorer_options.get("family", True))

    @property
    def _can_be_mosaic(self) -> bool:
        one_model = self.samples.background is not None and not self.weak_supervision
        return one_model and len(self.samples.priors) >= 2 and self.axis == "family" and self._has_family

    @property
    def region_settings(self) -> RegionSettings:
        """The regions with nothing absent: a mosaic where one model has several priors, else slices of the difference."""
        shape = self.regions.shape or ("mosaic" if self._can_be_mosaic else "difference")
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
        from .analysis import SHAPES

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


@functools.cache
def method_names() -> tuple[str, ...]:
    """Return the names of all methods."""
    from .models.scorer import SCORERS

    return tuple(SCORERS)


def method_class(name: str) -> Any:
    """Return a method's class."""
    from .models.scorer import scorer_class

    return scorer_class(name)


def methods_with(ability: str) -> list[str]:
    """Return the methods that can do something: `mosaic`, `narrows`."""
    return [name for name in method_names() if getattr(method_class(name), ability)]


def methods_for(kind: str) -> list[str]:
    """Return the methods that take a kind of representation."""
    return [name for name in method_names() if kind in method_class(name).takes]


def unknown(name: str, allowed: Collection[str]) -> str:
    """Return what is said of a value that is not among those allowed."""
    guess = nearest(name, allowed)
    hint = f"did you mean {guess!r}? " if guess else ""
    return f"{name!r} is not known; {hint}allowed: {', '.join(allowed) or 'none'}"


def checked_options(
    section: str, cls: type, given: Mapping[str, Any], allowed: Collection[str], *, extra: Collection[str] = ()
) -> Options:
    """Return options of a section with the types of the fields of a dataclass; ValueError naming the key.

    allowed: the fields that may be given; extra: further keys of the section, for the message.
    """
    hints = get_type_hints(cls)
    found: Options = {}
    for key, value in given.items():
        if key not in allowed:
            if key in OWN_KEYS:
                raise ValueError(f"key '{section}.{key}': is the analysis' own key {OWN_KEYS[key]}")
            names = sorted({*allowed, *extra})
            guess = nearest(str(key), names)
            hint = f"; did you mean {guess!r}?" if guess else ";"
            raise ValueError(f"unknown key '{section}.{key}'{hint} allowed: {', '.join(names)}")
        strict = not str(hints[key]).startswith(("tuple", "typing.Tuple")) and not isinstance(value, list)
        try:
            found[key] = TypeAdapter(hints[key]).validate_python(value, strict=strict)
        except ValidationError as error:
            first = error.errors()[0]["msg"]
            raise ValueError(f"key '{section}.{key}': {first[0].lower()}{first[1:]}, found {value!r}") from error
    return found


def read_analysis(path: str | Path, overrides: Sequence[str] = ()) -> Analysis:
    """Read and check an analysis file; paths in it, `output` too, become absolute, relative to the file itself.

    overrides: KEY=VALUE, as in "regions.fraction=0.1", put in place of what the file says. Raises ConfigError naming the file,
    the line and the key for unknown keys, wrong types, combinations that cannot be, and files that do not exist.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except IsADirectoryError as error:
        raise ConfigError(f"{path}: is a directory; an analysis file (YAML) is expected") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is no text file; an analysis file (YAML) is expected") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{path}: holds no keys; samples and output are needed")
    lines = key_lines(node, path)
    raw = overridden(raw, overrides)
    for text in overrides:  # line 0 is the command line
        named = tuple(full_key(text.partition("=")[0].strip(), raw).split("."))
        lines |= {named[:n]: 0 for n in range(1, len(named) + 1) if n == len(named) or named[:n] not in lines}
    try:
        analysis = Analysis.model_validate(raw)
    except ValidationError as error:
        raise ConfigError("\n".join(explain(e, path, lines, raw) for e in error.errors())) from error
    return located(analysis, path, lines)


def overridden(raw: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return the file's content with KEY=VALUE pairs in place: dotted keys, values as YAML reads them.

    A key that is none of the analysis' is one of its representation or else of its method: pixels is representation.pixels.
    """
    found = dict(raw)
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {text!r}: KEY=VALUE is expected, as in --set regions.fraction=0.1")
        try:
            parsed = yaml_value(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {text!r}: {value!r} is no value") from error
        *sections, last = full_key(key.strip(), found).split(".")
        place = found
        for section in sections:
            inner = place.get(section, {})
            place[section] = dict(inner) if isinstance(inner, Mapping) else {"name": inner}
            place = place[section]
        place[last] = parsed
    return found


def yaml_value(text: str) -> Any:
    """Return a value as YAML reads it, and 1e2 as the number that it is."""
    value = yaml.safe_load(text)
    return float(value) if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value) else value


def full_key(key: str, found: Mapping[str, Any]) -> str:
    """Return a key of --set as the file would have it."""
    if key.split(".", maxsplit=1)[0] in Analysis.model_fields:
        return key
    from .models.scorer import SCORERS, scorer_class, scorer_fields
    from .processors.representations import REPRESENTATIONS

    chosen = {}
    for section, usual in (("representation", "features"), ("scorer", "Quak")):
        given = found.get(section, usual)
        chosen[section] = given.get("name", usual) if isinstance(given, Mapping) else given
    cls = REPRESENTATIONS.get(str(chosen["representation"]))
    if cls is not None and key in {field.name for field in dataclasses.fields(cls)}:
        return f"representation.{key}"
    if chosen["scorer"] in SCORERS and key in {*scorer_fields(scorer_class(chosen["scorer"])), *SPACE_KEYS}:
        return f"scorer.{key}"
    return key


Key = tuple[str | int, ...]


def key_lines(node: Any, path: Path, prefix: Key = ()) -> dict[Key, int]:
    """Return the line (from 1) of every key and list item; a key given twice is an error."""
    lines: dict[Key, int] = {prefix: node.start_mark.line + 1}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*prefix, str(key.value))
            if here in lines:
                raise ConfigError(f"{path}: line {key.start_mark.line + 1}: key {dotted(here)!r} is given twice")
            lines |= key_lines(value, path, here)
            lines[here] = key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            lines |= key_lines(value, path, (*prefix, i))
    return lines


def dotted(key: Key) -> str:
    """Return a key as the user would write it: samples.priors.two_prong[0]."""
    return "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in key).lstrip(".")


def explain(error: Any, path: Path, lines: Mapping[Key, int], raw: Any) -> str:
    """Turn one pydantic error into one line: file, line, key, what was found, what is allowed."""
    # pydantic names union members and validators in its locations; keys of the file are what is left
    key: Key = ()
    for part in error["loc"]:
        if (*key, part) in lines or error["type"] in {"missing", "extra_forbidden"}:
            key = (*key, part)
    line = next((lines[key[:n]] for n in range(len(key), -1, -1) if key[:n] in lines), 1)
    where = f"{path}: line {line}: " if line else "--set: "
    if error["type"] == "extra_forbidden":
        allowed = section_keys(key[:-1])
        guess = nearest(str(key[-1]), allowed)
        hint = f"; did you mean {guess!r}?" if guess else ";"
        return f"{where}unknown key {dotted(key)!r}{hint} allowed: {', '.join(allowed)}"
    if error["type"] == "missing":
        return f"{where}key {dotted(key)!r} is missing"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "literal_error":
        guess = nearest(str(error["input"]), re.findall(r"'([^']+)'", str(error["ctx"]["expected"])))
        message += f"; did you mean {guess!r}?" if guess else ""
    for theirs, ours in (("tuple", "list"), ("dictionary", "mapping"), (" after validation, not", ", not")):
        message = message.replace(theirs, ours)
    if not key:
        quoted = re.match(r"(?:unknown )?key '([^']+)'", message)
        named = tuple((quoted[1] if quoted else message.split(":")[0]).split("."))
        line = next((lines[named[:n]] for n in range(len(named), 0, -1) if named[:n] in lines), 1)
        return f"{path}: line {line}: {message}" if line else f"--set: {message}"
    found = raw
    for part in key:
        found = found[part]
    return f"{where}key {dotted(key)!r}: {message[0].lower()}{message[1:]}, found {found!r}"


def section_keys(prefix: Key) -> list[str]:
    """Return the keys allowed under a section of the schema."""
    model: Any = Analysis
    for part in prefix:
        field = model.model_fields.get(part) if hasattr(model, "model_fields") else None
        if field is None:
            return []
        # an optional section is Section | None
        model = next((a for a in get_args(field.annotation) if hasattr(a, "model_fields")), field.annotation)
    return list(model.model_fields) if hasattr(model, "model_fields") else []


def located(analysis: Analysis, path: Path, lines: Mapping[Key, int]) -> Analysis:
    """Make every path absolute and check that each sample's files exist and are of one kind."""
    folder = path.resolve().parent

    def find(files: tuple[str, ...], key: Key) -> tuple[str, ...]:
        found = []
        for i, name in enumerate(files):
            file = folder / name
            where = f"{path}: line {lines.get((*key, i), lines.get(key, 1))}: key {dotted((*key, i))!r}: "
            if not file.exists():
                here = [p.name for p in file.parent.glob("*")] if file.parent.is_dir() else []
                guess = nearest(file.name, here)
                hint = f"; did you mean {guess!r}?" if guess else ""
                raise ConfigError(f"{where}no such file: {file}{hint}")
            if file.is_dir() and not is_table_folder(file):
                raise ConfigError(f"{where}{file} is a directory; name its files")
            if str(file) in found:
                raise ConfigError(f"{where}{file} is listed twice")
            found.append(str(file))
            real = str(file.resolve())
            if real in seen:
                raise ConfigError(f"{where}{file} is also in {seen[real]}; two samples never share events")
            seen[real] = dotted(key)
        if len({is_table(name) for name in found}) > 1:
            raise ConfigError(
                f"{path}: line {lines.get(key, 1)}: key {dotted(key)!r}: event files and tables in one sample"
            )
        return tuple(found)

    seen: dict[str, str] = {}
    samples = analysis.samples
    moved = samples.model_copy(
        update={
            "data": find(samples.data, ("samples", "data")),
            "background": samples.background and find(samples.background, ("samples", "background")),
            "validation": samples.validation and find(samples.validation, ("samples", "validation")),
            "exposure": samples.exposure and find(samples.exposure, ("samples", "exposure")),
            **{
                kind: {name: find(files, ("samples", kind, name)) for name, files in getattr(samples, kind).items()}
                for kind in ("priors", "signals")
            },
        }
    )
    output = folder / analysis.output
    if output.exists() and not output.is_dir():
        raise ConfigError(
            f"{path}: line {lines.get(('output',), 1)}: key 'output': {output} is a file; a folder is written"
        )
    return analysis.model_copy(update={"samples": moved, "output": str(output)})
