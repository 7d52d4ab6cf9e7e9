"""Jets as images or constituents: the leading jet of an event, or its two leading ones, as a coffea processor.

The image is that of `images.jet_images`; the constituents are a padded array, which `images.padded_constituents` reads.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from coffea.processor import ProcessorABC

from ..errors import InputError, unknown_name
from ..table import Table
from .chunks import Columns, accumulated, chunk_columns
from .constituents import constituents_of
from .features import check_cuts
from .images import ImageSettings, jet_images
from .runner import FilesetLike, Skipped, open_files, run_table
from .substructure import Jets, dijet_mass, leading_jets, momenta

if TYPE_CHECKING:
    from .events import Candidates
from .constituents import relative_constituents

__all__ = ["JetProcessor", "JetResult", "JetSettings", "jet_columns", "run_jets"]

logger = logging.getLogger(__name__)
Single = npt.NDArray[np.float32]

REPRESENTATIONS = {"images": "image", "constituents": "constituents"}
"""What a jet can be, and how its column is called: image_1, constituents_1."""

FEWER = {1: "no jet", 2: "fewer than two jets"}
"""What the cutflow calls events with fewer jets than asked for."""


@dataclass(frozen=True)
class JetSettings:
    """Which jets are kept, and as what; GeV. The defaults make an image of every leading R = 1.0 jet of pT > 50 GeV.

    radius: of the anti-kT jets; min_pt, max_abs_eta: what counts as a jet; max_pt: of each of the n_jets leading jets,
    a harder one takes its event with it; n_jets: 1 or 2 an event; representation: "images" or "constituents";
    image: how images are made; max_constituents: slots of a jet, the softest constituents beyond it are left out.
    """

    radius: float = 1.0
    min_pt: float = 50.0
    max_pt: float | None = None
    max_abs_eta: float | None = None
    n_jets: int = 1
    representation: Literal["images", "constituents"] = "images"
    image: ImageSettings = field(default_factory=ImageSettings)
    max_constituents: int = 100

    def __post_init__(self) -> None:
        check_cuts({name: getattr(self, name) for name in ("radius", "min_pt", "max_pt", "max_abs_eta")})
        if self.max_pt is not None and self.min_pt >= self.max_pt:
            raise InputError(f"min_pt: {self.min_pt!r} is not below max_pt: {self.max_pt!r}")
        if isinstance(self.n_jets, bool) or self.n_jets not in FEWER:
            raise InputError(f"n_jets: {self.n_jets!r}; 1 or 2 jets an event are allowed")
        if self.representation not in REPRESENTATIONS:
            raise InputError(unknown_name("representation", str(self.representation), REPRESENTATIONS))
        if not isinstance(self.image, ImageSettings):
            raise InputError(f"image: {self.image!r} is no ImageSettings")
        slots = self.max_constituents
        if isinstance(slots, bool) or not isinstance(slots, int) or slots < 1:
            raise InputError(f"max_constituents: {slots!r} is not a positive whole number")


@dataclass(frozen=True)
class JetResult:
    """The jet table in file and entry order, the cutflow ("read" is the sum of the rest), the skipped files."""

    table: Table
    cutflow: dict[str, int]
    skipped: Skipped


class JetProcessor(ProcessorABC):  # type: ignore[misc]
    """Turn chunks of events into columns of the jet table; keeps no state between chunks.

    The accumulator is that of `chunks.accumulated`.
    """

    def __init__(self, settings: JetSettings | None = None) -> None:
        self.settings = settings or JetSettings()

    def process(self, events: Any) -> dict[str, Any]:
        """Process one chunk of NanoEvents whose branches keep their names (BaseSchema)."""
        return accumulated(events, partial(jet_columns, settings=self.settings))

    def postprocess(self, accumulator: dict[str, Any]) -> dict[str, Any]:
        """Return the accumulator as it is; ordering is the caller's, who knows the files."""
        return accumulator


def run_jets(
    fileset: FilesetLike,
    *,
    settings: JetSettings | None = None,
    executor: str = "futures",
    workers: int | None = None,
    scheduler: str | None = None,
    chunk_size: int | None = None,
    skip_bad_files: bool = False,
    progress: bool = True,
) -> JetResult:
    """Turn event files into a table of jets, one row an event; all options but `settings` are those of `run_dijets`.

    Columns after the identity: `mjj` and `deta` with two jets, then for each `pt_1` and `mJ_1` (GeV), `eta_1`, `n_1`
    (constituents), and `image_1` (n, pixels, pixels) float32, axes IMAGE_AXES, or `constituents_1` (n, slots, 3)
    float32 of `relative_constituents`; `truth_signal` and `genWeight` as in the dijet table. Of two jets, jet 1 is
    the more massive. The metadata have the settings and, of constituents, how many jets lost some
    ("truncated_jets"). Raises InputError for bad files and settings, ProcessingError when workers die.
    """
    settings = settings or JetSettings()
    # Every constituent has its place in an image, whether the file knows its charge or not.
    files, bad = open_files(fileset, skip_bad_files=skip_bad_files, same_counting=False)
    table, cutflow, skipped = run_table(
        files,
        JetProcessor(settings),
        bad=bad,
        metadata={"representation": settings.representation, "settings": dataclasses.asdict(settings)},
        name="jet table",
        executor=executor,
        workers=workers,
        scheduler=scheduler,
        chunk_size=chunk_size,
        skip_bad_files=skip_bad_files,
        progress=progress,
    )
    if settings.representation == "constituents":
        numbers = [f"n_{jet}" for jet in range(1, settings.n_jets + 1)]
        truncated = sum(int((table[name] > settings.max_constituents).sum()) for name in numbers)
        table = Table(table.columns, {**table.metadata, "truncated_jets": truncated}, table.source)
        if truncated:
            logger.warning(
                "%d of %d jets have more than %d constituents, their softest are left out",
                *(truncated, len(table) * settings.n_jets, settings.max_constituents),
            )
    return JetResult(table, cutflow, skipped)


def jet_columns(events: Any, settings: JetSettings) -> tuple[Columns, dict[str, int]]:
    """Return the columns of the jet table for a chunk of events, and its cutflow.

    The cutflow counts "read", then what was lost in order, then "kept"; "read" is the sum of all others. An event is
    lost when one of its jets is.
    """
    return chunk_columns(events, partial(_batch, settings=settings))


def _batch(candidates: Candidates, settings: JetSettings) -> tuple[Columns, dict[str, int]]:
    """Return the columns of the kept events with their "row" in the batch, and what each cut lost."""
    jets = leading_jets(
        candidates,
        momenta(candidates),
        radius=settings.radius,
        min_pt=settings.min_pt,
        max_abs_eta=settings.max_abs_eta,
        n_jets=settings.n_jets,
    )
    lost = {FEWER[settings.n_jets]: int((~candidates.unphysical).sum()) - len(jets.event)}
    if settings.max_pt is not None:
        soft = np.asarray((jets.pt <= settings.max_pt).all(axis=1))
        lost["failed max_pt"] = int((~soft).sum())
        jets = jets.select(soft)
    if settings.representation == "images":
        jets, shown, lost["nothing inside the window"] = _imaged(jets, candidates, settings.image)
    else:
        eta, phi = jets.eta.ravel(), jets.phi.ravel()
        inside = constituents_of(jets, candidates)
        shown = relative_constituents(inside, eta=eta, phi=phi, slots=settings.max_constituents)
    columns: Columns = {"row": jets.event}
    if settings.n_jets == 2:
        columns |= {"mjj": dijet_mass(jets), "deta": np.abs(jets.eta[:, 0] - jets.eta[:, 1])}
    by_jet: Columns = {"pt": jets.pt, "mJ": jets.mass, "eta": jets.eta, "n": jets.n_constituents}
    by_jet[REPRESENTATIONS[settings.representation]] = shown.reshape(*jets.px.shape, *shown.shape[1:])
    one, heavier = np.arange(len(jets.event)), np.argmax(jets.mass, axis=1)
    for name, values in by_jet.items():
        for number, picked in enumerate((heavier, 1 - heavier)[: settings.n_jets], start=1):
            columns[f"{name}_{number}"] = values[one, picked]
    return columns, lost


def _imaged(jets: Jets, candidates: Candidates, settings: ImageSettings) -> tuple[Jets, Single, int]:
    """Return the events all of whose jets have an image, those images, jet after jet, and how many events have not."""
    made = jet_images(constituents_of(jets, candidates), settings=settings)
    seen = np.zeros(jets.px.size, dtype=np.bool_)
    seen[made.jet] = True
    whole = np.asarray(seen.reshape(jets.px.shape).all(axis=1))
    images = made.images[np.repeat(whole, jets.px.shape[1])[made.jet]]
    return jets.select(whole), images, int((~whole).sum())
