"""VAEs on the constituents of jets: beta, the latent size, what is reconstructed, and the window of pT (arXiv:2007.01850).

`make study ONLY=constituent_vae`; EVENTS is the number of QCD jets of pT > 450 GeV that are trained on (30,000), SEEDS how often
each network is trained (3), EPOCHS for how long. The jets are ours (Pythia 8 and the fast detector, R = 1.0); the jets that are tested have 550 <
pT < 650 GeV, and neither trained nor stopped anything. An error is that of the test sample and of the mean over the trainings together.
The KL is the mean over the latent dimensions, so beta = 0.1 is 0.01 of a sum over ten. `mass_correlation` is Spearman's, on QCD; `peak`
is the middle of the fullest 10 GeV of the masses of reconstructed W jets of 80 and 174 GeV: one mass for all of them says that the latent space does not hold it.
`emd` compares a jet with its reconstruction (pT normalised, energy mover's distance in eta and phi).
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats

from hunch.analysis import evaluate
from hunch.models import ConstituentVae
from hunch.models.autoencoders.set_autoencoder import kl_of_each
from hunch.models.autoencoders.set_scaling import filled_slots, jet_masses, polar

from . import jets as single
from .jets import SIGNALS, Jets, jets, mean_and_error, seeds
from .simulated import told

Floats = npt.NDArray[np.float64]
EPOCHS = int(os.environ.get("EPOCHS", "30"))
PARTS = os.environ.get("PARTS", "beta,latent,quality,pt,architecture").split(",")
BETAS = (0.01, 0.1, 0.5, 1.0, 5.0)
LATENTS = (6, 10, 14, 20)
TRANSPORTED = 1500  # jets of a kind whose energy mover's distance is computed
SHOWN = ("w_80", "w_174", "top_174", "hh_80")
ACTIVE = 0.01  # nats: a latent dimension of less is not used
OUTPUT, REACH = "constituent_vae_reconstruction.png", "constituent_vae_beta.png"


@functools.cache
def sample(name: str) -> Jets:
    """Return a sample, read once."""
    return jets(name)


def trained(
    *, beta: float = 0.1, latent: int = 10, architecture: str = "dense", window: bool = False, seed: int = 0
) -> ConstituentVae:
    """Return a VAE trained on QCD jets alone, once; window: on those of the tested window of pT alone."""
    return trained_once(beta, latent, architecture, window, seed)


@functools.cache
def trained_once(beta: float, latent: int, architecture: str, window: bool, seed: int) -> ConstituentVae:
    """Train what `trained` returns."""
    train = sample("qcd_train")
    if window:
        train = train.select((train.pt > single.TESTED_PT[0]) & (train.pt < single.TESTED_PT[1]))
    vae = ConstituentVae(
        beta=beta, latent=latent, architecture=architecture, max_epochs=EPOCHS, seed=seed, device="cpu"
    )
    return vae.fit(train.vectors, progress=sys.stderr.isatty())


def kl_by_dimension(vae: ConstituentVae, x: npt.NDArray[Any]) -> Floats:
    """Return the mean KL (latent,) in nats of jets."""
    network, scaling = vae.network_, vae.scaling_
    assert network is not None
    assert scaling is not None
    with torch.no_grad():
        rows = torch.from_numpy(scaling.scaled(x.astype(np.float64)).reshape(1, len(x), -1))
        return np.asarray(kl_of_each(*network.encode(rows))[0].mean(dim=0).numpy())


def reconstructed(vae: ConstituentVae, x: npt.NDArray[Any]) -> Floats:
    """Return the reconstructions (n, 20, 4) of jets, in the slots that the jets fill."""
    return np.where(filled_slots(x)[..., None], vae.reconstruct(x), 0.0)


def peak(masses: Floats) -> float:
    """Return the middle (GeV) of the fullest 10 GeV, of the jets that have a mass: constituents of a network need not be massless."""
    counts, edges = np.histogram(masses[masses > 0], np.arange(0.0, 400.0, 10.0))
    return float(edges[counts.argmax()] + 5.0)


def aucs(vae: ConstituentVae, metrics: tuple[str, ...]) -> dict[tuple[str, str], tuple[float, float]]:
    """Return (kind of jet, metric) -> AUC against QCD and its statistical error."""
    background = vae.score_each(sample("qcd").vectors, metrics)
    found = {}
    for kind in SIGNALS:
        signal = vae.score_each(sample(kind).vectors, metrics)
        for metric in metrics:
            scores = np.concatenate([background[metric], signal[metric]])
            figures = evaluate(scores, np.repeat([0, 1], [len(background[metric]), len(signal[metric])]))
            found[kind, metric] = figures.auc, figures.auc_error
    return found


def repeated(
    kinds: tuple[str, ...], metric: str, found: list[dict[tuple[str, str], tuple[float, float]]]
) -> dict[str, Any]:
    """Return the AUC of some kinds of jets with errors, over trainings."""
    row: dict[str, Any] = {}
    for kind in kinds:
        values, errors = zip(*(each[kind, metric] for each in found), strict=True)
        row[kind], row[f"{kind}_error"] = mean_and_error(values, float(np.mean(errors)))
    return row


def beta_scan() -> list[dict[str, Any]]:
    """Return what each beta makes of reconstruction, latent space, masses and tagging."""
    qcd, rows = sample("qcd"), []
    for beta in BETAS:
        networks = [trained(beta=beta, seed=seed) for seed in seeds()]
        mse = [float(vae.score(qcd.vectors, metric="mse").mean()) for vae in networks]
        emd = [float(vae.score(qcd.vectors[:TRANSPORTED], metric="emd").mean()) for vae in networks]
        kl = np.array([np.sort(kl_by_dimension(vae, qcd.vectors))[::-1] for vae in networks])
        masses = jet_masses(qcd.vectors.astype(np.float64))
        kept = [stats.spearmanr(masses, jet_masses(reconstructed(vae, qcd.vectors))).statistic for vae in networks]
        made = jet_masses(networks[0].sample(5000, seed=1))
        row = {
            "beta": beta,
            "mse": mean_and_error(mse)[0],
            "emd": mean_and_error(emd)[0],
            "kl_by_dimension": [round(float(v), 2) for v in kl.mean(axis=0)],
            "active": round(float((kl > ACTIVE).sum(axis=1).mean()), 1),
            "mass_correlation": mean_and_error(kept)[0],
            "peak_w_80": peak(jet_masses(reconstructed(networks[0], sample("w_80").vectors))),
            "peak_w_174": peak(jet_masses(reconstructed(networks[0], sample("w_174").vectors))),
            "generated_median": round(float(np.median(made)), 1),
            "qcd_median": round(float(np.median(masses)), 1),
            **repeated(("w_80", "top_174"), "mse", [aucs(vae, ("mse",)) for vae in networks]),
        }
        kl_auc = repeated(("w_80", "top_174"), "kl", [aucs(vae, ("kl",)) for vae in networks])
        rows.append(told(row | {f"kl_{name}": value for name, value in kl_auc.items()}))
    return rows


def latent_scan() -> list[dict[str, Any]]:
    """Return what each number of latent dimensions makes of reconstruction and tagging."""
    qcd, rows = sample("qcd"), []
    for latent in LATENTS:
        networks = [trained(latent=latent, seed=seed) for seed in seeds()]
        found = [aucs(vae, ("mse", "kl")) for vae in networks]
        rows.append(
            told(
                {
                    "latent": latent,
                    "mse": mean_and_error([float(v.score(qcd.vectors, metric="mse").mean()) for v in networks])[0],
                    "active": round(
                        float(np.mean([(kl_by_dimension(v, qcd.vectors) > ACTIVE).sum() for v in networks])), 1
                    ),
                    **{f"mse_{k}": v for k, v in repeated(("w_80", "top_174"), "mse", found).items()},
                    **{f"kl_{k}": v for k, v in repeated(("w_80", "top_174"), "kl", found).items()},
                }
            )
        )
    return rows


def quality() -> list[dict[str, Any]]:
    """Return the AUC of the error beside the quality of reconstruction, over all networks of the other parts, and without a network."""
    qcd, rows = sample("qcd"), []
    cases: list[tuple[str, dict[str, Any]]] = [(f"beta {beta:g}", {"beta": beta}) for beta in BETAS]
    cases += [(f"latent {latent}", {"latent": latent}) for latent in LATENTS if latent != 10]
    for name, options in cases:
        networks = [trained(seed=seed, **options) for seed in seeds()]
        mse = [float(vae.score(qcd.vectors, metric="mse").mean()) for vae in networks]
        found = repeated(("w_80", "w_174", "top_174", "hh_80"), "mse", [aucs(vae, ("mse",)) for vae in networks])
        rows.append(told({"network": name, "mse": mean_and_error(mse)[0], **found}))
    vae = trained()
    mss = float(vae.score(qcd.vectors, metric="mss").mean())
    rows.append(
        told(
            {
                "network": "none (mss)",
                "mse": round(mss, 3),
                **repeated(("w_80", "w_174", "top_174", "hh_80"), "mss", [aucs(vae, ("mss",))]),
            }
        )
    )
    return rows


def windows() -> list[dict[str, Any]]:
    """Return the AUC of training on all pT and of training on the tested window alone, both tested in the window."""
    rows = []
    train = sample("qcd_train")
    inside = int(((train.pt > single.TESTED_PT[0]) & (train.pt < single.TESTED_PT[1])).sum())
    for window in (False, True):
        networks = [trained(window=window, seed=seed) for seed in seeds()]
        found = [aucs(vae, ("mse", "kl", "mss")) for vae in networks]
        qcd = sample("qcd")
        for metric in ("mse", "kl", "mss"):
            by_pt = [stats.spearmanr(vae.score(qcd.vectors, metric=metric), qcd.pt).statistic for vae in networks]
            rows.append(
                told(
                    {
                        "trained_on": "550 to 650 GeV" if window else "above 450 GeV",
                        "jets": inside if window else len(train),
                        "score": metric,
                        **repeated(("w_80", "w_174", "top_174"), metric, found),
                        "correlation_with_pt": mean_and_error(by_pt)[0],
                    }
                )
            )
    return rows


def architectures() -> list[dict[str, Any]]:
    """Return the AUC of the dense and the LSTM network."""
    rows = []
    for architecture in ("dense", "lstm"):
        networks = [trained(architecture=architecture, seed=seed) for seed in seeds()]
        found = [aucs(vae, ("mse", "kl")) for vae in networks]
        mse = [float(vae.score(sample("qcd").vectors, metric="mse").mean()) for vae in networks]
        shared = {"network": architecture, "mse": mean_and_error(mse)[0]}
        rows += [
            told({**shared, "score": metric, **repeated(("w_80", "w_174", "top_174"), metric, found)})
            for metric in ("mse", "kl")
        ]
    return rows


def average(x: npt.NDArray[Any]) -> Floats:
    """Return the mean image (40, 40) of jets (n, 20, 4), each of total 1, in eta and phi of the jets' frames."""
    points = polar(x.astype(np.float64))
    weight = np.maximum(points[..., 0], 0)
    weight /= np.maximum(weight.sum(axis=1, keepdims=True), 1e-9)
    image, _, _ = np.histogram2d(
        points[..., 1].ravel(), points[..., 2].ravel(), bins=40, range=[[-1, 1]] * 2, weights=weight.ravel()
    )
    return np.asarray(image.T / len(x))


def high_level(x: npt.NDArray[Any]) -> dict[str, Floats]:
    """Return mass, pT, share of the hardest constituent and width of jets (n, 20, 4)."""
    points = polar(x.astype(np.float64))
    pt = np.maximum(points[..., 0], 0)
    total = np.maximum(pt.sum(axis=1), 1e-9)
    px, py = (x[..., i].sum(axis=1) for i in (1, 2))
    return {
        "jet mass [GeV]": jet_masses(x.astype(np.float64)),
        "jet pT [GeV]": np.hypot(px, py).astype(np.float64),
        "pT share of the hardest": pt.max(axis=1) / total,
        "width": (pt * np.hypot(points[..., 1], points[..., 2])).sum(axis=1) / total,
    }


def draw(folder: Path) -> None:
    """Draw input and output of one network, and what beta makes of the masses, into `folder`."""
    import matplotlib.pyplot as plt

    kinds = ("qcd", *SHOWN)
    vae = trained()
    figure, axes = plt.subplots(len(kinds), 6, figsize=(17, 2.7 * len(kinds)), layout="constrained")
    for line, kind in zip(axes, kinds, strict=True):
        given = sample(kind).vectors
        made = reconstructed(vae, given)
        for axis, x, name in zip(line[:2], (given, made), ("input", "output"), strict=True):
            axis.imshow(
                np.maximum(average(x), 1e-7), norm="log", vmin=1e-5, vmax=0.1, origin="lower", extent=(-1, 1, -1, 1)
            )
            axis.set(title=f"{kind}, {name}", xlabel=r"$\eta$", ylabel=r"$\phi$")
        of_input, of_output = high_level(given), high_level(made)
        for axis, feature in zip(line[2:], of_input, strict=True):
            bins = np.linspace(*np.quantile(of_input[feature], [0.001, 0.995]), 41)
            for values, name in ((of_input[feature], "input"), (of_output[feature], "output")):
                axis.hist(values, bins, histtype="step", density=True, label=name)
            axis.set(xlabel=feature, yticks=[])
        line[2].legend(frameon=False)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / OUTPUT, dpi=60, metadata={"Software": None})
    plt.close(figure)
    figure, axes = plt.subplots(1, len(BETAS) + 1, figsize=(18, 3.2), layout="constrained")
    bins = np.linspace(0, 300, 61)
    for axis, beta in zip(axes, (None, *BETAS), strict=True):
        for kind in ("qcd", "w_80", "w_174", "top_174"):
            given = sample(kind).vectors
            masses = jet_masses(
                (given if beta is None else reconstructed(trained(beta=beta), given)).astype(np.float64)
            )
            axis.hist(masses[masses > 0], bins, histtype="step", density=True, label=kind)
        axis.set(title="input" if beta is None else rf"output, $\beta$ = {beta:g}", xlabel="jet mass [GeV]", yticks=[])
    axes[0].legend(frameon=False)
    figure.savefig(folder / REACH, dpi=70, metadata={"Software": None})
    plt.close(figure)


def run() -> dict[str, Any]:
    """Return the figures of all PARTS."""
    parts = {"beta": beta_scan, "latent": latent_scan, "quality": quality, "pt": windows, "architecture": architectures}
    found: dict[str, Any] = {"command": "make study ONLY=constituent_vae", **single.sizes(), "epochs": EPOCHS}
    for name in PARTS:
        found[name] = parts[name]()
    draw(Path(__file__).parents[1] / "docs" / "results")
    return found | {"reconstruction_figure": OUTPUT, "beta_figure": REACH}
