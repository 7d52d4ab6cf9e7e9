"""What an event becomes, and one chunk of events as rows of a table: read, cut into batches, put together, counted."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..errors import InputError, unknown_name
from ..table import EVENT_ID, IDENTITY, Observable, identity_numbers
from .events import (
    Candidates,
    EventSource,
    branch_names,
    flat_branch,
    read_candidates,
    same_event,
    source_of,
)
from .weights import UNWEIGHED

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

__all__ = [
    "AUTO",
    "ROW",
    "Columns",
    "Representation",
    "UnreadableError",
    "chunk_columns",
    "completed_columns",
    "metadata_of",
    "named_columns",
]

Columns = dict[str, npt.NDArray[Any]]

BATCH = 1000
"""Events clustered at a time: fastjet keeps some 50 kB an event, so this bounds memory whatever the chunk."""

ROW = "row"
"""Column of a chunk, not of a table: which of the chunk's events a row is."""

AUTO = Observable("auto", "", "")
"""Stands for the observable that a representation has when none is named."""

SINGLE_EVENTS = "events"
"""Name of the dataset and of the file of an array that has come from no file."""


class UnreadableError(InputError):
    """A chunk whose bytes are damaged."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Representation(ABC):
    """What an event becomes; the fields are the keys of the YAML and of `--set key=value`.

    name, kind: how it is called, and what a scorer is given: "rows" (n, d), "images" (n, jets, a, b) or "sets"
    (n, jets, k, c), whose slots are padding where the first number, pT or E, is 0. same_counting: whether it tells charged constituents from others, so
    that files with and without charge cannot be in one table. of_events: whether it is made of event files at all.

    observable: the column that is hunted in, given by its name; None: a counting experiment. Raises InputError for a name that
    is no column of numbers.
    """

    name: ClassVar[str]
    kind: ClassVar[str]
    same_counting: ClassVar[bool] = False
    of_events: ClassVar[bool] = True

    observable: Observable | None = AUTO

    def __post_init__(self) -> None:
        given: Observable | str | None = self.observable
        if given is None:
            return
        name = given.name if isinstance(given, Observable) else str(given)
        name = self.usual_observable if name == AUTO.name else name
        if name not in self.scalars:
            raise InputError(unknown_name("observable", name, self.scalars, self.name))
        object.__setattr__(self, "observable", self.observed(name))

    def __repr__(self) -> str:
        """Return the class with the fields that are not at their defaults."""
        of = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        usual = self.usual
        if isinstance(self.observable, Observable):
            of["observable"], usual["observable"] = self.observable.name, self.usual_observable
        changed = ", ".join(f"{name}={value!r}" for name, value in of.items() if value != usual[name])
        return f"{type(self).__name__}({changed})"

    @property
    @abstractmethod
    def inputs(self) -> tuple[str, ...]:
        """Names of the columns that a scorer takes, in order."""

    @property
    @abstractmethod
    def scalars(self) -> tuple[str, ...]:
        """Names of the columns that hold one number a row: what can be hunted in."""

    @property
    @abstractmethod
    def usual_observable(self) -> str:
        """The column that is hunted in where none is named."""

    @abstractmethod
    def columns(self, events: Any) -> tuple[Columns, dict[str, int]]:
        """Return the columns of the events that are kept, beginning with ROW, and the cutflow of a chunk of events.

        events: an awkward array of any of coffea's schemas, or of none. The cutflow counts "read", then what was lost in order,
        then "kept"; "read" is the sum of all others.
        """

    @property
    def usual(self) -> dict[str, Any]:
        """What the fields are where they are not given."""
        return {field.name: field.default for field in dataclasses.fields(self)}

    @property
    def content(self) -> tuple[str, ...]:
        """Names of the columns that an event without identity is told by: the observable and the inputs."""
        return (*((self.observable.name,) if self.observable else ()), *self.inputs)

    def settings(self) -> dict[str, Any]:
        """Return the fields as JSON has them; `representation_of(name, **settings)` makes the same representation."""
        found = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            value = value.name if isinstance(value, Observable) else value
            found[field.name] = list(value) if isinstance(value, tuple) else value
        return found

    def observed(self, name: str) -> Observable:
        """Return the observable of a column: masses and momenta in GeV, angles and ratios without a unit."""
        return Observable.of(name, "GeV" if name.startswith(("m", "pt_")) else "")

    def usable(self, columns: Mapping[str, npt.NDArray[Any]]) -> tuple[npt.NDArray[np.bool_], dict[str, int]]:
        """Tell which rows (n,) a search can use: finite inputs and a positive observable; and count the others.

        Raises InputError for a column that holds no numbers.
        """
        finite = np.ones(len(columns[self.content[0]]), dtype=np.bool_)
        for name in self.content:
            values = columns[name]
            if values.dtype.kind not in "fiub":
                raise InputError(
                    f"{self.name}: column {name!r} holds {'text' if values.dtype.kind in 'UST' else values.dtype}, not numbers: {values[:1].tolist()}"
                )
            finite &= np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
        lost = {"an input or the observable is no finite number": int((~finite).sum())}
        if self.observable is None:
            return finite, lost
        positive = np.asarray(columns[self.observable.name] > 0)
        lost[f"{self.observable.name} is not positive"] = int((finite & ~positive).sum())
        return finite & positive, lost

    def noted(self, columns: Mapping[str, npt.NDArray[Any]]) -> dict[str, int]:
        """Return what else is counted of rows: numbers that are added up over all parts and stand in the metadata."""
        del columns
        return {}

    def source_of(self, branches: Collection[str], where: str) -> EventSource:
        """Find what events are made of among the names of a tree's branches; `where` begins the message of an InputError."""
        return source_of(branches, where)

    def require_events(self) -> None:
        """Raise InputError where no events become this representation."""
        if not self.of_events:
            raise InputError(
                f"representation {self.name!r} is a table of your own, which is read and not made of events"
            )

    def warning(self, noted: Mapping[str, int], *, rows: int) -> str:
        """Return what the log should say of the sums of `noted` over a table of `rows` rows; nothing to say: ""."""
        del noted, rows
        return ""


def named_columns(given: Any) -> tuple[str, ...]:
    """Return the names of a list of columns, or of the only one; raises InputError for what is none, and for one named twice."""
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise InputError(f"features: {given!r} is no list of names of columns")
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"features: {name!r} is named twice")
    return tuple(names)


def metadata_of(events: Any) -> dict[str, Any]:
    """Return what coffea says of a chunk: dataset, filename, treename, entrystart; of other arrays what stands for it."""
    given = getattr(events, "metadata", None)
    found = dict(given) if isinstance(given, Mapping) else {}
    usual = {"dataset": SINGLE_EVENTS, "filename": SINGLE_EVENTS, "treename": "Events", "entrystart": 0}
    return {**usual, **found}


def chunk_columns(
    events: Any,
    representation: Representation,
    batch: Callable[[Candidates], tuple[Columns, dict[str, int]]],
) -> tuple[Columns, dict[str, int]]:
    """Return the columns of a chunk's kept events, beginning with ROW, and its cutflow.

    batch: takes the candidates of some events, and gives the columns of those it keeps, in order, with their ROW
    among these events, and what each of its cuts lost; events with unphysical candidates, which hold none here, are
    counted already. The rest is `completed_columns`. Raises UnreadableError.
    """

    def made(source: Any) -> Made:
        candidates, event_id = read_candidates(events, source), same_event(events, source)
        return lambda: (*_batched(candidates, batch), event_id)

    return completed_columns(events, representation, made)


Made = Callable[[], tuple[Columns, dict[str, int], npt.NDArray[np.uint64]]]
"""Gives the columns of the events that are kept, with their ROW, the cutflow up to there, and the EVENT_ID of all events."""


def _batched(
    candidates: Candidates, batch: Callable[[Candidates], tuple[Columns, dict[str, int]]]
) -> tuple[Columns, dict[str, int]]:
    """Return the columns of all batches of candidates, and the cutflow."""
    parts, lost = zip(*(batch(piece) for piece in _batches(candidates)), strict=True)
    firsts = np.arange(len(parts)) * BATCH
    row = np.concatenate([first + part.pop(ROW) for first, part in zip(firsts, parts, strict=True)])
    made = {ROW: row} | {name: np.concatenate([part.pop(name) for part in parts]) for name in list(parts[0])}
    cutflow = {"read": len(candidates.unphysical), "unphysical candidates": int(candidates.unphysical.sum())}
    return made, cutflow | {name: sum(counts[name] for counts in lost) for name in lost[0]}


def completed_columns(
    events: Any, representation: Representation, read: Callable[[EventSource], Made]
) -> tuple[Columns, dict[str, int]]:
    """Return the columns of a chunk's kept events, beginning with ROW, and its cutflow, from what `read` makes of the stored events.

    First comes the identity, then what was made, then EVENT_ID, and `truth_signal` and `genWeight` where the
    events have them. Rows that `representation.usable` does not have, and those whose weight is not finite, are left out and
    counted. read: takes what the file stores, and reads it; what it raises is damage. Raises UnreadableError.
    """
    meta = metadata_of(events)
    where = f"{meta['filename']}: tree {meta['treename']!r}"
    source: EventSource = meta.get("source") or representation.source_of(branch_names(events), where)
    try:
        make = read(source)
        extra = (*(("truth_signal",) if source.truth else ()), *(("genWeight",) if source.gen_weight else ()))
        stored = {name: flat_branch(events, name) for name in (*IDENTITY[1:], *extra)}
        identity = {name: _numbers(stored[name], f"{where}: branch {name!r}") for name in IDENTITY[1:]}
    except InputError as error:
        raise UnreadableError(f"{where}: {error}") from error
    made, cutflow, event_id = make()
    row = made.pop(ROW)
    usable, unusable = representation.usable(made)
    if not usable.all():
        row, made = row[usable], {name: values[usable] for name, values in made.items()}
    cutflow |= unusable
    if source.gen_weight:
        weighed = np.isfinite(stored["genWeight"][row])
        row, made = row[weighed], {name: values[weighed] for name, values in made.items()}
        cutflow[UNWEIGHED] = int((~weighed).sum())
    cutflow["kept"] = len(row)
    columns: Columns = {ROW: row, "dataset": np.full(len(row), meta["dataset"])}
    columns |= {name: identity[name][row] for name in IDENTITY[1:]}
    columns |= {**made, EVENT_ID: event_id[row]}
    types: Sequence[tuple[str, Any]] = (("truth_signal", np.uint8), ("genWeight", np.float64))
    columns |= {name: stored[name][row].astype(kind) for name, kind in types if name in extra}
    return columns, cutflow


def _numbers(values: npt.NDArray[Any], where: str) -> npt.NDArray[np.uint64]:
    """Return run, luminosityBlock or event as uint64; raises UnreadableError for what cannot be one."""
    try:
        return identity_numbers(values)
    except ValueError as error:
        raise UnreadableError(f"{where} tells events apart and holds {error}") from error


def _batches(candidates: Candidates) -> Iterator[Candidates]:
    n = len(candidates.unphysical)
    for first in range(0, max(n, 1), BATCH):
        last = min(first + BATCH, n)
        a, b = candidates.offsets[first], candidates.offsets[last]
        charge = None if candidates.charge is None else candidates.charge[a:b]
        yield Candidates(
            offsets=candidates.offsets[first : last + 1] - a,
            pt=candidates.pt[a:b],
            eta=candidates.eta[a:b],
            phi=candidates.phi[a:b],
            mass=candidates.mass[a:b],
            charge=charge,
            unphysical=candidates.unphysical[first:last],
        )
