"""The answer of a search as JSON-like values, and its figures on disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .figures.base import (
    inclusive_figure,
    leading_regions,
    plane_figure,
    roc_figure,
    save_figure,
    scan_figure,
    sculpting_figure,
    spectrum_figure,
)
from .fits.background import choose_background
from .fits.minuit_fit import MinuitFit
from .regions.regions import chosen_columns, difference_score
from .regions.scored import Scored
from .resonance_search import Search
from .significance.bumphunt import BumpHunt
from .significance.combination import z_value
from .significance.envelope import background_envelope
from .significance.fit_quality import fit_qualities
from .significance.tail import TailFit

__all__ = ["best_of", "draw_figures", "fits_of", "result_of", "scan_of"]

Floats = npt.NDArray[np.float64]


def result_of(found: Search, *, no_significance: str | None = None) -> dict[str, Any]:
    """Return a search's answer as a JSON-like mapping: best, scan, regions, fit_range, signal_shape and the checks.

    Masses in GeV; p_local, z_local of `best` are the combined values at the mass where the combined p is smallest;
    p_global, z_global are those of the whole scan; z one-sided. no_significance: why no p-value means anything here.
    """
    hunted = found.hunt
    return {
        "best": best_of(hunted, no_significance),
        "scan": scan_of(hunted, found.region_names, found.q0_p),
        "fit_range": dataclasses.asdict(found.fit_range) | {"low": found.fit_range.low, "high": found.fit_range.high},
        "signal_shape": hunted.shape.as_dict(),
        "regions": dataclasses.asdict(found.regions) | {"regions": fits_of(hunted, found.region_names, found.minuit)},
        "hunt_cutflow": found.cutflow,
        "sculpting": [dataclasses.asdict(s) for s in found.sculpting],
        "sculpting_before": [dataclasses.asdict(s) for s in found.sculpting_before],
        "spurious_signal": [dataclasses.asdict(s) for s in found.spurious],
        "background_envelope": background_envelope(hunted).as_dict(),
        "injection_linearity": dataclasses.asdict(found.linearity),
        "local_p_uniformity": [dataclasses.asdict(u) for u in found.uniformity],
        "metrics": {name: dataclasses.asdict(m) for name, m in found.metrics.items()},
        "notes": list(found.notes),
    }


def best_of(hunted: BumpHunt, no_significance: str | None = None) -> dict[str, Any]:
    """Return the mass where the combined p is smallest with its local and global p.

    p_local: asymptotic; p_local_pseudo_experiments: share of the experiments with a combined p as small at this mass, an upper
    limit where there is none (p_local_pseudo_experiments_is_bound).
    p_global: (1 + k) / (1 + n) of n pseudo-experiments, k of which show a combined p as small, an upper limit where k = 0
    (p_global_is_bound); p_global_upper_95: the 95 % upper limit that k of n give, 3 / n where k = 0.
    p_global_tail, z_global_tail, p_global_tail_interval: where k < 10, p from a fit of the experiments' tail carried on to
    the observation, and its 68 % interval [low, high]; null where there is no such fit (`tail.fit_tail`).
    no_significance: why a p-value means nothing here; the global ones are then None, and local ones are of the fit as it is.
    """
    best, glob = hunted.best, hunted.global_p
    answer: dict[str, Any] = {
        "mass": float(hunted.masses[best]),
        "p_local": float(hunted.combined[best]),
        "z_local": float(z_value(hunted.combined)[best]),
        "expected_background_in_window": float(hunted.expected_in_window[best]),
    }
    if no_significance is not None:
        answer |= {
            "no_significance": no_significance,
            "p_global": None,
            "z_global": None,
            "p_global_is_bound": False,
            "p_local_pseudo_experiments": None,
            "p_local_pseudo_experiments_is_bound": False,
            "p_global_upper_95": None,
            **tail_of(None),
            "p_global_gross_vitells_approximate": None,
            "pseudo_experiments": 0,
            "pseudo_experiments_above": 0,
            "failed_fits": 0.0,
        }
    elif glob is not None:
        answer |= {
            "p_global": glob.p,
            "z_global": glob.z,
            "p_global_is_bound": glob.is_bound,
            "p_local_pseudo_experiments": glob.p_local,
            "p_local_pseudo_experiments_is_bound": glob.local_above == 0,
            "p_global_upper_95": glob.upper_95,
            **tail_of(glob.tail),
            "p_global_gross_vitells_approximate": glob.gross_vitells,
            "pseudo_experiments": glob.n,
            "pseudo_experiments_above": glob.above,
            "failed_fits": glob.failed,
        }
    return answer


def tail_of(tail: TailFit | None) -> dict[str, Any]:
    """Return the tail fit's part of `best`, null where there is none."""
    return {
        "p_global_tail": None if tail is None else tail.p,
        "z_global_tail": None if tail is None else tail.z,
        "p_global_tail_interval": None if tail is None else [tail.low, tail.high],
    }


def scan_of(hunted: BumpHunt, names: Sequence[str], q0_p: Sequence[Sequence[float | None]]) -> dict[str, Any]:
    """Return p, z and the fitted yield at every mass, of every region and combined.

    Each region has its largest z too, and the global p of that by up-crossings (`gross_vitells.py`), null where no
    pseudo-experiments were made: of this region alone, without the trial of having looked into several.
    """
    own = hunted.gross_vitells()
    return {
        "masses": hunted.masses.tolist(),
        "p_combined": hunted.combined.tolist(),
        "z_combined": z_value(hunted.combined).tolist(),
        "combination": hunted.settings.combination,
        "expected_background_in_window": hunted.expected_in_window.tolist(),
        "regions": [
            {
                "name": name,
                "p_local": hunted.scan.p[r].tolist(),
                "z_local": hunted.scan.z[r].tolist(),
                "signal_yield": hunted.scan.signal[r].tolist(),
                # a fit that failed has no error: null, strict JSON has no infinity
                "signal_yield_error": [e if np.isfinite(e) else None for e in hunted.scan.error[r].tolist()],
                "converged": hunted.scan.converged[r].tolist(),
                "p_q0_pyhf": list(q0_p[r]),
                "z_largest": float(hunted.largest_z[r]),
                "p_global_gross_vitells": None if own is None else own[r].p,
            }
            for r, name in enumerate(names)
        ],
    }


def fits_of(hunted: BumpHunt, names: Sequence[str], minuit: Sequence[MinuitFit]) -> list[dict[str, Any]]:
    """Return every region's counts, expected background and fit, iminuit's beside the batched one."""
    return [
        {
            "name": name,
            "events": int(hunted.counts[r].sum()),
            "counts": hunted.counts[r].tolist(),
            "expected": hunted.background.expected[r].tolist(),
            "fit": {
                "family": quality.family,
                "order": quality.order,
                "p_value": quality.p_value,
                # where the fit is bad: whether a bump explains that
                "largest_excess": None if quality.excess is None else dataclasses.asdict(quality.excess),
                "parameters": minuit[r].values,
                "errors": minuit[r].errors,
                "valid": minuit[r].valid,
                "minuit_minus_batched_2nll": 2 * (minuit[r].nll - float(hunted.background.nll[r])),
            },
        }
        for r, (name, quality) in enumerate(zip(names, fit_qualities(hunted, names), strict=True))
    ]


def draw_figures(
    found: Search,
    folder: str | Path,
    *,
    data: Scored,
    priors: Mapping[str, Scored],
    inclusive: npt.ArrayLike,
    inclusive_name: str,
) -> list[Path]:
    """Draw and write every figure of a search; returns the files.

    inclusive: (n,) GeV, the masses that set the fit range, and what they are called.
    """
    hunted, window = found.hunt, found.fit_range
    masses = np.asarray(inclusive, dtype=np.float64)
    counts = np.histogram(masses, hunted.edges)[0].astype(np.float64)
    fit = choose_background(counts[None], hunted.edges, sqrt_s=hunted.settings.sqrt_s, family=hunted.settings.family)
    shown = {"data": data.select(window.inside(data.mjj)), **{f"prior {n}": p for n, p in priors.items()}}
    assigned = {name: found.regions.assign(s.losses, s.fold, s.mjj) for name, s in shown.items()}
    n_regions = found.regions.n_regions
    inclusive_counts, region_counts = found.sculpting_spectra
    leading = leading_regions(hunted)
    per_region = {found.region_names[r]: region_counts[r] for r in leading}
    drawn = {
        "fit_range": inclusive_figure(masses, hunted.edges, fit.expected[0], inclusive_name, (window.low, window.high)),
        "quak_plane": plane_figure(
            {n: chosen_columns(s.losses, found.regions.columns) for n, s in shown.items()}, assigned, n_regions
        ),
        "p_value_scan": scan_figure(hunted, found.region_names),
        "sculpting": sculpting_figure(inclusive_counts, per_region, hunted.edges, "held-out events"),
        **{f"spectrum_{r}": spectrum_figure(hunted, r, found.region_names[r]) for r in leading},
    }
    if found.metrics and data.truth is not None:
        scores = {"background loss": data.losses[:, 0]}
        looked_at = chosen_columns(data.losses, found.regions.columns)
        if looked_at.shape[1] > 1:
            scores = {"loss difference": difference_score(looked_at, found.regions.alpha), **scores}
        drawn["roc_sic"] = roc_figure(scores, data.truth)
    return [path for name, figure in drawn.items() for path in save_figure(figure, folder, name)]
