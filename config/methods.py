"""What an analysis file may say of a method: the methods there are, and options that are fields of classes."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from ..errors import HunchError, nearest
from .quantities import number
from .sections import Options

if TYPE_CHECKING:
    from ..processors.representations import Representation

__all__ = [
    "OWN_KEYS",
    "REPRESENTED_BY",
    "SPACE_KEYS",
    "checked_options",
    "checked_parts",
    "laid_out",
    "method_class",
    "method_names",
    "methods_for",
    "methods_with",
    "unknown",
]

OWN_KEYS = {
    "seed": "seed",
    "alpha": "regions.alpha",
    "hypotheses": "regions.number",
    "inputs": "representation",
}
"""Fields of scorers that an analysis sets by keys of its own."""
REPRESENTED_BY = {"observable": "observable", "unit": "observable.unit", "features": "features"}
"""Fields of representations that an analysis sets by keys of its own."""
SLOTS = {"electrons": "max_electrons", "muons": "max_muons", "jets": "max_jets"}
LAYOUT = SLOTS | {
    "lepton_pt": "min_lepton_pt",
    "jet_pt": "min_jet_pt",
    **{name: name for name in ("electron_eta", "muon_eta", "jet_eta")},
}
"""Option of an encoder of whole events -> that of the representation `objects` which says the same."""
SPACE_KEYS = ("name", "per_jet", "metric")
"""Keys of `scorer` that are no fields of the method: which method, how two jets are put together, which metric spans the axes."""


@functools.cache
def method_names() -> tuple[str, ...]:
    """Return the names of all methods."""
    from ..models.scorer import SCORERS

    return tuple(SCORERS)


def method_class(name: str) -> Any:
    """Return a method's class."""
    from ..models.scorer import scorer_class

    return scorer_class(name)


def methods_with(ability: str) -> list[str]:
    """Return the methods that can do something: `mosaic`, `narrows`."""
    return [name for name in method_names() if getattr(method_class(name), ability)]


def methods_for(kind: str) -> list[str]:
    """Return the methods that take a kind of representation."""
    return [name for name in method_names() if kind in method_class(name).takes]


def unknown(name: str, allowed: Collection[str]) -> str:
    """Return what is said of a value that is not among those allowed."""
    guess = nearest(name, allowed)
    hint = f"did you mean {guess!r}? " if guess else ""
    return f"{name!r} is not known; {hint}allowed: {', '.join(allowed) or 'none'}"


def checked_parts(method: Any, options: Options, sections: Mapping[str, str]) -> Options:
    """Return a method's options, those of the classes that some of them name with the types of their fields; ValueError naming the key.

    sections: option -> the section that it is given in.
    """
    try:
        parts = method.parts(options)
    except HunchError as error:
        option, _, said = str(error).partition(": ")
        raise ValueError(f"key '{sections.get(option, 'scorer')}.{option}': {said}") from error
    found = dict(options)
    for option, part in parts.items():
        given, section = options.get(option), f"{sections.get(option, 'scorer')}.{option}"
        if isinstance(part, list):
            found[option] = [
                checked_part(own, one, f"{section}[{number}]")
                for number, (own, one) in enumerate(zip(part, given or (), strict=True))
            ]
        elif isinstance(given, Mapping):
            found[option] = checked_part(part, given, section)
    return found


def checked_part(part: tuple[Any, tuple[str, ...]], given: Any, section: str) -> Any:
    """Return what is given of a part of a method: a name as it is, the options of a mapping with the types of the fields of its class.

    part: the class, and further keys of the mapping; ValueError naming the key.
    """
    from ..models.scorer import scorer_fields

    if not isinstance(given, Mapping):
        return given
    cls, extra = part
    # of rows, which an encoder gives whatever the representation is
    allowed = {name for name in scorer_fields(cls) if name not in OWN_KEYS or name == "inputs"} - {"device"}
    own = {**OWN_KEYS, "device": f"{section.split('.', maxsplit=1)[0]}.device"}
    inner = {key: value for key, value in given.items() if key not in extra}
    checked = checked_options(section, cls, inner, allowed, extra=extra, own=own)
    if hasattr(cls, "parts"):
        checked = checked_parts(cls, checked, dict.fromkeys(checked, section))
    return {**{key: given[key] for key in extra if key in given}, **checked}


def laid_out(options: Options, representation: Representation) -> Options:
    """Return the options of a search in representations, with the slots and the acceptance of the objects that the encoder is given.

    Raises ValueError, naming the key, where an encoder of whole events is told of other ones, which its versions of events would be made with,
    and where there is no smallest pT.
    """
    from ..models.contrastive.encoders import ENCODERS

    if "scorers" in options:
        inside = [dict(one) if isinstance(one, Mapping) else {"name": one} for one in options["scorers"]]
        return {
            **options,
            "scorers": [laid_out(one, representation) if one.get("name") == "Encoded" else one for one in inside],
        }
    given = options.get("encoder", "")
    name = given.get("name") if isinstance(given, Mapping) else given
    if representation.name != "objects" or name not in ENCODERS or not ENCODERS[name].whole_events:
        return options
    own = dict(given) if isinstance(given, Mapping) else {"name": name}
    for option, key in LAYOUT.items():
        made = getattr(representation, key)
        if own.get(option, made) != made:
            raise ValueError(
                f"key 'scorer.encoder.{option}': is {own[option]}, and representation.{key} is {made}, of which it takes its own; leave it out"
            )
        if option not in SLOTS and not made:
            raise ValueError(
                f"key 'representation.{key}': is {made}, and {name} adds objects of pT above 0; allowed: above 0"
            )
        own.setdefault(option, made)
    return {**options, "encoder": own}


def checked_options(
    section: str,
    cls: type,
    given: Mapping[str, Any],
    allowed: Collection[str],
    *,
    extra: Collection[str] = (),
    own: Mapping[str, str] = OWN_KEYS,
) -> Options:
    """Return options of a section with the types of the fields of a dataclass; ValueError naming the key.

    allowed: the fields that may be given; extra: further keys of the section, for the message; own: fields that an analysis sets by
    keys of its own.
    """
    hints = get_type_hints(cls)
    found: Options = {}
    for key, value in given.items():
        if key not in allowed:
            if key in own:
                raise ValueError(f"key '{section}.{key}': is the analysis' own key {own[key]}")
            names = sorted({*allowed, *extra})
            guess = nearest(str(key), names)
            hint = f"; did you mean {guess!r}?" if guess else ";"
            raise ValueError(f"unknown key '{section}.{key}'{hint} allowed: {', '.join(names)}")
        value = value if re.search(r"\bstr\b", str(hints[key])) else number(value)  # noqa: PLW2901
        strict = not str(hints[key]).startswith(("tuple", "typing.Tuple")) and not isinstance(value, list)
        try:
            found[key] = TypeAdapter(hints[key]).validate_python(value, strict=strict)
        except ValidationError as error:
            first = error.errors()[0]["msg"]
            raise ValueError(f"key '{section}.{key}': {first[0].lower()}{first[1:]}, found {value!r}") from error
    return found
