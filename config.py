"""The user's YAML: its schema, its defaults, and errors that name key, line and the nearest key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from .errors import HunchError, nearest
from .table import is_table

__all__ = ["Analysis", "ConfigError", "read_analysis"]


class ConfigError(HunchError):
    """The configuration is not one; the message names file, line and key."""


class Section(BaseModel):
    """A mapping of the YAML: unknown keys are errors, types are not converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Files = Annotated[tuple[str, ...], Field(min_length=1, strict=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Pair = Annotated[tuple[Positive, Positive], Field(strict=False)]
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")


class Samples(Section):
    """What is hunted in and what models learn from: lists of event files (ROOT) or tables (parquet, CSV, HDF5).

    signals: models that limits are set on and nothing trains on; without them limits are set on the priors. validation:
    background events that nothing trains on and nothing is fixed with, from which `hunch validate` draws its experiments.
    """

    data: Files
    background: Files | None = None
    priors: dict[str, Files] = Field(default_factory=dict)
    signals: dict[str, Files] = Field(default_factory=dict)
    validation: Files | None = None

    @field_validator("priors", "signals")
    @classmethod
    def names(cls, named: dict[str, Any]) -> dict[str, Any]:
        """Names of priors and signals become file names and score columns."""
        for name in named:
            if not NAME.fullmatch(name):
                raise ValueError(f"{name!r} names a prior or signal: letters, digits and _ . + - are allowed")
            if name in {"anomaly", "difference", "background", "family"}:
                raise ValueError(f"a prior or signal cannot be called {name!r}, a score has that name")
        return named


class Jets(Section):
    """How jets are built and which events are kept; GeV. Defaults keep every event with two R = 1.0 jets of 50 GeV."""

    radius: Positive = 1.0
    min_pt: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 50.0
    max_abs_eta: Positive | None = None
    min_leading_pt: Positive | None = None
    max_deta: Positive | None = None
    min_mjj: Positive | None = None
    max_mjj: Positive | None = None


class RegionSettings(Section):
    """Shape, number and size of the regions, fixed before the scan; axis: the losses that stand for the signal.

    decorrelation: boundaries that follow the mass, as `hunch.analysis.fit_fixed_efficiency` ("map") or
    `fit_quantile_regression` ("quantile") fit them on held-out background. What is absent `Analysis.region_settings`
    fills in.
    """

    shape: Literal["difference", "plane", "l5", "tree", "mosaic"] | None = None
    axis: Literal["family", "priors"] = "family"
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


class Training(Section):
    """The scorer's training; `max_epochs` bounds it, early stopping ends it.

    decorrelation: strength of the penalty on the distance correlation of background losses with m_jj; 0: none.
    """

    architecture: Literal["maf", "nsf", "vae", "flow_vae"] | None = None
    max_epochs: Annotated[int, Field(ge=1)] | None = None
    hidden: Annotated[int, Field(ge=1)] | None = None
    latent: Annotated[int, Field(ge=1)] | None = None
    steps: Annotated[int, Field(ge=1)] | None = None
    beta: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    learning_rate: Positive | None = None
    batch_size: Annotated[int, Field(ge=1)] | None = None
    decorrelation: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    device: str = "auto"


class Analysis(Section):
    """A complete analysis. Only `samples.data` and `output` have no default.

    seed: of training, folds and pseudo-experiments; features: training columns (the 12 QUAK features for event files);
    folds: of data where there is no background sample, or with weak_supervision, which lets the other folds of the
    data narrow down the family of the priors; held_out: share of the background kept from training to fix
    regions on; fit_range, masses: [low, high] GeV, found from the spectrum when absent; sqrt_s: GeV; luminosity: fb^-1, for limits on
    cross-sections; blind: held-out background stands in for the data, expected results only; executor, workers,
    scheduler: coffea's; skip_bad_files: count unreadable files instead of stopping.
    """

    samples: Samples
    output: str
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    features: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] | None = None
    jets: Jets = Field(default_factory=Jets)
    training: Training = Field(default_factory=Training)
    regions: RegionSettings = Field(default_factory=RegionSettings)
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
        if self.weak_supervision and self.regions.axis != "family":
            raise ValueError("weak_supervision: needs regions.axis: family")
        if self.regions.decorrelation is not None and self.regions.shape in {"plane", "tree"}:
            raise ValueError(
                f"regions.decorrelation: boundaries of shape {self.regions.shape} cannot follow the mass; "
                "difference, l5 and mosaic can"
            )
        if self.regions.shape == "mosaic" and not self._can_be_mosaic:
            raise ValueError(
                "regions.shape: mosaic needs one model of a family of priors: samples.background, at least two "
                "samples.priors, regions.axis: family, no weak_supervision"
            )
        if self.features is not None and len(set(self.features)) != len(self.features):
            raise ValueError("features: a column is named twice")
        if self.features is not None and "mjj" in self.features:
            raise ValueError("features: mjj is hunted in and cannot be a training column: the regions would sculpt it")
        if self.features is not None and "truth_signal" in self.features:
            raise ValueError("features: truth_signal is a label and cannot be a training column")
        return self

    @property
    def _can_be_mosaic(self) -> bool:
        one_model = self.samples.background is not None and not self.weak_supervision
        return one_model and len(self.samples.priors) >= 2 and self.regions.axis == "family"

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
        return self.combination or ("simes" if self.region_settings.shape == "mosaic" else "fisher")

    def sample_files(self) -> dict[str, tuple[str, ...]]:
        """Return sample name -> files: "data", "background" and "validation" where given, "prior.NAME" and "signal.NAME"."""
        named = {"data": self.samples.data}
        for name in ("background", "validation"):
            files = getattr(self.samples, name)
            if files is not None:
                named[name] = files
        priors = {f"prior.{name}": files for name, files in self.samples.priors.items()}
        return {**named, **priors, **{f"signal.{name}": files for name, files in self.samples.signals.items()}}


def read_analysis(path: str | Path) -> Analysis:
    """Read and check an analysis file; paths in it, `output` too, become absolute, relative to the file itself.

    Raises ConfigError naming the file, the line and the key for unknown keys, wrong types, and files that do not exist.
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
    try:
        analysis = Analysis.model_validate(raw)
    except ValidationError as error:
        raise ConfigError("\n".join(explain(e, path, lines, raw) for e in error.errors())) from error
    return located(analysis, path, lines)


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
    where = f"{path}: line {line}: "
    if error["type"] == "extra_forbidden":
        allowed = section_keys(key[:-1])
        guess = nearest(str(key[-1]), allowed)
        hint = f"; did you mean {guess!r}?" if guess else ";"
        return f"{where}unknown key {dotted(key)!r}{hint} allowed: {', '.join(allowed)}"
    if error["type"] == "missing":
        return f"{where}key {dotted(key)!r} is missing"
    message = error["msg"].removeprefix("Value error, ")
    for theirs, ours in (("tuple", "list"), ("dictionary", "mapping"), (" after validation, not", ", not")):
        message = message.replace(theirs, ours)
    if not key:
        first = message.split(":")[0]
        line = lines.get((first,), 1)
        return f"{path}: line {line}: {message}"
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
            if file.is_dir():
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
