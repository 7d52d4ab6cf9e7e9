"""The fourth stage: regions are fixed, spectra hunted in, the answer and its checks written."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..config import Analysis
from ..documents import read_json
from ..errors import InputError
from ..files import finite, remove, write_json
from ..pieces import NONE_KEPT, Pieces
from ..table import Observable, read_table, table_info
from .layout import JET_MASS, model_paths, region_axes, table_path
from .score import read_jet_mass, read_plain, read_scored
from .trainings import draw_how_trained

if TYPE_CHECKING:
    from ..analysis import RegionChoice, Scored, Search

__all__ = ["hunt", "scan_loss_plane"]

log = logging.getLogger(__name__)


def hunt(analysis: Analysis, progress: bool, pieces: Pieces = NONE_KEPT) -> None:
    """Hunt for a bump, or count, as the analysis says; pieces: where finished pseudo-experiments are kept."""
    if analysis.hunt == "count":
        from .count import count

        count(analysis)
    else:
        hunt_bump(analysis, progress=progress, pieces=pieces)


def hunt_bump(analysis: Analysis, *, progress: bool, pieces: Pieces = NONE_KEPT) -> None:
    """Fix the regions, hunt, check, and write regions.json, spectra.root, the figures and result.json."""
    from ..analysis import HuntSettings, RegionChoice, draw_figures, result_of, search, stand_in, write_spectra

    data, calibration = read_scored(analysis, "data"), read_scored(analysis, "calibration")
    priors = {name: read_scored(analysis, f"prior.{name}") for name in analysis.samples.priors}
    blind = None
    if analysis.blind:
        number = len(data.mass)
        data = stand_in(calibration, number, np.random.default_rng(np.random.SeedSequence([analysis.seed, 0xB11D])))
        blind = f"blind: {len(data.mass)} held-out background events stand in for {number} of the data"
    observable = analysis.represented.observable
    if observable is None:
        raise InputError(f"representation {analysis.represented.name} has no mass to look for a bump in")
    own_background = analysis.samples.background is not None
    inclusive = read_table(table_path(analysis, "background" if own_background else "data"), columns=[observable.name])[
        observable.name
    ].astype(np.float64)
    choice = RegionChoice(
        **analysis.region_settings.model_dump(exclude={"axis"}), axes=region_axes(analysis, data.axes)
    )
    found = search(
        data,
        calibration,
        inclusive=inclusive,
        prior_masses={name: prior.mass for name, prior in priors.items()},
        choice=choice,
        settings=HuntSettings(
            sqrt_s=analysis.sqrt_s,
            family=analysis.background_function,
            combination=analysis.combination_method,
            pseudo_experiments=0 if blind else analysis.pseudo_experiments,
            seed=analysis.seed,
            after_first=analysis.after_first,
        ),
        fit_range=analysis.fit_range,
        masses=analysis.masses,
        width=analysis.width,
        independent=own_background,
        observable=observable,
        progress=progress,
        pieces=pieces,
    )
    output = Path(analysis.output)
    leave_nothing(output)
    found.regions.save(output / "regions.json")
    write_spectra(output / "spectra.root", found.names, found.spectra)
    inclusive_name = "background sample" if own_background else "data, all regions"
    draw_figures(
        found, output / "figures", data=data, priors=priors, inclusive=inclusive, inclusive_name=inclusive_name
    )
    scanned = None
    if analysis.plane_scan is not None:
        scanned = scan_loss_plane(analysis, found, data, calibration)
    answer = result_of(found, no_significance=blind)
    expected: dict[str, Any] = {}
    not_expected: list[str] = []
    if analysis.expected_discovery is not None:
        expected, not_expected = expect_discovery(analysis, found, progress=progress, pieces=pieces)
    result = {
        **how_it_was_made(analysis),
        "cutflow": {**before_the_hunt(analysis), **found.cutflow},
        **answer,
        "notes": [*sample_notes(analysis), *answer["notes"], *not_expected],
        **({"expected_discovery": expected} if expected else {}),
        **exposure_of(analysis, found, data, calibration, choice),
        **draw_how_trained(analysis),
        **({} if scanned is None else {"plane_scan": scanned}),
    }
    write_json(output / "result.json", finite(result))


def exposure_of(
    analysis: Analysis, found: Search, data: Scored, calibration: Scored, choice: RegionChoice
) -> dict[str, Any]:
    """Return the sculpting without exposure and with it, of the hunted mass and of the jets', for JSON, and draw it; nothing where none was compared."""
    from ..analysis import draw_exposed, exposed_sculpting

    plain, observable = read_plain(analysis, calibration), found.hunt.settings.observable
    if plain is None:
        return {}
    jet_mass = None if observable.name == JET_MASS else read_jet_mass(analysis)
    compared = exposed_sculpting(
        calibration,
        plain,
        found.regions,
        found.fit_range,
        choice,
        expected_events=int(found.fit_range.inside(data.mass).sum()),
        masses=() if jet_mass is None else ((Observable.of(JET_MASS), jet_mass),),
        observable=observable,
        seed=analysis.seed,
    )
    draw_exposed(compared, Path(analysis.output) / "figures")
    return {"exposure": {"sculpting": [mass.as_dict() for mass in compared]}}


def leave_nothing(output: Path) -> None:
    """Delete the answer of before, and what was made of it, so that none of it stands beside a new answer that is half written."""
    answer = ("report.html", "result.json", "regions.json", "spectra.root", "plane_scan.json", "figures")
    for name in (*answer, "limits.json", "limits"):
        remove(output / name)


def how_it_was_made(analysis: Analysis) -> dict[str, Any]:
    """Return what every result states of its making: versions, seed, configuration, samples, training."""
    from ..analysis import versions

    tables = {name: table_info(table_path(analysis, name)) for name in analysis.sample_files()}
    representation = analysis.represented
    return {
        "hunch": __version__,
        "versions": versions(),
        "seed": analysis.seed,
        "configuration": analysis.model_dump(mode="json"),
        "representation": {"name": representation.name, **representation.settings()},
        "features": list(representation.inputs),
        "observable": None if representation.observable is None else dataclasses.asdict(representation.observable),
        "samples": {
            name: {
                "events": info.rows,
                "cutflow": dict(info.metadata["cutflow"]),
                "skipped_files": info.metadata.get("skipped", []),
                "ntrk_counts": info.metadata.get("ntrk"),
            }
            for name, info in tables.items()
        },
        "training": [
            read_json(folder / "scorer.json", remedy="hunch train writes it anew")["training"]
            for folder in model_paths(analysis)
        ],
    }


def sample_notes(analysis: Analysis) -> list[str]:
    """Return what was noted of the samples when their tables were made."""
    tables = {name: table_info(table_path(analysis, name)) for name in analysis.sample_files()}
    return [f"sample {name}: {note}" for name, info in tables.items() for note in info.metadata.get("notes", ())]


def before_the_hunt(analysis: Analysis) -> dict[str, int]:
    """Return the cutflow of the data up to the hunt."""
    cutflow = table_info(table_path(analysis, "data")).metadata["cutflow"]
    return {k: v for k, v in cutflow.items() if k != "kept"}


def expect_discovery(
    analysis: Analysis, found: Search, *, progress: bool, pieces: Pieces
) -> tuple[dict[str, Any], list[str]]:
    """Return the expected discovery of every signal, drawn too, for JSON; and notes on signals that have none."""
    from ..analysis import expected_discovery
    from ..analysis.results import draw_expected
    from .limits import signals_in

    options = analysis.expected_discovery
    if options is None:
        return {}, []
    signals, notes = signals_in(analysis, found.regions)
    for note in notes:
        log.warning("%s", note)
    made = {
        signal.name: expected_discovery(
            found.hunt,
            points=options.masses,
            yields=options.yields,
            experiments=options.experiments,
            efficiencies=signal.efficiencies,
            luminosity=analysis.luminosity,
            progress=progress,
            pieces=pieces,
        )
        for signal in signals
    }
    draw_expected(made, Path(analysis.output) / "figures", found.hunt.settings.observable)
    return {name: expected.as_dict() for name, expected in made.items()}, notes


def scan_loss_plane(analysis: Analysis, found: Search, data: Scored, calibration: Scored) -> dict[str, Any]:
    """Scan the plane of background and signal loss for the place of an excess; write plane_scan.json and the map."""
    from ..analysis import draw_plane_scan, scan_plane

    options = analysis.plane_scan
    if options is None:
        return {}
    # the family's plane, whatever the regions are: a window of a map has two axes
    signal = ["family"] if analysis.axis == "family" else list(analysis.samples.priors)
    axes = ("background", *signal)
    window = found.fit_range
    hunted, fixing = (s.select(window.inside(s.mass)) for s in (data, calibration))
    scan = scan_plane(
        hunted.mass,
        hunted.along(axes),
        window.edges,
        found.hunt.masses,
        held_out=[fixing.along(axes)[fixing.fold == f] for f in range(int(fixing.fold.max()) + 1)],
        fold=hunted.fold,
        sqrt_s=analysis.sqrt_s,
        **options.model_dump(),
    )
    output = Path(analysis.output)
    scan.save(output / "plane_scan.json")
    draw_plane_scan(scan, output / "figures" / "loss_plane", observable=found.hunt.settings.observable)
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
