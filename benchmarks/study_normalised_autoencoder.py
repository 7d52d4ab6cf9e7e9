"""Normalised autoencoders on jet images in both directions: QCD tagging tops and tops tagging QCD (arXiv:2206.14225).

`make study ONLY=normalised_autoencoder`; EVENTS is the number of jets of a class that are trained on (10,000), SEEDS how often (5), LONG the epochs of
a second phase that goes on for long (12), PARTS which parts run. Jets are those of `reference_jets.py`; a quarter as many jets are for early stopping,
three quarters as many of either class are tested, which nothing trained on or chose by. One setting serves both directions, `SETTING`. It was chosen
on 12,000 jets a class of other seeds (1811, 1812), with their labels, see docs/design/energies.md: it is no choice without labels.

`symmetric`: AUC and 1/eps_B at eps_S = 0.2 of the energy and of the plain autoencoder after the same first phase, and of a plain autoencoder that was trained to its
end, mean and standard error over the seeds; beside them those of one number of the jet, larger or smaller (`image_baselines.py`), and the talk's. "energy": a short
second phase, whose epoch the Wasserstein distance chooses. "energy, stopped by W jets": one of up to LONG epochs, whose epoch is the one in which W jets,
a third class that nothing else looks at, have the largest AUC. `criterion`: by the epochs of one such second phase, the AUC of the epoch that either
chooses and the best AUC of any epoch, which nobody could have chosen.
`preprocessing`: filter and reweighting, one seed. `larger`: images of 40x40 pixels, one seed. `manifold`: energies of the decoder's images over
the sphere before and after the second phase, with both classes on it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import mplhep
import numpy as np
import numpy.typing as npt
import torch

from hunch.analysis import evaluate
from hunch.models import NAE
from hunch.models.energy.coordinates import Coordinates
from hunch.models.energy.training import NormalisedObjective
from hunch.processors import filtered_images
from hunch.table import Table

from .image_baselines import EPS_S, both_directions
from .reference_jets import reference_jets

Floats = npt.NDArray[np.float64]
JETS = int(os.environ.get("EVENTS", "10000"))
SEEDS = int(os.environ.get("SEEDS", "5"))
LONG = int(os.environ.get("LONG", "12"))
PARTS = os.environ.get("PARTS", "symmetric,criterion,preprocessing,larger,manifold").split(",")
SETTING: dict[str, Any] = {
    "batch_size": 128,
    "max_epochs": 4,
    "nae_epochs": 4,
    "latent_noise": 0.15,
    "input_noise": 0.3,
}
"""Options of the scorer that differ from its defaults, the same in both directions; some 300 updates of each phase."""
SMEAR, POWER = 1.0, 1.0
OTHER = {"qcd": "top", "top": "qcd"}
PREPARED = ((1.0, 1.0), (0.0, 1.0), (2.0, 1.0), (1.0, 0.5), (0.0, 0.5))
TALK = {
    "top": {"autoencoder": (0.875, 68), "energy": (0.91, 80)},
    "qcd": {"autoencoder": (0.579, 12), "energy": (0.89, 350)},
}
MANIFOLD = "normalised_autoencoder_manifold.png"
THIRD = 3000  # jets of a class that is neither trained on nor tagged
TO_THE_END = 40  # epochs of a plain autoencoder, which stops when its held-out error does
LARGER = 40  # pixels
WATCHED = 20  # epochs of the second phase that is looked at
GRID = 60  # of the map of the sphere, in the polar angle
DRAWN = 400  # jets of a class on the map


class Samples:
    """Jets of both classes, prepared: images for training, for stopping and for the test, and the tables of the test."""

    def __init__(self, smear: float, power: float, *, pixels: int = 20) -> None:
        self.train, self.held, self.test = ({} for _ in range(3))
        self.tables: dict[str, Table] = {}
        held, tested = JETS // 4, 3 * JETS // 4
        for kind in ("qcd", "top"):
            table = reference_jets(kind, JETS + held + tested, pixels=pixels)
            made = filtered_images(np.asarray(table["image_1"]), smear=smear, power=power)
            self.train[kind], self.held[kind], self.test[kind] = np.split(made, [JETS, JETS + held])
            self.tables[kind] = table.select(np.arange(len(table)) >= JETS + held)
        third = np.asarray(reference_jets("w", THIRD, pixels=pixels)["image_1"])
        self.third = filtered_images(third, smear=smear, power=power)


def tagged(background: Floats, signal: Floats) -> tuple[float, float]:
    """Return AUC and 1 / eps_B at eps_S = 0.2 of scores."""
    found = evaluate(np.concatenate([background, signal]), np.repeat([0, 1], [len(background), len(signal)]))
    return found.auc, found.rejection[EPS_S]


def stopped_by_third(samples: Samples, watched: dict[str, list[float]] | None = None, signal: str = "") -> type[NAE]:
    """Return a method whose second phase takes the epoch in which the third class has the largest AUC among held-out jets.

    watched: where the AUC of the signal after each epoch is noted, under "signal", beside "distance" and the third class' AUC, "third"; it takes no part in the training.
    """

    class Stopped(NAE):
        def second_phase(
            self, network: Any, unit: float, held: torch.Tensor, coordinates: Coordinates
        ) -> NormalisedObjective:
            objective = super().second_phase(network, unit, held, coordinates)
            noted = objective.monitor
            third = torch.from_numpy(coordinates.of(samples.third)[0]).float()
            tagging = None if watched is None else torch.from_numpy(coordinates.of(samples.test[signal])[0]).float()
            others = (
                None if watched is None else torch.from_numpy(coordinates.of(samples.test[OTHER[signal]])[0]).float()
            )

            def scores(x: torch.Tensor) -> Floats:
                return np.asarray(network.energy(x[None], network.weights())[0].double().numpy())

            def monitor() -> dict[str, torch.Tensor]:
                figures = noted()
                figures["third_class"] = torch.tensor([1 - tagged(scores(held), scores(third))[0]])
                if watched is not None and tagging is not None and others is not None:
                    watched["signal"].append(tagged(scores(others), scores(tagging))[0])
                    watched["distance"].append(float(figures["wasserstein_mean"][0]))
                    watched["third"].append(1 - float(figures["third_class"][0]))
                return figures

            objective.monitor = monitor
            objective.select = "third_class"
            return objective

    return Stopped


def trained_scorer(samples: Samples, kind: str, seed: int, *, method: type[NAE] = NAE, **others: Any) -> NAE:
    """Return a scorer that was trained on one class; others: options beside those of the setting."""
    options = {"nae_patience": max(LONG, WATCHED), "normalise": True, **SETTING, **others}
    scorer = method(inputs="images", seed=seed, device="auto", **options)
    return scorer.fit(samples.train[kind], validation=samples.held[kind], progress=sys.stderr.isatty())


def row_of(
    samples: Samples, scorers: list[NAE], trained: str, signal: str, metric: str, *, score: str = ""
) -> tuple[dict[str, Any], list[float]]:
    """Return a row of the table and the AUCs of the seeds."""
    found = [
        tagged(*(scorer.score(samples.test[kind], metric=metric) for kind in (trained, signal))) for scorer in scorers
    ]
    aucs, rejections = (np.array(values) for values in zip(*found, strict=True))
    spread = max(len(aucs), 2) ** 0.5
    return {
        "signal": signal,
        "score": score or metric,
        "auc": round(float(aucs.mean()), 4),
        "auc_error": round(float(aucs.std(ddof=min(1, len(aucs) - 1)) / spread), 4),
        "rejection": round(float(rejections.mean()), 1),
        "talk_auc": TALK[signal][metric][0],
        "talk_rejection": TALK[signal][metric][1],
    }, aucs.tolist()


def symmetric(samples: Samples) -> tuple[dict[str, Any], dict[str, NAE]]:
    """Return the symmetric test over the seeds, and the first scorer of each direction."""
    rows, gains, firsts = [], [], {}
    for trained, signal in (("qcd", "top"), ("top", "qcd")):
        scorers = [trained_scorer(samples, trained, seed) for seed in range(SEEDS)]
        plain = [
            trained_scorer(samples, trained, seed, max_epochs=TO_THE_END, nae_epochs=1, latent_steps=0, input_steps=0)
            for seed in range(SEEDS)
        ]
        stopped = [
            trained_scorer(samples, trained, seed, method=stopped_by_third(samples), nae_epochs=LONG)
            for seed in range(SEEDS)
        ]
        aucs = {}
        for name, which, metric in (
            ("autoencoder, to its end", plain, "autoencoder"),
            ("autoencoder", scorers, "autoencoder"),
            ("energy", scorers, "energy"),
            ("energy, stopped by W jets", stopped, "energy"),
        ):
            row, aucs[name] = row_of(samples, which, trained, signal, metric, score=name)
            rows.append(row)
        for name in ("energy", "energy, stopped by W jets"):
            gain, beyond = (
                np.array(aucs[name]) - np.array(aucs[of]) for of in ("autoencoder", "autoencoder, to its end")
            )
            gains.append(
                {
                    "signal": signal,
                    "score": name,
                    "gain": round(float(gain.mean()), 4),
                    "gain_error": round(error_of(gain), 4),
                    "to_its_end": round(float(beyond.mean()), 4),
                    "to_its_end_error": round(error_of(beyond), 4),
                    "seeds": " ".join(f"{own:.4f}" for own in aucs[name]),
                    "seeds_autoencoder": " ".join(f"{own:.4f}" for own in aucs["autoencoder"]),
                }
            )
        firsts[trained] = scorers[0]
    return {"symmetric": rows, "gains": gains}, firsts


def error_of(values: Floats) -> float:
    """Return the standard error of the mean of values (n,)."""
    return float(values.std(ddof=min(1, len(values) - 1)) / len(values) ** 0.5)


def criterion(samples: Samples) -> list[dict[str, Any]]:
    """Return a row a direction: what a long second phase was chosen to be, and what it was at best."""
    rows = []
    for trained, signal in (("qcd", "top"), ("top", "qcd")):
        watched: dict[str, list[float]] = {"signal": [], "distance": [], "third": []}
        scorer = trained_scorer(
            samples, trained, 0, method=stopped_by_third(samples, watched, signal), nae_epochs=WATCHED
        )
        curve, third = watched["signal"], watched["third"]
        chosen = int(np.argmin(watched["distance"]))
        rows.append(
            {
                "signal": signal,
                "by_distance": 1 + chosen,
                "its_auc": round(curve[chosen], 4),
                "by_w_jets": 1 + int(np.argmax(third)),
                "their_auc": round(curve[int(np.argmax(third))], 4),
                "best_epoch": 1 + int(np.argmax(curve)),
                "best_auc": round(max(curve), 4),
                "setbacks": len(scorer.training_["setbacks"]),
                "epochs": " ".join(f"{own:.3f}" for own in curve),
                "w_jets": " ".join(f"{own:.3f}" for own in third),
            }
        )
    return rows


def larger() -> list[dict[str, Any]]:
    """Return rows of both directions at 40x40 pixels, one seed; the filter has the same width in radian."""
    samples = Samples(SMEAR * LARGER / 20, POWER, pixels=LARGER)
    rows = []
    for trained, signal in (("qcd", "top"), ("top", "qcd")):
        scorer = trained_scorer(samples, trained, 0)
        rows += [row_of(samples, [scorer], trained, signal, metric)[0] for metric in ("autoencoder", "energy")]
    return rows


def preprocessing() -> list[dict[str, Any]]:
    """Return a row for each preparation and direction, one seed."""
    rows = []
    for smear, power in PREPARED:
        samples = Samples(smear, power)
        for trained, signal in (("qcd", "top"), ("top", "qcd")):
            scorer = trained_scorer(samples, trained, 0)
            row: dict[str, Any] = {"smear": smear, "power": power, "signal": signal}
            for metric in ("autoencoder", "energy"):
                auc, rejection = tagged(*(scorer.score(samples.test[k], metric=metric) for k in (trained, signal)))
                row |= {metric: round(auc, 4), f"{metric}_rejection": round(rejection, 1)}
            flat = [(samples.test[k] ** 2).sum(axis=(1, 2)) for k in (trained, signal)]
            auc = tagged(*flat)[0]
            rows.append({**row, "sum_of_squares": round(max(auc, 1 - auc), 4)})
    return rows


def draw_manifold(samples: Samples, scorers: dict[str, NAE], path: Path) -> None:
    """Draw the energies of the decoder's images over the sphere, in units of E0, before and after the second phase, with jets of both classes."""
    polar = (np.arange(GRID) + 0.5) / GRID * np.pi
    azimuth = (np.arange(2 * GRID) + 0.5) / GRID * np.pi - np.pi
    theta, phi = np.meshgrid(polar, azimuth, indexing="ij")
    points = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=-1)
    with mpl.rc_context(mplhep.style.ROOT):
        figure, axes = plt.subplots(len(scorers), 2, figsize=(22, 6.5 * len(scorers)), squeeze=False)
        for line, (trained, scorer) in zip(axes, scorers.items(), strict=True):
            unit = scorer.training_["unit"]
            for ax, metric, told_as in zip(
                line, ("autoencoder", "energy"), ("after the first phase", "after the second phase"), strict=True
            ):
                energies = scorer.manifold_energies(points.reshape(-1, 3), metric=metric).reshape(theta.shape) / unit
                image = ax.pcolormesh(azimuth, np.cos(polar), energies, cmap="cividis", shading="nearest")
                figure.colorbar(image, ax=ax, label=r"$E(g(z))\,/\,E_0$")
                for kind, marker, colour in (("qcd", "o", "white"), ("top", "^", "tab:red")):
                    z = scorer.latent_points(samples.test[kind][:DRAWN], metric=metric)
                    ax.scatter(
                        np.arctan2(z[:, 1], z[:, 0]),
                        z[:, 2],
                        s=14,
                        marker=marker,
                        facecolor="none",
                        edgecolor=colour,
                        label={"qcd": "QCD", "top": "top"}[kind],
                    )
                ax.set(xlabel=r"azimuth of $z$", ylabel=r"$z_3$")
                ax.set_title(f"trained on {trained if trained == 'top' else 'QCD'}, {told_as}", fontsize=22)
                ax.legend(loc="upper right", fontsize=16, facecolor="0.6", frameon=True)
        figure.tight_layout()
        figure.savefig(path, dpi=60, metadata={"Software": None})
        plt.close(figure)


def run() -> dict[str, Any]:
    """Return what the parts found; the figure is written beside the results."""
    samples = Samples(SMEAR, POWER)
    made: dict[str, Any] = {
        "command": "make study ONLY=normalised_autoencoder",
        "jets": JETS,
        "seeds": SEEDS,
        "smear": SMEAR,
        "power": POWER,
        "setting": ", ".join(f"{name} {value}" for name, value in SETTING.items()),
    }
    firsts: dict[str, NAE] = {}
    if "symmetric" in PARTS:
        found, firsts = symmetric(samples)
        made |= found
        made["baselines"] = both_directions(samples.tables["qcd"], samples.tables["top"])
    if "criterion" in PARTS:
        made["criterion"] = criterion(samples)
    if "larger" in PARTS:
        made["larger"] = larger()
    if "preprocessing" in PARTS:
        made["preprocessing"] = preprocessing()
    if "manifold" in PARTS:
        firsts = firsts or {kind: trained_scorer(samples, kind, 0) for kind in ("qcd", "top")}
        draw_manifold(samples, firsts, Path(__file__).parents[1] / "docs" / "results" / MANIFOLD)
        made["figure"] = MANIFOLD
    return made
