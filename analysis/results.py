"""The answer of a hunt or a search as JSON-like values, and its figures on disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from ..files import finite
from ..table import Observable
from .checks.bias import Bias
from .checks.bias_checks import bias_checks
from .checks.exposed import ExposedMass
from .checks.process_choices import process_choices
from .figures.base import save_figure
from .figures.expected_figure import expected_figure
from .figures.p_values import leading_regions, scan_figure
from .figures.region_figures import plane_figure, roc_figure, sculpting_figure
from .figures.spectrum_figures import inclusive_figure, range_figure, spectrum_figure
from .figures.width_figure import width_figure
from .fits.background import choose_background
from .fits.log_p import SMALLEST, z_of_log
from .fits.minuit_fit import MinuitFit, curve_parameters
from .fits.written import written_function
from .goodness.envelope import background_envelope
from .goodness.fit_quality import fit_qualities
from .goodness.saturated import saturated_fits
from .goodness.signal_curve import both_curve, signal_curve
from .p_values.tail import TailFit
from .regions.difference import difference_score
from .regions.scored import Scored, regions_of_events
from .resonance_search import Search
from .significance.after_first import Second
from .significance.bumphunt import BumpHunt
from .significance.expected import ExpectedDiscovery
from .spectrum_hunt import SpectrumHunt

__all__ = [
    "best_of",
    "draw_expected",
    "draw_exposed",
    "draw_figures",
    "draw_spectrum_figures",
    "fits_of",
    "result_of",
    "scan_of",
    "spectrum_result",
]

Floats = npt.NDArray[np.float64]


def result_of(found: Search, *, no_significance: str | None = None) -> dict[str, Any]:
    """Return a search's answer as a JSON-like mapping: what `spectrum_result` has, the regions, and the checks of both.

    no_significance: why no p-value means anything here. The cutflow of the hunt is `hunt_cutflow`.
    """
    # held-out events say something of the background where no model trained on them and they are background
    held_out = found.sculpting_spectra[1] if found.spurious else None
    answer = spectrum_result(found, no_significance=no_significance, held_out=held_out)
    cutflow = answer.pop("cutflow")
    return {
        **answer,
        "regions": dataclasses.asdict(found.regions)
        | {"description": found.regions.rule.description}
        | answer["regions"],
        "hunt_cutflow": cutflow,
        "sculpting": [dataclasses.asdict(s) for s in found.sculpting],
        "sculpting_before": [dataclasses.asdict(s) for s in found.sculpting_before],
        "spurious_signal": [dataclasses.asdict(s) for s in found.spurious],
        "metrics": {name: dataclasses.asdict(m) for name, m in found.metrics.items()},
    }


def spectrum_result(
    found: SpectrumHunt, *, no_significance: str | None = None, held_out: Floats | None = None
) -> dict[str, Any]:
    """Return a hunt's answer as a JSON-like mapping: best, scan, regions, fit_range, signal_shape, observable and the checks.

    Masses in GeV; p_local, z_local of `best` are the combined values at the mass where the combined p is smallest;
    p_global, z_global are those of the whole scan; z one-sided. second: the largest excess with the first one in the model (`Second`), null
    where `after_first` is not set or the first lies below it. no_significance: why no p-value means anything here, where
    the hunt itself does not know it; held_out: (regions, bins) of background, for the cross-check of a Gaussian process.
    """
    hunted = found.hunt
    choices = process_choices(hunted, held_out=held_out)
    return {
        "best": best_of(hunted, found.no_significance or no_significance),
        "second": None if found.second is None else found.second.as_dict(),
        "scan": scan_of(hunted, found.names, found.q0_p),
        "fit_range": dataclasses.asdict(found.fit_range) | {"low": found.fit_range.low, "high": found.fit_range.high},
        "signal_shape": hunted.shape.as_dict(),
        "observable": dataclasses.asdict(hunted.settings.observable),
        "regions": {"n_regions": len(found.names), "regions": fits_of(hunted, found.names, found.minuit, found.second)},
        "cutflow": found.cutflow,
        "saturated_fit": [f.as_dict() for f in saturated_fits(hunted, found.names)],
        "background_envelope": background_envelope(hunted, found.others).as_dict(),
        "process_choices": None if choices is None else choices.as_dict(),
        "bias": bias_of(found.bias, hunted.settings.observable),
        "injection_linearity": finite(dataclasses.asdict(found.linearity)),
        "local_p_uniformity": [dataclasses.asdict(u) for u in found.uniformity],
        "notes": list(found.notes),
    }


def bias_of(bias: Bias, observable: Observable) -> dict[str, Any]:
    """Return a bias test with its verdicts as a JSON-like mapping."""
    return {**bias.as_dict(), "checks": [dataclasses.asdict(check) for check in bias_checks(bias, observable)]}


def best_of(hunted: BumpHunt, no_significance: str | None = None) -> dict[str, Any]:
    """Return the mass, and the relative width of the signal, where the combined p is smallest, with its local and global p.

    p_local: calibrated as p_local_by says (`local_p`), an upper limit where it is 1e-300 (p_local_is_bound), which z_local is not;
    p_local_asymptotic, z_local_asymptotic: the statistic that ranks masses; z_local_first: it, before a Gaussian process was chosen
    again. p_local_pseudo_experiments: share of the experiments with a combined p as small at this mass, an upper limit where there is
    none (p_local_pseudo_experiments_is_bound).
    p_global: (1 + k) / (1 + n) of n pseudo-experiments, k of which show a combined p as small, an upper limit where k = 0
    (p_global_is_bound); p_global_upper_95: the 95 % upper limit that k of n give, 3 / n where k = 0.
    p_global_tail, z_global_tail, p_global_tail_interval: where k < 10, p from a fit of the experiments' tail carried on to
    the observation, and its 68 % interval [low, high]; null where there is no such fit (`tail.fit_tail`).
    no_significance: why a p-value means nothing here; the global ones are then None, and local ones are of the fit as it is.
    """
    best, glob = hunted.best, hunted.global_p
    local = hunted.local_p
    answer: dict[str, Any] = {
        "mass": float(hunted.masses[best]),
        "width": float(hunted.widths[best]),
        "p_local": local.p,
        "p_local_is_bound": local.p <= SMALLEST,
        "z_local": local.z,
        "p_local_by": local.said,
        "p_local_asymptotic": float(hunted.combined[best]),
        "z_local_asymptotic": float(hunted.z_combined[best]),
        "z_local_first": float(z_of_log(hunted.log_first[best])),
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
            "p_local_pseudo_experiments": (1 + local.above) / (1 + local.n),
            "p_local_pseudo_experiments_is_bound": local.above == 0,
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
    """Return p, z and the fitted yield at every mass, of every region and combined. p of 1e-300 stand for smaller ones too, z do not.

    Where several widths are scanned, these are of the width with the smallest combined p at each mass, `widths`; z_of_widths, (widths
    scanned, masses), is combined z of all of them, and there are no up-crossings.

    Each region has its largest z too, and the global p of that by up-crossings (`gross_vitells.py`), null where no
    pseudo-experiments were made: of this region alone, without the trial of having looked into several.
    """
    own = hunted.gross_vitells()
    return {
        "masses": hunted.masses.tolist(),
        "widths": hunted.widths.tolist(),
        "widths_scanned": list(hunted.settings.widths),
        **(
            {"z_of_widths": z_of_log(hunted.log_all).reshape(-1, len(hunted.masses)).tolist()}
            if hunted.scans_widths
            else {}
        ),
        "p_combined": hunted.combined.tolist(),
        "z_combined": hunted.z_combined.tolist(),
        "z_first": z_of_log(hunted.log_first).tolist(),
        "combination": hunted.settings.combination,
        "expected_background_in_window": hunted.expected_in_window.tolist(),
        "regions": [
            {
                "name": name,
                "p_local": hunted.scan.p[r].tolist(),
                "z_local": hunted.scan.z[r].tolist(),
                "z_first": hunted.first.z[r].tolist(),
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


def fits_of(
    hunted: BumpHunt, names: Sequence[str], minuit: Sequence[MinuitFit], second: Second | None = None
) -> list[dict[str, Any]]:
    """Return every region's counts, expected background and fit, iminuit's beside the batched one.

    expected_with_signal: of the fit with a signal at the best mass, expected_with_both: with the second one too, where it was looked for
    and found; null where that fit does not end.
    `formula` with `parameters` gives the curve: a density in events per unit of the mass m, from which bins follow as `bins` says.
    The parameters' errors are iminuit's.
    """
    curves = [signal_curve(hunted, r, hunted.best) for r in range(len(names))]
    return [
        {
            "name": name,
            "events": int(hunted.counts[r].sum()),
            "counts": hunted.counts[r].tolist(),
            "expected": hunted.background.expected[r].tolist(),
            "expected_with_signal": listed(curves[r]),
            **({} if second is None else {"expected_with_both": listed(both_curve(hunted, r, second))}),
            "fit": {
                "family": quality.family,
                "order": quality.order,
                **written_function(
                    quality.family, quality.order, hunted.edges, sqrt_s=hunted.settings.sqrt_s
                ).as_dict(),
                "p_value": quality.p_value,
                # with a signal at the region's largest excess, and the yield beside a flexible background
                "quality": finite(dataclasses.asdict(quality)),
                "process": process_of(hunted, r),
                "parameters": curve_parameters(
                    hunted.background,
                    r,
                    hunted.edges,
                    sqrt_s=hunted.settings.sqrt_s,
                    family=hunted.settings.family,
                ),
                "errors": minuit[r].errors,
                "valid": minuit[r].valid,
                "minuit_minus_batched_2nll": 2 * (minuit[r].nll - float(hunted.background.nll[r])),
            },
        }
        for r, (name, quality) in enumerate(zip(names, fit_qualities(hunted, names, second), strict=True))
    ]


def listed(curve: Floats | None) -> list[float] | None:
    """Return a curve (bins,) for JSON, null where there is none."""
    return None if curve is None else [float(events) for events in curve]


def process_of(hunted: BumpHunt, region: int) -> dict[str, Any] | None:
    """Return a region's Gaussian process: its width and length, and the factor of each bin; None of another background."""
    fit, columns = hunted.background.process, hunted.columns(region)
    if fit is None or columns is None:
        return None
    free = columns.n_free
    return {
        "width": float(fit.width[region]),
        "length": float(fit.length[region]),
        "edge_terms": fit.process.edge_terms,
        "factor": np.exp(columns.basis[:, free:] @ columns.theta[free:]).tolist(),
        "widths": list(fit.process.widths),
        "lengths": list(fit.process.lengths),
        "modes": fit.process.modes,
        "log_evidence": finite(fit.log_evidence[region].tolist()),
    }


def inclusive_fit(hunted: BumpHunt, counts: Floats) -> Floats:
    """Return the expected counts (bins,) of the background family fitted to inclusive counts (bins,) in the fit range."""
    settings = hunted.settings
    fit = choose_background(counts[None], hunted.edges, sqrt_s=settings.sqrt_s, family=settings.family)
    return np.asarray(fit.expected[0])


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
    hunted, window, names = found.hunt, found.fit_range, found.names
    observable = hunted.settings.observable
    masses = np.asarray(inclusive, dtype=np.float64)
    fit = inclusive_fit(hunted, np.histogram(masses, hunted.edges)[0].astype(np.float64))
    shown = {"data": data.select(window.inside(data.mass)), **{f"prior {n}": p for n, p in priors.items()}}
    losses = {name: events.along(found.regions.axes) for name, events in shown.items()}
    assigned = {name: regions_of_events(events, found.regions) for name, events in shown.items()}
    inclusive_counts, region_counts = found.sculpting_spectra
    leading = leading_regions(hunted)
    per_region = {names[r]: region_counts[r] for r in leading}
    drawn: dict[str, Axes | Figure | SubFigure] = {
        "fit_range": inclusive_figure(
            masses, hunted.edges, fit, inclusive_name, (window.low, window.high), observable=observable
        ),
        "quak_plane": plane_figure(losses, assigned, found.regions.n_regions),
        "p_value_scan": scan_figure(hunted, names, second=found.second),
        **({"width_scan": width_figure(hunted)} if hunted.scans_widths else {}),
        "sculpting": sculpting_figure(
            inclusive_counts, per_region, hunted.edges, "held-out events", observable=observable
        ),
        **{f"spectrum_{r}": spectrum_figure(hunted, r, names[r], second=found.second) for r in leading},
    }
    if found.metrics and data.truth is not None:
        scores = {"background loss": data.losses[:, 0]}
        looked_at = data.along(found.regions.axes)
        if looked_at.shape[1] > 1:
            scores = {"loss difference": difference_score(looked_at, found.regions.alpha), **scores}
        drawn["roc_sic"] = roc_figure(scores, data.truth)
    return [path for name, figure in drawn.items() for path in save_figure(figure, folder, name)]


def draw_expected(found: Mapping[str, ExpectedDiscovery], folder: str | Path, observable: Observable) -> list[Path]:
    """Draw and write the expected discovery of each signal as expected_0, expected_1, ... in their order; returns the files."""
    return [
        path
        for i, (name, expected) in enumerate(found.items())
        for path in save_figure(expected_figure(expected, name, observable=observable), folder, f"expected_{i}")
    ]


def draw_exposed(found: Sequence[ExposedMass], folder: str | Path) -> list[Path]:
    """Draw and write what passes without exposure and with it, in each mass: exposed_0, exposed_half_0, ...; returns the files."""
    names = ("without exposure", "with exposure")
    return [
        path
        for i, mass in enumerate(found)
        for name, passing in ((f"exposed_{i}", mass.passing), (f"exposed_half_{i}", mass.passing_half))
        for path in save_figure(
            sculpting_figure(
                mass.inclusive,
                dict(zip(names, passing, strict=True)),
                mass.edges,
                "held-out events",
                observable=mass.observable,
            ),
            folder,
            name,
        )
    ]


def draw_spectrum_figures(found: SpectrumHunt, folder: str | Path) -> list[Path]:
    """Draw and write the scan, each region's spectrum, and the fit range on the sum of all regions; returns the files."""
    hunted, window = found.hunt, found.fit_range
    name = found.names[0] if len(found.names) == 1 else "all regions"
    drawn: dict[str, Axes | Figure | SubFigure] = {
        "p_value_scan": scan_figure(hunted, found.names, second=found.second),
        **({"width_scan": width_figure(hunted)} if hunted.scans_widths else {}),
        "fit_range": range_figure(
            found.counts.sum(axis=0),
            found.edges,
            hunted.edges,
            inclusive_fit(hunted, hunted.counts.sum(axis=0)),
            name,
            (window.low, window.high),
            observable=hunted.settings.observable,
        ),
        **{f"spectrum_{r}": spectrum_figure(hunted, r, n, second=found.second) for r, n in enumerate(found.names)},
    }
    return [path for name, figure in drawn.items() for path in save_figure(figure, folder, name)]
