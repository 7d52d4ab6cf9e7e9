"""Every representation there is: what an event becomes, by its name, and a table's columns as a scorer takes them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..errors import InputError, unknown_name
from ..table import Observable, Table
from .chunks import Columns, Representation, named_columns
from .features import Features
from .images import Images
from .objects import Objects
from .sets import Constituents

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "REPRESENTATIONS",
    "Constituents",
    "Features",
    "Images",
    "Objects",
    "Representation",
    "UserTable",
    "read_inputs",
    "representation_of",
]


RESERVED = ("region", "sample", "threads", "weight")
"""Names that an axis of a spectrum cannot have: of its other axis, and of what `hist` takes beside axes."""


@dataclass(frozen=True, kw_only=True, repr=False)
class UserTable(Representation):
    """Columns of a table of the user's own, which is read and not made.

    features: the columns that a scorer takes; observable: the column that is hunted in, and unit: its unit. Whether the table has
    these columns is said when it is read. Raises InputError for no features, and for an observable among them.
    """

    name: ClassVar[str] = "table"
    kind: ClassVar[str] = "rows"
    of_events: ClassVar[bool] = False

    features: tuple[str, ...]
    unit: str = "GeV"

    def __post_init__(self) -> None:
        features = named_columns(self.features)
        object.__setattr__(self, "features", features)
        if not features:
            raise InputError(
                f"{self.name}: a table of your own needs its training columns named: features: [column, ...]"
            )
        super().__post_init__()
        if self.observable and self.observable.name in features:
            raise InputError(
                f"{self.name}: {self.observable.name!r} is the observable, which is hunted in and is no feature"
            )

    @property
    def inputs(self) -> tuple[str, ...]:
        """The features."""
        return self.features

    @property
    def scalars(self) -> tuple[str, ...]:
        """Whatever is named: which columns there are is known when the table is read."""
        given: Observable | str | None = self.observable
        named = given.name if isinstance(given, Observable) else given
        return (*self.features, self.usual_observable, *((named,) if named else ()))

    @property
    def usual_observable(self) -> str:
        """The dijet mass."""
        return "mjj"

    def observed(self, name: str) -> Observable:
        """Return the observable of a column, in the unit that was given."""
        if name in RESERVED:
            raise InputError(f"{self.name}: the observable cannot be called {name!r}, which axes of histograms cannot")
        return Observable.of(name, self.unit)

    def columns(self, events: Any) -> tuple[Columns, dict[str, int]]:
        """Raise InputError: no events become a table of the user's own."""
        del events
        self.require_events()
        return {}, {}


REPRESENTATIONS: dict[str, type[Representation]] = {
    cls.name: cls for cls in (Features, Images, Constituents, Objects, UserTable)
}
"""Name -> class: the one place where a new representation is entered."""


def representation_of(name: str, **options: Any) -> Representation:
    """Return a representation by its name, with the options that are its fields.

    Raises InputError for an unknown name or option, with the nearest, and for values that the class refuses.

    >>> representation_of("images", pixels=20).inputs
    ('image_1', 'image_2')
    """
    if name not in REPRESENTATIONS:
        raise InputError(unknown_name("representation", name, REPRESENTATIONS))
    fields = dataclasses.fields(REPRESENTATIONS[name])
    for option in options:
        if option not in {field.name for field in fields}:
            raise InputError(unknown_name("option", option, [f.name for f in fields], f"representation {name}"))
    for field in fields:
        if field.default is dataclasses.MISSING and field.name not in options:
            raise InputError(f"representation {name}: option {field.name!r} is needed")
    return REPRESENTATIONS[name](**options)


def read_inputs(table: Table, representation: Representation) -> npt.NDArray[Any]:
    """Return what a space takes of a table.

    Rows (n, d) float64; images (n, jets, a, b) or sets (n, jets, k, c) float32. Raises InputError for a column that is not there
    or does not hold that.
    """
    if representation.kind == "rows":
        return table.matrix(representation.inputs)
    shapes: Mapping[str, tuple[int, ...]] = {name: table[name].shape[1:] for name in representation.inputs}
    for name, shape in shapes.items():
        if len(shape) != 2 or shape != shapes[representation.inputs[0]]:
            raise InputError(
                f"{table.source}: column {name!r} holds {shape or 'a number'} a row; "
                f"{representation.kind} of one shape in {', '.join(representation.inputs)} are expected"
            )
    return np.stack([np.asarray(table[name], dtype=np.float32) for name in representation.inputs], axis=1)
