"""The search without tables: trained spaces and fixed regions applied to event files, or to tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..config import Analysis
from ..errors import HunchError, InputError
from ..files import matching
from ..folds import told_by
from ..lock import reading
from ..table import EVENT_ID, Table, is_table, table_info, table_parts, weight_columns
from .before_processing import refuse_other_tables
from .layout import model_paths, running_of, table_path, training_samples
from .stages import check_earlier

__all__ = ["search_files"]


def search_files(analysis: Analysis, files: Sequence[str], *, progress: bool = True) -> Any:
    """Apply the analysis' trained spaces and fixed regions to event files, chunk by chunk, or to tables; of each event a hash is kept.

    Returns the processors' SearchResult, whose spectra have the edges of the analysis' own fit range. Raises HunchError where the
    models or regions are of another configuration, InputError where a model that would score an event has trained on it, or an event
    comes again and `repeats` is not "drop".
    """
    from ..analysis import read_regions
    from ..processors import read_fileset, run_search, search_table
    from .given_spectra import read_result

    output = Path(analysis.output)
    files = [file for name in files for file in matching(name)]
    if analysis.hunt == "count":
        raise InputError("hunt: count has no regions; hunch search fills the spectra of regions")
    for needed in ("result.json", "regions.json"):
        if not (output / needed).is_file():
            raise HunchError(f"{output / needed}: not there yet; hunch run fixes the regions first")
    kinds = {is_table(file) for file in files}
    if len(kinds) > 1:
        raise InputError(f"{', '.join(map(str, files))}: event files and tables; one kind at a time")
    with reading(output):
        check_earlier(analysis, "limits", asked="search")
        trained = how_trained(analysis)
        options: dict[str, Any] = {
            "spaces": model_paths(analysis),
            "regions": read_regions(output / "regions.json"),
            "plan": analysis.plan,
            "edges": read_result(output)["fit_range"]["edges"],
            "metric": analysis.axis_metric,
            "per_jet": analysis.per_jet,
            "repeats": analysis.repeats,
        }
        if kinds == {True}:
            return search_table(rows_of(analysis, files, trained), analysis.represented, **options)
        if trained != EVENT_ID:
            raise InputError(untold(files[0], EVENT_ID, trained))
        running = running_of(analysis, progress=progress)
        return run_search(read_fileset(files), analysis.represented, running, **options)


def how_trained(analysis: Analysis) -> str:
    """Return how the events that the models trained on are told from each other (`told_by`)."""
    found = {name: told_by(table_info(table_path(analysis, name))) for name in training_samples(analysis)}
    return found["data" if "data" in found else "background"]


def rows_of(analysis: Analysis, files: Sequence[str], trained: str) -> Iterator[Table]:
    """Give the rows of tables, the columns that a search needs, part by part, told as those that the models trained on are."""
    reference = next(table_path(analysis, name) for name in training_samples(analysis))
    trained_on = table_info(reference).metadata
    for file in files:
        info = table_info(file)
        refuse_other_tables(file, info.metadata, "the tables that the models trained on", trained_on)
        own = told_by(info)
        if trained not in {own, "content"}:
            raise InputError(untold(file, own, trained))
        more = [
            name
            for name in (EVENT_ID, *weight_columns(info.columns))
            if name in info.columns
            and name not in analysis.represented.content
            and (name != EVENT_ID or trained == EVENT_ID)
        ]
        for part in table_parts(file, (*analysis.represented.content, *more)):
            yield Table(part.columns, {**part.metadata, "identity": []}, part.source) if trained == "content" else part


def untold(file: str, own: str, trained: str) -> str:
    """Return what is said of a file of which nobody can tell whether models have trained on its events."""
    kinds = {
        EVENT_ID: "event files, or tables that hunch process makes",
        "identity": "tables with the columns run, luminosityBlock and event",
        "content": "tables without an identity",
    }
    return (
        f"{file}: its events are those of {kinds[own]}, and the models trained on {kinds[trained]}: whether they have trained on these "
        f"events cannot be told; give {kinds[trained]}"
    )
