"""The first stage: event files or tables in, one table a sample out, in parts; one sample is in memory at a time, and of it one part."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import Analysis
from ..errors import HunchError, InputError
from ..files import remove, write_folder_aside
from ..folds import check_counting, check_shared, comparable_hashes
from ..pieces import NONE_KEPT, Pieces
from ..table import (
    EVENT_ID,
    IDENTITY,
    Table,
    TableInfo,
    is_table,
    is_table_folder,
    table_info,
    table_parts,
    weight_columns,
    write_part,
    write_parts_record,
)
from .before_processing import check_before_processing
from .layout import JET_MASS, inputs_of, running_of, table_path
from .stamps import Key, hashed, source_hash, stamp_holds, write_stamp

if TYPE_CHECKING:
    from ..processors.representations import Representation

__all__ = ["process"]

log = logging.getLogger(__name__)
EVALUATION = ("truth_signal", "genWeight", JET_MASS)
"""Columns that are kept where a sample has them, and that evaluation alone reads: the truth, weights, the jets' mass."""


def process(analysis: Analysis, progress: bool, pieces: Pieces = NONE_KEPT) -> None:
    """Write one table a sample, of usable rows only, and refuse samples that share events.

    A sample whose table is up to date is left alone. A table that fails its checks is removed; where samples share events,
    all that were written in this call. pieces: where the finished chunks of a sample are kept until its table is there.
    """
    written: list[tuple[Path, Path]] = []
    infos: dict[str, list[TableInfo]] | None = None
    for sample, files in analysis.sample_files().items():
        path, stamp = table_path(analysis, sample), Path(analysis.output) / ".stages" / "tables" / f"{sample}.json"
        source = source_hash("processors", "workflow")
        key = Key(sample, settings_of(analysis, sample), hashed(inputs_of(files)), source)
        if stamp_holds(stamp, key, [path]):
            continue
        infos = check_before_processing(analysis) if infos is None else infos
        stamp.unlink(missing_ok=True)
        try:
            own = Pieces(pieces.folder, key.hash).of(sample)
            make_table(analysis, sample, files, infos.get(sample, []), progress=progress, pieces=own)
            check_sample(analysis, sample)
        except HunchError:
            forget([(path, stamp)])
            raise
        write_stamp(stamp, key, [path])
        written.append((path, stamp))
        if pieces.folder is not None:
            remove(pieces.folder / sample)
    try:
        compare(analysis)
    except HunchError:
        forget(written)
        raise


def settings_of(analysis: Analysis, sample: str = "data") -> dict[str, Any]:
    """Return the settings that the table of a sample depends on."""
    representation = analysis.represented_of(sample)
    return {
        "representation": representation.name,
        "settings": representation.settings(),
        "content": representation.content,
        "repeats": analysis.repeats,
        "skip_bad_files": analysis.skip_bad_files,
    }


def forget(written: Sequence[tuple[Path, Path]]) -> None:
    """Remove tables and their stamps, and the folder of tables where it is empty then."""
    for path, stamp in written:
        remove(path)
        stamp.unlink(missing_ok=True)
        if path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()


def make_table(
    analysis: Analysis,
    sample: str,
    files: tuple[str, ...],
    infos: Sequence[TableInfo],
    *,
    progress: bool,
    pieces: Pieces = NONE_KEPT,
) -> None:
    """Write one sample's table: from event files by the processor, or from tables; pieces: where finished chunks are kept."""
    from ..processors import read_fileset, run_table

    if is_table(files[0]):
        copy_tables(analysis, sample, files, infos)
        return
    if not is_table_folder(table_path(analysis, sample)):
        remove(table_path(analysis, sample))  # of an older version
    running = running_of(analysis, progress=progress)
    run_table(
        read_fileset(files),
        analysis.represented_of(sample),
        running,
        output=table_path(analysis, sample),
        repeats=analysis.repeats,
        sample=f"sample {sample}",
        pieces=pieces,
    )


def copy_tables(analysis: Analysis, sample: str, files: tuple[str, ...], infos: Sequence[TableInfo]) -> None:
    """Write the columns of tables that this analysis reads, usable rows only; what was left out is counted.

    infos: what each file holds, of `check_before_processing`. Columns of weights are looked at and summed up in the metadata: nothing
    uses them, which is said where they differ between rows.
    """
    from ..processors.repeats import settle_repeats
    from ..processors.weights import UNWEIGHED, note_on, total, weights_of

    representation = analysis.represented_of(sample)
    own = set.intersection(*(set(info.metadata["identity"]) for info in infos))
    made_of = {info.metadata.get("representation") for info in infos}
    wanted = representation.content
    weights: dict[str, list[dict[str, Any]]] = {name: [] for name in weights_in(infos, files, wanted)}
    cutflow: dict[str, int] = {"read": 0}
    names: list[str] = []
    rows = 0
    with write_folder_aside(table_path(analysis, sample)) as folder:
        for number, file in enumerate(files):
            more = [name for name in (EVENT_ID, *EVALUATION) if all(name in i.columns for i in infos)]
            stored = tuple(dict.fromkeys((*wanted, *more)))
            for place, part in enumerate(table_parts(file, tuple(dict.fromkeys((*stored, *weights))))):
                kept, lost = usable_rows(part, representation)
                if weights:
                    weighed = np.asarray(np.isfinite(kept.matrix(list(weights))).all(axis=1))
                    kept, lost[UNWEIGHED] = kept.select(weighed), int((~weighed).sum())
                    for name, summed in weights.items():
                        summed.append(weights_of(kept[name]))
                    kept = kept[[name for name in kept.columns if name not in weights or name in stored]]
                cutflow["read"] += len(part)
                for name, n in lost.items():
                    cutflow[name] = cutflow.get(name, 0) + n
                write_part(folder, f"{number:05d}_{place:012d}", kept)
                names, rows = list(kept.columns), rows + len(kept)
        cutflow["kept"] = rows
        metadata: dict[str, Any] = {
            "identity": [name for name in IDENTITY if name in own],
            "ntrk": infos[0].metadata.get("ntrk"),
            **({"representation": made_of.pop()} if len(made_of) == 1 else {}),
            **({"settings": infos[0].metadata["settings"]} if all("settings" in i.metadata for i in infos) else {}),
            "cutflow": cutflow,
            "skipped": [pair for info in infos for pair in info.metadata.get("skipped", [])],
            "files": list(files),
        }
        if weights:
            totals = [total(name, summed) for name, summed in weights.items()]
            metadata["weights"] = next((t for t in totals if t["smallest"] != t["largest"]), totals[0])
            metadata["notes"] = [note for t in totals if (note := note_on(t))]
        write_parts_record(folder, names, metadata, rows=rows)
    for note in metadata.get("notes", ()):
        log.warning("sample %s: %s", sample, note)
    path, where = table_path(analysis, sample), f"sample {sample}"
    settle_repeats(path, representation, repeats=analysis.repeats, where=where, files=files)


def weights_in(infos: Sequence[TableInfo], files: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Return the columns of weights that tables have beside those that are wanted; raises InputError where only some have one."""
    found = dict.fromkeys(name for info in infos for name in weight_columns(info.columns) if name not in wanted)
    for name in found:
        has = [name in info.columns for info in infos]
        if not all(has):
            raise InputError(
                f"{files[has.index(False)]}: no column {name!r}, which {files[has.index(True)]} has; weights are all or nothing"
            )
    return list(found)


def usable_rows(part: Table, representation: Representation) -> tuple[Table, dict[str, int]]:
    """Return the rows of a part that a search can use, and what was lost; raises InputError for columns that hold no numbers."""
    if representation.kind == "rows":
        part.matrix(representation.content)
    usable, lost = representation.usable({name: part[name] for name in representation.content})
    bad = [n for n in representation.content if len(part) and not np.isfinite(part[n]).all()]
    if bad:
        log.warning("%s: rows left out, no finite number in %s", part.source, ", ".join(bad))
    return part.select(usable), lost


def check_sample(analysis: Analysis, sample: str) -> None:
    """Check one sample's table: some events, no weights in data, truth of 0 and 1."""
    path = table_path(analysis, sample)
    info = table_info(path)
    cutflow = dict(info.metadata["cutflow"])
    files = ", ".join(info.metadata["files"])
    if info.rows == 0:
        one_jet = sample == "exposure" and cutflow.get("fewer than two jets", 0) == cutflow["read"]
        hint = "; samples.exposure_jets: 1 takes exposure of one jet an event" if one_jet else ""
        raise InputError(f"sample {sample}: no event left of {cutflow['read']} ({files}): cutflow {cutflow}{hint}")
    if "truth_signal" in info.columns:
        found = np.unique(np.concatenate([np.unique(p["truth_signal"]) for p in table_parts(path, ["truth_signal"])]))
        if not set(found.tolist()) <= {0, 1}:
            raise InputError(f"{files}: column 'truth_signal' holds {found[:5]}; 0 and 1 are allowed")
    weights = info.metadata.get("weights")
    if sample == "data" and weights and weights["smallest"] != weights["largest"]:
        raise InputError(f"{files}: column {weights['column']!r} differs between events; data carry no weights")


def compare(analysis: Analysis) -> None:
    """Refuse samples that share events, whose inputs have different shapes, or whose n_trk counts different things."""
    compared, counted = {}, {}
    shaped: dict[tuple[int, ...], str] = {}
    for sample, files in analysis.sample_files().items():
        path = table_path(analysis, sample)
        info = table_info(path)
        source = f"sample {sample} ({', '.join(files)})"
        own = analysis.represented_of(sample)
        columns = [name for name in (*own.content, EVENT_ID) if name in info.columns]
        found = []
        for part in table_parts(path, columns):
            found.append(comparable_hashes(part, own.content))
            for name in own.inputs:
                shaped.setdefault(part[name].shape[1:], f"{source}: column {name!r}")
        if len(shaped) > 1:
            told = " and ".join(f"{where} holds {shape or 'a number'}" for shape, where in shaped.items())
            raise InputError(f"{told} a row; one shape in all samples is needed")
        compared[sample] = (source, {how: np.concatenate([hashes[how] for hashes in found]) for how in found[0]})
        if info.metadata.get("ntrk") and "ntrk_1" in info.columns:
            counted[sample] = (source, str(info.metadata["ntrk"]))
    check_counting(counted)
    check_shared(compared)
