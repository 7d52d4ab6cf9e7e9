"""Mass spectra that experiments published, from `tests/data/spectra`: their verdict and hunch's.

`make study ONLY=published_spectra`, some minutes. Every file is hunted in as it is and with the options that it states, those of
the command in its row. `fit_p`: goodness of the fit of the background; `mass` (GeV), `z_local`: of the largest excess.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from hunch.analysis import HuntSettings, SignalShape, hunt_spectra, read_luminosity, read_spectra

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "tests" / "data" / "spectra"
EXPERIMENTS = int(os.environ.get("EXPERIMENTS", "5000"))


def run() -> dict[str, Any]:
    """Hunt in every published spectrum; returns a row each, with the published verdict beside hunch's."""
    return {
        "command": "make study ONLY=published_spectra",
        "background": HuntSettings().family,
        "width": SignalShape().width,
        "pseudo_experiments": EXPERIMENTS,
        "sources": [source(path) for path in sorted(FOLDER.glob("*.json"))],
        "rows": [row(path) for path in sorted(FOLDER.glob("*.json"))],
    }


def stated(path: Path) -> dict[str, Any]:
    """Return what a file holds."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def source(path: Path) -> dict[str, Any]:
    """Return where a spectrum is from, and what its authors say of it."""
    content = stated(path)
    return {
        "spectrum": path.stem,
        "paper": content["source"]["paper"],
        "record": content["source"]["record"],
        "published verdict": content["published"]["verdict"],
    }


def row(path: Path) -> dict[str, Any]:
    """Return what a hunt in one spectrum finds."""
    options = stated(path)["hunt"]
    luminosity = None if "luminosity" not in options else read_luminosity(options["luminosity"])
    given = read_spectra([path], sqrt_s=options["sqrt_s"], luminosity=luminosity)
    settings = HuntSettings(sqrt_s=options["sqrt_s"], pseudo_experiments=EXPERIMENTS)
    shape = SignalShape(width=options.get("width", SignalShape().width))
    found = hunt_spectra(given.spectra, shape=shape, settings=settings)
    hunted, whole = found.hunt, found.hunt.global_p
    written = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in options.items())
    return {
        "spectrum": path.stem,
        "events": int(found.counts.sum()),
        "bins": found.counts.shape[1],
        "fit_p": float(hunted.fit_p[0]),
        "mass": float(hunted.masses[hunted.best]),
        "z_local": float(hunted.z_combined[hunted.best]),
        "p_global": None if whole is None else whole.p,
        "refused": found.no_significance or "no",
        "command": f"`hunch hunt {path.relative_to(ROOT)} {written} -o OUT`",
    }
