"""One search from losses to an answer: fit range, regions, spectra, hunt, and the checks that stand beside it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import hist
import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .checks.background_only import Sculpting, Spurious, Uniformity, local_p_uniformity, sculpting, spurious_signal
from .checks.injection import Linearity, injection_linearity
from .fits.background import choose_background, goodness_of_fit
from .fits.minuit_fit import MinuitFit, fit_with_minuit
from .regions.metrics import Metrics, evaluate
from .regions.regions import Regions, chosen_columns, difference_score
from .regions.scored import RegionChoice, Scored, choose_regions, region_counts
from .significance.bumphunt import BumpHunt, HuntSettings, hunt
from .significance.fit_quality import fit_qualities, quality_notes
from .significance.fit_range import find_fit_range
from .significance.q0 import discovery_p
from .spectra.bins import FitRange, mass_edges, mass_grid, spectrum
from .spectra.signal_shape import SignalShape, fit_signal_shape

__all__ = ["Search", "choose_fit_range", "search", "spurious_signals"]

log = logging.getLogger(__name__)
Floats = npt.NDArray[np.float64]
DRIFT = 1e-3


@dataclass(frozen=True)
class Search:
    """Everything one search found; sculpting_before: of the same regions with boundaries that do not follow the mass."""

    fit_range: FitRange
    regions: Regions
    region_names: tuple[str, ...]
    spectra: tuple[hist.Hist[Any], ...]
    hunt: BumpHunt
    minuit: tuple[MinuitFit, ...]
    q0_p: tuple[tuple[float | None, ...], ...]
    cutflow: dict[str, int]
    sculpting: tuple[Sculpting, ...]
    sculpting_before: tuple[Sculpting, ...]
    sculpting_spectra: tuple[Floats, Floats]
    spurious: tuple[Spurious, ...]
    linearity: Linearity
    uniformity: tuple[Uniformity, ...]
    metrics: dict[str, Metrics]
    notes: tuple[str, ...] = field(default=())


def choose_fit_range(
    mjj: npt.ArrayLike, *, fit_range: tuple[float, float] | None, settings: HuntSettings, reach: float = 0.0
) -> FitRange:
    """Return the given range (GeV) with bins, or find one on the inclusive masses (n,) of background or data.

    reach: largest mass that will be hunted in, GeV.
    """
    if fit_range is None:
        return find_fit_range(mjj, sqrt_s=settings.sqrt_s, family=settings.family, reach=reach)
    edges = mass_edges(*fit_range)
    masses = np.asarray(mjj, dtype=np.float64)
    counts = np.histogram(masses, edges)[0].astype(np.float64)
    if counts.sum() == 0:
        span = f"{masses.min():g} to {masses.max():g} GeV" if len(masses) else "no events"
        raise InputError(
            f"fit_range [{fit_range[0]:g}, {fit_range[1]:g}] GeV holds none of the {len(masses)} events ({span})"
        )
    fit = choose_background(counts[None], edges, sqrt_s=settings.sqrt_s, family=settings.family)
    p = float(goodness_of_fit(counts[None], fit.expected, fit.n_parameters)[0])
    if p < 0.05:
        log.warning(
            "the inclusive spectrum does not fit the %s family in the given fit_range: p = %.2g", settings.family, p
        )
    return FitRange(tuple(edges.tolist()), "given", p)


def spurious_signals(
    calibration: Scored,
    regions: Regions,
    fit_range: FitRange,
    masses: Floats,
    *,
    shape: SignalShape,
    expected_events: int,
    settings: HuntSettings,
) -> tuple[Spurious, ...]:
    """Fit signal to the held-out background of every region: `lowest` of each is where the hunt's F-test starts.

    expected_events: that will be hunted in the fit range.
    """
    inside, edges = calibration.select(fit_range.inside(calibration.mjj)), np.asarray(fit_range.edges)
    scale = expected_events / len(inside.mjj)
    return tuple(
        spurious_signal(counts, edges, masses, region=r, shape=shape, scale=scale, settings=settings)
        for r, counts in enumerate(region_counts(inside, regions, edges))
    )


def search(
    data: Scored,
    calibration: Scored,
    *,
    inclusive: npt.ArrayLike | None = None,
    prior_masses: Mapping[str, npt.ArrayLike] | None = None,
    choice: RegionChoice | None = None,
    settings: HuntSettings | None = None,
    fit_range: tuple[float, float] | None = None,
    masses: tuple[float, float] | None = None,
    independent: bool = True,
    progress: bool = True,
) -> Search:
    """Search the data for a resonance; the answer with its checks.

    calibration: held-out background, or the folds of the data scored by models that trained on neither them nor the
    folds they hunt; inclusive: masses that set the fit range (the whole background sample; default the data's);
    prior_masses: name -> (n,) GeV for the signal's shape; independent: the calibration is a background sample of its
    own, so that the background-only checks make sense on it.
    """
    choice, settings = choice or RegionChoice(), settings or HuntSettings()
    reference = np.asarray(data.mjj if inclusive is None else inclusive, dtype=np.float64)
    window = choose_fit_range(reference, fit_range=fit_range, settings=settings, reach=float(data.mjj.max(initial=0.0)))
    hunted = data.select(window.inside(data.mjj))
    if len(hunted.mjj) == 0:
        raise InputError(
            f"{data.name}: none of {len(data.mjj)} events lies in the fit range {window.low:g} to {window.high:g} GeV"
        )
    regions = choose_regions(calibration, window, choice, expected_events=len(hunted.mjj))
    names = tuple(f"region {r}" for r in range(regions.n_regions))
    assigned = regions.assign(hunted.losses, hunted.fold, hunted.mjj)
    spectra = tuple(spectrum(hunted.mjj[assigned == r], window.edges) for r in range(regions.n_regions))
    cutflow = {
        "below the fit range": int((data.mjj < window.low).sum()),
        "above the fit range": int((data.mjj >= window.high).sum()),
        "in no region": int((assigned < 0).sum()),
        **{name: int((assigned == r).sum()) for r, name in enumerate(names)},
    }
    shape = fit_signal_shape(prior_masses or {})
    more = reference if len(reference) > len(data.mjj) else data.mjj
    # bins are a mass resolution wide: steps finer than half of one repeat the same fit
    grid = mass_grid(window, more, resolution=min(max(shape.width, 0.035), 0.05))
    if masses is not None:
        grid = grid[(grid >= masses[0]) & (grid <= masses[1])]
        if len(grid) == 0:
            raise InputError(f"masses [{masses[0]:g}, {masses[1]:g}] GeV hold no mass of the scan inside the fit range")

    held_out = calibration.select(window.inside(calibration.mjj))
    edges = np.asarray(window.edges)
    inclusive_counts = np.histogram(held_out.mjj, edges)[0].astype(np.float64)
    held_counts = region_counts(held_out, regions, edges)
    rng = np.random.default_rng(np.random.SeedSequence([settings.seed, 0x5C]))
    shaped = tuple(sculpting(inclusive_counts, c, region=n, rng=rng) for n, c in zip(names, held_counts, strict=True))
    before: tuple[Sculpting, ...] = ()
    if choice.decorrelation is not None:
        fixed = choose_regions(
            calibration, window, dataclasses.replace(choice, decorrelation=None), expected_events=len(hunted.mjj)
        )
        counts = region_counts(held_out, fixed, edges)
        before = tuple(sculpting(inclusive_counts, c, region=n, rng=rng) for n, c in zip(names, counts, strict=True))
    spurious: tuple[Spurious, ...] = ()
    notes: list[str] = []
    if independent:
        spurious = spurious_signals(
            calibration, regions, window, grid, shape=shape, expected_events=len(hunted.mjj), settings=settings
        )
        settings = dataclasses.replace(settings, lowest_orders=tuple(s.lowest for s in spurious))
        notes += [
            f"region {s.region}: spurious signal up to {s.worst:.2f} of the statistical error in every order"
            for s in spurious
            if not s.resolved
        ]
    found = hunt(spectra, grid, shape=shape, settings=settings, progress=progress)
    minuit = tuple(
        fit_with_minuit(
            found.counts[r], found.edges, int(found.background.order[r]), sqrt_s=settings.sqrt_s, family=settings.family
        )
        for r in range(len(names))
    )
    # a note and no refusal: the functions were checked on held-out background, and a signal may fill a region
    notes += quality_notes(fit_qualities(found, names), refusing=False) + fit_notes(found, minuit)
    for note in notes:
        log.warning("%s", note)
    best = found.best
    middle = np.unique(np.linspace(0, len(grid) - 1, 5).astype(int)[1:-1])
    return Search(
        fit_range=window,
        regions=regions,
        region_names=names,
        spectra=spectra,
        hunt=found,
        minuit=minuit,
        q0_p=tuple(q0_row(found, r) for r in range(len(names))),
        cutflow=cutflow,
        sculpting=shaped,
        sculpting_before=before,
        sculpting_spectra=(inclusive_counts, held_counts),
        spurious=spurious,
        linearity=injection_linearity(
            found.background.expected[0],
            found.edges,
            float(grid[best]),
            shape=shape,
            settings=settings,
            region=names[0],
            lowest=int(found.background.order[0]),
        ),
        uniformity=tuple(
            local_p_uniformity(
                found.background.expected, found.edges, grid[middle], shape=shape, settings=found.experiment_settings
            )
        ),
        metrics=truth_metrics(data, regions),
        notes=tuple(notes),
    )


def fit_notes(found: BumpHunt, minuit: Sequence[MinuitFit]) -> list[str]:
    """State every fit that failed, and every background fit on which iminuit and the batched fit disagree."""
    notes = []
    for r, fit in enumerate(minuit):
        difference = 2 * abs(fit.nll - float(found.background.nll[r]))
        if not fit.valid or not found.background.converged[r]:
            notes.append(f"region {r}: the background fit did not converge")
        elif difference > DRIFT:
            notes.append(f"region {r}: iminuit and the batched fit differ by {difference:.2g} in -2 ln L")
    failed = int((~found.scan.converged).sum())
    if failed:
        notes.append(f"{failed} of {found.scan.converged.size} signal fits did not converge and were left out")
    return notes


def q0_row(found: BumpHunt, region: int) -> tuple[float | None, ...]:
    """Return pyhf's q0 p-value at every mass where one region's fitted signal is positive, None elsewhere."""
    row: list[float | None] = []
    for m in range(len(found.masses)):
        if not (found.scan.signal[region, m] > 0 and found.scan.converged[region, m]):
            row.append(None)
            continue
        row.append(
            discovery_p(
                found.counts[region],
                found.edges,
                found.templates[m],
                int(found.background.order[region]),
                sqrt_s=found.settings.sqrt_s,
                family=found.settings.family,
            )
        )
    return tuple(row)


def truth_metrics(data: Scored, regions: Regions) -> dict[str, Metrics]:
    """Return figures of merit of the loss difference and the background loss where the data carry both truths."""
    if data.truth is None or not (0 < int(data.truth.sum()) < len(data.truth)):
        return {}
    looked_at = chosen_columns(data.losses, regions.columns)
    scores = {"loss difference": difference_score(looked_at, regions.alpha), "background loss": data.losses[:, 0]}
    if data.losses.shape[1] == 1:
        del scores["loss difference"]
    return {name: evaluate(score, data.truth) for name, score in scores.items()}
