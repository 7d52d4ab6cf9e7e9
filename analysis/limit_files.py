"""The files that limits are written to: figures, workspaces, datacards, HEPData tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..files import make_folder
from .figures.base import save_figure
from .figures.brazil_band import limit_figure
from .fits.log_p import p_of_z
from .limits.backgrounds import background_models
from .limits.cls import Limits, model_discovery_z
from .limits.export import write_datacard, write_hepdata, write_histograms
from .limits.model import limit_model
from .limits.signals import JOINT, joint_global_p
from .limits.workspace import write_workspaces
from .significance.bumphunt import BumpHunt

__all__ = ["write_limits"]


def write_limits(
    found: BumpHunt, limits: Mapping[str, Limits], folder: str | Path, *, names: Sequence[str]
) -> dict[str, Any]:
    """Write figures, pyhf workspaces, datacards, histograms and HEPData tables of each signal; returns the limits for JSON.

    `folder`/SIGNAL holds limits.pdf and .png, workspace_MASS.json, datacard_MASS.txt with its histograms_MASS.root, and
    hepdata/; `folder`/spectra.root every region's spectrum and background fit. Where the limits are blind, only the figure is
    written: the other files hold the counts. Each signal's entry has `joint_fit`, the joint fit of all regions: signed z and
    one-sided p at every mass with the signal's nuisances free in their errors, p by experiments where limits are, and what sets it
    apart from a combination; its `gross_vitells` the global p of its largest z in the whole scan, from up-crossings.
    """
    target = Path(folder)
    joint: dict[str, dict[str, Any]] = {}
    backgrounds = background_models(found)
    for name, of in limits.items():
        own = target / name
        make_folder(own)
        save_figure(limit_figure(of, name, observable=found.settings.observable), own, "limits")
        if of.blind:
            continue
        models = [
            limit_model(
                found,
                mass,
                names=names,
                efficiencies=of.efficiencies[m],
                errors=of.errors,
                backgrounds=backgrounds,
            )
            for m, mass in enumerate(of.masses.tolist())
        ]
        usable = [model for model in models if not isinstance(model, str)]
        z = [None if isinstance(model, str) else model_discovery_z(model) for model in models]
        p = [None if value is None else float(p_of_z(value)) for value in z]
        joint[name] = {"masses": of.masses.tolist(), "p": p, "z": z, "note": JOINT}
        joint[name]["p_by_experiments"] = [value if np.isfinite(value) else None for value in of.p.tolist()]
        joint[name]["gross_vitells"] = joint_global_p(found, of.efficiencies[0])
        write_workspaces(usable, own)
        for model in usable:
            write_datacard(model, own)
        write_hepdata(found, own / "hepdata", names=names, limits=of)
    if not any(of.blind for of in limits.values()):
        write_histograms(found, target / "spectra.root", names=names)
    return {name: of.as_dict() | ({"joint_fit": joint[name]} if name in joint else {}) for name, of in limits.items()}
