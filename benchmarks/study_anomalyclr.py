"""AnomalyCLR: anomaly scores of whole events, of the objects as they are and of representations learned from background and invented anomalies (arXiv:2301.04660).

`make study ONLY=anomalyclr`; EVENTS is the number of background events that everything is trained on (100,000), TESTED that of the background that is tested
(200,000), SIGNAL that of each signal (20,000), MULTIPLE_INTERACTIONS=0 simulates without them (`whole_events.py`), SEEDS how often each encoder and scorer is trained
(3), EPOCHS for how long an encoder is (30), WIDTH, LAYERS and DIMS of it (128, 2, 32), METHODS which scorers run on top, PARTS which parts; with PARTS=simulate
events are made and kept. Encoders and scorers are trained on the same background and see no signal; options are defaults, none was chosen on these events.

Scorers: "Autoencoder" is the first phase of the project's NAE, the mean squared error of a dense network with 8 latent numbers on a sphere; Vae and Flow are the project's, their score -log p.
"objects" are the (19, 3) numbers in a row of 57, less those that never change. `auc_error` has the test sample and the spread of the seeds in quadrature. eps_S is
given at a background efficiency where at least 20 background events pass, else none; its error is the binomial one of the signal, that of the threshold from the background that passes, and the spread.
max_sic is the largest eps_S / sqrt(eps_B) with at least 20 background events, which is taken where it is largest on the test sample.

`scores`: each scorer on objects and on representations (loss anomclr, all augmentations), each signal; the figure has the SIC of the first seed, and that of the number of objects. `numbers`: what one number of the
event tags without any training. `losses`: the loss clr, which has no anomalous versions, anomclr and anomclr_plus, and an encoder that is not trained. `left_out`: anomclr
without each of the anomalous augmentations. These two have the AUC of each signal, and what the representations collapsed to.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hunch.analysis import evaluate
from hunch.analysis.regions.metrics import MIN_BACKGROUND, efficiency_at, roc, significance_improvement
from hunch.models import NAE, Flow, Vae
from hunch.models.contrastive.clr import AnomalyCLR
from hunch.models.contrastive.event_augmentations import ANOMALIES

from .jets import mean_and_error
from .simulated import told
from .whole_events import SIGNALS, multiple_interactions, whole_events

Floats = npt.NDArray[np.float64]
Scores = dict[str, Floats]
"""Sample -> scores (n,): "background" and the signals."""
EVENTS = int(os.environ.get("EVENTS", "100000"))
TESTED = int(os.environ.get("TESTED", "200000"))
SIGNAL = int(os.environ.get("SIGNAL", "20000"))
SEEDS = int(os.environ.get("SEEDS", "3"))
EPOCHS = int(os.environ.get("EPOCHS", "30"))
WIDTH = int(os.environ.get("WIDTH", "128"))
LAYERS = int(os.environ.get("LAYERS", "2"))
DIMS = int(os.environ.get("DIMS", "32"))
METHODS = os.environ.get("METHODS", "Autoencoder,Vae,Flow").split(",")
PARTS = os.environ.get("PARTS", "scores,numbers,losses,left_out").split(",")
TRAIN_SEED, TEST_SEED = 1901, 1902
SIGNAL_SEEDS = {"event_a4l": 1911, "event_lqbtau": 1912, "event_h0tautau": 1913, "event_htaunu": 1914}
LEVELS = (1e-3, 1e-4)  # background efficiencies
LATENT = 8  # of the autoencoder, as many as a Vae has at most
PLAIN: dict[str, Any] = {"inputs": "rows", "latent": LATENT, "nae_epochs": 1, "latent_steps": 0, "input_steps": 0}
UNTRAINED = "none, untrained"
OBJECTS, REPRESENTATION = "objects", "representation"
COUNT = "number of objects"
SIC = "anomalyclr_sic.png"


@functools.cache
def events(sample: str) -> Floats:
    """Return the events (n, 19, 3) of "train", "background" or a signal."""
    if sample == "train":
        return whole_events("event_sm", EVENTS, seed=TRAIN_SEED)
    if sample == "background":
        return whole_events("event_sm", TESTED, seed=TEST_SEED)
    return whole_events(sample, SIGNAL, seed=SIGNAL_SEEDS[sample])


@functools.cache
def encoder_of(loss: str, left_out: str, seed: int) -> AnomalyCLR:
    """Return an encoder trained on background, once; loss: UNTRAINED for one as it starts; left_out: one of ANOMALIES that is not made, or ""."""
    options: dict[str, Any] = {name: False for name in ANOMALIES if name == left_out}
    sizes = {"width": WIDTH, "feedforward": WIDTH, "projection": WIDTH, "layers": LAYERS, "dims": DIMS}
    encoder = AnomalyCLR(**sizes, **options, max_epochs=EPOCHS, seed=seed)
    if loss == UNTRAINED:
        sets = events("train")
        encoder.network_ = encoder._network().double().requires_grad_(requires_grad=False)
        encoder.unit_, encoder.slots_ = float(np.median(sets[..., 0].sum(axis=1))), sets.shape[1]
        return encoder
    encoder.loss = loss
    return encoder.fit(events("train"), progress=sys.stderr.isatty())


def changing(rows: Floats) -> npt.NDArray[np.bool_]:
    """Tell which columns (d,) of rows (n, d) are not the same in all of them."""
    return np.asarray(np.ptp(rows, axis=0) > 0)


@functools.cache
def rows_of(encoder: AnomalyCLR | None) -> Scores:
    """Return what a scorer takes, (n, d), of every sample: representations, or without an encoder the numbers of the objects that change."""
    samples = ("train", "background", *SIGNALS)
    if encoder is not None:
        return {name: encoder.encode(events(name)) for name in samples}
    flat = {name: events(name).reshape(len(events(name)), -1) for name in samples}
    kept = changing(flat["train"])
    return {name: rows[:, kept] for name, rows in flat.items()}


@functools.cache
def scores_of(encoder: AnomalyCLR | None, method: str, seed: int) -> Scores:
    """Return the scores of the tested samples by a scorer that was trained on the background's rows."""
    rows = rows_of(encoder)
    metric = None
    if method == "Autoencoder":
        scorer: Any = NAE(seed=seed, **PLAIN)
        metric = "autoencoder"
    else:
        scorer = {"Vae": Vae, "Flow": Flow}[method](seed=seed)
    scorer.fit(rows["train"], progress=sys.stderr.isatty())
    return {name: scorer.score(rows[name], metric=metric) for name in rows if name != "train"}


def repeated(loss: str, left_out: str, method: str) -> list[Scores]:
    """Return the scores of each seed, on representations of an encoder of that seed."""
    return [scores_of(encoder_of(loss, left_out, seed), method, seed) for seed in range(SEEDS)]


def row_of(found: Sequence[Scores], signal: str) -> dict[str, Any]:
    """Return the figures of merit of scores of one signal, over trainings."""
    row: dict[str, Any] = {}
    label = np.repeat([0, 1], [len(found[0]["background"]), len(found[0][signal])])
    metrics = [evaluate(np.concatenate([scores["background"], scores[signal]]), label) for scores in found]
    row["auc"], row["auc_error"] = mean_and_error(
        [m.auc for m in metrics], float(np.mean([m.auc_error for m in metrics])), digits=4
    )
    for level in LEVELS:
        each = [efficiency_at(scores["background"], scores[signal], level) for scores in found]
        known = [pair for pair in each if pair is not None]
        values, errors = zip(*known, strict=True) if known else ((), ())
        name = f"eps_s_{level:.0e}"
        row[name], row[f"{name}_error"] = (
            mean_and_error(values, float(np.mean(errors)), digits=5) if known else (None, None)
        )
    row["max_sic"], row["max_sic_error"] = mean_and_error(
        [m.max_sic for m in metrics], float(np.mean([m.max_sic_error for m in metrics])), digits=2
    )
    return row


def cases() -> dict[tuple[str, str], list[Scores]]:
    """Return (input, method) -> the scores of each seed."""
    found = {}
    for method in METHODS:
        found[OBJECTS, method] = [scores_of(None, method, seed) for seed in range(SEEDS)]
        found[REPRESENTATION, method] = repeated("anomclr", "", method)
    return found


def scores(path: Path) -> list[dict[str, Any]]:
    """Return a row for each signal, input and scorer, and draw the SIC."""
    found = cases()
    draw_sic({case: each[0] for case, each in found.items()}, path)
    return [
        told({"signal": name, "input": case[0], "method": case[1]} | row_of(each, process))
        for process, name in SIGNALS.items()
        for case, each in found.items()
    ]


@functools.cache
def number_scores() -> dict[str, Scores]:
    """Return numbers of the tested events by name: missing momentum, the sum of pT of all other objects, and how many of these there are."""
    found: dict[str, Scores] = {"missing momentum": {}, "sum of pT": {}, COUNT: {}}
    for sample in ("background", *SIGNALS):
        pt = events(sample)[..., 0]
        found["missing momentum"][sample] = pt[:, 0]
        found["sum of pT"][sample] = pt[:, 1:].sum(axis=1)
        found[COUNT][sample] = (pt[:, 1:] > 0).sum(axis=1).astype(np.float64)
    return found


def numbers() -> list[dict[str, Any]]:
    """Return a row for each signal and number of the event, the larger the more anomalous."""
    return [
        told({"signal": name, "number": number} | row_of([values], process))
        for process, name in SIGNALS.items()
        for number, values in number_scores().items()
    ]


def variant(loss: str, left_out: str) -> list[dict[str, Any]]:
    """Return a row for each scorer on representations of encoders of one kind: the AUC of every signal, and what collapsed."""
    rows = []
    encoders = [encoder_of(loss, left_out, seed) for seed in range(SEEDS)]
    names = [encoder.training_.get("collapse", "") for encoder in encoders]
    told_as = ", ".join(f"{name} ({names.count(name)} of {SEEDS})" for name in sorted({*names} - {""})) or "none"
    for method in METHODS:
        each = repeated(loss, left_out, method)
        row: dict[str, Any] = {"loss": loss, "left_out": left_out or "none", "method": method}
        for process in SIGNALS:
            merit = row_of(each, process)
            short = process.removeprefix("event_")
            row[short], row[f"{short}_error"] = merit["auc"], merit["auc_error"]
        rows.append(told(row | {"collapse": told_as}))
    return rows


def draw_sic(found: dict[tuple[str, str], Scores], path: Path) -> None:
    """Draw eps_S / sqrt(eps_B) against eps_B, a panel a signal, where at least 20 background events pass."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt
    import mplhep

    colours = {method: f"C{number}" for number, method in enumerate(METHODS)}
    with mpl.rc_context(mplhep.style.ROOT):
        figure, axes = plt.subplots(2, 2, figsize=(20, 16), sharex=True, layout="constrained")
        for ax, (process, name) in zip(axes.flat, SIGNALS.items(), strict=True):
            for (given, method), own in (*found.items(), ((COUNT, ""), number_scores()[COUNT])):
                n = len(own["background"])
                label = np.repeat([0, 1], [n, len(own[process])])
                both = roc(np.concatenate([own["background"], own[process]]), label)
                eps_b, sic = significance_improvement(*both, n)
                style = {OBJECTS: "--", REPRESENTATION: "-", COUNT: "-."}[given]
                colour = colours.get(method, "black")
                ax.plot(eps_b, sic, style, color=colour, lw=2.5, label=f"{method}, {given}" if method else given)
            level = np.geomspace(MIN_BACKGROUND / n, 1, 100)
            ax.plot(level, np.sqrt(level), ":", color="0.5", lw=2, label="no discrimination")
            ax.set(xscale="log", xlim=(MIN_BACKGROUND / n, 1), ylim=(0, None))
            ax.set_title(name, fontsize=24)
        for ax in axes[1]:
            ax.set_xlabel(r"$\epsilon_B$")
        for ax in axes[:, 0]:
            ax.set_ylabel("significance improvement")
        axes[0, 0].legend(fontsize=18, frameon=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=60, metadata={"Software": None})
        plt.close(figure)


def run() -> dict[str, Any]:
    """Return what the parts found; the figure is written beside the results."""
    made: dict[str, Any] = {
        "command": "make study ONLY=anomalyclr",
        "multiple_interactions": multiple_interactions(),
        "training_background": len(events("train")),
        "tested_background": len(events("background")),
        "tested_signal": {process.removeprefix("event_"): len(events(process)) for process in SIGNALS},
        "seeds": SEEDS,
        "epochs": EPOCHS,
        "encoder": f"width {WIDTH}, {LAYERS} layers, {DIMS} dims",
    }
    if "scores" in PARTS:
        made["scores"] = scores(Path(__file__).parents[1] / "docs" / "results" / SIC)
        made["figure"] = SIC
    if "numbers" in PARTS:
        made["numbers"] = numbers()
    if "losses" in PARTS:
        made["losses"] = [row for loss in (UNTRAINED, "clr", "anomclr", "anomclr_plus") for row in variant(loss, "")]
    if "left_out" in PARTS:
        made["left_out"] = [row for name in ("", *ANOMALIES) for row in variant("anomclr", name)]
    return made
