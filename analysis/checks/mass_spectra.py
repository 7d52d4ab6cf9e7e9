"""What cuts on a score do to the mass spectrum of the background: its shape behind each cut, and 1/JSD at a fixed efficiency.

JSD is the Jensen-Shannon divergence of two histograms of the background's mass, in nats: 0 where the cut keeps the shape, at most
ln 2. Larger 1/JSD = less sculpting. Samples are finite, so that a score that knows nothing of the mass has a JSD above 0, too: the
floor, that of random selections of as many events. No 1/JSD beyond that of the floor can be told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import jensenshannon

from ...errors import InputError, unknown_name

__all__ = ["MassDecorrelation", "MassSpectra", "divergences", "mass_bins", "mass_decorrelation", "mass_spectra"]

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
BINS = 40
DRAWN = 0.001  # of all events on each side, beyond the axis of a drawn spectrum
EFFICIENCIES = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
OF = ("background", "signal")
AGAINST = ("fail", "all")


@dataclass(frozen=True)
class MassDecorrelation:
    """How far the mass spectrum of the background that passes a cut is from that of the background that fails it, or of all of it.

    of, efficiency: the sample whose efficiency fixes the cut, and what was asked; eps_b, eps_s: what the cut keeps of each (eps_s is None
    without signal); against: "fail" or "all"; jsd: in nats, with its statistical error by bootstrap of the events; floor, floor_95: mean
    and 95 % quantile of random selections of as many events; inverse, inverse_error, inverse_floor: 1/jsd, its error, 1/floor;
    n_pass, n_background: events; bins: of the mass.
    """

    of: str
    efficiency: float
    against: str
    eps_b: float
    eps_s: float | None
    jsd: float
    error: float
    floor: float
    floor_95: float
    inverse: float
    inverse_error: float
    inverse_floor: float
    n_pass: int
    n_background: int
    bins: int


@dataclass(frozen=True, eq=False, repr=False)
class MassSpectra:
    """Mass spectra of the background behind cuts on a score.

    edges: (bins + 1,) in the unit of the masses; counts: (cuts, bins); eps_b: (cuts,) what each keeps; shaped: of each cut that keeps
    less than all, in their order.
    """

    edges: Floats
    counts: Floats
    eps_b: tuple[float, ...]
    shaped: tuple[MassDecorrelation, ...]

    def __repr__(self) -> str:
        """Return the value in a line."""
        kept = ", ".join(f"{100 * e:.3g} %" for e in self.eps_b)
        return f"MassSpectra({len(self.edges) - 1} bins, background kept: {kept})"


def mass_decorrelation(
    score: npt.ArrayLike,
    mass: npt.ArrayLike,
    *,
    label: npt.ArrayLike | None = None,
    efficiency: float = 0.5,
    of: str = "background",
    against: str = "fail",
    edges: npt.ArrayLike | None = None,
    seed: int = 0,
    n_random: int = 200,
) -> MassDecorrelation:
    """Return JSD and 1/JSD of the background's mass spectrum behind a cut at a fixed efficiency, with the floor of random selections.

    score: (n,), larger = more anomalous; mass: (n,) in any unit; label: (n,) 1 for signal, 0 for background, which all events are
    without it. efficiency: what the cut keeps, of the "background" or of the "signal" (`of`); spectra are the background's in both
    cases. against: what the passing background is compared with, the background that "fail"s the cut or "all" of it. edges: bins of the
    mass, events outside of which are left out; without them `mass_bins` of all the masses, which no label or score takes part in: give
    the same edges wherever figures are compared. seed: of `n_random` random selections and bootstraps. Raises InputError for
    arrays that do not fit together, values that are no numbers, an efficiency that is not between 0 and 1, and a cut that keeps all
    or nothing of the background.
    """
    s, m, signal = checked(score, mass, label)
    bins = mass_bins(m) if edges is None else checked_edges(edges)
    threshold = cut_at(s, signal, efficiency, of)
    if against not in AGAINST:
        raise InputError(unknown_name("comparison", against, AGAINST, "against"))
    inside = ~signal & (m >= bins[0]) & (m < bins[-1])
    passed = s > threshold
    counts = np.stack([np.histogram(m[inside & chosen], bins)[0] for chosen in (passed, ~passed)])
    n_pass, n_fail = counts.sum(axis=1).tolist()
    if not n_pass or not n_fail:
        kept = "nothing" if not n_pass else "all"
        raise InputError(
            f"efficiency {efficiency:g} of the {of}: the cut keeps {kept} of {n_pass + n_fail} background events"
        )
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0x15D]))
    whole = counts.sum(axis=0)
    random = rng.multivariate_hypergeometric(whole, n_pass, size=n_random)
    floor = compared(random, whole - random, against)
    again = rng.multinomial(whole.sum(), counts.ravel() / whole.sum(), size=n_random).reshape(n_random, 2, -1)
    jsd = float(compared(counts[0], counts[1], against))
    error = float(compared(again[:, 0], again[:, 1], against).std())
    return MassDecorrelation(
        of=of,
        efficiency=efficiency,
        against=against,
        eps_b=float(passed[~signal].mean()),
        eps_s=float(passed[signal].mean()) if signal.any() else None,
        jsd=jsd,
        error=error,
        floor=float(floor.mean()),
        floor_95=float(np.quantile(floor, 0.95)),
        inverse=inverse(jsd),
        inverse_error=error * inverse(jsd) ** 2 if jsd > 0 else float("inf"),
        inverse_floor=inverse(float(floor.mean())),
        n_pass=n_pass,
        n_background=n_pass + n_fail,
        bins=len(bins) - 1,
    )


def mass_spectra(
    score: npt.ArrayLike,
    mass: npt.ArrayLike,
    *,
    label: npt.ArrayLike | None = None,
    efficiencies: Sequence[float] = EFFICIENCIES,
    of: str = "background",
    against: str = "all",
    edges: npt.ArrayLike | None = None,
    seed: int = 0,
) -> MassSpectra:
    """Return the background's mass spectrum behind a cut at each efficiency, as arXiv:2007.01850 shows mass decorrelation.

    efficiencies: 1 for no cut; edges: without them 40 bins of one width over all masses but one in a thousand on each side. The others,
    and what is raised, are as in `mass_decorrelation`.
    """
    s, m, signal = checked(score, mass, label)
    if edges is None:
        low, high = np.quantile(m, [DRAWN, 1 - DRAWN])
        bins = np.linspace(low, high if high > low else low + 1, BINS + 1)
    else:
        bins = checked_edges(edges)
    counts, kept, shaped = [], [], []
    for efficiency in efficiencies:
        if efficiency == 1:
            passed = np.ones(len(s), dtype=np.bool_)
        else:
            passed = s > cut_at(s, signal, efficiency, of)
            shaped.append(
                mass_decorrelation(
                    s, m, label=signal, efficiency=efficiency, of=of, against=against, edges=bins, seed=seed
                )
            )
        counts.append(np.histogram(m[passed & ~signal], bins)[0].astype(np.float64))
        kept.append(float(passed[~signal].mean()))
    return MassSpectra(bins, np.array(counts), tuple(kept), tuple(shaped))


def mass_bins(mass: npt.ArrayLike, *, n: int = BINS) -> Floats:
    """Return edges (n + 1,) of bins that hold about as many of the masses each; the first and the last bin are open.

    Fewer edges come back where masses repeat. Raises InputError for fewer than two different masses.
    """
    values = np.asarray(mass, dtype=np.float64)
    edges = np.unique(np.quantile(values, np.linspace(0, 1, n + 1))) if len(values) else np.empty(0)
    if len(edges) < 2:
        raise InputError(f"mass: {len(edges)} different values among {len(values)}; two or more are needed")
    edges[0], edges[-1] = -np.inf, np.inf
    return edges


def divergences(first: npt.ArrayLike, second: npt.ArrayLike) -> Floats:
    """Return the Jensen-Shannon divergences (...) of spectra (..., bins) in nats; 0 where one of the two is empty."""
    one, other = (np.asarray(counts, dtype=np.float64) for counts in (first, second))
    with np.errstate(invalid="ignore"):
        found = np.asarray(jensenshannon(one, other, axis=-1), dtype=np.float64) ** 2
    return np.where(np.isfinite(found), found, 0.0)


def compared(passed: npt.ArrayLike, failed: npt.ArrayLike, against: str) -> Floats:
    """Return the divergences (...) of counts (..., bins) that pass from those that fail, or from both together."""
    one, other = np.asarray(passed, dtype=np.float64), np.asarray(failed, dtype=np.float64)
    return divergences(one, other if against == "fail" else one + other)


def inverse(value: float) -> float:
    """Return 1 over a value, infinity of 0."""
    return 1 / value if value > 0 else float("inf")


def cut_at(score: Floats, signal: Mask, efficiency: float, of: str) -> float:
    """Return the score above which the share `efficiency` of one of the samples lies, as near as equal scores allow."""
    if of not in OF:
        raise InputError(unknown_name("sample", of, OF, "of"))
    if not 0 < efficiency < 1:
        raise InputError(f"efficiency: {efficiency!r} must be between 0 and 1")
    chosen = score[signal if of == "signal" else ~signal]
    if not len(chosen):
        raise InputError(f"efficiency of the {of}: label has no {of} events")
    return float(np.quantile(chosen, 1 - efficiency, method="inverted_cdf"))


def checked(score: npt.ArrayLike, mass: npt.ArrayLike, label: npt.ArrayLike | None) -> tuple[Floats, Floats, Mask]:
    """Return scores, masses and which events are signal, (n,) each; raises InputError where they do not fit together."""
    s, m = (np.asarray(values, dtype=np.float64) for values in (score, mass))
    signal = np.zeros(s.shape) if label is None else np.asarray(label)
    if s.ndim != 1 or m.shape != s.shape or signal.shape != s.shape:
        raise InputError(
            f"score {s.shape}, mass {m.shape}, label {signal.shape}: one entry an event is expected in each"
        )
    for name, values in (("score", s), ("mass", m)):
        if not np.isfinite(values).all():
            raise InputError(f"{name}: {int((~np.isfinite(values)).sum())} of {len(values)} are no numbers")
    if not np.isin(signal, (0, 1)).all():
        raise InputError(f"label: 0 (background) and 1 (signal) are allowed, found {np.unique(signal)[:5].tolist()}")
    return s, m, signal.astype(bool)


def checked_edges(edges: npt.ArrayLike) -> Floats:
    """Return the edges of bins, which rise; raises InputError where they do not."""
    found = np.asarray(edges, dtype=np.float64)
    if found.ndim != 1 or len(found) < 2 or not (np.diff(found) > 0).all():
        raise InputError("edges: two or more rising numbers are expected")
    return found
