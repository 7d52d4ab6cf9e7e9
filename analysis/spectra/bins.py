"""Mass spectra: bin edges, the fit range above the turn-on, and the counts inside and outside of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hist
import numpy as np
import numpy.typing as npt

from ...errors import InputError
from ...table import MJJ, Observable, Table, weight_columns
from ...tabular import is_number

__all__ = [
    "DIJET_EDGES",
    "FitRange",
    "TurnOn",
    "as_hist",
    "mass_edges",
    "mass_grid",
    "resolution_edges",
    "search_grid",
    "spectra_of_table",
    "spectrum",
    "write_spectra",
]

Floats = npt.NDArray[np.float64]
NO_REGION = ("", "nan", "-nan", "_nan_", "none", "null", "na", "n/a", "#n/a", "#na", "<na>", "nat", r"\n")
"""What programs write where a text has no value, in small letters."""
NO_VALUE = "no value in the column region"
"""Of a cutflow: events that no region was given for."""

# The CMS dijet mass binning in GeV (arXiv:1010.0203 and later dijet searches): about one mass resolution a bin.
# fmt: off
DIJET_EDGES = (
    1000, 1058, 1118, 1181, 1246, 1313, 1383, 1455, 1530, 1607, 1687, 1770, 1856, 1945, 2037, 2132, 2231, 2332, 2438,
    2546, 2659, 2775, 2895, 3019, 3147, 3279, 3416, 3558, 3704, 3854, 4010, 4171, 4337, 4509, 4686, 4869, 5058, 5253,
    5455, 5663, 5877, 6099, 6328, 6564, 6808, 7060, 7320, 7589, 7866, 8152, 8447, 8752, 9067, 9391, 9726, 10072, 10430,
    10798, 11179, 11571, 11977, 12395, 12827,
)
# fmt: on
RESOLUTION = 0.035
MIN_BINS = 8
MIN_ABOVE = 10


@dataclass(frozen=True)
class TurnOn:
    """Whether a spectrum rises before it falls, by the statistic S of its bins (`ranges/turn_on.py`).

    threshold: the 99.9 % quantile of S in spectra that fall; p_value: the share of these with an S as large, 1 / 2,001 at
    least. with_bump: S where a bump may explain the rise, None where S alone is below the threshold. mode: (low, high) GeV,
    the bins in which the spectrum may have its largest density, within 2 of the largest ln L.
    """

    statistic: float
    threshold: float
    p_value: float
    with_bump: float | None
    mode: tuple[float, float]

    @property
    def seen(self) -> bool:
        """Tell whether there is a turn-on: S is above its threshold, and still where a bump may explain the rise."""
        return self.with_bump is not None and self.with_bump > self.threshold


@dataclass(frozen=True, repr=False)
class FitRange:
    """Where the spectra are fitted: bin edges in GeV, why the first one is where it is, and the test for a turn-on.

    turn_on: of the whole inclusive spectrum, None where there is none to test.
    """

    edges: tuple[float, ...]
    chosen: str
    turn_on: TurnOn | None = None

    def __repr__(self) -> str:
        """Return the value in a line."""
        return f"FitRange({self.low:g} to {self.high:g} GeV, {len(self.edges) - 1} bins, {self.chosen})"

    @property
    def low(self) -> float:
        """Return the lower edge in GeV."""
        return self.edges[0]

    @property
    def high(self) -> float:
        """Return the upper edge in GeV."""
        return self.edges[-1]

    def inside(self, mass: Floats) -> npt.NDArray[np.bool_]:
        """Tell which masses (n,) in GeV lie in [low, high)."""
        return np.asarray((mass >= self.low) & (mass < self.high))


def resolution_edges(low: float, high: float, *, resolution: float = RESOLUTION) -> Floats:
    """Return edges from `low` to `high` (GeV) with bins about one mass resolution wide at every mass."""
    n_bins = max(1, round(np.log(high / low) / np.log1p(resolution)))
    return np.geomspace(low, high, n_bins + 1)


def mass_edges(low: float, high: float) -> Floats:
    """Return the CMS dijet edges inside [low, high] where they cover it, else edges that follow the resolution.

    A given limit that is no CMS edge becomes the first or last edge itself (the bin there is narrower).
    """
    if not 0 < low < high:
        raise InputError(f"a mass range is two increasing positive numbers in GeV, found [{low:g}, {high:g}]")
    if low >= DIJET_EDGES[0] and high <= DIJET_EDGES[-1]:
        inner = [float(e) for e in DIJET_EDGES if low * 1.01 < e < high * 0.99]
        return np.array([low, *inner, high])
    return resolution_edges(low, high)


def spectrum(mass: npt.ArrayLike, edges: Sequence[float] | Floats, *, observable: Observable = MJJ) -> hist.Hist[Any]:
    """Fill masses (n,) in GeV into a histogram whose axis has the observable's name, under- and overflow kept."""
    axis = hist.axis.Variable(list(edges), name=observable.name, label=observable.axis_label)
    histogram: hist.Hist[Any] = hist.Hist(axis)
    histogram.fill(np.asarray(mass, dtype=np.float64))
    return histogram


def as_hist(
    edges: Sequence[float] | Floats,
    counts: npt.ArrayLike,
    outside: tuple[float, float] = (0.0, 0.0),
    *,
    observable: Observable = MJJ,
) -> hist.Hist[Any]:
    """Return counts (bins,) as a hist whose axis has the observable's name, with what lies below and above its bins."""
    histogram = spectrum([], edges, observable=observable)
    view: Any = histogram.view(flow=True)
    view[...] = [outside[0], *np.asarray(counts, dtype=np.float64), outside[1]]
    return histogram


def spectra_of_table(
    table: Table, *, sqrt_s: float, observable: Observable = MJJ, blind: tuple[float, float] | None = None
) -> tuple[dict[str, hist.Hist[Any]], dict[str, int]]:
    """Fill a table's observable (GeV) into one spectrum, or one for each value of `region`, and a cutflow.

    A negative region, or none (null, NaN, an empty text), is no region: counted. blind: [low, high] GeV whose events tell nothing of the bins,
    which reach over it, and are in no cutflow.

    Raises InputError for values that are no positive numbers below sqrt_s (GeV), and for weights.
    """
    mass = table.matrix([observable.name])[:, 0]
    wrong = np.flatnonzero(~(np.isfinite(mass) & (mass > 0)))
    if len(wrong):
        raise InputError(
            f"{table.source}: column {observable.name!r}: row {wrong[0]} holds {mass[wrong[0]]}, and {len(wrong)} rows no positive number"
        )
    if len(mass) == 0:
        raise InputError(f"{table.source}: holds no event")
    if mass.max() >= sqrt_s:
        raise InputError(
            f"{table.source}: column {observable.name!r} reaches {mass.max():g} GeV, sqrt_s is {sqrt_s:g}; another --sqrt-s, or another unit of the mass?"
        )
    for name in weight_columns(table.columns):
        if (table[name] == table[name][0]).all():
            continue
        said = "differs between events" if (table[name] == table[name]).all() else "holds NaN"
        raise InputError(f"{table.source}: column {name!r} {said}; data carry no weights")
    shown = np.ones(len(mass), dtype=bool) if blind is None else (mass < blind[0]) | (mass > blind[1])
    if not shown.any():
        raise InputError(f"{table.source}: all of its {len(mass)} events lie in the blind window")
    seen = mass[shown]
    if blind is not None and 0 < blind[0] < seen.min():
        seen = np.append(seen, blind[0])
    edges = search_grid(seen, sqrt_s=sqrt_s, reach=0.0 if blind is None else blind[1])
    # bins of ours that end below the lowest event are not the table's: a threshold is no hole in it
    edges = edges[max(int(np.searchsorted(edges, seen.min(), side="right")) - 1, 0) :]
    cutflow = {"below the bins": int((seen < edges[0]).sum())}
    if "region" not in table:
        return {"all events": spectrum(mass, edges, observable=observable)}, cutflow
    region, missing = region_values(table)
    numeric = region.dtype.kind == "f"
    names = [r for r in np.unique(region[~missing]) if not (numeric and r < 0)]
    if len(names) > 25:
        raise InputError(f"{table.source}: column 'region' has {len(names)} values; 25 regions or fewer are expected")
    if not names:
        raise InputError(f"{table.source}: column 'region' puts none of its {len(region)} events in a region")
    spectra = {
        f"region {r:g}" if numeric else str(r): spectrum(mass[~missing & (region == r)], edges, observable=observable)
        for r in names
    }
    negative = int((region[~missing & shown] < 0).sum()) if numeric else 0
    return spectra, cutflow | {"in no region": negative, NO_VALUE: int((missing & shown).sum())}


def region_values(table: Table) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Return the column `region` (n,) as float64 where all of it are numbers, else as text; and where it holds no value."""
    region = table["region"]
    if region.ndim > 1:
        raise InputError(f"{table.source}: column 'region' holds an array a row, and the name of a region is expected")
    if region.dtype.kind in "iuf":
        numbers = region.astype(np.float64)
        return numbers, ~np.isfinite(numbers)
    text = np.char.strip(np.char.decode(region, "utf-8") if region.dtype.kind == "S" else region.astype(str))
    missing = np.isin(np.char.lower(text), NO_REGION)
    given = np.unique(text[~missing])
    if given.size and all(is_number(t) for t in given.tolist()):
        numbers = np.full(len(text), np.nan)
        numbers[~missing] = text[~missing].astype(np.float64)
        return numbers, ~np.isfinite(numbers)
    return text, missing


def search_grid(mass: Floats, *, sqrt_s: float, reach: float = 0.0) -> Floats:
    """Return the bins (GeV) that masses (n,) between 0 and sqrt_s are looked at in, up to the first edge above all of them.

    CMS dijet edges where they cover the masses, else edges that follow the resolution; `reach` (GeV) can move the end up.
    """
    top = max(float(mass.max()), min(reach, 0.99 * sqrt_s))
    grid = np.asarray(DIJET_EDGES, dtype=np.float64)
    if np.median(mass) < DIJET_EDGES[0] or top >= DIJET_EDGES[-1]:
        grid = resolution_edges(float(mass.min()), min(top * 1.001, 0.999 * sqrt_s))
    return grid[: int(np.searchsorted(grid, top, side="right")) + 1]


def mass_grid(fit_range: FitRange, mass: npt.ArrayLike, *, resolution: float = RESOLUTION, step: float = 0.5) -> Floats:
    """Return the masses to scan in GeV: steps of `step` resolutions, two resolutions clear of the range's lower edge.

    The last mass is two resolutions clear of the upper edge, or the highest with ten inclusive events, masses `mass` (n,),
    in its window or above: beyond it neither a background nor a bump can be fitted.
    """
    low, high, _ = scan_ends(fit_range, mass, resolution=resolution)
    if low >= high:
        raise InputError(
            f"the fit range [{fit_range.low:g}, {fit_range.high:g}] is too short to scan for a resonance of width "
            f"{resolution:.3g} of its mass: two widths on either side leave {low:.4g} to {high:.4g}"
        )
    n = max(2, round(np.log(high / low) / (step * resolution)) + 1)
    grid = np.geomspace(low, high, n)
    return np.unique(np.round(grid, -1)) if low >= 1000 else grid


def scan_ends(fit_range: FitRange, mass: npt.ArrayLike, *, resolution: float) -> tuple[float, float, bool]:
    """Return the lowest and highest mass to scan in GeV, and whether the events, not the fit range, set the highest; see `mass_grid`."""
    masses = np.sort(np.asarray(mass, dtype=np.float64))
    masses = masses[fit_range.inside(masses)]
    low, high = fit_range.low * (1 + 2 * resolution), fit_range.high * (1 - 2 * resolution)
    reach = float(masses[-MIN_ABOVE]) * (1 + 2 * resolution) if len(masses) >= MIN_ABOVE else high
    return low, min(high, reach), reach < high


def write_spectra(
    path: Path, names: Sequence[str], spectra: Sequence[hist.Hist[Any]], *, observable: Observable | None = None
) -> None:
    """Write the regions' spectra as ROOT histograms; observable: a label for the axis in place of the hists' own."""
    import uproot

    from ...files import write_aside

    with write_aside(path) as aside, uproot.recreate(aside) as file:
        for name, histogram in zip(names, spectra, strict=True):
            written = histogram.copy()
            if observable is not None:
                written.axes[0].label = observable.axis_label
            file[name.replace(" ", "_")] = written
