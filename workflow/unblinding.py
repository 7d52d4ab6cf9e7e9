"""What a hunt that opens a blind window takes from the result of before, and how it differs from it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hist
import numpy as np

from ..analysis.blinded_hunt import stored_range
from ..analysis.significance.masked import bins_seen
from ..documents import read_json
from ..errors import HunchError
from ..files import finite
from .of_result import describing, made_of
from .stamps import why_stale

__all__ = ["blinded_window", "other_options", "other_spectra", "read_blinded"]

log = logging.getLogger(__name__)
FREE_KEYS = ("spectra", "blind", "fit_range", "seed", "pseudo_experiments", "expected", "efficiencies")
"""Keys of a configuration that may change when a window is unblinded: they choose nothing."""


def read_blinded(path: Path, output: Path) -> dict[str, Any]:
    """Read the result of a blinded hunt, a file or its folder, for a hunt that writes to the folder `output`.

    Raises HunchError where it is another's, damaged or changed since, or lies in that folder, where it would be lost.
    """
    file = path / "result.json" if path.is_dir() else path
    found = read_json(file, remedy="hunch hunt ... --blind LOW HIGH writes it")
    if not isinstance(found, dict) or "blinded" not in found:
        raise HunchError(f"--unblind {file}: is no result of a hunt with --blind")
    with describing(file):
        edges = np.array(stored_range(found).edges)
        if len(edges) < 2 or not (np.diff(edges) > 0).all():
            raise ValueError("edges of the fit range do not rise")
        for region in found["regions"]["regions"]:
            if len(region["counts"]) != len(edges) - 1:
                raise ValueError("as many counts as bins are expected")
            np.array([n for n in region["counts"] if n is not None], dtype=np.float64)
        low, high = (float(edge) for edge in found["blinded"]["window"])
        if not low < high:
            raise ValueError("the window does not rise")
        blinded_window(found)
        (*found["cutflow"].items(), found["configuration"].items(), found["seed"], found["hunch"])
    if file.resolve().parent == output.resolve():
        raise HunchError(f"-o {output}: holds the blind result of --unblind, which stays; name another folder")
    stamp = file.parent / ".spectra" / "hunt.json"
    if file.name != "result.json" or not stamp.is_file():
        log.warning("--unblind %s: has no stamp beside it: whether it is as hunch hunt wrote it is not known", file)
        return found
    why = why_stale(stamp, made_of(file.parent, "hunt"), [file])
    if why:
        raise HunchError(f"--unblind {file}: the blind hunt {why}; hunch hunt SPECTRUM --blind LOW HIGH makes it anew")
    return found


def blinded_window(before: Mapping[str, Any]) -> tuple[float, float]:
    """Return the window, GeV, that was asked to stay blind."""
    low, high = (float(edge) for edge in before["configuration"]["blind"])
    return low, high


def other_options(before: Mapping[str, Any], configuration: Mapping[str, Any]) -> list[str]:
    """Say which options are others than when a window was blind."""
    of, now = before["configuration"], finite(dict(configuration))
    return [
        f"{key} was {told(of.get(key))} while the window was blind and is {told(now[key])}: a choice that the global p does not count"
        for key in now
        if key not in FREE_KEYS and of.get(key) != now[key]
    ]


def told(value: Any) -> str:
    """Return the value of an option in words."""
    return "not given" if value is None else repr(value)


def other_spectra(before: Mapping[str, Any], spectra: Mapping[str, hist.Hist[Any]]) -> list[str]:
    """Say which spectra hold other events outside of the window than when it was blind, whose range was fixed on those.

    Regions are told by their names; one alone may have another. Bins that are not those of before are left to the hunt.
    """
    old = {region["name"]: region["counts"] for region in before["regions"]["regions"]}
    notes = []
    if len(old) == len(spectra) == 1:
        old = dict(zip(spectra, old.values(), strict=True))
    elif set(old) != set(spectra):
        notes.append(
            f"the regions were {', '.join(old)} while the window was blind and are {', '.join(spectra)}: a choice that the global p does not count"
        )
    fixed = np.array(before["fit_range"]["edges"], dtype=np.float64)
    below, above = np.zeros(2)
    for name, spectrum in spectra.items():
        edges, counts = np.asarray(spectrum.axes[0].edges, dtype=np.float64), np.asarray(spectrum.values())
        start = int(np.searchsorted(edges, fixed[0]))
        stop = start + len(fixed) - 1
        if not np.array_equal(edges[start : stop + 1], fixed):
            return notes
        shown = np.where(bins_seen(edges, before["blinded"]["window"]), counts, 0.0)
        below, above = below + shown[:start].sum(), above + shown[stop:].sum()
        if name not in old:
            continue
        then = np.array([np.nan if n is None else n for n in old[name]], dtype=np.float64)
        other = np.flatnonzero(np.isfinite(then) & (then != counts[start:stop]))
        if len(other):
            first = int(other[0])
            notes.append(
                f"{name}: is another spectrum than while the window was blind: {len(other)} of {int(np.isfinite(then).sum())} bins outside of the window "
                f"differ, first {fixed[first]:g} to {fixed[first + 1]:g} GeV with {then[first]:.0f} events then and {counts[start + first]:.0f} here"
            )
    for side, number in (("below", below), ("above", above)):
        then_there = before["cutflow"].get(f"{side} the fit range")
        if then_there is not None and set(old) == set(spectra) and number != then_there:
            notes.append(
                f"{side} the fit range were {then_there} events while the window was blind and are {number:.0f}: it was fixed on another spectrum"
            )
    return notes
