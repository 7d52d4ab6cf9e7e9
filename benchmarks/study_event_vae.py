"""Whole events and (beta-)VAEs: what beta does to the latent space and to the scores, methods on the latent space against the same on the objects, and
combinations of them (arXiv:1901.00875, 2010.07940, 2105.14027).

`make study ONLY=event_vae`; EVENTS is the number of background events that everything is trained on (20,000), TESTED that of the background that is tested
(50,000), SIGNAL that of each signal (6,000), SEEDS how often each model is trained (1), EPOCHS for how long (40), LATENT the dimensions (8), METHODS which
methods of rows run on top, PARTS which parts. Events are those of `whole_events.py`, a lepton each, the Standard Model and four signals, in slots of their class. Models see
background alone.

`beta`: the loss is (1 − beta) · MSE + beta · KL, the MSE the mean over the numbers that count, the KL the sum over the latent dimensions. Average variance and mean are
those of the latent Gaussians of tested background, over events and dimensions, and `active` the dimensions whose mean varies by more than 0.1; the talk's variances are of its own events and network. AUCs are medians over the four
signals. `padding`: the same with the numbers of empty slots in the error. `methods`: each method on the numbers of the objects, and on the latent means of one VAE;
`combined`: the four rules for the two best-known pairs. `numbers`: what needs no training. `selected`: of all models of these tables the one with the best median improvement on two signals, drawn by
seed, quoted on the other two. An improvement is the largest eps_S / sqrt(eps_B) at eps_B of 1e-2, 1e-3 and 1e-4, where 20 background events pass; the table has the median over
signals. `walks`: what is decoded along the principal axes of the latent means.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hunch.analysis.regions.challenge import ChallengeRow, challenge_row, selected_model, summaries
from hunch.models import EventAutoencoder, EventVae, principal_walk
from hunch.models.autoencoders.four_vectors import FourVectors
from hunch.models.combined import BackgroundQuantiles, Combined, combined
from hunch.models.scorer import method_class

from .jets import mean_and_error
from .simulated import told
from .whole_events import SIGNALS, multiple_interactions, whole_events

Floats = npt.NDArray[np.float64]
Scores = dict[str, Floats]
"""Sample -> scores (n,): "background" and the signals."""
EVENTS = int(os.environ.get("EVENTS", "20000"))
TESTED = int(os.environ.get("TESTED", "50000"))
SIGNAL = int(os.environ.get("SIGNAL", "6000"))
SEEDS = int(os.environ.get("SEEDS", "1"))
EPOCHS = int(os.environ.get("EPOCHS", "40"))
LATENT = int(os.environ.get("LATENT", "8"))
BETA = float(os.environ.get("BETA", "1e-3"))
METHODS = os.environ.get("METHODS", "IsolationForest,GaussianMixture,KernelDensity,KMeans,DeepSvdd,Flow").split(",")
PARTS = os.environ.get("PARTS", "beta,padding,methods,combined,numbers,selected,walks").split(",")
TRAIN_SEED, TEST_SEED = 1901, 1902
SIGNAL_SEEDS = {"event_a4l": 1911, "event_lqbtau": 1912, "event_h0tautau": 1913, "event_htaunu": 1914}
BETAS = (1.0, 0.5, 0.05, 5e-3, 5e-4, 5e-5, 5e-6, 0.0)
TALK = {
    1.0: 1.0,
    0.5: 0.9999999,
    0.05: 0.864,
    5e-3: 0.555,
    5e-4: 0.378,
    5e-5: 0.0968,
    5e-6: 0.00893,
    0.0: 4.4e-5,
}
"""beta -> average latent variance."""
ACTIVE = 0.1
OBJECTS, LATENTS = "objects", "latent means"
WALKS = "event_vae_walks.png"
LATENT_SPACE = "event_vae_latent.png"
STEPS = np.linspace(-3, 3, 25)
AXES = 4
FEATURES = {
    "missing momentum [GeV]": (0, 0),
    "pT of first electron [GeV]": (1, 0),
    "pT of first muon [GeV]": (5, 0),
    "pT of first jet [GeV]": (9, 0),
    "eta of first jet": (9, 1),
    "pT of second jet [GeV]": (10, 0),
    "phi of first jet": (9, 2),
}
"""What is drawn of an event: name -> (slot, number); the number of objects beside."""


@functools.cache
def events(sample: str) -> Floats:
    """Return the events (n, 19, 3) of "train", "background" or a signal."""
    if sample == "train":
        return whole_events("event_sm", EVENTS, seed=TRAIN_SEED)
    if sample == "background":
        return whole_events("event_sm", TESTED, seed=TEST_SEED)
    return whole_events(sample, SIGNAL, seed=SIGNAL_SEEDS[sample])


@functools.cache
def vae(beta: float, masked: bool, seed: int) -> EventVae:
    """Return a VAE of background, trained once."""
    model = EventVae(
        beta=beta, latent=LATENT, mask_padding=masked, max_epochs=EPOCHS, seed=seed, buffer=2000, learning_rate=2e-3
    )
    return model.fit(events("train"), progress=sys.stderr.isatty())


@functools.cache
def autoencoder(masked: bool, seed: int) -> EventAutoencoder:
    """Return an autoencoder of background, trained once."""
    model = EventAutoencoder(latent=LATENT, mask_padding=masked, max_epochs=EPOCHS, seed=seed, learning_rate=2e-3)
    return model.fit(events("train"), progress=sys.stderr.isatty())


def scores_by(model: Any, metrics: Sequence[str]) -> dict[str, Scores]:
    """Return metric -> scores of the tested samples."""
    found: dict[str, Scores] = {metric: {} for metric in metrics}
    for sample in ("background", *SIGNALS):
        for metric, values in model.score_each(events(sample), metrics).items():
            found[metric][sample] = values
    return found


@functools.cache
def rows_of(given: str, seed: int) -> Mapping[str, Floats]:
    """Return what a method of rows takes, (n, d), of every sample."""
    encoder: Any = FourVectors().fit(events("train")) if given == OBJECTS else vae(BETA, True, seed)
    return {sample: encoder.encode(events(sample)) for sample in ("train", "background", *SIGNALS)}


@functools.cache
def method_scores(method: str, given: str, seed: int) -> Mapping[str, Floats]:
    """Return the scores of the tested samples by a method that was trained on the background's rows, and those of "train"."""
    rows = rows_of(given, seed)
    cls: Any = method_class(method)
    options = {"max_epochs": EPOCHS} if cls.trains else {}
    scorer = cls(seed=seed, **options).fit(rows["train"], **({"progress": False} if cls.trains else {}))
    return {sample: scorer.score(values) for sample, values in rows.items()}


def challenge(scores: Mapping[str, Floats], model: str) -> list[ChallengeRow]:
    """Return a row for each signal."""
    return [
        challenge_row(scores["background"], scores[process], name=name, model=model, channel="lepton")
        for process, name in SIGNALS.items()
    ]


def figures(each: Sequence[Mapping[str, Floats]]) -> dict[str, Any]:
    """Return AUCs, their median over signals, and the median improvement, over trainings."""
    rows = [challenge(scores, "one") for scores in each]
    found: dict[str, Any] = {}
    for number, process in enumerate(SIGNALS):
        short = process.removeprefix("event_")
        own = [row[number] for row in rows]
        found[f"auc_{short}"], found[f"auc_{short}_error"] = mean_and_error(
            [row.auc for row in own], float(np.mean([row.errors[0] for row in own])), digits=3
        )
    found["median_auc"] = round(float(np.mean([np.median([row.auc for row in own]) for own in rows])), 3)
    found["median_improvement"] = round(float(np.mean([summaries(own)[0].median for own in rows])), 2)
    return found


def beta() -> list[dict[str, Any]]:
    """Return a row for each beta: the latent space of background, and the AUC of each metric."""
    rows = []
    for value in BETAS:
        models = [vae(value, True, seed) for seed in range(SEEDS)]
        background = events("background")
        means = [model.latent_means(background) for model in models]
        variances = [float((model.latent_sigmas(background) ** 2).mean()) for model in models]
        row: dict[str, Any] = {
            "beta": value,
            "average_variance": float(f"{np.mean(variances):.3g}"),
            "talk_variance": TALK[value],
            "average_mean": float(f"{np.mean([np.abs(own).mean() for own in means]):.3g}"),
            "active": round(float(np.mean([(own.std(axis=0) > ACTIVE).sum() for own in means])), 1),
        }
        each = [scores_by(model, EventVae.metrics) for model in models]
        for metric in EventVae.metrics:
            row[f"auc_{metric}"] = figures([own[metric] for own in each])["median_auc"]
        rows.append(told(row))
    return rows


def padding() -> list[dict[str, Any]]:
    """Return a row for an autoencoder and a VAE each, with empty slots left out of the error and with them in it."""
    rows = []
    for masked in (True, False):
        for name, make, metric in (
            ("EventAutoencoder", lambda seed, masked=masked: autoencoder(masked, seed), "reconstruction"),
            ("EventVae", lambda seed, masked=masked: vae(BETA, masked, seed), "loss"),
        ):
            each = [scores_by(make(seed), [metric])[metric] for seed in range(SEEDS)]
            count = (events("background")[:, 1:, 0] > 0).sum(axis=1)
            told_by = [float(np.corrcoef(own["background"], count)[0, 1]) for own in each]
            rows.append(
                told(
                    {
                        "model": name,
                        "empty_slots": "left out" if masked else "counted",
                        "correlation_with_number_of_objects": round(float(np.mean(told_by)), 2),
                    }
                    | figures(each)
                )
            )
    return rows


def methods() -> list[dict[str, Any]]:
    """Return a row for each method of rows, on the objects and on the latent means."""
    return [
        told(
            {"method": method, "input": given} | figures([method_scores(method, given, seed) for seed in range(SEEDS)])
        )
        for method in METHODS
        for given in (OBJECTS, LATENTS)
    ]


def pairs() -> dict[str, tuple[tuple[str, str], tuple[str, str]]]:
    """Return name -> two methods with their inputs; those of the challenge that were combined most."""
    return {
        "DeepSvdd and Flow, objects": (("DeepSvdd", OBJECTS), ("Flow", OBJECTS)),
        "Flow, objects, and KMeans, latent means": (("Flow", OBJECTS), ("KMeans", LATENTS)),
    }


@functools.cache
def combined_scores(pair: str, rule: str, seed: int) -> Mapping[str, Floats]:
    """Return the scores of a pair by a rule, on quantiles of the tested background, on which no method was trained."""
    each = [method_scores(method, given, seed) for method, given in pairs()[pair]]
    quantiles = [BackgroundQuantiles(np.sort(own["background"])) for own in each]
    return {
        sample: combined(
            np.stack([q.surprise(own[sample]) for q, own in zip(quantiles, each, strict=True)], axis=1), rule
        )
        for sample in ("background", *SIGNALS)
    }


def combinations() -> list[dict[str, Any]]:
    """Return a row for each pair and rule."""
    return [
        told({"pair": pair, "rule": rule} | figures([combined_scores(pair, rule, seed) for seed in range(SEEDS)]))
        for pair in pairs()
        for rule in Combined.metrics
    ]


@functools.cache
def number_scores() -> Mapping[str, Scores]:
    """Return numbers of the tested events by name."""
    found: dict[str, Scores] = {"MET": {}, "HT": {}, "number of objects": {}}
    for sample in ("background", *SIGNALS):
        pt = events(sample)[..., 0]
        found["MET"][sample] = pt[:, 0]
        found["HT"][sample] = pt[:, 9:].sum(axis=1)
        found["number of objects"][sample] = (pt[:, 1:] > 0).sum(axis=1).astype(np.float64)
    return found


def numbers() -> list[dict[str, Any]]:
    """Return a row for each number."""
    return [told({"number": name} | figures([values])) for name, values in number_scores().items()]


def selected() -> list[dict[str, Any]]:
    """Return which model is the best on two signals, and what it reaches on the other two, of the first training, for three draws of the halves."""
    rows: list[ChallengeRow] = []
    for value in BETAS:
        for metric, scores in scores_by(vae(value, True, 0), EventVae.metrics).items():
            rows += challenge(scores, f"EventVae beta={value:g} {metric}")
    rows += challenge(scores_by(autoencoder(True, 0), ["reconstruction"])["reconstruction"], "EventAutoencoder")
    for method in METHODS:
        for given in (OBJECTS, LATENTS):
            rows += challenge(method_scores(method, given, 0), f"{method} on {given}")
    for pair in pairs():
        for rule in Combined.metrics:
            rows += challenge(combined_scores(pair, rule, 0), f"{rule} of {pair}")
    found = []
    for seed in range(3):
        first, other = selected_model(rows, seed=seed)
        found.append(
            told(
                {
                    "halves_drawn_by_seed": seed,
                    "of_models": len(summaries(rows)),
                    "model": first.model,
                    "median_where_selected": round(first.median, 2),
                    "median_quoted": round(other.median, 2),
                }
            )
        )
    return found


def draw_walks(folder: Path) -> None:
    """Draw eight features along four principal axes of the latent means, and the means of background and signals on the first two."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt
    import mplhep

    model = vae(BETA, True, 0)
    means = model.latent_means(events("background"))
    with mpl.rc_context(mplhep.style.ROOT):
        figure, axes = plt.subplots(2, 4, figsize=(32, 15), sharex=True, layout="constrained")
        for axis in range(min(AXES, LATENT)):
            made = model.decode(principal_walk(means, axis, STEPS))
            drawn = {
                name: np.where(made[:, slot, 0] > 0, made[:, slot, k], np.nan) for name, (slot, k) in FEATURES.items()
            }
            drawn["number of objects"] = (made[:, 1:, 0] > 0).sum(axis=1).astype(np.float64)
            for ax, (name, values) in zip(axes.flat, drawn.items(), strict=True):
                ax.plot(STEPS, values, lw=3, label=f"axis {axis + 1}")
                ax.set_ylabel(name)
        for ax in axes[1]:
            ax.set_xlabel("step [standard deviations]")
        axes[0, 0].legend(fontsize=20)
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(folder / WALKS, dpi=50, metadata={"Software": None})
        plt.close(figure)
        figure, axes = plt.subplots(1, 3, figsize=(30, 10), layout="constrained")
        for ax, value in zip(axes, (5e-5, 5e-3, 0.5), strict=True):
            own = vae(value, True, 0)
            base = own.latent_means(events("background"))[:3000]
            order = np.argsort(base.std(axis=0))[::-1][:2]
            ax.scatter(*base[:, order].T, s=4, color="0.7", label="background")
            for number, (process, name) in enumerate(SIGNALS.items()):
                ax.scatter(*own.latent_means(events(process)[:300])[:, order].T, s=6, color=f"C{number}", label=name)
            ax.set(xlabel="widest latent mean", ylabel="second widest")
            ax.set_title(f"beta = {value:g}", fontsize=26)
        axes[0].legend(fontsize=18, markerscale=4)
        figure.savefig(folder / LATENT_SPACE, dpi=50, metadata={"Software": None})
        plt.close(figure)


def run() -> dict[str, Any]:
    """Return what the parts found; figures are written beside the results."""
    made: dict[str, Any] = {
        "command": "make study ONLY=event_vae",
        "multiple_interactions": multiple_interactions(),
        "training_background": len(events("train")),
        "tested_background": len(events("background")),
        "tested_signal": {process.removeprefix("event_"): len(events(process)) for process in SIGNALS},
        "seeds": SEEDS,
        "epochs": EPOCHS,
        "latent": LATENT,
        "beta_of_methods": BETA,
    }
    parts = {
        "beta": beta,
        "padding": padding,
        "methods": methods,
        "combined": combinations,
        "numbers": numbers,
        "selected": selected,
    }
    made |= {name: part() for name, part in parts.items() if name in PARTS}
    if "walks" in PARTS:
        draw_walks(Path(__file__).parents[1] / "docs" / "results")
        made |= {"walks_figure": WALKS, "latent_figure": LATENT_SPACE}
    return made
