"""Outlier exposure of constituent VAEs: tagging before and after, mass decorrelation beside DisCo and a map, and training on tops.

`make study ONLY=outlier_exposure`; EVENTS is the number of QCD jets of pT > 450 GeV that are trained on (30,000), SEEDS how often each network is
trained (3), EPOCHS for how long. Exposed are W jets of masses flat from 20 to 300 GeV, a fifth as many, resampled to the masses of the QCD jets;
no other jet of a decay is seen. Tested are jets of 550 < pT < 650 GeV that neither trained nor stopped anything. An error is that of the test
sample and of the mean over the trainings together. `mass_correlation` is Spearman's of score and jet mass, on QCD.

Decorrelation: JSD (nats) between the jet masses of QCD that passes a cut and of QCD that fails it, the cut keeps the stated share of QCD; `floor` is that of
random selections of as many jets, and no 1/JSD beyond 1/floor can be told. The map is the cut that keeps the same share at every mass, from one
half of the QCD jets, and all rows are judged on the other half.

`tops`: trained on top jets, exposed to QCD jets, tested on other QCD jets (seen, as a class) and on W jets (not seen); AUC 0.920 and 0.939 in the talk.
The ceiling is a supervised network on the same inputs, trained on the same top jets and as many QCD jets, or on half of the W jets of that mass (the other
half is tested).
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import RobustScaler

from hunch.analysis import evaluate, mass_decorrelation, mass_spectra
from hunch.analysis.checks.mass_spectra import mass_bins
from hunch.analysis.regions.decorrelation import fit_fixed_efficiency
from hunch.models import ConstituentVae, Sample

from . import jets as single
from .jets import SIGNALS, Jets, jets, mean_and_error, seeds
from .simulated import told

Floats = npt.NDArray[np.float64]
EPOCHS = int(os.environ.get("EPOCHS", "30"))
PARTS = os.environ.get("PARTS", "tagging,decorrelation,tops").split(",")
METRICS = ("mse", "kl", "loss", "mss")
TRANSPORTED = 1500  # jets of a kind whose energy mover's distance is computed
KEPT = (0.5, 0.1)
DISCO = (1.0, 10.0, 100.0)
BINS = 20
PLANE, SPECTRA = "outlier_exposure_mass.png", "outlier_exposure_spectra.png"
Training = tuple[tuple[str, Any], ...]
TRAININGS: dict[str, Training] = {
    "plain": (),
    "KL exposure": (("exposure", "kl"),),
    "MSE exposure": (("exposure", "mse"),),
}


@functools.cache
def sample(name: str) -> Jets:
    """Return a sample, read once."""
    return jets(name)


@functools.cache
def trained(options: Training, seed: int = 0) -> ConstituentVae:
    """Return a VAE trained on QCD jets, exposed to W jets of all masses where the options say so."""
    train = sample("qcd_train")
    vae = ConstituentVae(max_epochs=EPOCHS, seed=seed, device="cpu", **dict(options))
    beside = {"exposure": sample("w_flat").vectors} if "exposure" in dict(options) else {}
    return vae.fit(Sample(train.vectors, observable=train.mass), **beside, progress=sys.stderr.isatty())


@functools.cache
def scored(options: Training, seed: int, kind: str) -> dict[str, Floats]:
    """Return metric -> scores of a sample; the energy mover's distance of its first jets alone."""
    vae, x = trained(options, seed), sample(kind).vectors
    return vae.score_each(x, METRICS) | {"emd": vae.score(x[:TRANSPORTED], metric="emd")}


def auc(background: Floats, signal: Floats) -> tuple[float, float]:
    """Return AUC and its statistical error."""
    found = evaluate(np.concatenate([background, signal]), np.repeat([0, 1], [len(background), len(signal)]))
    return found.auc, found.auc_error


def tagging() -> list[dict[str, Any]]:
    """Return the AUC of every kind of jet and score, before and after exposure."""
    rows, qcd = [], sample("qcd")
    for name, options in TRAININGS.items():
        for metric in (*METRICS, "emd"):
            row: dict[str, Any] = {
                "training": name,
                "seen": "W" if "exposure" in dict(options) else "-",
                "score": metric,
            }
            for kind in SIGNALS:
                found = [auc(scored(options, s, "qcd")[metric], scored(options, s, kind)[metric]) for s in seeds()]
                values, errors = zip(*found, strict=True)
                row[kind], row[f"{kind}_error"] = mean_and_error(values, float(np.mean(errors)))
            correlated = []
            for seed in seeds():
                score = scored(options, seed, "qcd")[metric]
                correlated.append(stats.spearmanr(score, qcd.mass[: len(score)]).statistic)
            row["mass_correlation"], row["mass_correlation_error"] = mean_and_error(correlated)
            rows.append(told(row))
    return rows


def decorrelation() -> list[dict[str, Any]]:
    """Return what each training and boundary leaves of sculpting, and of the tagging of W jets of 80 GeV and tops."""
    qcd = sample("qcd")
    half = len(qcd) // 2
    edges = mass_bins(qcd.mass[:half], n=BINS)
    cases = [(name, options, metric) for name, options in TRAININGS.items() for metric in ("mse", "kl")]
    cases += [(f"DisCo {strength:g}", (("decorrelation", strength),), "loss") for strength in DISCO]
    rows = []
    for name, options, metric in cases:
        for boundary in ("one cut", "map"):
            row: dict[str, Any] = {"training": name, "score": metric, "boundary": boundary}
            for kept in KEPT:
                figures: dict[str, list[float]] = {
                    k: [] for k in ("jsd", "error", "floor", "inverse", "w_80", "top_174")
                }
                for seed in seeds():
                    score, mass = scored(options, seed, "qcd")[metric], qcd.mass
                    signals = {k: (scored(options, seed, k)[metric], sample(k).mass) for k in ("w_80", "top_174")}
                    if boundary == "map":
                        cut = fit_fixed_efficiency(score[:half], mass[:half], efficiency=kept)
                        signals = {k: (cut.transform(*given), given[1]) for k, given in signals.items()}
                        score = cut.transform(score, mass)
                    threshold = np.quantile(score[:half], 1 - kept)
                    found = mass_decorrelation(score[half:], mass[half:], efficiency=kept, edges=edges)
                    figures["jsd"].append(found.jsd)
                    figures["error"].append(found.error)
                    figures["floor"].append(found.floor)
                    figures["inverse"].append(found.inverse)
                    for kind, (values, _) in signals.items():
                        figures[kind].append(float((values > threshold).mean()))
                row[f"jsd_{kept:g}"], row[f"jsd_{kept:g}_error"] = mean_and_error(
                    figures["jsd"], float(np.mean(figures["error"])), digits=5
                )
                row[f"floor_{kept:g}"] = round(float(np.mean(figures["floor"])), 5)
                row[f"1/jsd_{kept:g}"] = round(1 / float(np.mean(figures["jsd"])), 1)
                for kind in ("w_80", "top_174"):
                    row[f"eps_{kind}_{kept:g}"] = mean_and_error(figures[kind])[0]
            rows.append(told(row))
    return rows


def supervised(kind: str) -> tuple[float, float]:
    """Return AUC and error of a supervised network that is trained on the top jets and on QCD jets, or on half of the jets of a kind."""
    tested, train = sample(kind).vectors, sample("top_train").vectors
    if kind == "qcd":
        others = sample("qcd_train").vectors[: len(train)]
    else:
        others, tested = tested[: len(tested) // 2], tested[len(tested) // 2 :]
    network = MLPClassifier((256, 128, 64), batch_size=200, early_stopping=True, max_iter=200, random_state=0)
    # late slots are empty in most jets: wide quantiles give them a spread
    model = make_pipeline(RobustScaler(quantile_range=(5, 95)), network)
    x = np.concatenate([train, others])
    model.fit(x.reshape(len(x), -1), np.repeat([0, 1], [len(train), len(others)]))
    made = (model.predict_proba(x.reshape(len(x), -1))[:, 1] for x in (sample("top_174").vectors, tested))
    return auc(*made)


def tops() -> list[dict[str, Any]]:
    """Return the AUC of networks that are trained on top jets and exposed to QCD jets."""
    train, beside = sample("top_train"), sample("qcd_train").select(slice(0, max(len(sample("top_train")) // 5, 200)))
    top, rows = sample("top_174").vectors, []
    for exposure in ("none", "kl", "mse"):
        options = {"exposure": exposure} if exposure != "none" else {}
        given = {"exposure": beside.vectors} if options else {}
        networks = []
        for seed in seeds():
            vae = ConstituentVae(max_epochs=EPOCHS, seed=seed, device="cpu", exposure_match="none", **options)
            networks.append(vae.fit(train.vectors, **given, progress=sys.stderr.isatty()))
        for metric in METRICS:
            row: dict[str, Any] = {"exposure": exposure, "seen": "-" if exposure == "none" else "qcd", "score": metric}
            of_top = [vae.score(top, metric=metric) for vae in networks]
            for kind, talk in (("qcd", 0.920), ("w_80", 0.939), ("w_174", None)):
                found = [
                    auc(tops_, vae.score(sample(kind).vectors, metric=metric))
                    for tops_, vae in zip(of_top, networks, strict=True)
                ]
                values, errors = zip(*found, strict=True)
                row[kind], row[f"{kind}_error"] = mean_and_error(values, float(np.mean(errors)))
                if talk:
                    row[f"{kind}_talk"] = talk if (exposure, metric) == ("kl", "kl") else "-"
            rows.append(told(row))
    ceiling: dict[str, Any] = {"exposure": "supervised", "seen": "qcd, w_80, w_174", "score": "-"}
    for kind in ("qcd", "w_80", "w_174"):
        found = supervised(kind)
        ceiling[kind], ceiling[f"{kind}_error"] = round(found[0], 3), round(found[1], 3)
        if f"{kind}_talk" in rows[0]:
            ceiling[f"{kind}_talk"] = "-"
    return [*rows, told({name: ceiling[name] for name in rows[0]})]


def draw(folder: Path) -> None:
    """Draw score against mass before and after exposure, and the mass spectra behind cuts, into `folder`."""
    import matplotlib.pyplot as plt

    shown = [("plain", "mse"), ("plain", "kl"), ("MSE exposure", "mse"), ("KL exposure", "kl")]
    figure, axes = plt.subplots(2, len(shown), figsize=(17, 7.4), layout="constrained")
    for column, (name, metric) in zip(axes.T, shown, strict=True):
        for axis, kind in zip(column, ("qcd", "w_flat"), strict=True):
            score, mass = scored(TRAININGS[name], 0, kind)[metric], sample(kind).mass
            top = np.quantile(scored(TRAININGS[name], 0, "w_flat")[metric], 0.98)
            bins = [np.linspace(0, 350, 71), np.linspace(0, top, 61)]
            axis.hist2d(mass, score, bins, norm="log", cmap="viridis")
            middles, low = [], np.arange(0, 350, 25)
            for edge in low:
                inside = score[(mass >= edge) & (mass < edge + 25)]
                middles.append(np.median(inside) if len(inside) > 20 else np.nan)
            axis.plot(low + 12.5, middles, color="white", marker="o", markersize=3)
            told_kind = "QCD" if kind == "qcd" else "W of 20 to 300 GeV (exposed)"
            axis.set(title=f"{name}: {told_kind}", xlabel="jet mass [GeV]", ylabel=f"score: {metric}")
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / PLANE, dpi=60, metadata={"Software": None})
    plt.close(figure)
    figure, axes = plt.subplots(1, len(shown), figsize=(17, 3.6), layout="constrained", sharey=True)
    qcd = sample("qcd")
    for axis, (name, metric) in zip(axes, shown, strict=True):
        found = mass_spectra(
            scored(TRAININGS[name], 0, "qcd")[metric], qcd.mass, efficiencies=(1.0, 0.5, 0.2, 0.1, 0.05)
        )
        for counts, kept in zip(found.counts, found.eps_b, strict=True):
            axis.stairs(counts / counts.sum(), found.edges, label=f"{100 * kept:.3g} % kept")
        axis.set(title=f"{name}: {metric}", xlabel="jet mass of QCD [GeV]")
    axes[0].set(ylabel="share of the jets")
    axes[0].legend(frameon=False)
    figure.savefig(folder / SPECTRA, dpi=70, metadata={"Software": None})
    plt.close(figure)


def run() -> dict[str, Any]:
    """Return the figures of all PARTS."""
    parts = {"tagging": tagging, "decorrelation": decorrelation, "tops": tops}
    found: dict[str, Any] = {"command": "make study ONLY=outlier_exposure", **single.sizes(), "epochs": EPOCHS}
    found |= {"top_training_jets": single.known()["top_train"], "disco_strengths": list(DISCO)}
    for name in PARTS:
        found[name] = parts[name]()
    draw(Path(__file__).parents[1] / "docs" / "results")
    return found | {"mass_figure": PLANE, "spectra_figure": SPECTRA}
