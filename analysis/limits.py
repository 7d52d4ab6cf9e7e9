"""Upper limits on a resonance by CLs against mass, from pyhf models that use every bin once.

A model holds the window's bins only, one channel a region and one signal strength for all of them. Each region's background
moves along the eigenvectors of the covariance of a fit with the window masked; the signal's scale and resolution are
nuisances. Limits follow from qtilde (arXiv:1007.1727, eq. 16) by CLs (J. Phys. G 28 (2002) 2693), asymptotically.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyhf
from scipy import optimize, special
from threadpoolctl import threadpool_limits

from ..errors import InputError
from ..table import write_json
from .bumphunt import BumpHunt
from .discovery import MIN_EIGENVALUE, signal_window
from .minuit_fit import fit_with_minuit
from .resonance import signal_templates

__all__ = ["LimitModel", "Limits", "cls_limits", "limit_model", "model_cls", "model_discovery_p", "write_workspaces"]

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")
Floats = npt.NDArray[np.float64]
SCALE_ERROR = 0.01
RESOLUTION_ERROR = 0.10
LEVEL = 0.05
MAX_LOG_ERROR = 2.0  # sidebands that know the background to a factor of 7 only say nothing of it
MU_MAX = 100.0  # in units of about one expected limit: a limit beyond is a failure, not an answer
PRECISION = 1e-3  # of a limit, relative
NOT_THE_MINIMUM = 1e-3  # in -2 ln L: a fixed fit this far below the free one shows that the free one failed
FEW_EVENTS = 10.0
INTERPOLATION = {"normsys": {"interpcode": "code4"}, "histosys": {"interpcode": "code4p"}}  # what `pyhf cls` sets
SIGMAS = (-2, -1, 0, 1, 2)


@dataclass(frozen=True)
class LimitModel:
    """The pyhf workspace of one mass, and what its numbers mean.

    mass: GeV; unit: signal events (in all of m_jj, all regions) at mu = 1; names: regions in it; dropped: region -> why it is
    not; edges: (bins + 1,) of the window, GeV; background: events expected in the window; workspace: JSON-like.
    """

    mass: float
    unit: float
    names: tuple[str, ...]
    dropped: dict[str, str]
    edges: Floats
    background: float
    workspace: dict[str, Any]

    def build(self, background: Sequence[float] | Floats | None = None) -> tuple[Any, list[float]]:
        """Return the pyhf model and its data; `background` (channels * bins,) stands in for the observed counts."""
        opened = pyhf.Workspace(self.workspace)
        model = opened.model(modifier_settings=INTERPOLATION)
        if background is None:
            return model, list(opened.data(model))
        return model, [*map(float, background), *model.config.auxdata]

    @property
    def expected(self) -> Floats:
        """Return the sidebands' background in the model's order of channels: (channels * bins,) events."""
        channels = {c["name"]: c for c in self.workspace["channels"]}
        return np.concatenate(
            [np.sum([s["data"] for s in channels[n]["samples"][1:]], axis=0) for n in sorted(channels)]
        )


@dataclass(frozen=True)
class Limits:
    """Upper limits at `confidence` on the signal events in all of m_jj and all regions together, one point a mass.

    masses: (n,) GeV; observed: (n,), NaN where blind; expected: (n, 5) at -2, -1, 0, 1, 2 sigma; failures: mass -> why it has
    no limit, where observed and expected are NaN; background: (n,) events expected in the window; asymptotic: (n,) False
    where that is below 10, where the asymptotic formulas want pseudo-experiments; dropped: mass -> region -> why it was left out;
    luminosity: fb^-1 or None; efficiencies: (n, regions), the share of the signal in each region.
    """

    masses: Floats
    observed: Floats
    expected: Floats
    confidence: float
    blind: bool
    failures: dict[float, str]
    dropped: dict[float, dict[str, str]]
    background: Floats
    asymptotic: npt.NDArray[np.bool_]
    efficiencies: Floats
    scale_error: float
    resolution_error: float
    luminosity: float | None = None

    @property
    def n_failed(self) -> int:
        """Return the number of masses without a limit."""
        return len(self.failures)

    @property
    def observed_fb(self) -> Floats | None:
        """Return the observed limit (n,) on cross-section times branching times efficiency in fb, None without luminosity."""
        return None if self.luminosity is None else self.observed / self.luminosity

    @property
    def expected_fb(self) -> Floats | None:
        """Return the expected limits (n, 5) in fb, None without luminosity; the efficiency is that of the whole selection."""
        return None if self.luminosity is None else self.expected / self.luminosity

    def as_dict(self) -> dict[str, Any]:
        """Return everything for strict JSON; a limit that does not exist is null."""
        answer = {
            "masses": self.masses.tolist(),
            "observed": strict(self.observed),
            "expected": strict(self.expected),
            "expected_sigmas": list(SIGMAS),
            "unit": "signal events in all of m_jj and all regions",
            "confidence": self.confidence,
            "method": "CLs with qtilde, asymptotic (pyhf)",
            "blind": self.blind,
            "failed": self.n_failed,
            "failures": [{"mass": m, "reason": why} for m, why in self.failures.items()],
            "dropped_regions": [{"mass": m, "regions": regions} for m, regions in self.dropped.items()],
            "background_in_window": strict(self.background),
            "asymptotic_holds": self.asymptotic.tolist(),
            "efficiencies": self.efficiencies.tolist(),
            "scale_error": self.scale_error,
            "resolution_error": self.resolution_error,
            "luminosity": self.luminosity,
        }
        if self.observed_fb is not None and self.expected_fb is not None:
            answer |= {"observed_fb": strict(self.observed_fb), "expected_fb": strict(self.expected_fb)}
        return answer


def strict(values: Floats) -> list[Any]:
    """Return nested lists with None where a value is not finite: strict JSON has no NaN."""
    if values.ndim > 1:
        return [strict(row) for row in values]
    return [v if np.isfinite(v) else None for v in values.tolist()]


def limit_model(
    found: BumpHunt,
    mass: float,
    *,
    names: Sequence[str] | None = None,
    efficiencies: npt.ArrayLike | None = None,
    scale_error: float = SCALE_ERROR,
    resolution_error: float = RESOLUTION_ERROR,
) -> LimitModel | str:
    """Build the workspace of one mass (GeV) over a hunt's regions; where no region can be used, the reason instead.

    efficiencies: (regions,) share of the signal events in each region; one region alone holds all by default. A region is
    left out where its sidebands do not determine its background or it holds no signal. Raises InputError for a mass outside
    the bins and for efficiencies or errors that are none.
    """
    regions = region_names(found, names)
    share = shares(efficiencies, len(regions), 1)[0]
    check_errors(scale_error, resolution_error)
    edges = found.edges
    if not edges[0] < mass < edges[-1]:
        raise InputError(f"limits are set at masses between {edges[0]:g} and {edges[-1]:g} GeV; found {mass:g}")
    shape = found.shape
    wider, narrower = (dataclasses.replace(shape, width=shape.width * (1 + s * resolution_error)) for s in (1, -1))
    template, up, down = signal_templates(shape, [mass, mass * (1 + scale_error), mass * (1 - scale_error)], edges)
    wide, narrow = (signal_templates(s, [mass], edges)[0] for s in (wider, narrower))
    window = signal_window(template)
    backgrounds: dict[str, tuple[Floats, list[Floats]]] = {}
    dropped: dict[str, str] = {}
    for r, name in enumerate(regions):
        if share[r] == 0:
            dropped[name] = "no signal in it"
            continue
        sidebands = sideband_background(found, r, window)
        if isinstance(sidebands, str):
            dropped[name] = sidebands
        else:
            backgrounds[name] = sidebands
    if not backgrounds:
        return "; ".join(f"{n}: {why}" for n, why in dropped.items())
    used = [r for r, n in enumerate(regions) if n in backgrounds]
    # the information on the yield when the background is known: mu = 1 is then about the expected limit
    information = sum(
        float(((share[r] * template[window]) ** 2 / (backgrounds[regions[r]][0] + 0.1)).sum()) for r in used
    )
    unit = 2.0 / float(np.sqrt(information))
    channels, observations = [], []
    for r in used:
        events = unit * share[r]
        pairs = {"signal_scale": (scale_error, up, down), "signal_resolution": (resolution_error, wide, narrow)}
        moved = [
            histosys(n, events * hi[window], events * lo[window]) for n, (error, hi, lo) in pairs.items() if error > 0
        ]
        strength = {"name": "mu", "type": "normfactor", "data": None}
        central, shifts = backgrounds[regions[r]]
        signal = {"name": "signal", "data": (events * template[window]).tolist(), "modifiers": [strength, *moved]}
        channels.append({"name": regions[r], "samples": [signal, *background_samples(regions[r], central, shifts)]})
        observations.append({"name": regions[r], "data": found.counts[r][window].tolist()})
    strength_setting = {"name": "mu", "inits": [1.0], "bounds": [[0.0, MU_MAX]]}
    inside = np.flatnonzero(window)
    return LimitModel(
        mass=float(mass),
        unit=unit,
        names=tuple(regions[r] for r in used),
        dropped=dropped,
        edges=edges[inside[0] : inside[-1] + 2],
        background=float(sum(b.sum() for b, _ in backgrounds.values())),
        workspace={
            "version": "1.0.0",
            "channels": channels,
            "observations": observations,
            "measurements": [
                {
                    "name": f"mass {mass:g} GeV; mu = 1 is {unit:.10g} signal events",
                    "config": {"poi": "mu", "parameters": [strength_setting]},
                }
            ],
        },
    )


def histosys(name: str, high: Floats, low: Floats) -> dict[str, Any]:
    """Return a pyhf shape modifier from its yields (bins,) at +1 and -1 sigma."""
    return {"name": name, "type": "histosys", "data": {"hi_data": high.tolist(), "lo_data": low.tolist()}}


def background_samples(region: str, central: Floats, shifts: Sequence[Floats]) -> list[dict[str, Any]]:
    """Return a region's background (bins,) with moves of ln b, each (bins,), as one pyhf sample a bin.

    A factor hi = exp(s), lo = exp(-s) is interpolated exponentially: the background is log-linear as its function is and never
    turns negative, which a `histosys` of the same yields does where a sideband knows it to a factor of 2.
    """
    samples = []
    for i, events in enumerate(central.tolist()):
        data = [0.0] * len(central)
        data[i] = events
        factors = [(float(np.exp(s[i])), float(np.exp(-s[i]))) for s in shifts]
        modifiers = [
            {"name": f"{region}_background_{k}", "type": "normsys", "data": {"hi": high, "lo": low}}
            for k, (high, low) in enumerate(factors)
        ]
        samples.append({"name": f"background_{i}", "data": data, "modifiers": modifiers})
    return samples


def sideband_background(
    found: BumpHunt, region: int, window: npt.NDArray[np.bool_]
) -> tuple[Floats, list[Floats]] | str:
    """Fit a region's background with the window (bins,) masked; return it inside, (k,), and its moves of ln b; or why not.

    The moves are the eigenvectors of the covariance of ln b, one standard deviation long.
    """
    counts, order = found.counts[region], int(found.background.order[region])
    filled = int((~window & (counts > 0)).sum())
    if filled <= order + 1:
        return f"{filled} filled bins beside the window do not determine {order + 1} parameters"
    settings = found.settings
    fit = fit_with_minuit(counts, found.edges, order, sqrt_s=settings.sqrt_s, family=settings.family, mask=~window)
    if not fit.valid:
        return "the background fit beside the window did not converge"
    error = float(np.sqrt(np.diag(fit.log_covariance)[window].max()))
    if not error <= MAX_LOG_ERROR:
        return f"the sidebands know the window's background to {error:.2g} in ln b only (allowed: {MAX_LOG_ERROR:g})"
    background = np.maximum(fit.expected[window], 1e-6)
    values, vectors = np.linalg.eigh(fit.log_covariance[np.ix_(window, window)])
    kept = np.flatnonzero(values > MIN_EIGENVALUE / max(background.sum(), 1.0))
    return background, [np.sqrt(values[i]) * vectors[:, i] for i in kept]


def region_names(found: BumpHunt, names: Sequence[str] | None) -> tuple[str, ...]:
    """Return one name a region of the hunt; refuse another number of them, or one name twice."""
    regions = tuple(names) if names is not None else tuple(f"region {r}" for r in range(len(found.counts)))
    if len(regions) != len(found.counts) or len(set(regions)) != len(regions):
        raise InputError(f"{len(found.counts)} regions need as many different names; found {', '.join(regions)}")
    return regions


def shares(efficiencies: npt.ArrayLike | None, regions: int, masses: int) -> Floats:
    """Return the share of the signal in each region, (masses, regions), from one row or one row a mass."""
    if efficiencies is None:
        if regions > 1:
            raise InputError(
                f"limits over {regions} regions need efficiencies, the share of a signal that falls into each"
            )
        efficiencies = [1.0]
    given = np.asarray(efficiencies, dtype=np.float64)
    if given.shape not in {(regions,), (masses, regions)}:
        raise InputError(
            f"efficiencies have shape {given.shape}; allowed: ({regions},) for all masses or ({masses}, {regions})"
        )
    rows = np.broadcast_to(given, (masses, regions))
    good = np.isfinite(rows).all() and (rows >= 0).all() and (rows.sum(axis=1) <= 1 + 1e-9).all()
    if not good or not (rows > 0).any(axis=1).all():
        raise InputError(
            "efficiencies are shares of one signal in disjoint regions: each 0 or more, their sum above 0 and at most 1; "
            f"found {given.tolist()}"
        )
    return rows.copy()


def check_errors(scale_error: float, resolution_error: float) -> None:
    """Refuse relative errors of the signal's scale and resolution outside [0, 0.5)."""
    for what, value in (("scale", scale_error), ("resolution", resolution_error)):
        if not 0 <= value < 0.5:
            raise InputError(f"the signal's {what} error is relative, 0 or more and below 0.5; found {value:g}")


def use_scipy() -> None:
    """Set pyhf to numpy and scipy, as its command line has them."""
    pyhf.set_backend("numpy", pyhf.optimize.scipy_optimizer())


def use_minuit() -> None:
    """Set pyhf to numpy and minuit: three times slower, and goes on where scipy gives up."""
    pyhf.set_backend("numpy", pyhf.optimize.minuit_optimizer(tolerance=1e-3))


def model_cls(model: LimitModel, mu: float) -> tuple[float, Floats]:
    """Return pyhf's observed CLs of signal strength `mu` and the expected ones at -2, -1, 0, 1, 2 sigma, (5,).

    Raises pyhf's FailedMinimization where neither scipy nor minuit fits.
    """
    built, data = model.build()

    def ask() -> tuple[float, Floats]:
        observed, expected = pyhf.infer.hypotest(mu, data, built, test_stat="qtilde", return_expected_set=True)
        return float(observed), np.array([float(e) for e in expected])

    return with_fallback(ask)


def model_discovery_p(model: LimitModel) -> float | None:
    """Return pyhf's q0 p-value of the joint fit, capped at 0.5 and so never to be combined; None where a fit fails."""
    built, data = model.build()
    try:
        return with_fallback(lambda: float(pyhf.infer.hypotest(0.0, data, built, test_stat="q0")))
    except pyhf.exceptions.FailedMinimization:
        return None


def with_fallback(ask: Callable[[], Answer]) -> Answer:
    """Ask with scipy's fits, and with minuit's where those fail."""
    use_scipy()
    try:
        return ask()
    except pyhf.exceptions.FailedMinimization:
        use_minuit()
        return ask()


def failed(why: str) -> pyhf.exceptions.FailedMinimization:
    """Return pyhf's exception for a fit that gave no answer."""
    return pyhf.exceptions.FailedMinimization(optimize.OptimizeResult(message=why))


def asymptotic_limits(built: Any, data: list[float], level: float) -> Floats:
    """Return the signal strengths whose CLs is `level`: observed, then expected at -2, -1, 0, 1, 2 sigma, (6,).

    The same CLs as `pyhf.infer.hypotest` (arXiv:1007.1727, eqs. 16, 62 to 66), whose fits that do not depend on mu are made
    once: of the data and of the background-only Asimov data. Raises pyhf's FailedMinimization where a fit fails.
    """
    asimov_pars = pyhf.infer.mle.fixed_poi_fit(0.0, data, built)
    asimov = built.expected_data(asimov_pars).tolist()
    free = [pyhf.infer.mle.fit(d, built, return_fitted_val=True) for d in (data, asimov)]
    best = float(free[0][0][built.config.poi_index])

    def root_q(which: int, mu: float) -> float:
        pars, minimum = free[which]
        _, value = pyhf.infer.mle.fixed_poi_fit(
            mu, (data, asimov)[which], built, init_pars=list(pars), return_fitted_val=True
        )
        q = float(value) - float(minimum)
        if not q > -NOT_THE_MINIMUM:  # NaN too
            raise failed(f"-2 ln L at mu = {mu:g} lies {-q:.2g} below that of the free fit")
        return float(np.sqrt(max(q, 0.0)))

    # CLs at N sigma is (1 - Phi(sqrt(q_A) - N)) / Phi(N): each N wants its own sqrt(q_A)
    sigmas = np.array(SIGMAS, dtype=np.float64)
    wanted = special.ndtri(1 - level * special.ndtr(sigmas)) + sigmas

    def curves(mu: float) -> Floats:
        root_a = root_q(1, mu)
        root = root_q(0, mu) if mu > best else 0.0
        t = root - root_a if root <= root_a else (root**2 - root_a**2) / (2 * max(root_a, 1e-12))
        log_cls = special.log_ndtr(-(t + root_a)) - special.log_ndtr(-t)
        return np.append(log_cls - np.log(level), wanted - root_a)

    return crossings(curves, np.append(-np.log(level), wanted))


def crossings(curves: Callable[[float], Floats], at_zero: Floats) -> Floats:
    """Return where each of k falling curves crosses 0, (k,); at_zero: their values at mu = 0, all positive.

    Raises FailedMinimization where one is positive up to mu = 100 still.
    """
    known = {0.0: at_zero}

    def at(mu: float) -> Floats:
        if mu not in known:
            known[mu] = curves(mu)
        return known[mu]

    high = 1.0
    while at(high).max() >= 0:
        high *= 1.6
        if high > MU_MAX:
            raise failed(f"no limit up to {MU_MAX:g} times the one expected of a known background")
    found = np.empty(len(at_zero))
    for i in range(len(at_zero)):
        above = min(m for m, v in known.items() if v[i] < 0)
        below = max(m for m, v in known.items() if v[i] >= 0 and m < above)

        def curve(mu: float, i: int = i) -> float:
            return float(at(mu)[i])

        found[i] = optimize.brentq(curve, below, above, rtol=PRECISION, xtol=1e-6)
    return found


def cls_limits(
    found: BumpHunt,
    *,
    names: Sequence[str] | None = None,
    masses: npt.ArrayLike | None = None,
    efficiencies: npt.ArrayLike | None = None,
    luminosity: float | None = None,
    confidence: float = 1 - LEVEL,
    scale_error: float = SCALE_ERROR,
    resolution_error: float = RESOLUTION_ERROR,
    blind: bool = False,
) -> Limits:
    """Set CLs limits over a hunt's regions at each mass (GeV; the hunt's own by default), observed and expected.

    efficiencies: (regions,) or (masses, regions), share of the signal events in each region; luminosity: fb^-1, for limits
    in fb; blind: the sidebands' background stands in for the counts and observed is NaN. A mass whose model cannot be built
    or fitted has NaN and its reason in `failures`. Raises InputError for settings outside what they mean.
    """
    grid = np.atleast_1d(np.asarray(found.masses if masses is None else masses, dtype=np.float64))
    regions = region_names(found, names)
    share = shares(efficiencies, len(regions), len(grid))
    if luminosity is not None and not (np.isfinite(luminosity) and luminosity > 0):
        raise InputError(f"luminosity is a positive number of fb^-1; found {luminosity:g}")
    if not 0.5 <= confidence < 1:
        raise InputError(f"confidence lies in [0.5, 1), usually 0.95; found {confidence:g}")
    observed, background = np.full(len(grid), np.nan), np.full(len(grid), np.nan)
    expected = np.full((len(grid), len(SIGMAS)), np.nan)
    failures: dict[float, str] = {}
    dropped: dict[float, dict[str, str]] = {}
    with threadpool_limits(1):
        for m, mass in enumerate(grid.tolist()):
            model = limit_model(
                found,
                mass,
                names=regions,
                efficiencies=share[m],
                scale_error=scale_error,
                resolution_error=resolution_error,
            )
            if isinstance(model, str):
                failures[mass] = model
                continue
            background[m] = model.background
            if model.dropped:
                dropped[mass] = model.dropped
            built, data = model.build(model.expected if blind else None)

            def ask(built: Any = built, data: list[float] = data) -> Floats:
                return asymptotic_limits(built, data, 1 - confidence)

            try:
                found_here = model.unit * with_fallback(ask)
            except pyhf.exceptions.FailedMinimization as error:
                failures[mass] = f"a fit of the limit failed: {error}"
                continue
            observed[m] = np.nan if blind else found_here[0]
            expected[m] = found_here[1:]
    for mass, why in failures.items():
        log.warning("no limit at %g GeV: %s", mass, why)
    return Limits(
        masses=grid,
        observed=observed,
        expected=expected,
        confidence=confidence,
        blind=blind,
        failures=failures,
        dropped=dropped,
        background=background,
        asymptotic=background >= FEW_EVENTS,
        efficiencies=share,
        scale_error=scale_error,
        resolution_error=resolution_error,
        luminosity=luminosity,
    )


def write_workspaces(models: Sequence[LimitModel], folder: str | Path) -> list[Path]:
    """Write one workspace a mass as `workspace_<mass>.json`, which the `pyhf` command line opens; returns the files.

    `pyhf cls FILE` gives CLs at mu = 1; the measurement's name says how many signal events that is.
    """
    files = []
    for model in models:
        path = Path(folder) / f"workspace_{model.mass:g}.json"
        write_json(path, model.workspace)
        files.append(path)
    return files
