"""JetCLR: what a linear classifier finds in representations of jets that were learned without labels (arXiv:2108.04253).

`make study ONLY=jetclr`; EVENTS is the number of jets that an encoder is trained on (20,000, tops and QCD alike unless said), SEEDS how often each is
trained (3), EPOCHS for how long (100; a run that was stopped goes on in the folder HUNCH_STUDY), WIDTH, LAYERS and HEADS of its transformer (128, 2, 4; all its other sizes are WIDTH), CONSTITUENTS how many of a jet
are kept (30), SPARE how many empty slots a jet has beside them for collinear splittings (10), PARTS which parts run. Jets are those of `reference_jets.py`,
with SAMPLE=settings those that settings may be chosen on. Nothing was chosen on the jets that are tested; the encoder's options are its defaults.

A row is the linear test: a logistic regression (scikit-learn, on standardised numbers, L2 of its default strength) learns labels from frozen
representations of a quarter as many jets of each class as EVENTS, and is tested on three quarters as many of each; no encoder saw either, and none but the one
that is called so saw a label. `auc_error` and `rejection_error` have the test sample and the spread of the seeds in quadrature; rows share the test
sample, so that their differences are better known. `rejection` is 1 / eps_B at eps_S = 0.5. The talk's numbers are of its own jets (Delphes), 100,000 of them, 50
constituents, width 1000, 4 layers, 500 epochs.

`augmentations`: what the versions of a jet differ in; with "none" in the dropout alone. Splittings need empty slots, which jets of more than CONSTITUENTS
do not have: SPARE are added in the trainings that split. `baselines`: an encoder as it starts, the same
network trained with labels on as many jets (its representation, in the same linear test), N-subjettiness ratios of all constituents, and these with the
jet's mass and number of charged constituents. `mixtures`: all augmentations, by the number of tops over that of QCD jets, of EVENTS jets in all. `invariance`: cosine of a jet's
representation and its own when the jet is turned by an angle, mean over jets of both classes, first seed, beside that of different jets.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn import functional

from hunch.analysis import evaluate
from hunch.models.contrastive.clr import JetCLR
from hunch.models.contrastive.set_transformer import SetTransformer
from hunch.models.sample import split_rows
from hunch.models.train.loop import resolve_device, train_stack
from hunch.models.train.objective import Batch, Objective

from .jets import mean_and_error
from .reference_jets import SEEDS as RESULT_SEEDS
from .reference_jets import SETTING_SEEDS, reference_constituents, reference_features, study_folder
from .simulated import told

Floats = npt.NDArray[np.float64]
Classes = tuple[Floats, Floats]
"""Of QCD jets and of tops."""
JETS = int(os.environ.get("EVENTS", "20000"))
SEEDS = int(os.environ.get("SEEDS", "3"))
EPOCHS = int(os.environ.get("EPOCHS", "100"))
WIDTH = int(os.environ.get("WIDTH", "128"))
LAYERS = int(os.environ.get("LAYERS", "2"))
HEADS = int(os.environ.get("HEADS", "4"))
CONSTITUENTS = int(os.environ.get("CONSTITUENTS", "30"))
SPARE = int(os.environ.get("SPARE", "10"))
SAMPLE = os.environ.get("SAMPLE", "results")
PARTS = os.environ.get("PARTS", "augmentations,baselines,mixtures,invariance").split(",")
LINEAR, TESTED = JETS // 4, 3 * JETS // 4  # jets of each class
NOTHING = {"rotation": False, "translation": False, "collinear": False, "soft": False}
AUGMENTATIONS: dict[str, dict[str, bool]] = {
    "none": NOTHING,
    "rotations": NOTHING | {"rotation": True},
    "translations": NOTHING | {"translation": True},
    "soft and collinear": NOTHING | {"collinear": True, "soft": True},
    "all": dict.fromkeys(NOTHING, True),
}
TALK = {
    "none": (0.905, 15),
    "rotations": (0.916, 19),
    "translations": (0.930, 21),
    "soft and collinear": (0.970, 89),
    "all": (0.980, 181),
}
EPS_S = "0.5"
MIXTURES = (0.0, 0.01, 0.1, 0.5)  # tops over QCD jets
BALANCED = 1.0
RATIOS = ("tau21_1", "tau32_1", "tau43_1", "tau12_1")
BESIDE = ("mJ_1", "ntrk_1")
TURNED, ANGLES = 500, 25  # jets of a class that are turned, and angles from 0 to 2π
INVARIANCE = "jetclr_invariance.png"


@functools.cache
def split_jets(kind: str) -> tuple[Floats, Floats, Floats]:
    """Return jets (n, CONSTITUENTS, 3) of a class for encoders, for the linear classifier and for the test, none of them in two."""
    number = numbers_of(kind)
    table = reference_constituents(kind, number, seed=seed_of(kind), slots=CONSTITUENTS)
    return parts_of(np.asarray(table["constituents_1"], dtype=np.float64), number)


@functools.cache
def split_features(kind: str) -> tuple[Floats, Floats, Floats]:
    """Return ratios, mass and number of charged constituents (n, 6) of the same jets."""
    number = numbers_of(kind)
    table = reference_features(kind, number, seed=seed_of(kind))
    return parts_of(
        np.stack([np.asarray(table[name], dtype=np.float64) for name in (*RATIOS, *BESIDE)], axis=1), number
    )


def numbers_of(kind: str) -> int:
    """Return how many jets of a class are needed: mixtures without tops take QCD jets alone."""
    return (JETS if kind == "qcd" else JETS // 2) + LINEAR + TESTED


def seed_of(kind: str) -> int:
    """Return the seed that a class is simulated with."""
    return {"results": RESULT_SEEDS, "settings": SETTING_SEEDS}[SAMPLE][kind]


def parts_of(rows: Floats, number: int) -> tuple[Floats, Floats, Floats]:
    """Return the rows of encoders, of the linear classifier and of the test; where jets are missing of the number the test has fewer."""
    trained, linear, tested = np.split(rows, [number - LINEAR - TESTED, number - TESTED])
    return trained, linear, tested


def training_jets(share: float, seed: int) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return JETS jets in random order, and 1 for tops (n,), so many tops a QCD jet; labels are for the training that has them in its name."""
    tops = round(JETS * share / (1 + share))
    jets = np.concatenate([split_jets("qcd")[0][: JETS - tops], split_jets("top")[0][:tops]])
    order = np.random.default_rng(seed).permutation(len(jets))
    return jets[order], np.repeat([0, 1], [JETS - tops, tops])[order]


def encoder_of(seed: int, **others: Any) -> JetCLR:
    """Return an encoder that is not trained; others: options beside the sizes."""
    sizes = {"width": WIDTH, "feedforward": WIDTH, "dims": WIDTH, "projection": WIDTH}
    return JetCLR(**(sizes | {"layers": LAYERS, "heads": HEADS, "max_epochs": EPOCHS, "seed": seed} | others))


@functools.cache
def trained(name: str, share: float, seed: int) -> JetCLR:
    """Return an encoder trained without labels on a mixture; name: of AUGMENTATIONS.

    It is kept in the folder HUNCH_STUDY, with the checkpoint of a training that was stopped, from which the next run goes on.
    """
    sizes = "_".join(str(number) for number in (JETS, EPOCHS, WIDTH, LAYERS, HEADS, CONSTITUENTS, SPARE))
    folder = study_folder() / f"jetclr_{SAMPLE}_{name.replace(' ', '_')}_{share:g}_{seed}_{sizes}"
    if folder.is_dir():
        return JetCLR.load(folder)
    encoder = encoder_of(seed, spare_slots=SPARE, **AUGMENTATIONS[name])
    jets, checkpoint = training_jets(share, seed)[0], folder.with_suffix(".checkpoint")
    encoder.fit(jets, checkpoint=checkpoint, progress=sys.stderr.isatty()).save(folder)
    return encoder


@functools.cache
def untrained(seed: int) -> JetCLR:
    """Return an encoder with the weights that a training begins with."""
    encoder = encoder_of(seed)
    return with_network(encoder, encoder._network(), training_jets(BALANCED, seed)[0])


def with_network(encoder: JetCLR, network: SetTransformer, jets: Floats) -> JetCLR:
    """Return an encoder that encodes with a network, in the unit of jets."""
    encoder.network_ = network.to("cpu").double().requires_grad_(requires_grad=False)
    encoder.unit_, encoder.slots_ = float(np.median(jets[..., 0].sum(axis=1))), jets.shape[1]
    return encoder


class Labelled(Objective):
    """Cross-entropy of the projection, one number, of jets whose label is the fourth number of their first slot."""

    def __init__(
        self, model: SetTransformer, features: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    ) -> None:
        super().__init__(model)
        self.network, self.features = model, features

    def losses(self, batch: Batch, *, generator: torch.Generator | None, progress: float) -> torch.Tensor:
        """Return the losses (m, b) of jets (m, b, slots, 4), with the dropout of a generator."""
        del progress
        x = batch["x"]
        _, output = self.network(*self.features(x[..., :3]), generator=generator)
        return functional.binary_cross_entropy_with_logits(output[..., 0], x[..., 0, 3], reduction="none")

    def validation_losses(self, batch: Batch, *, generator: torch.Generator) -> torch.Tensor:
        """Return the losses (m, b) without dropout."""
        del generator
        return self.losses(batch, generator=None, progress=1.0)


@functools.cache
def with_labels(seed: int) -> JetCLR:
    """Return an encoder of the same sizes that was trained to tell tops from QCD jets, by their labels, on the jets of the others."""
    jets, label = training_jets(BALANCED, seed)
    encoder = encoder_of(seed, projection=1)
    network = encoder._network()
    labelled = np.concatenate([jets, np.broadcast_to(label[:, None, None], (*jets.shape[:2], 1))], axis=2)
    train, held = split_rows(labelled, np.random.default_rng(seed))
    unit = float(np.median(jets[..., 0].sum(axis=1)))
    train_stack(
        Labelled(network, lambda sets: encoder.features(sets, unit)),
        [torch.from_numpy(train).float()],
        [torch.from_numpy(held).float()],
        settings=encoder._settings(len(train)),
        seed=seed,
        device=resolve_device(encoder.device),
        progress=sys.stderr.isatty(),
    )
    return with_network(encoder, network, jets)


def linear_scores(learned: Classes, tested: Classes) -> Classes:
    """Return scores (n,) of QCD jets and tops by a logistic regression that learned from other rows (n, d) of both."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    model.fit(np.concatenate(learned), np.repeat([0, 1], [len(part) for part in learned]))
    background, signal = (np.asarray(model.decision_function(part), dtype=np.float64) for part in tested)
    return background, signal


@functools.cache
def linear_test(encoder: JetCLR) -> Classes:
    """Return the scores of the tested jets, from representations; once for each encoder."""
    qcd, top = split_jets("qcd"), split_jets("top")
    learned, tested = ((encoder.encode(qcd[i]), encoder.encode(top[i])) for i in (1, 2))
    return linear_scores(learned, tested)


def feature_test(columns: int) -> Classes:
    """Return the scores of the tested jets, from the first columns of their features."""
    qcd, top = split_features("qcd"), split_features("top")
    learned, tested = ((qcd[i][:, :columns], top[i][:, :columns]) for i in (1, 2))
    return linear_scores(learned, tested)


def row_of(scores: Sequence[Classes], talk: tuple[float, int] | None = None) -> dict[str, Any]:
    """Return AUC and 1 / eps_B at eps_S = 0.5 with errors, over trainings.

    The error of a rejection is that of the background that passes, and the spread of the trainings.
    """
    found = [evaluate(np.concatenate(pair), np.repeat([0, 1], [len(part) for part in pair])) for pair in scores]
    rejections = np.array([f.rejection[EPS_S] for f in found])
    passing = np.array([f.n_background for f in found]) / rejections
    auc = mean_and_error([f.auc for f in found], float(np.mean([f.auc_error for f in found])), digits=4)
    rejection = mean_and_error(rejections.tolist(), float((rejections / np.sqrt(passing)).mean()), digits=1)
    return {
        "auc": auc[0],
        "auc_error": auc[1],
        "rejection": rejection[0],
        "rejection_error": rejection[1],
        "seeds": " ".join(f"{f.auc:.4f}" for f in found),
        "talk_auc": None if talk is None else talk[0],
        "talk_rejection": None if talk is None else talk[1],
    }


def augmentations() -> list[dict[str, Any]]:
    """Return a row of the linear test for each kind of versions, beside the talk's."""
    return [
        told(
            {"augmentations": name}
            | row_of([linear_test(trained(name, BALANCED, seed)) for seed in range(SEEDS)], TALK[name])
            | {"collapse": collapses([trained(name, BALANCED, seed) for seed in range(SEEDS)])}
        )
        for name in AUGMENTATIONS
    ]


def collapses(encoders: Sequence[JetCLR]) -> str:
    """Return what the representations have collapsed to, and how many of them."""
    names = [encoder.training_["collapse"] for encoder in encoders]
    return ", ".join(f"{name} ({names.count(name)} of {len(names)})" for name in sorted({*names} - {""})) or "none"


def baselines() -> list[dict[str, Any]]:
    """Return a row for each input of the same linear test that no contrastive training has made."""
    cases: dict[str, list[Classes]] = {
        "encoder, untrained": [linear_test(untrained(seed)) for seed in range(SEEDS)],
        "encoder, trained with labels": [linear_test(with_labels(seed)) for seed in range(SEEDS)],
        "tau ratios": [feature_test(len(RATIOS))],
        "tau ratios, mass and charged constituents": [feature_test(len(RATIOS) + len(BESIDE))],
    }
    return [told({"input": name} | row_of(scores)) for name, scores in cases.items()]


def mixtures() -> list[dict[str, Any]]:
    """Return a row for each mixture that encoders were trained on, with all augmentations."""
    return [
        told({"tops_a_qcd_jet": share} | row_of([linear_test(trained("all", share, seed)) for seed in range(SEEDS)]))
        for share in (*MIXTURES, BALANCED)
    ]


def turned(jets: Floats, angle: float) -> Floats:
    """Return jets (n, slots, 3) of pT, eta and phi around their axis, turned by an angle; empty slots stay zeros."""
    pt, eta, phi = (jets[..., i] for i in range(3))
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([pt, cos * eta - sin * phi, sin * eta + cos * phi], axis=-1)


def cosines(first: Floats, second: Floats) -> Floats:
    """Return the cosines (n,) of pairs of rows (n, d)."""
    unit = [z / np.linalg.norm(z, axis=1, keepdims=True) for z in (first, second)]
    return np.asarray((unit[0] * unit[1]).sum(axis=1))


def turned_cosines(encoder: JetCLR, jets: Floats, angles: Floats) -> tuple[Floats, Floats]:
    """Return cosines (angles, n) of the representations of jets and of the same jets turned, and those of pairs of different jets (n,).

    Jets are in random order, and each is compared with the next.
    """
    still = encoder.encode(jets)
    return np.stack([cosines(still, encoder.encode(turned(jets, a))) for a in angles]), cosines(
        still, np.roll(still, 1, axis=0)
    )


def invariance(path: Path) -> list[dict[str, Any]]:
    """Draw the cosines of turned jets against the angle, without and with rotations in the training, and return a row for each."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt
    import mplhep

    angles = np.linspace(0, 2 * np.pi, ANGLES)
    jets = np.concatenate([split_jets(kind)[2][:TURNED] for kind in ("qcd", "top")])
    jets = np.random.default_rng(0).permutation(jets)
    rows = []
    with mpl.rc_context(mplhep.style.ROOT):
        figure, axes = plt.subplots(1, 2, figsize=(20, 9), sharey=True, layout="constrained")
        for number, (name, options) in enumerate(AUGMENTATIONS.items()):
            same, different = turned_cosines(trained(name, BALANCED, 0), jets, angles)
            ax = axes[int(options["rotation"])]
            low, high = np.quantile(same, [0.16, 0.84], axis=1)
            colour = f"C{number}"
            ax.plot(angles, same.mean(axis=1), color=colour, lw=2.5, label=name)
            ax.fill_between(angles, low, high, color=colour, alpha=0.15, lw=0)
            ax.axhline(float(different.mean()), color=colour, ls=":", lw=2)
            rows.append(
                told(
                    {
                        "augmentations": name,
                        "turned": round(float(same[1:-1].mean()), 4),
                        "turned_least": round(float(same.mean(axis=1).min()), 4),
                        "different_jets": round(float(different.mean()), 4),
                    }
                )
            )
        for ax, title in zip(axes, ("trained without rotations", "trained with rotations"), strict=True):
            ax.plot([], [], color="0.3", ls=":", lw=2, label="different jets")
            ax.set(xlabel="angle [rad]", xlim=(0, 2 * np.pi))
            ax.set_title(title, fontsize=24)
            ax.legend(loc="lower left", fontsize=20, frameon=True)
        axes[0].set_ylabel("cosine of representations")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=60, metadata={"Software": None})
        plt.close(figure)
    return rows


def run() -> dict[str, Any]:
    """Return what the parts found; the figure is written beside the results."""
    made: dict[str, Any] = {
        "command": "make study ONLY=jetclr",
        "sample": SAMPLE,
        "training_jets": JETS,
        "linear_jets": 2 * LINEAR,
        "tested_qcd": len(split_jets("qcd")[2]),
        "tested_top": len(split_jets("top")[2]),
        "seeds": SEEDS,
        "epochs": EPOCHS,
        "constituents": CONSTITUENTS,
        "spare_slots": SPARE,
        "encoder": f"width {WIDTH}, {LAYERS} layers, {HEADS} heads",
    }
    if "augmentations" in PARTS:
        made["augmentations"] = augmentations()
    if "baselines" in PARTS:
        made["baselines"] = baselines()
    if "mixtures" in PARTS:
        made["mixtures"] = mixtures()
    if "invariance" in PARTS:
        made["invariance"] = invariance(Path(__file__).parents[1] / "docs" / "results" / INVARIANCE)
        made["figure"] = INVARIANCE
    return made
