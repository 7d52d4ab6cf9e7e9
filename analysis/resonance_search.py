"""A search from losses to an answer: fit range, regions, spectra, the hunt in them, and the checks that stand beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..pieces import NONE_KEPT, Pieces
from ..table import MJJ, Observable
from .checks.background_only import Sculpting, Spurious, sculpting, spurious_signal
from .fits.background import family_orders
from .ranges.fit_range import find_fit_range, given_fit_range, left_out_note, masses_within
from .regions.difference import difference_score
from .regions.metrics import Metrics, evaluate
from .regions.regions import Regions
from .regions.scored import RegionChoice, Scored, choose_regions, region_counts, regions_of_events
from .significance.procedure import HuntSettings
from .significance.widths import Width, hunted_widths
from .spectra.bins import FitRange, mass_edges, mass_grid, spectrum
from .spectra.signal_shape import SignalShape, fit_signal_shape
from .spectrum_hunt import SpectrumHunt, hunt_in_range

__all__ = ["Search", "choose_fit_range", "given_edges", "hunted_masses", "search", "spurious_signals"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Search(SpectrumHunt):
    """A hunt in regions of scored events, with what the regions do to the background.

    sculpting_before: of the same regions with boundaries that do not follow the mass, where these do; sculpting_spectra:
    counts of held-out events, (bins,) of all and (regions, bins).
    """

    regions: Regions
    sculpting: tuple[Sculpting, ...]
    sculpting_before: tuple[Sculpting, ...]
    sculpting_spectra: tuple[Floats, Floats]
    spurious: tuple[Spurious, ...]
    metrics: dict[str, Metrics]


def choose_fit_range(
    mass: npt.ArrayLike,
    *,
    fit_range: tuple[float, float] | None,
    settings: HuntSettings,
    shape: SignalShape | None = None,
    reach: float = 0.0,
) -> FitRange:
    """Return the given range (GeV) with bins, or find one on the inclusive masses (n,) of background or data.

    shape: of the signal that will be hunted; reach: largest mass that will be hunted in, GeV.
    """
    if fit_range is None:
        return find_fit_range(mass, sqrt_s=settings.sqrt_s, shape=shape, reach=reach)
    return given_fit_range(mass, given_edges(mass, fit_range, settings), sqrt_s=settings.sqrt_s, shape=shape)


def given_edges(mass: npt.ArrayLike, fit_range: tuple[float, float], settings: HuntSettings) -> Floats:
    """Return the bin edges (GeV) of a given fit range; raises InputError where it holds no event (n,), or too few bins to fit."""
    edges, of = mass_edges(*fit_range), settings.observable
    masses = np.asarray(mass, dtype=np.float64)
    asked = f"[{fit_range[0]:g}, {fit_range[1]:g}] {of.unit}".rstrip()
    if not ((masses >= edges[0]) & (masses < edges[-1])).any():
        span = of.span(masses.min(), masses.max()) if len(masses) else "no events"
        raise InputError(f"fit_range {asked} holds none of the {len(masses)} events ({span})")
    parameters = family_orders(settings.family)[0] + 1
    if len(edges) - 1 < parameters + 2:
        raise InputError(
            f"fit_range {asked} is too short to scan: it holds {len(edges) - 1} bins of a mass resolution each; {settings.family} has {parameters} parameters "
            f"or more and a bump one more, so {parameters + 2} bins are needed"
        )
    return edges


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
    inside, edges = calibration.select(fit_range.inside(calibration.mass)), np.asarray(fit_range.edges)
    scale = expected_events / len(inside.mass)
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
    observable: Observable | None = None,
    fit_range: tuple[float, float] | None = None,
    masses: tuple[float, float] | None = None,
    width: Width = None,
    independent: bool = True,
    progress: bool = True,
    pieces: Pieces = NONE_KEPT,
) -> Search:
    """Search the data for a resonance; the answer with its checks.

    calibration: held-out background, or the folds of the data scored by models that trained on neither them nor the
    folds they hunt; inclusive: masses that set the fit range (the whole background sample; default the data's);
    prior_masses: name -> (n,) GeV for the signal's shape; observable: what the masses are of, in place of that of the
    settings; fit_range, masses: [low, high] GeV; width: of the signal's core, relative, in place of the
    fitted one, or the lowest and the highest, which are scanned; independent: the calibration is a background sample of its own, so that the
    background-only checks make sense on it; pieces: where finished experiments are kept. Raises InputError where no event or no mass is left.
    """
    choice, settings = choice or RegionChoice(), settings or HuntSettings()
    if observable is not None:
        settings = dataclasses.replace(settings, observable=observable)
    reference = np.asarray(data.mass if inclusive is None else inclusive, dtype=np.float64)
    shape, widths = hunted_widths(fit_signal_shape(prior_masses or {}), width)
    settings = dataclasses.replace(settings, widths=widths)
    window = choose_fit_range(
        reference, fit_range=fit_range, settings=settings, shape=shape, reach=float(data.mass.max(initial=0.0))
    )
    settings = settings.in_range(window)
    hunted = data.select(window.inside(data.mass))
    if len(hunted.mass) == 0:
        raise InputError(
            f"{data.name}: none of {len(data.mass)} events lies in the fit range "
            f"{settings.observable.span(window.low, window.high)}"
        )
    expected = len(hunted.mass)
    regions = choose_regions(calibration, window, choice, expected_events=expected)
    names = tuple(f"region {r}" for r in range(regions.n_regions))
    assigned = regions_of_events(hunted, regions)
    spectra = {
        name: spectrum(hunted.mass[assigned == r], window.edges, observable=settings.observable)
        for r, name in enumerate(names)
    }
    cutflow = {
        "below the fit range": int((data.mass < window.low).sum()),
        "above the fit range": int((data.mass >= window.high).sum()),
        "in no region": int((assigned < 0).sum()),
        **{name: int((assigned == r).sum()) for r, name in enumerate(names)},
    }
    counted = reference if len(reference) > len(data.mass) else data.mass
    grid = hunted_masses(window, counted, width=shape.width, masses=masses, observable=settings.observable)
    shaped, before, held_counts = sculpted(
        calibration, regions, window, choice, expected_events=expected, seed=settings.seed
    )
    spurious: tuple[Spurious, ...] = ()
    if independent:
        spurious = spurious_signals(
            calibration, regions, window, grid, shape=shape, expected_events=expected, settings=settings
        )
        settings = dataclasses.replace(settings, lowest_orders=tuple(s.lowest for s in spurious))
    notes = [
        f"region {s.region}: spurious signal up to {s.worst:.2f} of the statistical error in every order"
        for s in spurious
        if not s.resolved
    ]
    if masses is not None:
        notes += left_out_note(
            window, counted, grid, resolution=step_of(shape.width), asked=masses, observable=settings.observable
        )
    # no refusal: the functions were checked on held-out background, and a signal may fill a region
    found = hunt_in_range(
        spectra,
        window,
        grid,
        shape=shape,
        settings=settings,
        refusing=False,
        cutflow=cutflow,
        notes=notes,
        progress=progress,
        pieces=pieces,
    )
    return Search(
        **{f.name: getattr(found, f.name) for f in dataclasses.fields(found)},
        regions=regions,
        sculpting=shaped,
        sculpting_before=before,
        sculpting_spectra=held_counts,
        spurious=spurious,
        metrics=truth_metrics(data, regions),
    )


def sculpted(
    calibration: Scored, regions: Regions, window: FitRange, choice: RegionChoice, *, expected_events: int, seed: int
) -> tuple[tuple[Sculpting, ...], tuple[Sculpting, ...], tuple[Floats, Floats]]:
    """Measure how the regions shape the held-out background; and how they would with boundaries that do not follow the mass.

    The second is empty where the boundaries do not follow it. Counts of the held-out events come last, (bins,) of all and
    (regions, bins).
    """
    held_out, edges = calibration.select(window.inside(calibration.mass)), np.asarray(window.edges)
    inclusive = np.histogram(held_out.mass, edges)[0].astype(np.float64)
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0x5C]))

    def measured(fixed: Regions) -> tuple[tuple[Sculpting, ...], Floats]:
        counts = region_counts(held_out, fixed, edges)
        found = (sculpting(inclusive, row, region=f"region {r}", rng=rng) for r, row in enumerate(counts))
        return tuple(found), counts

    shaped, counts = measured(regions)
    before: tuple[Sculpting, ...] = ()
    if choice.decorrelation is not None:
        still = dataclasses.replace(choice, decorrelation=None)
        before, _ = measured(choose_regions(calibration, window, still, expected_events=expected_events))
    return shaped, before, (inclusive, counts)


def hunted_masses(
    window: FitRange, events: Floats, *, width: float, masses: tuple[float, float] | None, observable: Observable = MJJ
) -> Floats:
    """Return the masses (GeV) to hunt at, from inclusive masses (n,) and the signal's relative width; InputError for none."""
    grid = mass_grid(window, events, resolution=step_of(width))
    return grid if masses is None else masses_within(grid, masses, observable)


def step_of(width: float) -> float:
    """Return two steps of the scan: bins are a mass resolution wide, and steps finer than half of one repeat the same fit."""
    return min(max(width, 0.035), 0.05)


def truth_metrics(data: Scored, regions: Regions) -> dict[str, Metrics]:
    """Return figures of merit of the loss difference and the background loss where the data carry both truths."""
    if data.truth is None or not (0 < int(data.truth.sum()) < len(data.truth)):
        return {}
    looked_at = data.along(regions.axes)
    scores = {"loss difference": difference_score(looked_at, regions.alpha), "background loss": data.losses[:, 0]}
    if data.losses.shape[1] == 1:
        del scores["loss difference"]
    return {name: evaluate(score, data.truth) for name, score in scores.items()}
