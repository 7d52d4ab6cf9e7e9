"""The output folder of a search to look at: its scored samples with their kinematics, scores and regions."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ValidationError

from ...config import Analysis
from ...errors import HunchError, InputError
from ...folds import identity_hash, mix
from ...lock import reading
from ...table import EVENT_ID, IDENTITY, Table, read_table, table_info
from ..count import counted
from ..given_spectra import read_any_result
from ..of_result import describing
from ..score import PLAIN, loaded_spaces
from .binning import Codes, Single
from .explored import MOST_SAMPLES, Content, Explored, check_columns, content_of, explored, single, split_names, unit_of

__all__ = ["is_output", "joined", "read_explored_output"]

log = logging.getLogger(__name__)

SCORE = "score"
"""The column of the score that the space of a search gives; larger = more like a signal."""
BEYOND = "outside of the fit range"
NOWHERE = "in no region"
BELOW, ABOVE = "below the threshold", "above the threshold"
QUADRANTS = ("D: above neither", "C: above the second axis", "B: above the first axis", "A: above both axes")


@dataclass(frozen=True)
class Rules:
    """What a finished search says of its events: the analysis, None where it cannot be told any more, and its result."""

    output: Path
    analysis: Analysis | None
    result: Mapping[str, Any]

    @property
    def counts(self) -> bool:
        """Whether it is a counting experiment."""
        return "counting" in self.result

    @property
    def regions(self) -> tuple[str, ...]:
        """Return the names of where an event can be."""
        if self.counts:
            return (
                ()
                if self.analysis is None
                else QUADRANTS
                if len(self.result["counting"]["thresholds"][0]) > 1
                else (BELOW, ABOVE)
            )
        return (BEYOND, NOWHERE, *(str(region["name"]) for region in self.result["regions"]["regions"]))

    def scores(self, table: Table, spaces: Sequence[Any]) -> npt.NDArray[np.float64]:
        """Return the score (n,) of scored events by the space of each one's fold."""
        losses = table.matrix([f"loss_{name}" for name in table.metadata["axes"]])
        fold = table["fold"].astype(np.int64)
        found = np.full(len(table), np.nan)
        for number, space in enumerate(spaces):
            own = fold == number
            if own.any():
                found[own] = space.score_of(losses[own])
        return found

    def places(self, sample: str, table: Table, spaces: Sequence[Any]) -> Codes:
        """Return where the scored events of a sample (n,) are, as a place in `regions`."""
        if self.counts:
            from ...analysis.regions.thresholds import above_thresholds

            if self.analysis is None:
                return np.zeros(len(table), dtype=np.uint16)
            own = counted(self.analysis, sample, spaces[0])
            above = above_thresholds(
                own.scores, own.folds, np.asarray(self.result["counting"]["thresholds"], dtype=np.float64)
            )
            weight = 2 ** np.arange(above.shape[1])[::-1]
            return (above @ weight).astype(np.uint16)
        from ...analysis import read_regions

        regions = read_regions(self.output / "regions.json")
        axes = tuple(table.metadata["axes"])
        mass = table[str(self.result["observable"]["name"])].astype(np.float64)
        assigned = regions.assign(table.matrix([f"loss_{name}" for name in axes]), table["fold"], mass, names=axes)
        edges = self.result["fit_range"]["edges"]
        if regions.n_regions != len(self.regions) - 2:
            raise InputError(
                f"{self.output}: regions.json has {regions.n_regions} regions, result.json {len(self.regions) - 2}"
            )
        return np.where((mass >= edges[0]) & (mass < edges[-1]), assigned + 2, 0).clip(0).astype(np.uint16)


def is_output(path: Path) -> bool:
    """Tell whether a path is a folder that is no table in parts."""
    return path.is_dir() and not (path / "_table.json").is_file()


def read_explored_output(output: Path, *, truth: bool = False, columns: Sequence[str] = ()) -> Explored:
    """Read the scored samples of a search to look at: kinematics, losses and score of each event, and its region.

    The data are left out where the search is blind, or not finished. Raises InputError for a folder without scores, a column that is not
    there, and as `read_table`.
    """
    found = sorted((output / "scores").glob("*.parquet"), key=sample_order)
    if not found:
        raise InputError(
            f"{output}: no scored table in its folder scores; hunch run writes them, and tables are explored as they are"
        )
    with reading(output):
        notes, rules = rules_of(output)
        names = [path.stem for path in found if path.stem != "data" or not (rules is None or is_blind(rules))]
        if len(names) < len(found):
            why = (
                "there is no result.json yet, which says whether the search is blind"
                if rules is None
                else "the search is blind"
            )
            notes.append(f"data left out: {why}")
        if not names:
            raise InputError(f"{output}: nothing to look at: {'; '.join(notes)}")
        if len(names) > MOST_SAMPLES:
            notes.append(f"{len(names) - MOST_SAMPLES} samples left out: {', '.join(names[MOST_SAMPLES:])}")
            names = names[:MOST_SAMPLES]
        content = content_of_all(
            [output / kind / f"{name}.parquet" for name in names for kind in ("scores", "tables")], truth=truth
        )
        spaces = spaces_of(rules, notes)
        gathered: dict[str, list[Single]] = {}
        sizes: list[int] = []
        places: list[Codes] = []
        for name in names:
            table = joined(output, name, content, notes)
            numbers = {n: single(v) for n, v in table.columns.items() if n in content.numbers}
            if rules is not None and spaces:
                numbers[SCORE] = single(rules.scores(table, spaces))
            if rules is not None and rules.regions:
                with describing(output / "result.json", output / "regions.json"):
                    places.append(rules.places(name, table, spaces))
            for column, values in numbers.items():
                gathered.setdefault(column, [np.full(n, np.nan, dtype=np.float32) for n in sizes]).append(values)
            sizes.append(len(table))
            for column, parts in gathered.items():
                if column not in numbers:
                    parts.append(np.full(len(table), np.nan, dtype=np.float32))
    whole = {column: np.concatenate(parts) for column, parts in gathered.items()}
    if not whole:
        raise InputError(f"{output}: no column holds one number an event, so there is nothing to draw")
    ordered = {column: whole[column] for column in in_order(list(whole), rules)}
    columns = split_names(columns, tuple(ordered))
    check_columns(columns, content, str(output), tuple(ordered))
    observable = {} if rules is None or "observable" not in rules.result else dict(rules.result["observable"] or {})
    own_unit = {str(observable["name"]): str(observable["unit"])} if {"name", "unit"} <= set(observable) else {}
    made = any(
        "representation" in table_info(output / "tables" / f"{n}.parquet").metadata
        for n in names
        if has_table(output, n)
    )
    return explored(
        str(output),
        ordered,
        np.repeat(np.arange(len(names), dtype=np.uint8), sizes),
        names,
        units={**({name: unit_of(name) for name in ordered} if made else {}), **own_unit},
        columns=columns,
        notes=[*content.notes, *notes],
        regions=() if rules is None else rules.regions,
        region=np.concatenate(places) if places else None,
        read=lambda: tables_again(output, names, content),
    )


def sample_order(path: Path) -> tuple[int, str]:
    """Return the place of a scored sample: data first, then background, priors, signals."""
    kinds = ("data", "calibration", "validation", "prior", "signal")
    kind = path.stem.split(".")[0]
    return (kinds.index(kind) if kind in kinds else len(kinds), path.stem)


def in_order(names: Sequence[str], rules: Rules | None) -> list[str]:
    """Return columns in the order in which they are offered: the observable, the score, the losses, the rest."""
    observable = None if rules is None else (rules.result.get("observable") or {}).get("name")
    first = [str(observable), SCORE, *(n for n in names if n.startswith("loss_"))]
    last = [n for n in names if n.startswith(PLAIN) or n in {"fold", "genWeight"}]
    ordered = [n for n in dict.fromkeys(first) if n in names and n not in last]
    return [*ordered, *(n for n in names if n not in {*ordered, *last}), *last]


def rules_of(output: Path) -> tuple[list[str], Rules | None]:
    """Return what the search of a folder says of its events, None where there is none yet, and what is to be said of that."""
    if not (output / "result.json").is_file():
        return ["no result.json yet: no regions and no score"], None
    result = read_any_result(output)
    try:
        return [], Rules(output, analysis_again(as_mapping(result.get("configuration")), output), result)
    except (ValidationError, HunchError) as error:
        log.debug("configuration of %s: %s", output, error)
        return ["the configuration in result.json is none of this version: no score"], Rules(output, None, result)


def as_mapping(value: Any) -> dict[str, Any]:
    """Return a mapping, empty where it is none."""
    return dict(value) if isinstance(value, Mapping) else {}


def analysis_again(configuration: Mapping[str, Any], output: Path) -> Analysis:
    """Return the analysis that a result states, in the folder in which the result is now; raises ValidationError where it is none.

    Keys with their default values are left to the defaults: some of them may not be written where they have no meaning.
    """
    usual = {
        name: field.get_default(call_default_factory=True)
        for name, field in Analysis.model_fields.items()
        if not field.is_required()
    }
    own = {
        key: different(
            value, usual[key].model_dump(mode="json") if isinstance(usual.get(key), BaseModel) else usual.get(key)
        )
        for key, value in configuration.items()
    }
    observable = own.get("observable")
    if isinstance(observable, Mapping):
        own["observable"] = observable.get("name")
    kept = {key: value for key, value in own.items() if value is not None}
    return Analysis.model_validate({**kept, "output": str(output)})


def different(value: Any, usual: Any) -> Any:
    """Return what of a value is not as usual, None where nothing is: of a mapping those keys that are neither null nor as usual."""
    if not isinstance(value, Mapping):
        return None if value == usual else value
    of = as_mapping(usual)
    own = {key: different(each, of.get(key)) for key, each in value.items()}
    return {key: each for key, each in own.items() if each is not None} or None


def is_blind(rules: Rules) -> bool:
    """Tell whether a search looks at no data; one whose configuration does not say so is blind."""
    return as_mapping(rules.result.get("configuration")).get("blind", True) is not False


def spaces_of(rules: Rules | None, notes: list[str]) -> list[Any]:
    """Return the spaces of a search, none where they cannot be loaded, which is noted."""
    if rules is None or rules.analysis is None:
        return []
    try:
        return loaded_spaces(rules.analysis)
    except (HunchError, OSError) as error:
        notes.append(f"no score: {error}")
        return []


def content_of_all(paths: Sequence[Path], *, truth: bool) -> Content:
    """Return what can be shown of the columns of several tables, those that exist."""
    each = [content_of(path, truth=truth) for path in paths if path.exists()]
    kinds = ("numbers", "arrays", "text", "truth")
    return Content(**{kind: tuple(dict.fromkeys(n for own in each for n in getattr(own, kind))) for kind in kinds})


def table_of(output: Path, sample: str) -> Path | None:
    """Return the table with the kinematics of a scored sample, None where there is none."""
    names = ("background", "data") if sample == "calibration" else (sample,)
    return next((p for n in names if (p := output / "tables" / f"{n}.parquet").exists()), None)


def has_table(output: Path, sample: str) -> bool:
    """Tell whether there is a table of a sample's own."""
    return (output / "tables" / f"{sample}.parquet").exists()


def joined(output: Path, sample: str, content: Content, notes: list[str]) -> Table:
    """Return a scored sample with the columns of its table beside, event by event; what is not found there is NaN, counted in the notes.

    content: of all samples; columns with an array an event, and labels that are not shown, are not read.
    """
    path = output / "scores" / f"{sample}.parquet"
    left_out = {*content.arrays, *content.truth}
    scored = read_table(path, [n for n in table_info(path).columns if n not in left_out])
    source = table_of(output, sample)
    if source is None:
        notes.append(f"{sample}: no table in {output / 'tables'}, so no kinematics")
        return scored
    stored = table_info(source).columns
    wanted = [n for n in stored if n not in left_out and n not in scored and n != EVENT_ID]
    known = [EVENT_ID] if EVENT_ID in stored and EVENT_ID in scored else []
    table = read_table(source, [*wanted, *known])
    row, doubtful = rows_of(event_keys(scored), event_keys(table))
    lost = int((row < 0).sum())
    if lost:
        notes.append(
            f"{sample}: {lost} of {len(scored)} scored events without kinematics, {doubtful} of them because they come again"
        )
    more = {name: taken(table[name], row) for name in wanted if name not in IDENTITY}
    return scored.with_columns(**more)


def taken(values: npt.NDArray[Any], row: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Return the values in some rows (m,), NaN or no text where the row is -1."""
    if (row >= 0).all():
        return np.asarray(values[row])
    number = values.dtype.kind in "fiub"
    padded = np.append(values.astype(np.float64), np.nan) if number else np.append(values, "")
    return np.asarray(padded[row])


def event_keys(table: Table) -> npt.NDArray[np.uint64]:
    """Return 64 bits an event (n,): of dataset, run, luminosityBlock and event, and of what the file stores where that is known."""
    key = identity_hash(table)
    return mix(key ^ np.asarray(table[EVENT_ID], dtype=np.uint64)) if EVENT_ID in table else key


def rows_of(wanted: npt.NDArray[np.uint64], stored: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.int64], int]:
    """Return the row in which each wanted event (m,) is stored, -1 where it is not or is there twice, and how many are there twice."""
    if np.array_equal(wanted, stored):
        return np.arange(len(wanted), dtype=np.int64), 0
    if not len(stored):
        return np.full(len(wanted), -1, dtype=np.int64), 0
    order = np.argsort(stored, kind="stable")
    known = stored[order]
    low, high = (np.searchsorted(known, wanted, side=side) for side in ("left", "right"))
    row = np.where(high == low + 1, order[np.minimum(low, len(order) - 1)], -1)
    return row.astype(np.int64), int((high > low + 1).sum())


def tables_again(output: Path, names: Sequence[str], content: Content) -> Iterator[Table]:
    """Give the joined tables of samples again."""
    for name in names:
        yield joined(output, name, content, [])
