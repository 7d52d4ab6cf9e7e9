"""What the talk on jet images leaves open (arXiv:2110.06948): how far its tables move with it, on the same jets.

`make study ONLY=jet_preprocessing`; EVENTS as in `jet_images`, whose jets these are, kept as constituents. The talk does
not state the images' width, nor the detector's granularity, nor how jets are turned and mirrored in detail, nor whether a jet
holds the whole top. Each row has one of these changed, and the AUC of the distance to QCD references, and to tops: the mean
over `REFERENCES` samples of 500 jets, with the smallest and largest. Far is anomalous; of tops as references near is too, and
1 less the AUC is that: its W efficiency at 10 % background stands beside it. No choice is made by these numbers.

Nor does it state how large the networks are and how long they train: `networks` has the AUC of VAEs of three sizes, trained
on `jet_images`' QCD jets for as many epochs, beside how well they reconstruct. PARTS: images,networks or one of them.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from hunch.analysis import evaluate
from hunch.models import EventToEnsemble
from hunch.processors import Constituents, ImageSettings, jet_images, padded_constituents

from .simulated import told
from .study_jet_images import (
    EPS_B,
    JETS,
    SEEDS,
    VAES,
    Network,
    auc_of,
    by_kind,
    metric_of,
    named,
    partly_held,
    sample,
    tested,
    trained,
)

Floats = npt.NDArray[np.float64]
PARTS = os.environ.get("PARTS", "images,networks").split(",")
SLOTS = 200
PART_REFERENCE_SEED = 616  # of tops held in part as references: other jets than those of SEEDS, which are judged
REFERENCES = 3  # samples of jets, of whose medoids the mean is taken
TESTED = max(JETS // 8, 60)  # jets of each kind
DENSE = max(JETS // 24, 30)  # jets of each kind, for an average image, which has a weight in most pixels
TOWER = (0.1, 2 * np.pi / 72)  # eta, phi: a hadron calorimeter's

SETTINGS: dict[str, tuple[dict[str, Any], bool]] = {
    "as in jet_images": ({}, False),
    "half width 0.5": ({"half_eta": 0.5, "half_phi": 0.5}, False),
    "half width 1.6": ({"half_eta": 1.6, "half_phi": 1.6}, False),
    "not mirrored": ({"flip": False}, False),
    "not turned": ({"rotate": False}, False),
    "half width 0.5, not mirrored": ({"half_eta": 0.5, "half_phi": 0.5, "flip": False}, False),
    "towers of 0.1 x 0.087": ({}, True),
}
"""What is changed: settings of the image, and whether constituents are calorimeter towers."""
DISTANCES: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("qcd", {"references": "average"}, "0.81 0.62"),
    ("qcd", {"k": 1}, "0.83 0.63"),
    ("qcd", {"k": 5}, "0.87 0.60"),
    ("qcd", {"p": 5.0, "k": 4}, "0.67 0.41"),
    ("qcd", {"distance": "mae", "k": 1}, "0.82 0.71"),
    ("qcd", {"distance": "mae", "k": 3}, "0.82 0.61"),
    ("top", {"k": 3}, "0.32 0.79"),
    ("top", {"k": 5}, "0.45 0.84"),
    ("part of top", {"k": 3}, "0.32 0.79"),
    ("part of top", {"k": 5}, "0.45 0.84"),
)
"""References, options of the distance, and the talk's AUC of top and of W."""
NETWORKS: tuple[Network, ...] = (("mse", 3, 1e-8), ("wass1", 2, 1e-8))
SIZES: tuple[dict[str, int], ...] = (
    {"latent": 4, "channels": 16, "hidden": 64},
    {"latent": 16, "channels": 16, "hidden": 64},
    {"latent": 64, "channels": 32, "hidden": 128},
)
"""The second is that of `jet_images`."""


def constituents(kind: str, n: int, seed: int, min_quarks: int | None = None) -> Floats:
    """Return constituents (n, SLOTS, 3) of single jets: pT in GeV, eta and phi from the axis."""
    settings = Constituents(jets=1, max_constituents=SLOTS)
    return np.asarray(sample("constituents", kind, n, seed, min_quarks, settings)["constituents_1"], dtype=np.float64)


def towers(jets: Floats, rng: np.random.Generator) -> Floats:
    """Return the jets (n, slots, 3) with the pT of each calorimeter tower at its centre; the grid lies anywhere on a jet."""
    found = np.zeros_like(jets)
    shift = rng.uniform(size=(len(jets), 2))
    for seen, jet, start in zip(found, jets, shift, strict=True):
        real = jet[jet[:, 0] > 0]
        cells, inside = np.unique(np.floor(real[:, 1:] / TOWER + start).astype(int), axis=0, return_inverse=True)
        seen[: len(cells), 0] = np.bincount(inside.ravel(), weights=real[:, 0])
        seen[: len(cells), 1:] = (cells + 0.5 - start) * TOWER
    return found


def samples() -> dict[str, Floats]:
    """Return constituents of what references are taken from, and of the jets that are judged."""
    jets = {
        "qcd": constituents("qcd", JETS, SEEDS["train"]),
        "top": constituents("top", JETS // 4, SEEDS["top_reference"]),
        "part of top": constituents("top", JETS // 4, PART_REFERENCE_SEED, min_quarks=1),
        "tested qcd": constituents("qcd", JETS // 2, SEEDS["test"])[:TESTED],
        "tested top": constituents("top", JETS // 3, SEEDS["top"])[:TESTED],
        "tested part of top": constituents("top", JETS // 6, SEEDS["partial"]["top"], min_quarks=1)[:TESTED],
        "tested w": constituents("w", JETS // 3, SEEDS["w"])[:TESTED],
    }
    return {name: jet[: 4 * TESTED] for name, jet in jets.items()}


def spread(values: list[float]) -> str:
    """Write a mean and its range."""
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def network_rows() -> list[dict[str, Any]]:
    """Return the AUC of each of the talk's scores for VAEs of all sizes, beside their validation loss."""
    jets, rows = {**tested(), "part of top": partly_held("top")}, []
    for network in NETWORKS:
        for sizes in SIZES:
            vae = trained(network, **sizes)
            for metric, (top, _, w, _) in VAES[network].items():
                score = by_kind(lambda x, v=vae, m=metric: v.score(x, metric=m), jets, most=TESTED)
                auc = {f"{kind} auc": auc_of(score["qcd"], score[kind]) for kind in ("top", "part of top", "w")}
                rows.append(
                    told(
                        {
                            "network": named(network),
                            **sizes,
                            "validation_loss": vae.training_["validation_loss"][0],
                            "score": metric,
                            **auc,
                            "talk: top, w": f"{top:.2f} {w:.2f}",
                        }
                    )
                )
    return rows


def image_rows() -> list[dict[str, Any]]:
    """Return the AUC of distances to references for all settings of the images."""
    jets, rows = samples(), []
    coarse = {name: towers(jet, np.random.default_rng(5)) for name, jet in jets.items()}
    for name, (changed, calorimeter) in SETTINGS.items():
        settings = ImageSettings(**changed)
        images = {
            kind: jet_images(padded_constituents(jet), settings=settings).images
            for kind, jet in (coarse if calorimeter else jets).items()
        }
        tested = [kind for kind in images if kind.startswith("tested")]
        for reference, options, talk in DISTANCES:
            dense = options.get("references") == "average"
            auc: dict[str, list[float]] = {kind: [] for kind in tested[1:]}
            near: list[float] = []
            for seed in range(1 if dense else REFERENCES):
                scorer = EventToEnsemble(seed=seed, **options).fit(images[reference])
                score = {kind: scorer.score(images[kind][: DENSE if dense else None], metric="min") for kind in tested}
                near.append(float((score["tested w"] < np.quantile(score["tested qcd"], EPS_B)).mean()))
                for kind, values in auc.items():
                    both = np.concatenate([score["tested qcd"], score[kind]])
                    label = np.repeat([0, 1], [len(score["tested qcd"]), len(score[kind])])
                    values.append(evaluate(both, label).auc)
            rows.append(
                told(
                    {
                        "images": name,
                        "references": reference,
                        "metric": metric_of(options),
                        "k": "average" if dense else options["k"],
                        **{f"{kind.removeprefix('tested ')} auc": spread(values) for kind, values in auc.items()},
                        "w eps_s near": "-" if reference == "qcd" else spread(near),
                        "talk: top, w": talk,
                    }
                )
            )
    return rows


def run() -> dict[str, Any]:
    """Make both tables, or that of PARTS."""
    result: dict[str, Any] = {
        "command": "make study ONLY=jet_preprocessing",
        "tested": f"{TESTED} jets of each kind, {DENSE} for the average image",
        "reference_samples": REFERENCES,
        "far_from_references": "anomalous",
    }
    parts = {"images": ("rows", image_rows), "networks": ("networks", network_rows)}
    return result | {name: rows() for part, (name, rows) in parts.items() if part in PARTS}
