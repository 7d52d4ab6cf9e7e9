"""Generation from the prior: jets that VAEs of constituents, images and features make, beside those that they were trained on.

`make study ONLY=generation`; EVENTS sets the QCD jets that are simulated (30,000, shared with other studies; `benchmarks/jets.py`), a third of which
VAEs train on, a sixth those of images; SEEDS how often a model is trained anew (3; those of images once). As many jets are generated as half
of the training's. "reconstructed" is the same distance of the training jets' own reconstructions: what it lacks the decoder lacks, and what the generated ones lack more
is due to latent points that the prior has and the jets do not. Distances are those of `hunch.analysis.compare_generated`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from hunch.analysis import (
    Compared,
    average_image_figure,
    compare_generated,
    generation_figure,
    latent_correlations,
    latent_mass_figure,
)
from hunch.models import ConstituentVae, ConvVae, Flow, Vae, traversal
from hunch.processors import (
    FEATURE_LABELS,
    constituent_features,
    constituent_images,
    image_features,
)

from .jets import events, jets, mean_and_error, seeds
from .simulated import told

Floats = npt.NDArray[np.float64]
Features = Mapping[str, Floats]
EPOCHS = int(os.environ.get("EPOCHS", "20"))
IMAGE_EPOCHS = int(os.environ.get("IMAGE_EPOCHS", "10"))
PARTS = os.environ.get("PARTS", "constituents,images,rows").split(",")
SETS = {"beta 0.1": 0.1, "beta 0.01": 0.01}
IMAGES = {"beta 1e-8": 1e-8, "beta 1e-5": 1e-5}
STEPS = 9  # along a latent dimension
AROUND = 300  # jets at each of them
DRAW_SEED = 1


def trained_on() -> int:
    """Return the jets that a VAE of constituents or features is trained on."""
    return max(events() // 3, 100)


def drawn(figure: Any, name: str, folder: Path) -> str:
    """Write a figure as a small PNG and return its name."""
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"generation_{name}.png", dpi=55, metadata={"Software": None})
    return f"generation_{name}.png"


def distance_rows(
    model: str, training: Features, generated: Sequence[Features], reconstructed: Sequence[Features]
) -> list[dict[str, Any]]:
    """Return a row a feature: distances of generated and reconstructed jets, means over trainings, beside the floors."""
    found = [compare_generated(made, training) for made in generated]
    back = [compare_generated(made, training) for made in reconstructed]
    rows = []
    for i, one in enumerate(found[0]):
        if np.ptp(training[one.name]) == 0:
            continue
        apart, error = mean_and_error([c[i].wasserstein for c in found])
        jsd, jsd_error = mean_and_error([c[i].jsd for c in found])
        middle = [float(np.median(f[one.name])) for f in (training, generated[0])]
        rows.append(
            told(
                {
                    "model": model,
                    "feature": one.name,
                    "median": f"{middle[0]:.3g}",
                    "median_generated": f"{middle[1]:.3g}",
                    "wasserstein": apart,
                    "error": error if len(found) > 1 else "-",
                    "reconstructed": mean_and_error([c[i].wasserstein for c in back])[0] if back else "-",
                    "by_chance": round(one.wasserstein_floor, 3),
                    "jsd": jsd,
                    "jsd_error": jsd_error if len(found) > 1 else "-",
                    "jsd_by_chance": round(one.jsd_floor, 4),
                }
            )
        )
    return rows


def along_the_mass(
    model: str,
    means: Floats,
    mass: Floats,
    mass_of: Callable[[Floats], Floats],
    pictures: Callable[[Floats], Any],
    *,
    mass_label: str = "jet mass [GeV]",
) -> tuple[dict[str, Any], Any]:
    """Return how the latent dimension that goes with the mass most does so, and its figure.

    mass_of, pictures: masses and images of the jets at latent points.
    """
    found = latent_correlations(means, mass)
    latent, most = means.shape[1], found.most
    values = np.linspace(*np.quantile(means[:, most], [0.01, 0.99]), STEPS)
    made = mass_of(traversal(latent, most, values, draws=AROUND, seed=DRAW_SEED)).reshape(STEPS, AROUND)
    figure = latent_mass_figure(
        found, means, mass, values, made, images=pictures(traversal(latent, most, values)), mass_label=mass_label
    )
    middle = np.median(made, axis=1)
    row = {
        "model": model,
        "dimension": most,
        "pearson": round(float(found.pearson[most]), 3),
        "spearman": round(float(found.spearman[most]), 3),
        "dcorr2": round(float(found.dcorr2[most]), 3),
        "next_dcorr2": round(float(np.sort(found.dcorr2)[-2]), 3),
        "values": f"{values[0]:.2f} to {values[-1]:.2f}",
        "generated_mass": f"{middle[0]:.0f}, {middle[STEPS // 2]:.0f}, {middle[-1]:.0f}",
    }
    return told(row), figure


def constituents(folder: Path) -> dict[str, Any]:
    """Return tables and figures of VAEs of 20 constituents as four-vectors."""
    sample = jets("qcd_train").select(slice(trained_on()))
    x = sample.vectors.astype(np.float64)
    training = constituent_features(x, tau21=True)
    result: dict[str, Any] = {"constituents": [], "constituents_latent": [], "constituents_without_mass": []}
    for name, beta in SETS.items():
        vaes = [ConstituentVae(beta=beta, max_epochs=EPOCHS, seed=seed).fit(x) for seed in seeds()]
        made = [vae.sample(len(x) // 2, seed=DRAW_SEED) for vae in vaes]
        found = [constituent_features(y, tau21=True) for y in made]
        back = [constituent_features(valid(vae.reconstruct(x)), tau21=True) for vae in vaes]
        result["constituents"] += distance_rows(name, training, found, back)
        # of E and p decoded by themselves some jets have E below |p|
        result["constituents_without_mass"].append(
            told({"model": name, "generated": mean_and_error([float((f["mass"] == 0).mean()) for f in found])[0]})
        )
        vae = vaes[0]
        row, figure = along_the_mass(
            name,
            vae.latent_means(x),
            training["mass"],
            # of what E and p decoded by themselves leave of a mass, the directions tell more
            lambda z, v=vae: constituent_features(v.decode(z))["massless_mass"],
            lambda z, v=vae: constituent_images(v.decode(z)),
            mass_label="jet mass of massless constituents [GeV]",
        )
        result["constituents_latent"].append(row)
        if name == next(iter(SETS)):
            compared = compare_generated(found[0], training)
            result["constituents_figures"] = [
                drawn(features_figure(found[0], training, compared), "constituents", folder),
                drawn(
                    average_image_figure(constituent_images(made[0]), constituent_images(x)),
                    "constituents_image",
                    folder,
                ),
                drawn(figure, "constituents_latent", folder),
            ]
    return result


def features_figure(made: Features, training: Features, compared: Sequence[Compared]) -> Any:
    """Return the figure of distributions, but of those that are the same for all jets."""
    kept = [name for name, values in training.items() if np.ptp(values) > 0]
    return generation_figure(
        {n: made[n] for n in kept},
        {n: training[n] for n in kept},
        labels=FEATURE_LABELS,
        compared=[c for c in compared if c.name in kept],
    )


def valid(sets: Floats) -> Floats:
    """Return reconstructed jets with slots of E below 0 empty, as generated ones have them."""
    return np.asarray(np.where(sets[..., :1] > 0, sets, 0.0))


def images(folder: Path) -> dict[str, Any]:
    """Return tables and figures of convolutional VAEs of images of the same jets, all their constituents."""
    sample = jets("qcd_train").select(slice(max(trained_on() // 2, 100)))
    x = constituent_images(sample.stored)
    training = image_features(x)
    result: dict[str, Any] = {"images": [], "images_latent": []}
    for name, beta in IMAGES.items():
        vae = ConvVae(blocks=3, beta=beta, max_epochs=IMAGE_EPOCHS, learning_rate=2e-3).fit(x)
        made = vae.sample(max(len(x) // 2, 20), seed=DRAW_SEED)
        found = image_features(made)
        back = image_features(vae.reconstruct(x))
        result["images"] += distance_rows(name, training, [found], [back])
        row, figure = along_the_mass(
            name,
            vae.latent_means(x),
            training["mass_over_pt"] * sample.pt,
            lambda z, v=vae: image_features(v.decode(z))["mass_over_pt"] * float(np.median(sample.pt)),
            vae.decode,
        )
        result["images_latent"].append(row)
        if name == list(IMAGES)[-1]:
            compared = compare_generated(found, training)
            result["images_figures"] = [
                drawn(features_figure(found, training, compared), "images", folder),
                drawn(average_image_figure(made, x), "images_image", folder),
                drawn(figure, "images_latent", folder),
            ]
    return result


def rows(folder: Path) -> dict[str, Any]:
    """Return the table and the figure of densities of features of the same jets: a VAE and a flow."""
    sample = jets("qcd_train").select(slice(trained_on()))
    training = constituent_features(sample.stored, tau21=True)
    x = np.stack(list(training.values()), axis=1)
    result: dict[str, Any] = {"rows": [], "rows_latent": []}
    for name, cls in {"Vae": Vae, "Flow": Flow}.items():
        models = [cls(max_epochs=EPOCHS, seed=seed).fit(x) for seed in seeds()]
        made = [model.sample(len(x) // 2, seed=DRAW_SEED) for model in models]
        found = [dict(zip(training, y.T, strict=True)) for y in made]
        result["rows"] += distance_rows(name, training, found, [])
        if name == "Vae":
            vae = cast("Vae", models[0])
            at = list(training).index("mass")
            correlations = latent_correlations(vae.latent_means(x), training["mass"])
            most = correlations.most
            result["rows_latent"].append(
                told(
                    {
                        "model": name,
                        "dimension": most,
                        "pearson": round(float(correlations.pearson[most]), 3),
                        "spearman": round(float(correlations.spearman[most]), 3),
                        "dcorr2": round(float(correlations.dcorr2[most]), 3),
                    }
                )
            )
            values = np.linspace(*np.quantile(vae.latent_means(x)[:, most], [0.01, 0.99]), STEPS)
            latent = len(correlations.dcorr2)
            masses = vae.decode(traversal(latent, most, values, draws=AROUND, seed=DRAW_SEED))[:, at]
            compared = compare_generated(found[0], training)
            result["rows_figures"] = [
                drawn(features_figure(found[0], training, compared), "rows", folder),
                drawn(
                    latent_mass_figure(
                        correlations, vae.latent_means(x), training["mass"], values, masses.reshape(STEPS, AROUND)
                    ),
                    "rows_latent",
                    folder,
                ),
            ]
    return result


def run(folder: Path = Path(__file__).parents[1] / "docs" / "results") -> dict[str, Any]:
    """Make all tables, or those of PARTS, and their figures in a folder."""
    result: dict[str, Any] = {
        "command": "make study ONLY=generation",
        "jets": "QCD, R = 1.0, pT > 450 GeV",
        "trained_on": trained_on(),
        "images_trained_on": max(trained_on() // 2, 100),
        "epochs": EPOCHS,
        "image_epochs": IMAGE_EPOCHS,
        "seeds": list(seeds()),
        "seed_of_draws": DRAW_SEED,
    }
    parts = {"constituents": constituents, "images": images, "rows": rows}
    for name in PARTS:
        result |= parts[name](folder)
    return result
