"""Jet images: convolutional VAEs against optimal transport and a supervised network, beside the talk's numbers (arXiv:2110.06948).

`make study ONLY=jet_images`; EVENTS is the number of QCD jets that VAEs train on (12,000), all other samples follow from it.
Jets are ours (Pythia 8 and the fast detector, R = 1.0, 550 < pT < 650 GeV). Nothing trains on, stops by or chooses
references from the jets that are tested; the signals are seen by the supervised network and the top references alone,
other jets than tested. The talk's choice of down-samplings and beta is taken as it stands.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from hunch.analysis import evaluate
from hunch.models import ConvVae, EventToEnsemble
from hunch.models.distance.clouds import clouds_from_images
from hunch.models.distance.transport import wasserstein_rowwise
from hunch.processors import Images as JetImages
from hunch.processors import Representation, Running, run_table
from hunch.samples import simulate
from hunch.table import Table, read_table, write_table

from .simulated import told

Images = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
JETS = int(os.environ.get("EVENTS", "12000"))
EPOCHS = int(os.environ.get("EPOCHS", "25"))
PARTS = os.environ.get(
    "PARTS", "mean_images,vae,hyperparameters,transport,spread,partly_held,top_reference,supervised,latent"
).split(",")
TRANSPORTED = max(JETS // 6, 50)  # jets of each kind whose distance to a reconstruction is computed
EPS_B = 0.1
MEANS = "jet_images_mean.png"
SEEDS: dict[str, Any] = {
    "train": 601,
    "test": 602,
    "top": 603,
    "w": 604,
    "top_reference": 605,
    "supervised": (606, 607, 608),
    "partial": {"top": 609, "w": 610},
}
Network = tuple[str, int, float]  # reconstruction, blocks, beta
Talk = tuple[float, float, float, float]  # AUC and eps_s of top, then of W

VAES: dict[Network, dict[str, Talk]] = {
    ("mse", 2, 1e-7): {"loss": (0.83, 0.48, 0.65, 0.14)},
    ("mse", 3, 1e-8): {
        "loss": (0.84, 0.49, 0.65, 0.12),
        "mse": (0.84, 0.48, 0.65, 0.12),
        "mae": (0.81, 0.39, 0.53, 0.04),
        "wass1": (0.84, 0.51, 0.52, 0.05),
        "wass2": (0.82, 0.51, 0.54, 0.08),
    },
    ("wass1", 2, 1e-8): {
        "loss": (0.79, 0.37, 0.46, 0.04),
        "mse": (0.76, 0.33, 0.61, 0.15),
        "wass1": (0.79, 0.37, 0.46, 0.04),
    },
}
SCANNED: tuple[Network, ...] = (
    *(("mse", 1, 1e-8), ("mse", 2, 1e-8)),  # with 3 down-samplings of VAES: latent distance at one beta
    *(("mse", 3, 1e-9), ("mse", 3, 1e-7), ("mse", 3, 1e-6)),
)
"""Networks beside those of VAES whose validation loss is compared with their tagging."""
TO_QCD: tuple[tuple[dict[str, Any], str, Talk | None], ...] = (
    ({"references": "average"}, "min", (0.81, 0.33, 0.62, 0.02)),
    ({"k": 1}, "min", (0.83, 0.28, 0.63, 0.02)),
    ({"k": 3}, "min", (0.85, 0.43, 0.67, 0.04)),
    ({"k": 5}, "min", (0.87, 0.54, 0.60, 0.05)),
    ({"k": 7}, "min", (0.87, 0.54, 0.61, 0.05)),
    ({"p": 5.0, "k": 4}, "min", (0.67, 0.22, 0.41, 0.04)),
    ({"distance": "mae", "k": 1}, "min", (0.82, 0.40, 0.71, 0.07)),
    ({"distance": "mae", "k": 3}, "min", (0.82, 0.49, 0.61, 0.08)),
)
TO_TOP: tuple[tuple[dict[str, Any], str, Talk | None], ...] = (
    ({"k": 3}, "min", (0.32, 0.07, 0.79, 0.53)),
    ({"k": 5}, "min", (0.45, 0.12, 0.84, 0.62)),
    ({"p": 5.0, "k": 2}, "min", (0.72, 0.32, 0.70, 0.06)),
    ({"p": 5.0, "k": 3}, "min", (0.66, 0.20, 0.61, 0.04)),
    ({"p": 5.0, "k": 5}, "sum", (0.73, 0.30, 0.58, 0.02)),
)
SUPERVISED: dict[str, tuple[float, float]] = {"top": (0.94, 0.81), "w": (0.96, 0.91)}


def images(kind: str, n: int, seed: int, min_quarks: int | None = None) -> Images:
    """Return the images (n, 40, 40) of a sample of single jets."""
    return np.asarray(sample("jet", kind, n, seed, min_quarks)["image_1"])


def sample(
    name: str, kind: str, n: int, seed: int, min_quarks: int | None, representation: Representation | None = None
) -> Table:
    """Return a table of single jets, simulated once and kept as NAME_KIND_n_seed; by default images."""
    held = "" if min_quarks is None else f"_{min_quarks}"
    path = Path(os.environ.get("HUNCH_STUDY", ".study")) / f"{name}_{kind}{held}_{n}_{seed}.parquet"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = path.with_suffix(".root")
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        options = {"workers": workers, "progress": sys.stderr.isatty()}
        parameters = None if min_quarks is None else {"min_quarks": min_quarks}
        simulate(f"jet_{kind}", n, made, seed=seed, parameters=parameters, **options)
        running = Running(executor="iterative", progress=False)
        write_table(path, run_table(made, representation or JetImages(jets=1), running).table)
        made.unlink()
    return read_table(path)


def tested() -> dict[str, Images]:
    """Return the jets that are judged: QCD, top and W."""
    return {
        "qcd": images("qcd", JETS // 2, SEEDS["test"]),
        "top": images("top", JETS // 3, SEEDS["top"]),
        "w": images("w", JETS // 3, SEEDS["w"]),
    }


def merit(scores: dict[str, Floats], talk: Talk | None = None) -> dict[str, Any]:
    """Return AUC with its error and the signal efficiency at 10 % background, for top and W, beside the talk's."""
    row: dict[str, Any] = {}
    for i, signal in enumerate(("top", "w")):
        label = np.repeat([0, 1], [len(scores["qcd"]), len(scores[signal])])
        found = evaluate(np.concatenate([scores["qcd"], scores[signal]]), label)
        cut = np.quantile(scores["qcd"], 1 - EPS_B)
        row[f"{signal}_auc"] = round(found.auc, 3)
        row[f"{signal}_auc_error"] = round(found.auc_error, 3)
        row[f"{signal}_talk"] = talk[2 * i] if talk else "-"
        row[f"{signal}_eps_s"] = round(float((scores[signal] > cut).mean()), 3)
        row[f"{signal}_eps_s_talk"] = talk[2 * i + 1] if talk else "-"
    return row


def trained(network: Network, **sizes: int) -> ConvVae:
    """Return a VAE trained on QCD jets alone, of these sizes or the usual ones."""
    kind, blocks, beta = network
    options: dict[str, Any] = {"reconstruction": "wasserstein", "p": 1.0} if kind == "wass1" else {"alpha": 2.0}
    vae = ConvVae(blocks=blocks, beta=beta, max_epochs=EPOCHS, learning_rate=2e-3, **options, **sizes)
    return vae.fit(images("qcd", JETS, SEEDS["train"]), progress=sys.stderr.isatty())


def mean_images(folder: Path) -> dict[str, Any]:
    """Draw the mean images of QCD, top and W jets into `folder`; return the file's name and the mean images' widths."""
    import matplotlib.pyplot as plt

    rows, means = [], {kind: x.mean(axis=0, dtype=np.float64) for kind, x in tested().items()}
    figure, axes = plt.subplots(1, len(means), figsize=(11, 3.6), layout="constrained", sharey=True)
    shades = {"cmap": "viridis", "norm": "log", "vmin": 1e-6, "vmax": 0.1, "origin": "lower", "extent": (-1, 1, -1, 1)}
    for axis, (kind, mean) in zip(axes, means.items(), strict=True):
        drawn = axis.imshow(np.maximum(mean, 1e-9), **shades)
        axis.set(
            title=f"{kind}, {len(tested()[kind])} jets", xlabel=r"$\eta$", ylabel=r"$\phi$" if kind == "qcd" else ""
        )
        places = (np.arange(len(mean)) + 0.5) / len(mean) * 2 - 1
        width, height = (np.sqrt((mean.sum(axis=i) * places**2).sum()) for i in (0, 1))
        middle = slice(len(mean) // 2 - 2, len(mean) // 2 + 2)
        rows.append(
            told(
                {
                    "jets": kind,
                    "width_eta": round(float(width), 3),
                    "width_phi": round(float(height), 3),
                    "share_within_0.1": round(float(mean[middle, middle].sum()), 3),
                }
            )
        )
    figure.colorbar(drawn, ax=axes, label="mean share of the jet's pT in a pixel")
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / MEANS, dpi=80, metadata={"Software": None})
    plt.close(figure)
    return {"mean_images": rows, "mean_images_figure": MEANS}


def by_kind(score: Any, jets: dict[str, Images], *, most: int | None = None) -> dict[str, Floats]:
    """Return the scores of each kind of jets, of the first `most` of them."""
    return {kind: score(x[:most]) for kind, x in jets.items()}


def partly_held(kind: str) -> Images:
    """Return jets of a signal that hold a quark of its decay or more, where those of `tested` hold all."""
    return images(kind, JETS // 6, SEEDS["partial"][kind], min_quarks=1)


def auc_of(background: Floats, signal: Floats) -> float:
    """Return the AUC of two sets of scores."""
    label = np.repeat([0, 1], [len(background), len(signal)])
    return round(evaluate(np.concatenate([background, signal]), label).auc, 3)


def vae_rows(networks: dict[Network, ConvVae]) -> list[dict[str, Any]]:
    """Return the VAE table, with the AUC of tops that the jet holds in part."""
    jets, rows = {**tested(), "part of top": partly_held("top")}, []
    for network, scores in VAES.items():
        vae = networks[network]
        for metric, talk in {**scores, "latent_radius": None}.items():
            most = TRANSPORTED if metric.startswith("wass") else None
            found = by_kind(lambda x, v=vae, m=metric: v.score(x, metric=m), jets, most=most)
            part = {"part_of_top_auc": auc_of(found["qcd"], found["part of top"])}
            rows.append(told({"network": named(network), "score": metric, **merit(found, talk), **part}))
    return rows


def named(network: Network) -> str:
    """Return a network's name in tables."""
    return f"{network[0]}, {network[1]} down-samplings, beta {network[2]:g}"


def hyperparameter_rows(networks: dict[Network, ConvVae]) -> list[dict[str, Any]]:
    """Return validation loss against tagging by the loss."""
    jets, rows = tested(), []
    for network, vae in networks.items():
        found = merit(by_kind(vae.score, jets))
        loss = vae.training_["validation_loss"][0]
        rows.append(
            told(
                {
                    "network": named(network),
                    "validation_loss": loss,
                    "best_epoch": vae.training_["best_epoch"][0],
                    "top_auc": found["top_auc"],
                    "w_auc": found["w_auc"],
                }
            )
        )
    return rows


def metric_of(options: dict[str, Any]) -> str:
    """Return the name of a distance in tables."""
    return "mae" if options.get("distance") == "mae" else f"wass{options.get('p', 1.0):g}"


def reference_rows(
    sample: Images, table: tuple[tuple[dict[str, Any], str, Talk | None], ...], anomalous: tuple[str, ...] = ("far",)
) -> list[dict[str, Any]]:
    """Return the table of distances to the references of a sample; each metric's own elbow beside its rows.

    anomalous: "far" from the references, or "near", or both.
    """
    jets, rows = tested(), []
    elbows: dict[str, int] = {}
    for options, reduction, talk in table:
        metric = metric_of(options)
        dense = options.get("references") == "average"
        if metric not in elbows:
            chosen = EventToEnsemble(**{k: v for k, v in options.items() if k in {"distance", "p"}}).fit(sample)
            elbows[metric] = chosen.training_["k"]
        scorer = EventToEnsemble(**options).fit(sample)
        found = by_kind(
            lambda x, s=scorer, r=reduction: s.score(x, metric=r), jets, most=TRANSPORTED if dense else None
        )
        row = {
            "metric": metric,
            "elbow": elbows[metric],
            "k": "average" if dense else options["k"],
            "method": reduction,
        }
        for side in anomalous:
            told_side = {"anomalous": side} if len(anomalous) > 1 else {}
            signed = {kind: x if side == "far" else -x for kind, x in found.items()}
            rows.append(told({**row, **told_side, **merit(signed, talk)}))
    return rows


def spread_rows() -> list[dict[str, Any]]:
    """Return smallest and largest AUC of the distance to medoids of four QCD samples, halves of two."""
    jets, rows = tested(), []
    seeds = (SEEDS["train"], SEEDS["supervised"][0])
    halves = [half for seed in seeds for half in np.array_split(images("qcd", JETS, seed), 2)]
    for options, reduction, talk in TO_QCD:
        if options.get("references") == "average":
            continue
        found = []
        for half in halves:
            scorer = EventToEnsemble(**options).fit(half)
            scores = by_kind(lambda x, s=scorer, r=reduction: s.score(x, metric=r), jets)
            found.append([auc_of(scores["qcd"], scores[kind]) for kind in ("top", "w")])
        low, high = np.min(found, axis=0).round(3), np.max(found, axis=0).round(3)
        rows.append(
            told(
                {
                    "metric": metric_of(options),
                    "k": options["k"],
                    "top_auc": f"{low[0]} to {high[0]}",
                    "top_talk": None if talk is None else talk[0],
                    "w_auc": f"{low[1]} to {high[1]}",
                    "w_talk": None if talk is None else talk[2],
                }
            )
        )
    return rows


def partial_rows() -> list[dict[str, Any]]:
    """Return how the distance to QCD tags jets that hold the whole decay, and jets that hold a quark of it or more."""
    qcd, n = images("qcd", JETS, SEEDS["train"]), JETS // 6
    background, rows = images("qcd", JETS // 2, SEEDS["test"]), []
    signals = {
        kind: {
            "whole": images(kind, JETS // 3, SEEDS[kind])[:n],
            "part": partly_held(kind),
        }
        for kind in ("top", "w")
    }
    for options, reduction, talk in TO_QCD:
        if options.get("references") == "average":
            continue
        scorer = EventToEnsemble(**options).fit(qcd)
        far = scorer.score(background, metric=reduction)
        cut = np.quantile(far, 1 - EPS_B)
        for number, (kind, samples) in enumerate(signals.items()):
            row: dict[str, Any] = {
                "signal": kind,
                "metric": metric_of(options),
                "k": options["k"],
            }
            for held, x in samples.items():
                score = scorer.score(x, metric=reduction)
                row[f"auc_{held}"] = auc_of(far, score)
                row[f"eps_s_{held}"] = round(float((score > cut).mean()), 3)
            row["auc_talk"] = None if talk is None else talk[2 * number]
            row["eps_s_talk"] = None if talk is None else talk[2 * number + 1]
            rows.append(told(row))
    return rows


def supervised_rows() -> list[dict[str, Any]]:
    """Return what a convolutional network trained on QCD against one signal reaches."""
    jets, rows = tested(), []
    qcd_seed, *signal_seeds = SEEDS["supervised"]
    background = images("qcd", JETS, qcd_seed)
    for (signal, talk), seed in zip(SUPERVISED.items(), signal_seeds, strict=True):
        network = classifier(background, images(signal, JETS // 2, seed))
        scores = by_kind(lambda x, n=network: logits(n, x), jets)
        found = merit(scores)
        rows.append(
            told(
                {
                    "signal": signal,
                    "auc": found[f"{signal}_auc"],
                    "auc_part": auc_of(scores["qcd"], logits(network, partly_held(signal))),
                    "auc_talk": talk[0],
                    "eps_s": found[f"{signal}_eps_s"],
                    "eps_s_talk": talk[1],
                }
            )
        )
    return rows


def classifier(background: Images, signal: Images) -> nn.Module:
    """Train three blocks of two convolutions and a pooling, and keep the epoch of the smallest loss on a tenth of the jets."""
    torch.manual_seed(0)
    blocks: list[nn.Module] = []
    for before, after in ((1, 16), (16, 32), (32, 64)):
        blocks += [nn.Conv2d(before, after, 3, padding=1), nn.ELU(), nn.Conv2d(after, after, 3, padding=1), nn.ELU()]
        blocks.append(nn.MaxPool2d(2))
    network = nn.Sequential(
        *blocks, nn.Flatten(), nn.LazyLinear(64), nn.ELU(), nn.Dropout(0.3), nn.Linear(64, 1), nn.Flatten(0)
    )
    x = shown(np.concatenate([background, signal]))
    label = torch.arange(len(x)).ge(len(background)).float()
    network(x[:2])
    order = torch.randperm(len(x))
    held, rows = order[: len(x) // 10], order[len(x) // 10 :]
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    best, kept = np.inf, network.state_dict()
    for _ in range(EPOCHS):
        network.train()
        for part in rows[torch.randperm(len(rows))].split(128):
            optimiser.zero_grad()
            binary_cross_entropy_with_logits(network(x[part]), label[part]).backward()
            optimiser.step()
        network.eval()
        with torch.no_grad():
            loss = float(binary_cross_entropy_with_logits(network(x[held]), label[held]))
        if loss < best:
            best, kept = loss, {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(kept)
    return network


def shown(x: Images) -> torch.Tensor:
    """Return images (n, 1, height, width) as the classifier sees them: roots of the pixels, of order one."""
    return torch.from_numpy(10 * np.sqrt(x))[:, None]


@torch.no_grad()
def logits(network: nn.Module, x: Images) -> Floats:
    """Return the classifier's output (n,)."""
    return torch.cat([network(part) for part in shown(x).split(500)]).double().numpy()


def latent_rows(networks: dict[Network, ConvVae]) -> list[dict[str, Any]]:
    """Return the correlation of the latent distance of pairs of QCD jets with their Wass(1), against down-samplings."""
    x = images("qcd", JETS // 2, SEEDS["test"])
    n = min(2000, len(x) // 2)
    first, second = x[:n], x[n : 2 * n]
    distance = wasserstein_rowwise(
        clouds_from_images(first, normalise=True), clouds_from_images(second, normalise=True)
    )
    rows = []
    for network, vae in networks.items():
        latent = np.linalg.norm(vae.latent_means(first) - vae.latent_means(second), axis=1)
        rows.append(
            told(
                {
                    "network": named(network),
                    "pairs": n,
                    "pearson": round(float(stats.pearsonr(latent, distance).statistic), 3),
                    "spearman": round(float(stats.spearmanr(latent, distance).statistic), 3),
                }
            )
        )
    return rows


def run() -> dict[str, Any]:
    """Make all tables, or those of PARTS."""
    result: dict[str, Any] = {
        "command": "make study ONLY=jet_images",
        "qcd_trained_on": JETS,
        "tested": {kind: len(x) for kind, x in tested().items()},
        "epochs": EPOCHS,
        "eps_s_at_eps_b": EPS_B,
        "transport_to_reconstructions_of": TRANSPORTED,
    }
    if "mean_images" in PARTS:
        result |= mean_images(Path(__file__).parents[1] / "docs" / "results")
    if {"vae", "hyperparameters", "latent"} & set(PARTS):
        wanted = [*VAES, *(SCANNED if {"hyperparameters", "latent"} & set(PARTS) else ())]
        networks = {network: trained(network) for network in wanted}
        parts = {"vae": vae_rows, "hyperparameters": hyperparameter_rows, "latent": latent_rows}
        result |= {part: rows(networks) for part, rows in parts.items() if part in PARTS}
    if "transport" in PARTS:
        result["transport"] = reference_rows(images("qcd", JETS, SEEDS["train"]), TO_QCD)
    if "spread" in PARTS:
        result["spread_of_four_qcd_samples"] = spread_rows()
    if "partly_held" in PARTS:
        result["partly_held"] = partial_rows()
    if "top_reference" in PARTS:
        result["top_reference"] = reference_rows(
            images("top", JETS // 4, SEEDS["top_reference"]), TO_TOP, ("far", "near")
        )
    if "supervised" in PARTS:
        result["supervised"] = supervised_rows()
    return result
