"""The stages of a search in order: process, train, score, hunt, limits, report. Each reads and writes files of one output folder.

A stage is skipped when its key is unchanged: its settings, the content of its inputs and the package's own source. Its
stamp is written last, so a killed run resumes at the stage, and the training at the epoch, where it was.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from . import __version__
from .config import Analysis
from .errors import HunchError, InputError, unknown_name
from .table import (
    IDENTITY,
    QUAK_FEATURES,
    Table,
    check_counting,
    check_shared,
    concatenate,
    content_hash,
    finite,
    fold_of,
    identity_hash,
    is_table,
    read_table,
    remove,
    write_json,
    write_table,
)

if TYPE_CHECKING:
    from .analysis import Scored, Search

__all__ = ["STAGES", "run", "run_stage", "search_files", "validate_analysis"]

log = logging.getLogger(__name__)
Floats = npt.NDArray[np.float64]
HELD_OUT_STEPS = 10_000
FEW_FEATURES = ("mJ_1", "mJ_2", "tau21_1", "tau21_2", "tau32_1", "tau32_2")


# ------------------------------------------------------------------------------------------ stages and stamps


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage: the settings it depends on, the files it reads and writes, and what it does."""

    name: str
    keys: tuple[str, ...]
    reads: Callable[[Analysis], list[Path]]
    writes: Callable[[Analysis], list[Path]]
    do: Callable[[Analysis, bool], None]


def run(analysis: Analysis, *, force: Sequence[str] = (), progress: bool = True) -> dict[str, Any]:
    """Run every stage that is not up to date and return the result; `force` reruns stages and what depends on them."""
    for name in force:
        if name not in STAGES:
            raise HunchError(unknown_name("stage", name, STAGES, "--force"))
    for name in STAGES:
        run_stage(analysis, name, force=name in force, progress=progress)
    from .analysis import read_result

    return read_result(Path(analysis.output))


def run_stage(analysis: Analysis, name: str, *, force: bool = False, progress: bool = True) -> bool:
    """Run one stage unless it is up to date; say whether it ran. Raises HunchError where an earlier stage is missing."""
    stage = STAGES[name]
    for path in stage.reads(analysis):
        if not path.exists():
            raise HunchError(
                f"{path}: not there yet; run the stages before {name!r} first (hunch run does all of them)"
            )
    stamp = Path(analysis.output) / ".stages" / f"{name}.json"
    key = stage_key(analysis, stage)
    if not force and stamp_holds(stamp, key, stage.writes(analysis)):
        log.info("%s: up to date", name)
        return False
    stamp.unlink(missing_ok=True)
    log.info("%s: running", name)
    stage.do(analysis, progress)
    write_json(stamp, {"stage": name, "key": key, "version": __version__})
    return True


def stamp_holds(stamp: Path, key: str, writes: Sequence[Path]) -> bool:
    """Tell whether a stage was finished with this key and all that it wrote is still there."""
    try:
        stored = json.loads(stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(stored.get("key") == key) and all(path.exists() for path in writes)


def stage_key(analysis: Analysis, stage: Stage) -> str:
    """Hash the stage's settings, the content of its inputs and the package's source."""
    settings = analysis.model_dump(mode="json", include=set(stage.keys))
    if "features" in settings:
        settings["features"] = features_of(analysis)
    inputs = [[str(path), file_hash(path)] for path in stage.reads(analysis)]
    text = json.dumps([stage.name, settings, inputs, source_hash()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def file_hash(path: Path) -> str:
    """Hash a file's content, or a folder's files in order of name."""
    if path.is_dir():
        parts = [f"{p.relative_to(path)}:{file_hash(p)}" for p in sorted(path.rglob("*")) if p.is_file()]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def source_hash() -> str:
    """Hash the package's own source files."""
    root = Path(__file__).parent
    rooms = [root, *(root / room for room in ("models", "analysis", "samples", "processors"))]
    return hashlib.sha256(
        "".join(file_hash(p) for room in rooms for p in sorted(room.glob("*.py"))).encode()
    ).hexdigest()


# ------------------------------------------------------------------------------------------ process


def table_path(analysis: Analysis, sample: str) -> Path:
    """Return where a sample's table is."""
    return Path(analysis.output) / "tables" / f"{sample}.parquet"


def features_of(analysis: Analysis) -> tuple[str, ...]:
    """Return the training columns: the user's, or the 12 QUAK features, or six of them where a family is searched through.

    Density ratios of a few thousand events are better in six dimensions than in 12: in a mosaic the mean z of six
    signals (160 in 40,000 events) was 6.4 against 4.3, with weak supervision 12 columns found nothing in the one box tried.
    """
    searched = analysis.weak_supervision or analysis.region_settings.shape == "mosaic"
    return analysis.features or (FEW_FEATURES if searched else QUAK_FEATURES)


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
    from .processors import DijetSettings, read_fileset, run_dijets

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


# ------------------------------------------------------------------------------------------ train and score


def event_hash(table: Table, features: Sequence[str]) -> npt.NDArray[np.uint64]:
    """Return what an event's fold is made from: its identity where the file holds one, else its content."""
    if "event" in table.metadata.get("identity", ()):
        return identity_hash(table)
    return content_hash(table.matrix(["mjj", *features]))


def model_paths(analysis: Analysis) -> list[Path]:
    """Return the scorers' folders: one trained on the background, or one a fold of the data."""
    n = 1 if analysis.samples.background is not None and not analysis.weak_supervision else analysis.folds
    return [Path(analysis.output) / "models" / f"fold_{i}" for i in range(n)]


def held_out_rows(analysis: Analysis, background: Table) -> npt.NDArray[np.bool_]:
    """Return which background events no model trains on."""
    steps = fold_of(event_hash(background, features_of(analysis)), HELD_OUT_STEPS)
    return np.asarray(steps < analysis.held_out * HELD_OUT_STEPS)


def train(analysis: Analysis, progress: bool) -> None:
    """Train one QUAK model on the background, or one a fold of the data.

    Model i of k trains on all folds but i, which it hunts in, and i + 1, on which the regions are fixed. With weak
    supervision and a background sample, model i has the densities of the background sample and the family that all
    folds of the data but i narrow down, against those held-out background events that do not fix the regions of fold i.
    """
    from .models import Quak, load_scorer

    features = features_of(analysis)
    tables = {name: read_table(table_path(analysis, name)) for name in analysis.sample_files()}
    priors = {name: tables[f"prior.{name}"].matrix(features) for name in analysis.samples.priors}
    options = {k: v for k, v in analysis.training.model_dump().items() if v is not None}
    folders = model_paths(analysis)
    weak = analysis.weak_supervision and "background" in tables
    x, mjj = tables["data"].matrix(features), tables["data"]["mjj"].astype(np.float64)
    fold = fold_of(event_hash(tables["data"], features), analysis.folds)
    if "background" in tables:
        chosen = tables["background"].select(~held_out_rows(analysis, tables["background"]))
        samples = [(chosen.matrix(features), chosen["mjj"].astype(np.float64))]
    else:
        kept = [(fold != i) & (fold != (i + 1) % analysis.folds) for i in range(analysis.folds)]
        samples = [(x[rows], mjj[rows]) for rows in kept]
    paths = [folders[0].with_name("common")] if weak else folders
    for i, (folder, (sample, masses)) in enumerate(zip(paths, samples, strict=True)):
        regions = analysis.region_settings
        places = regions.number or 0 if regions.shape == "mosaic" else 0
        scorer = Quak(seed=analysis.seed + i, alpha=regions.alpha, neighbourhoods=places, **options)
        folder.parent.mkdir(parents=True, exist_ok=True)
        checkpoint = folder.with_name(f"{folder.name}.checkpoint")
        log.info("training model %d of %d on %d events", i + 1, len(paths), len(sample))
        scorer.fit(sample, priors=priors, mass=masses, columns=features, checkpoint=checkpoint, progress=progress)
        scorer.save(folder)
        remove(checkpoint)
    if weak:
        held = tables["background"].select(held_out_rows(analysis, tables["background"]))
        held_x, held_fold = held.matrix(features), fold_of(event_hash(held, features), analysis.folds)
        common = load_scorer(paths[0])
        if not isinstance(common, Quak):
            raise InputError(f"{paths[0]}: holds a {type(common).__name__}, a Quak is expected")
        for i, folder in enumerate(folders):
            log.info("narrowing the family down by data, fold %d of %d", i + 1, len(folders))
            others = fold != i
            narrowed = common.narrow(
                x[others], priors=priors, reference=held_x[held_fold != i], mass=mjj[others], progress=progress
            )
            narrowed.save(folder)


def score_path(analysis: Analysis, sample: str) -> Path:
    """Return where a sample's scored table is."""
    return Path(analysis.output) / "scores" / f"{sample}.parquet"


def region_columns(analysis: Analysis, n_axes: int) -> tuple[int, ...]:
    """Return which of n_axes losses the regions look at, the background's first.

    The losses are those of the background, each prior, their family and its neighbourhoods.
    """
    priors = len(analysis.samples.priors)
    if not priors:
        return (0,)
    if analysis.regions.axis == "priors":
        return tuple(range(1 + priors))
    if analysis.region_settings.shape == "mosaic":
        return (0, *range(2 + priors, n_axes))
    return (0, 1 + priors)


def scored_samples(analysis: Analysis) -> list[str]:
    """Return the samples that get scores; "calibration" are the events on which the regions are fixed."""
    more = [] if analysis.samples.validation is None else ["validation"]
    return ["data", "calibration", *more, *simulated_signals(analysis)]


def simulated_signals(analysis: Analysis) -> list[str]:
    """Return the samples of priors, and of signals that limits are set on."""
    return [name for name in analysis.sample_files() if name.startswith(("prior.", "signal."))]


def score(analysis: Analysis, progress: bool) -> None:  # noqa: ARG001 - every stage takes progress
    """Write losses, score and fold of data, calibration events, priors and signals; no event by a model that trained on it.

    But priors, which every model trains on: they are scored by model 0, for figures, and for limits where no signals are
    given. Signals, too, are scored by model 0.
    """
    from .models import Quak, load_scorer

    features = features_of(analysis)
    scorers = []
    for folder in model_paths(analysis):
        scorer = load_scorer(folder)
        if not isinstance(scorer, Quak):
            raise InputError(f"{folder}: holds a {type(scorer).__name__}, a Quak is expected")
        scorers.append(scorer)
    n_axes = len(scorers[0].axis_names)
    data = read_table(table_path(analysis, "data"))
    if analysis.samples.background is not None:
        background = read_table(table_path(analysis, "background"))
        calibration = background.select(held_out_rows(analysis, background))
        fold, calibration_fold = (fold_of(event_hash(t, features), len(scorers)) for t in (data, calibration))
    else:
        fold = fold_of(event_hash(data, features), analysis.folds)
        calibration, calibration_fold = data, (fold - 1) % analysis.folds
    named = {"data": (data, fold), "calibration": (calibration, calibration_fold)}
    if analysis.samples.validation is not None:
        validation = read_table(table_path(analysis, "validation"))
        named["validation"] = (validation, fold_of(event_hash(validation, features), len(scorers)))
    for name in simulated_signals(analysis):
        simulated = read_table(table_path(analysis, name))
        named[name] = (simulated, np.zeros(len(simulated), dtype=np.int64))
    for sample, (table, folds) in named.items():
        x = table.matrix(features)
        losses = np.empty((len(x), n_axes))
        scores = np.empty(len(x))
        for i, scorer in enumerate(scorers):
            rows = folds == i
            if rows.any():
                losses[rows] = scorer.losses(x[rows])
                scores[rows] = scorer.score(x[rows])
        columns = {f"loss_{i}": losses[:, i] for i in range(losses.shape[1])}
        write_table(score_path(analysis, sample), table.with_columns(**columns, score=scores, fold=folds))


# ------------------------------------------------------------------------------------------ hunt and report


def hunt(analysis: Analysis, progress: bool) -> None:
    """Fix the regions, hunt, check, and write regions.json, spectra.root, the figures and result.json."""
    from .analysis import HuntSettings, RegionChoice, draw_figures, result_of, search, stand_in, versions, write_spectra

    data, calibration = read_scored(analysis, "data"), read_scored(analysis, "calibration")
    priors = {name: read_scored(analysis, f"prior.{name}") for name in analysis.samples.priors}
    blind = None
    if analysis.blind:
        number = len(data.mjj)
        data = stand_in(calibration, number, np.random.default_rng(np.random.SeedSequence([analysis.seed, 0xB11D])))
        blind = f"blind: {len(data.mjj)} held-out background events stand in for {number} of the data"
    columns = region_columns(analysis, data.losses.shape[1])
    own_background = analysis.samples.background is not None
    inclusive = read_table(table_path(analysis, "background" if own_background else "data"))["mjj"]
    found = search(
        data,
        calibration,
        inclusive=inclusive,
        prior_masses={name: prior.mjj for name, prior in priors.items()},
        choice=RegionChoice(**analysis.region_settings.model_dump(exclude={"axis"}), columns=columns),
        settings=HuntSettings(
            sqrt_s=analysis.sqrt_s,
            family=analysis.background_function,
            combination=analysis.combination_method,
            pseudo_experiments=0 if blind else analysis.pseudo_experiments,
            seed=analysis.seed,
        ),
        fit_range=analysis.fit_range,
        masses=analysis.masses,
        independent=own_background,
        progress=progress,
    )
    output = Path(analysis.output)
    found.regions.save(output / "regions.json")
    write_spectra(output / "spectra.root", found.region_names, found.spectra)
    remove(output / "figures")
    inclusive_name = "background sample" if own_background else "data, all regions"
    draw_figures(
        found, output / "figures", data=data, priors=priors, inclusive=inclusive, inclusive_name=inclusive_name
    )
    scanned = None
    if analysis.plane_scan is not None:
        scanned = scan_loss_plane(analysis, found, data, calibration)
    tables = {name: read_table(table_path(analysis, name)) for name in analysis.sample_files()}
    hunted = {k: v for k, v in tables["data"].metadata["cutflow"].items() if k != "kept"}
    result = {
        "hunch": __version__,
        "versions": versions(),
        "seed": analysis.seed,
        "configuration": analysis.model_dump(mode="json"),
        "features": list(features_of(analysis)),
        "cutflow": {**hunted, **found.cutflow},
        "samples": {
            name: {
                "events": len(t),
                "cutflow": dict(t.metadata["cutflow"]),
                "skipped_files": t.metadata.get("skipped", []),
                "ntrk_counts": t.metadata.get("ntrk"),
            }
            for name, t in tables.items()
        },
        "training": [
            json.loads((folder / "scorer.json").read_text(encoding="utf-8"))["training"]
            for folder in model_paths(analysis)
        ],
        **result_of(found, no_significance=blind),
        **({} if scanned is None else {"plane_scan": scanned}),
    }
    write_json(output / "result.json", finite(result))


def read_scored(analysis: Analysis, sample: str) -> Scored:
    """Read a scored sample."""
    from .analysis import Scored

    table = read_table(score_path(analysis, sample))
    columns = list(itertools.takewhile(lambda name: name in table, map("loss_{}".format, itertools.count())))
    truth = table["truth_signal"].astype(np.uint8) if "truth_signal" in table else None
    return Scored(sample, table["mjj"].astype(np.float64), table.matrix(columns), table["fold"].astype(np.int64), truth)


def limits(analysis: Analysis, progress: bool) -> None:  # noqa: ARG001 - every stage takes progress
    """Set limits on every signal, or prior where there is none, and write limits.json and the folder limits."""
    from .analysis import as_signal, hunt_of, limits_of, read_regions, write_limits

    output = Path(analysis.output)
    found, names = hunt_of(json.loads((output / "result.json").read_text(encoding="utf-8")))
    regions = read_regions(output / "regions.json")
    notes, signals = [], []
    kind = "signal" if analysis.samples.signals else "prior"
    for name in simulated_signals(analysis):
        if name.startswith(f"{kind}."):
            events = dataclasses.replace(read_scored(analysis, name), name=name.removeprefix(f"{kind}."))
            try:
                signals.append(as_signal(events, regions))
            except InputError as error:
                notes.append(str(error))
    if not simulated_signals(analysis):
        notes.append("no limits: samples name neither signals nor priors, whose share in the regions would be needed")
    elif kind == "prior":
        notes.append(
            "efficiencies are those of events that the models trained on, and so a little high; name samples.signals"
        )
    for note in notes:
        log.warning("%s", note)
    remove(output / "limits.json")
    remove(output / "limits")
    options = {"luminosity": analysis.luminosity, "blind": analysis.blind, **analysis.limits.model_dump()}
    set_on = limits_of(found, signals, names=names, **options)
    written = write_limits(found, set_on, output / "limits", names=names)
    write_json(output / "limits.json", finite({"signals": written, "notes": notes}))


def scan_loss_plane(analysis: Analysis, found: Search, data: Scored, calibration: Scored) -> dict[str, Any]:
    """Scan the plane of background and signal loss for the place of an excess; write plane_scan.json and the map."""
    from .analysis import draw_plane_scan, scan_plane
    from .analysis.regions import chosen_columns

    options = analysis.plane_scan
    if options is None:
        return {}
    # the family's plane, whatever the regions are: a window of a map has two axes
    priors, window = len(analysis.samples.priors), found.fit_range
    columns = [0, 1 + priors] if analysis.regions.axis == "family" else list(range(1 + priors))
    hunted, fixing = (s.select(window.inside(s.mjj)) for s in (data, calibration))
    scan = scan_plane(
        hunted.mjj,
        chosen_columns(hunted.losses, columns),
        window.edges,
        found.hunt.masses,
        held_out=[chosen_columns(fixing.losses[fixing.fold == f], columns) for f in range(int(fixing.fold.max()) + 1)],
        fold=hunted.fold,
        sqrt_s=analysis.sqrt_s,
        **options.model_dump(),
    )
    output = Path(analysis.output)
    scan.save(output / "plane_scan.json")
    draw_plane_scan(scan, output / "figures" / "loss_plane")
    place, mass = scan.largest
    return {
        "note": scan.note,
        "windows": len(scan.windows),
        "fits_failed": int((~scan.converged[scan.counts.sum(axis=1) >= options.min_events]).sum()),
        "largest": {
            "window": scan.windows[place],
            "mass": scan.masses[mass],
            "signal_yield": scan.signal[place, mass],
            "signal_yield_error": scan.error[place, mass],
        },
    }


def report(analysis: Analysis, progress: bool) -> None:  # noqa: ARG001 - every stage takes progress
    """Write report.html from result.json, limits.json, validation.json where it is newer than the result, and the figures."""
    from .analysis import report_folder

    report_folder(Path(analysis.output))


def validate_analysis(analysis: Analysis, *, retrain: int = 0, progress: bool = True, **numbers: int) -> dict[str, Any]:
    """Make every check of a finished search at full size; write validation.json, figures and report.html anew.

    Outer experiments are drawn from samples.validation, else from the held-out background that fixed the regions. retrain: as
    many more whole analyses on data drawn from samples.validation, models trained anew. numbers: local, outer, inner,
    injected, workers of `analysis.validate`.
    """
    from .analysis import global_uniformity, hunt_of, read_regions, read_result, validate, write_validation

    output = Path(analysis.output)
    result = read_result(output)
    found, names = hunt_of(result)
    pool = None
    if analysis.samples.validation is not None or analysis.samples.background is not None:
        pool = read_scored(analysis, "calibration" if analysis.samples.validation is None else "validation")
    if retrain and analysis.samples.validation is None:
        raise HunchError("--retrain needs samples.validation: background events from which whole datasets are drawn")
    made = validate(
        found,
        names,
        seed=analysis.seed,
        events=float(len(read_table(table_path(analysis, "data")))),
        pool=pool,
        regions=None if pool is None else read_regions(output / "regions.json"),
        progress=progress,
        **numbers,
    )
    if retrain:
        inner = numbers.get("inner", 500)
        p, events = retrained_p(analysis, retrain, inner=inner)
        how = f"{events:.0f} events of validation, models trained anew in each"
        again = global_uniformity(p, how=how, inner=inner, events=events)
        made = dataclasses.replace(made, global_p=(*made.global_p, again))
    checks: dict[str, Any] = finite(made.as_dict())
    write_validation(made, output)
    write_json(output / "validation.json", checks)
    report(analysis, progress)
    return checks


def retrained_p(analysis: Analysis, n: int, *, inner: int) -> tuple[list[float], float]:
    """Run the analysis on n datasets drawn from the validation sample, models and all; return global p and mean events."""
    import tempfile

    from .analysis import read_result

    tables = {name: read_table(table_path(analysis, name)) for name in ("data", "validation")}
    pool = tables["validation"]
    events = min(len(tables["data"]), len(pool) // 2)
    found = []
    for i in range(n):
        rng = np.random.default_rng(np.random.SeedSequence([analysis.seed, 0x2E7, i]))
        rows = np.sort(rng.choice(len(pool), min(int(rng.poisson(events)), len(pool)), replace=False))
        with tempfile.TemporaryDirectory(dir=analysis.output, prefix=".retrained.") as folder:
            drawn = Path(folder) / "data.parquet"
            write_table(drawn, pool.select(rows))
            files = {name: (str(table_path(analysis, name)),) for name in analysis.sample_files()}
            samples = analysis.samples.model_copy(
                update={
                    "data": (str(drawn),),
                    "background": files.get("background"),
                    "priors": {name: files[f"prior.{name}"] for name in analysis.samples.priors},
                    "signals": {},
                    "validation": None,
                }
            )
            own = analysis.model_copy(
                update={
                    "samples": samples,
                    "output": str(Path(folder) / "out"),
                    "features": features_of(analysis),
                    "seed": analysis.seed + 1 + i,
                    "pseudo_experiments": inner,
                    "blind": False,
                    "plane_scan": None,
                }
            )
            for stage in ("process", "train", "score", "hunt"):
                run_stage(own, stage, progress=False)
            found.append(float(read_result(Path(own.output))["best"]["p_global"]))
            log.info("retrained experiment %d of %d: global p = %.3g", i + 1, n, found[-1])
    return found, float(events)


def search_files(analysis: Analysis, files: Sequence[str], *, progress: bool = True) -> Any:
    """Apply the analysis' trained scorers and fixed regions to event files chunk by chunk, no table in between.

    Returns the processors' SearchResult, whose spectra have the edges of the analysis' own fit range.
    """
    from .analysis import read_regions
    from .processors import DijetSettings, read_fileset, run_search

    output = Path(analysis.output)
    for needed in ("result.json", "regions.json"):
        if not (output / needed).is_file():
            raise HunchError(f"{output / needed}: not there yet; hunch run fixes the regions first")
    edges = json.loads((output / "result.json").read_text(encoding="utf-8"))["fit_range"]["edges"]
    return run_search(
        read_fileset(files),
        scorers=model_paths(analysis),
        regions=read_regions(output / "regions.json"),
        features=features_of(analysis),
        edges=edges,
        settings=DijetSettings(**analysis.jets.model_dump()),
        executor=analysis.executor,
        workers=analysis.workers,
        scheduler=analysis.scheduler,
        skip_bad_files=analysis.skip_bad_files,
        progress=progress,
    )


def sample_inputs(analysis: Analysis) -> list[Path]:
    """Return the user's files."""
    return [Path(file) for files in analysis.sample_files().values() for file in files]


def tables_of(analysis: Analysis) -> list[Path]:
    """Return the tables of all samples."""
    return [table_path(analysis, name) for name in analysis.sample_files()]


def scores_of(analysis: Analysis) -> list[Path]:
    """Return the scored tables."""
    return [score_path(analysis, name) for name in scored_samples(analysis)]


def in_output(*names: str) -> Callable[[Analysis], list[Path]]:
    """Return files of the output folder."""
    return lambda analysis: [Path(analysis.output) / name for name in names]


HUNT_KEYS = (
    "samples",
    "seed",
    "regions",
    "fit_range",
    "masses",
    "sqrt_s",
    "weak_supervision",
    "background_function",
    "combination",
    "pseudo_experiments",
    "blind",
    "plane_scan",
)

STAGES: dict[str, Stage] = {
    "process": Stage(
        "process",
        ("samples", "features", "weak_supervision", "jets", "skip_bad_files"),
        sample_inputs,
        tables_of,
        process,
    ),
    "train": Stage(
        "train",
        ("samples", "features", "seed", "folds", "held_out", "weak_supervision", "training", "regions"),
        tables_of,
        model_paths,
        train,
    ),
    "score": Stage(
        "score",
        ("samples", "features", "folds", "held_out", "weak_supervision"),
        lambda a: [*tables_of(a), *model_paths(a)],
        scores_of,
        score,
    ),
    "hunt": Stage(
        "hunt",
        HUNT_KEYS,
        lambda a: [*scores_of(a), *tables_of(a), *model_paths(a)],
        in_output("regions.json", "spectra.root", "result.json", "figures"),
        hunt,
    ),
    "limits": Stage(
        "limits",
        ("samples", "limits", "luminosity", "blind"),
        lambda a: [
            *in_output("result.json", "regions.json")(a),
            *(score_path(a, name) for name in simulated_signals(a)),
        ],
        in_output("limits.json"),
        limits,
    ),
    "report": Stage("report", (), in_output("result.json", "limits.json", "figures"), in_output("report.html"), report),
}
"""The stages, in order."""
