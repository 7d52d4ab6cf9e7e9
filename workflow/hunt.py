"""The fourth stage: regions are fixed, spectra hunted in, the answer and its checks written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..config import Analysis
from ..files import finite, remove, write_json
from ..table import read_table
from .layout import features_of, model_paths, table_path
from .score import read_scored

if TYPE_CHECKING:
    from ..analysis import Scored, Search

__all__ = ["hunt", "region_columns", "scan_loss_plane"]


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


def hunt(analysis: Analysis, progress: bool) -> None:
    """Fix the regions, hunt, check, and write regions.json, spectra.root, the figures and result.json."""
    from ..analysis import (
        HuntSettings,
        RegionChoice,
        draw_figures,
        result_of,
        search,
        stand_in,
        versions,
        write_spectra,
    )

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


def scan_loss_plane(analysis: Analysis, found: Search, data: Scored, calibration: Scored) -> dict[str, Any]:
    """Scan the plane of background and signal loss for the place of an excess; write plane_scan.json and the map."""
    from ..analysis import draw_plane_scan, scan_plane
    from ..analysis.regions.regions import chosen_columns

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
