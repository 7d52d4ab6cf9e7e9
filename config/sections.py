"""The sections of an analysis file below its top: their keys, types, defaults and bounds."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from ..errors import InputError, shown
from .quantities import known_unit, number

__all__ = [
    "CountSettings",
    "Files",
    "LimitSettings",
    "ObservableKey",
    "Options",
    "Pair",
    "PlaneScanSettings",
    "Positive",
    "RegionSettings",
    "Samples",
    "Section",
    "Width",
]


class Section(BaseModel):
    """A mapping of the YAML: unknown keys are errors, types are not converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def numbers(cls, given: Any) -> Any:
        """Read 1e3 as a number, where no text is expected."""
        if not isinstance(given, dict):
            return given
        texts = {name for name, field in cls.model_fields.items() if re.search(r"\bstr\b", str(field.annotation))}
        return {
            key: value if key in texts else [number(v) for v in value] if isinstance(value, list) else number(value)
            for key, value in given.items()
        }


def some_file(given: Any) -> Any:
    """Refuse a key of a sample with nothing behind it; raises ValueError."""
    if given is None or given == []:
        raise ValueError("names no file; leave the key out where there is no such sample")
    return given


Files = Annotated[tuple[str, ...], BeforeValidator(some_file), Field(min_length=1, strict=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def two_numbers(given: Any) -> Any:
    """Refuse what is a list of other than two values; raises ValueError."""
    if isinstance(given, list | tuple) and len(given) != 2:
        raise ValueError(f"two numbers, [low, high], are expected, {len(given) or 'none'} given")
    return given


Pair = Annotated[tuple[Positive, Positive], BeforeValidator(two_numbers), Field(strict=False)]


def one_or_two_widths(given: Any) -> Any:
    """Refuse what is neither a relative width nor the lowest and the highest; raises ValueError."""
    widths = given if isinstance(given, list | tuple) else [given]
    numbers = [w for w in widths if isinstance(w, int | float) and not isinstance(w, bool) and 0 < w < 1]
    if numbers != list(widths) or len(numbers) not in {1, 2} or numbers != sorted(set(numbers)):
        raise ValueError("a number between 0 and 1 is expected, or two that rise, [lowest, highest]")
    return tuple(map(float, given)) if len(numbers) > 1 else float(numbers[0])


Width = Annotated[float | tuple[float, float], BeforeValidator(one_or_two_widths)]
Options = dict[str, Any]
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
LONGEST = 200  # characters of a name: with prior. and .checkpoint around it, disks take 255


class Samples(Section):
    """What is hunted in and what models learn from: lists of event files (ROOT) or tables (parquet, CSV, HDF5).

    exposure: events that a method with outlier exposure is shown as no background; other methods refuse it. exposure_jets: 1 where
    they are shown one jet an event, the leading one, and the events hunted in have two. signals: models that limits are set on and
    nothing trains on; without them limits are set on the priors. validation: background events that nothing trains on and nothing is
    fixed with, from which `hunch validate` draws its experiments.
    """

    data: Files
    background: Files | None = None
    priors: dict[str, Files] = Field(default_factory=dict)
    exposure: Files | None = None
    exposure_jets: Literal[1] | None = None
    signals: dict[str, Files] = Field(default_factory=dict)
    validation: Files | None = None

    @field_validator("*", mode="before")
    @classmethod
    def some_file(cls, given: Any) -> Any:
        """A key with nothing behind it is a mistake, and no sample that is left out."""
        return some_file(given)

    @field_validator("priors", "signals")
    @classmethod
    def names(cls, named: dict[str, Any]) -> dict[str, Any]:
        """Names of priors and signals become file names and score columns."""
        for name in named:
            if not NAME.fullmatch(name):
                raise ValueError(f"{name!r} names a prior or signal: letters, digits and _ . + - are allowed")
            if name in {"anomaly", "difference", "background"} or name.startswith("family"):
                raise ValueError(f"a prior or signal cannot be called {name!r}, a score has that name")
            if name == "spectra.root":
                raise ValueError(f"a prior or signal cannot be called {name!r}, a file of the limits has that name")
            if len(name) > LONGEST:
                raise ValueError(f"{shown(name)} has {len(name)} characters, and names files; allowed: {LONGEST}")
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


def relative_error(given: Any) -> Any:
    """Return a relative error as number or tuples, its numbers read as people write them; refuse another form."""
    from ..analysis.limits.signal_errors import check_relative

    def read(value: Any) -> Any:
        return tuple(read(v) for v in value) if isinstance(value, list | tuple) else number(value)

    found = read(given)
    try:
        check_relative(found, "mass")
    except InputError as error:
        raise ValueError(str(error).partition("error ")[2]) from error
    return found


RelativeError = Annotated[Any, BeforeValidator(relative_error)]


class ExpectedSettings(Section):
    """Expected discovery of every signal that limits are set on, at `masses` masses of the scan.

    yields: signal events, else what a known background would show at 1 to 15 sigma; experiments: of a mass and yield.
    """

    masses: Annotated[int, Field(ge=1, le=50)] = 6
    yields: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=50, strict=False)] | None = None
    experiments: Annotated[int, Field(ge=0, le=10_000)] = 100


class LimitSettings(Section):
    """Upper limits by CLs on every signal: at `points` masses of the scan, the best one and the signals' own.

    scale_error, resolution_error: relative, of the signal's mass and width: a number, [up, down], or a list of [mass, up, down];
    efficiency_error, luminosity_error: relative. pseudo_experiments: of a mass whose window expects fewer than ten events.
    """

    points: Annotated[int, Field(ge=1, le=200)] = 12
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    scale_error: RelativeError = 0.01
    resolution_error: RelativeError = 0.10
    efficiency_error: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    luminosity_error: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    pseudo_experiments: Annotated[int, Field(ge=0, le=1_000_000)] = 2000


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
    unit: Annotated[str, BeforeValidator(lambda given: known_unit(given) if isinstance(given, str) else given)] = "GeV"
