"""The same likelihood as a pyhf workspace, which the `pyhf` command line opens, and pyhf's own limits of it.

A background that is log-linear in its parameters is not among pyhf's modifiers, but can be made of them. Each bin is a sample
with one `normsys` a parameter, hi = exp(w phi), lo = exp(-w phi). Its interpolation (code4, which `pyhf cls` sets) is
exponential beyond one sigma and a polynomial within, so the parameter's constraint is centred beyond: at 6 for a constrained
parameter, whose w is 1, and at 1.2 for a free one, whose w is some 150 statistical errors, next to no constraint. One more
`normsys`, fixed, takes what that adds to ln b off again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyhf

from ...files import write_json
from .asymptotic import MU_MAX
from .backgrounds import RegionBackground, width_of
from .fit import Fit
from .model import LimitModel
from .names import renamed

__all__ = ["INTERPOLATION", "build", "parameters_of", "workspace_of", "write_workspaces"]

Floats = npt.NDArray[np.float64]
INTERPOLATION = {"normsys": {"interpcode": "code4"}, "histosys": {"interpcode": "code4p"}}  # what `pyhf cls` sets
CONSTRAINED_AT, FREE_AT = 6.0, 1.2  # centres; a parameter goes down to 1, where the exponential ends


def workspace_of(model: LimitModel) -> dict[str, Any]:
    """Return the pyhf workspace of a mass, JSON-like: a channel a region, the signal and one sample a bin of background."""
    channels, observations = [], []
    parameters: list[dict[str, Any]] = [{"name": "mu", "inits": [1.0], "bounds": [[0.0, MU_MAX]]}]
    for r, (name, background) in enumerate(zip(model.channels.values(), model.backgrounds, strict=True)):
        samples, own = background_samples(name, background)
        channels.append({"name": name, "samples": [signal_sample(model, r), *samples]})
        observations.append({"name": name, "data": model.counts[r].tolist()})
        parameters += own
    told = [f"mass {model.mass:g} GeV", f"mu = 1 is {model.unit:.10g} signal events", *renamed(model.channels)]
    return {
        "version": "1.0.0",
        "channels": channels,
        "observations": observations,
        "measurements": [{"name": "; ".join(told), "config": {"poi": "mu", "parameters": parameters}}],
    }


def signal_sample(model: LimitModel, r: int) -> dict[str, Any]:
    """Return the signal of one region with its strength and nuisances."""
    modifiers: list[dict[str, Any]] = [{"name": "mu", "type": "normfactor", "data": None}]
    for name, (high, low) in model.shapes.items():
        data = {"hi_data": high[r].tolist(), "lo_data": low[r].tolist()}
        modifiers.append({"name": name, "type": "histosys", "data": data})
    for name, (up, down) in model.factors.items():
        if up[r] != 1.0 or down[r] != 1.0:
            modifiers.append({"name": name, "type": "normsys", "data": {"hi": float(up[r]), "lo": float(down[r])}})
    return {"name": "signal", "data": model.signal[r].tolist(), "modifiers": modifiers}


def centres_of(background: RegionBackground) -> Floats:
    """Return where the constraint of each parameter (k,) of a background in standard form is centred in a workspace."""
    return np.where(background.precision > 0, CONSTRAINED_AT, FREE_AT)


def background_samples(channel: str, background: RegionBackground) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return a region's background in standard form as one pyhf sample a bin, and the settings of its parameters."""
    moves = background.basis * width_of(background)
    at = centres_of(background)
    names = [f"{channel}_background_{k}" for k in range(moves.shape[1])]
    origin = f"{channel}_background_origin"
    centre = np.exp(background.basis @ background.centre + background.offset)
    samples = []
    for i, events in enumerate(centre.tolist()):
        data = [0.0] * len(centre)
        data[i] = events
        modifiers = [both_ways(name, move) for name, move in zip(names, moves[i].tolist(), strict=True)]
        modifiers.append(both_ways(origin, -float(moves[i] @ at)))
        samples.append({"name": f"background_{i}", "data": data, "modifiers": modifiers})
    inits = parameters_at(background, background.theta)
    parameters: list[dict[str, Any]] = [
        {"name": name, "auxdata": [c], "inits": [start], "bounds": [[1.0, 2 * c - 1.0]]}
        for name, c, start in zip(names, at.tolist(), inits.tolist(), strict=True)
    ]
    parameters.append({"name": origin, "inits": [1.0], "fixed": True})
    return samples, parameters


def both_ways(name: str, move: float) -> dict[str, Any]:
    """Return a `normsys` that moves ln b by `move` for each unit of its parameter."""
    return {"name": name, "type": "normsys", "data": {"hi": float(np.exp(move)), "lo": float(np.exp(-move))}}


def parameters_at(background: RegionBackground, theta: Floats) -> Floats:
    """Return theta (k,) of a background in standard form as its workspace has it, within the bounds there."""
    at = centres_of(background)
    return np.clip(at + (theta - background.centre) / width_of(background), 1.0, 2 * at - 1.0)


def parameters_of(model: LimitModel, built: Any, at: Fit) -> list[float]:
    """Return the parameters of a built pyhf model at one point of the likelihood."""
    named = {"mu": at.mu, **dict(zip((*model.shapes, *model.factors), at.alpha.tolist(), strict=True))}
    for r, (name, background) in enumerate(zip(model.channels.values(), model.backgrounds, strict=True)):
        own = parameters_at(background, at.theta[r, : len(background.theta)])
        named |= {f"{name}_background_{k}": value for k, value in enumerate(own.tolist())}
        named[f"{name}_background_origin"] = 1.0
    return [named[name] for name in built.config.par_order]


def build(model: LimitModel) -> tuple[Any, list[float]]:
    """Return the pyhf model of a mass and its data; a template's bin that is moved below 0 is 0, as in the own likelihood."""
    opened = pyhf.Workspace(workspace_of(model))
    built = opened.model(modifier_settings=INTERPOLATION, clip_sample_data=0.0)
    return built, list(opened.data(built))


def write_workspaces(models: Sequence[LimitModel], folder: str | Path) -> list[Path]:
    """Write one workspace a mass as `workspace_<mass>.json`, which the `pyhf` command line opens; returns the files.

    `pyhf cls FILE` gives CLs at mu = 1; the measurement's name says how many signal events that is.
    """
    files = []
    for model in models:
        path = Path(folder) / f"workspace_{model.mass:g}.json"
        write_json(path, workspace_of(model))
        files.append(path)
    return files
