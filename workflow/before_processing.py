"""What the samples' files say of themselves, looked at before the first is processed: columns, branches, and how tables were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..config import Analysis
from ..errors import InputError, unknown_name
from ..table import CUTS, TableInfo, differing_settings, is_table, table_info
from .fine_tuning import check_models_before

if TYPE_CHECKING:
    from ..processors.representations import Representation

__all__ = ["check_before_processing", "refuse_other_tables"]


def check_before_processing(analysis: Analysis) -> dict[str, list[TableInfo]]:
    """Raise InputError for tables without a column that is needed, tables made otherwise than the analysis or each other, and bad event files.

    Of event files the first of each sample is opened. Returns what the tables of each sample hold.
    """
    found: dict[str, list[TableInfo]] = {}
    for sample, files in analysis.sample_files().items():
        if is_table(files[0]):
            found[sample] = [table_info(file) for file in files]
            for file, info in zip(files, found[sample], strict=True):
                for name in analysis.represented_of(sample).content:
                    if name not in info.columns:
                        hint = exposure_hint(analysis, info) if sample == "exposure" else ""
                        where = f"{file} (sample {sample})"
                        raise InputError(missing_column(analysis, name, info.columns, where) + hint)
    named = {
        s: {f"{file} (sample {s})": i for file, i in zip(analysis.sample_files()[s], infos, strict=True)}
        for s, infos in found.items()
    }
    refuse_settings(analysis, named)
    check_event_files(analysis)
    check_device(analysis)
    check_models_before(analysis)
    return found


def check_device(analysis: Analysis) -> None:
    """Raise InputError where training is to use a device that is not here: said before hours of processing."""
    from ..models import DeviceError, resolve_device

    section = "training" if "device" in analysis.training else "scorer"
    try:
        resolve_device(str(analysis.scorer_options.get("device", "auto")))
    except DeviceError as error:
        raise InputError(f"key '{section}.device': {error}") from error


def check_event_files(analysis: Analysis) -> None:
    """Raise InputError where the first event file of a sample cannot be processed; not where such files are to be skipped."""
    if analysis.skip_bad_files:
        return
    from ..processors import read_fileset
    from ..processors.runner import open_files

    for files in analysis.sample_files().values():
        if not is_table(files[0]):
            own = analysis.represented
            open_files(read_fileset([files[0]]), same_counting=own.same_counting, find=own.source_of)


def missing_column(analysis: Analysis, name: str, columns: Sequence[str], where: str) -> str:
    """Return what is said of a table without a column that is needed."""
    if analysis.features is None and analysis.represented.kind == "rows" and name in analysis.represented.inputs:
        return f"{where}: no column {name!r}; a table of your own needs the training columns named: features: [column, ...]"
    return unknown_name("column", name, columns, where)


def exposure_hint(analysis: Analysis, info: TableInfo) -> str:
    """Return what takes a table of the exposure that holds one jet an event, where it lacks the second one's columns; else nothing."""
    from ..processors import single_jet_of

    try:
        one = single_jet_of(analysis.represented)
    except InputError:
        return ""
    fits = set(one.inputs) <= set(info.columns) and not set(analysis.represented.inputs) <= set(info.columns)
    return "; samples.exposure_jets: 1 takes exposure of one jet an event" if fits else ""


def refuse_settings(analysis: Analysis, tables: Mapping[str, Mapping[str, TableInfo]]) -> None:
    """Raise InputError for tables that were made with other settings than those of the analysis, or of each other: sample -> table -> info.

    Tables that do not say how they were made are taken, but no cut that the analysis gives can be applied to them.
    """
    given = {**analysis.jets, **{k: v for k, v in analysis.representation.items() if k != "name"}}
    cuts = [key for key in given if key in {"radius", *CUTS}]
    first: tuple[str, Mapping[str, Any]] | None = None
    for sample, infos in tables.items():
        representation = analysis.represented_of(sample)
        for where, info in infos.items():
            if info.metadata.get("representation") == representation.name:
                refuse_unasked(analysis, where, info, representation)
            elif cuts and "settings" not in info.metadata:
                raise InputError(
                    f"{where}: does not say how it was made, and {cuts[0]} = {given[cuts[0]]} cannot be applied to a table"
                )
            if "settings" in info.metadata and representation.inputs == analysis.represented.inputs:
                first = first or (where, info.metadata)
                refuse_other_tables(where, info.metadata, *first)


def refuse_unasked(analysis: Analysis, where: str, info: TableInfo, representation: Representation) -> None:
    """Raise InputError where a table was made with other settings than those of what the analysis makes of its events."""
    asked: Mapping[str, Any] = {"settings": representation.settings()}
    differing = differing_settings(info.metadata, asked)
    if differing:
        told = "; ".join(f"{name} is {mine}, the analysis has {other}" for name, (mine, other) in differing.items())
        key = "jets" if all(name in analysis.jets for name in differing) else "representation"
        hint = ", ".join(f"{name}: {mine}" for name, (mine, _) in differing.items())
        raise InputError(f"{where}: was made with other settings: {told}; {key}: {{{hint}}} takes it as it is")


def refuse_other_tables(where: str, made: Mapping[str, Any], other: str, reference: Mapping[str, Any]) -> None:
    """Raise InputError where a table was made with other settings than another one, which no analysis may mix."""
    differing = differing_settings(made, reference)
    if differing:
        told = "; ".join(f"{name} is {mine}, there {theirs}" for name, (mine, theirs) in differing.items())
        raise InputError(f"{where}: was made with other settings than {other}: {told}")
