"""The first stage: event files or tables in, one table a sample out."""

from __future__ import annotations

import logging

import numpy as np

from ..config import Analysis
from ..errors import InputError, unknown_name
from ..folds import check_counting, check_shared
from ..table import IDENTITY, QUAK_FEATURES, Table, concatenate, is_table, read_table, write_table
from .layout import features_of, table_path

__all__ = ["event_table", "prepared", "process", "user_table"]

log = logging.getLogger(__name__)


def process(analysis: Analysis, progress: bool) -> None:
    """Write one table a sample, of finite rows only, and refuse samples that share events."""
    tables = {}
    for sample, files in analysis.sample_files().items():
        tables[sample] = prepared(analysis, sample, files, progress=progress)
    check_counting(tables)
    check_shared(tables, features_of(analysis))
    for sample, table in tables.items():
        write_table(table_path(analysis, sample), table)


def prepared(analysis: Analysis, sample: str, files: tuple[str, ...], *, progress: bool) -> Table:
    """Read or make one sample's table: m_jj, features, identity, truth where there is one; unusable rows counted."""
    features = features_of(analysis)
    if is_table(files[0]):
        if analysis.features is None and not set(QUAK_FEATURES) <= set(read_table(files[0]).columns):
            raise InputError(
                f"{files[0]}: a table of your own needs the training columns named: features: [column, ...]"
            )
        table = user_table(sample, files, features)
    else:
        table = event_table(analysis, files, progress=progress)
    for name in ("mjj", *features):
        if name not in table:
            raise InputError(unknown_name("column", name, table.columns, f"{files[0]} (sample {sample})"))
    if sample == "data" and "genWeight" in table and len(np.unique(table["genWeight"])) > 1:
        raise InputError(f"{files[0]}: column 'genWeight' differs between events; data carry no weights")
    values = table.matrix(["mjj", *features])
    finite = np.isfinite(values).all(axis=1)
    positive = values[:, 0] > 0
    cutflow = dict(table.metadata.get("cutflow", {"read": len(table)}))
    cutflow.pop("kept", None)
    cutflow["a feature or mjj is no finite number"] = int((~finite).sum())
    cutflow["mjj is not positive"] = int((finite & ~positive).sum())
    kept = table.select(finite & positive)
    cutflow["kept"] = len(kept)
    if cutflow["a feature or mjj is no finite number"]:
        bad = [n for i, n in enumerate(("mjj", *features)) if not np.isfinite(values[:, i]).all()]
        log.warning("%s: %d rows left out, no finite number in %s", files[0], int((~finite).sum()), ", ".join(bad))
    if len(kept) == 0:
        raise InputError(f"sample {sample}: no event left of {cutflow['read']} ({', '.join(files)}): cutflow {cutflow}")
    if "truth_signal" in kept and not set(np.unique(kept["truth_signal"]).tolist()) <= {0, 1}:
        raise InputError(
            f"{files[0]}: column 'truth_signal' holds {np.unique(kept['truth_signal'])[:5]}; 0 and 1 are allowed"
        )
    return Table(
        kept.columns, {**kept.metadata, "cutflow": cutflow, "sample": sample}, f"sample {sample} ({', '.join(files)})"
    )


def event_table(analysis: Analysis, files: tuple[str, ...], *, progress: bool) -> Table:
    """Run the dijet processor over event files."""
    from ..processors import DijetSettings, read_fileset, run_dijets

    result = run_dijets(
        read_fileset(files),
        settings=DijetSettings(**analysis.jets.model_dump()),
        executor=analysis.executor,
        workers=analysis.workers,
        scheduler=analysis.scheduler,
        skip_bad_files=analysis.skip_bad_files,
        progress=progress,
    )
    return Table(result.table.columns, {**result.table.metadata, "identity": list(IDENTITY)}, ", ".join(files))


def user_table(sample: str, files: tuple[str, ...], features: tuple[str, ...]) -> Table:
    """Read and join tables, keeping identity, m_jj, features and what evaluation reads."""
    parts = []
    for file in files:
        table = read_table(file)
        wanted = [*IDENTITY, "mjj", *features, *(c for c in ("truth_signal", "genWeight") if c in table)]
        for name in ("mjj", *features):
            if name not in table:
                raise InputError(unknown_name("column", name, table.columns, file))
        parts.append(Table({name: table[name] for name in dict.fromkeys(wanted)}, table.metadata, file))
    own = set.intersection(*(set(p.metadata["identity"]) for p in parts))
    skipped = [pair for p in parts for pair in p.metadata.get("skipped", [])]
    metadata = {
        "identity": [name for name in IDENTITY if name in own],
        "ntrk": parts[0].metadata.get("ntrk"),
        **({"representation": "dijet"} if all(p.metadata.get("representation") == "dijet" for p in parts) else {}),
        "cutflow": {"read": sum(len(p) for p in parts)},
        "skipped": skipped,
        "files": list(files),
    }
    return Table(concatenate(parts, sample).columns, metadata, ", ".join(files))
