"""Text from files: the one reader of JSON and the one of YAML, for what this project wrote and for what it did not.

What is read may come from anywhere: sizes are counted before anything is made of them, nothing is evaluated, and what a file
must not hold is said with its name, and its line where there is one.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Hashable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from .errors import InputError, shown
from .tabular import text_encoding

__all__ = [
    "compose_yaml",
    "dotted",
    "parse_json",
    "parse_yaml",
    "read_json",
    "read_text",
    "read_yaml",
    "require_name",
    "require_text",
    "shown_number",
]

MAX_DEPTH = 100
"""Lists and mappings inside each other: what hunch writes has at most ten."""
MAX_DIGITS = 308
"""Digits of a whole number: more than a double holds; Python itself refuses from 4,300 on, and in the wrong words."""
MAX_ALIASED = 100_000
"""Values of a YAML file that are there by its aliases alone."""


def read_text(path: str | Path, what: str) -> str:
    """Return the text of a file in UTF-8, or UTF-16 by its mark, its lines ended by \\n; raises InputError naming it.

    what: is expected there.
    """
    path = Path(path)
    if not path.is_file():
        found = "is a directory" if path.is_dir() else "is no file" if path.exists() else "no such file"
        raise InputError(f"{path}: {found}; {what} is expected")
    try:
        data = path.read_bytes()
        text = data.decode(text_encoding(data))
    except UnicodeDecodeError as error:
        line, byte = data[: error.start].count(b"\n") + 1, data[error.start]
        raise InputError(
            f"{path}: is no text file (UTF-8): byte 0x{byte:02x} in line {line}; {what} is expected"
        ) from error
    except ValueError as error:
        raise InputError(f"{path}: {error}; {what} is expected") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


UNTEXT = re.compile(r"\\(u0000|x00|0|U0000|u[dD][89a-fA-F])|\0")
"""What may stand for a character that no file and no path can hold."""


def refuse_untext(value: Any, text: str, where: str) -> None:
    """Raise InputError where a value read from a text holds a NUL character, or half of a pair of surrogates."""
    if UNTEXT.search(text) is None:
        return
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            waiting += [*found, *found.values()]
        elif isinstance(found, list):
            waiting += found
        elif isinstance(found, str):
            require_text(found, where)


def require_text(value: str, where: str) -> None:
    """Raise InputError where a text holds what no file of text that is read here may: a NUL character, or a lone surrogate."""
    if "\0" in value:
        raise InputError(f"{where}: holds a NUL character in {shown(value)}, which no name can")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise InputError(f"{where}: holds half a character (a lone surrogate) in {shown(value)}, which is no text")


def require_name(path: str | Path) -> None:
    """Raise InputError for a file whose name is no UTF-8: no result or table could tell of it."""
    if any("\ud800" <= letter <= "\udfff" for letter in str(path)):
        raise InputError(f"{path}: its name is no text in UTF-8, and nothing could tell of it; rename it")


# ------------------------------------------------------------------------------------------ JSON


def read_json(path: str | Path, what: str = "JSON", *, exact: bool = False, remedy: str = "") -> Any:
    """Return what a file in JSON holds, as `parse_json` does; what: is expected there."""
    return parse_json(read_text(path, what), str(path), exact=exact, remedy=remedy)


def parse_json(text: str | bytes, where: str, *, exact: bool = False, remedy: str = "") -> Any:
    """Return what strict JSON holds: numbers that are finite, keys given once, at most MAX_DEPTH levels.

    where: the file, for errors; exact: numbers as Decimal, digits kept; remedy: what to do about a damaged one. Raises InputError.
    """

    def wrong(said: str) -> InputError:
        return InputError(f"{where}: {said}{f'; {remedy}' if remedy else ''}")

    def pairs(given: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(given)
        if len(found) < len(given):
            names = [name for name, _ in given]
            raise wrong(f"key {shown(next(n for n in names if names.count(n) > 1))} is given twice")
        return found

    def constant(name: str) -> Any:
        raise wrong(f"holds {name}, no number; finite numbers are expected, or null")

    def number(digits: str) -> Any:
        if len(digits) > MAX_DIGITS + 1 or not math.isfinite(float(digits)):
            raise wrong(f"holds {shown_number(digits)}, more than a number in double precision can be")
        return Decimal(digits) if exact else float(digits)

    def whole(digits: str) -> Any:
        found = number(digits)
        return found if exact else int(digits)

    try:
        given = text.decode("utf-8") if isinstance(text, bytes) else text
        value = json.loads(given, object_pairs_hook=pairs, parse_constant=constant, parse_float=number, parse_int=whole)
    except RecursionError as error:
        raise wrong(f"lists or mappings inside each other more than {MAX_DEPTH} deep") from error
    except ValueError as error:
        found = f"truncated or no JSON ({error})" if text.strip() else "is empty; JSON is expected"
        raise wrong(found) from error
    if given.count("[") + given.count("{") > MAX_DEPTH and depth_of(value) > MAX_DEPTH:
        raise wrong(f"lists or mappings inside each other more than {MAX_DEPTH} deep")
    refuse_untext(value, given, where)
    return value


def depth_of(value: Any) -> int:
    """Return how many lists and mappings of a JSON-like value are inside each other, counted up to MAX_DEPTH + 1."""
    level, depth = [value], 0
    while level and depth <= MAX_DEPTH:
        inner = [v.values() if isinstance(v, dict) else v for v in level if isinstance(v, dict | list)]
        depth += bool(inner)
        level = [x for values in inner for x in values if isinstance(x, dict | list)]
    return depth


def shown_number(digits: str) -> str:
    """Return a number as it is written, the middle of a long one left out."""
    return digits if len(digits) <= 30 else f"{digits[:12]}...{digits[-4:]} ({len(digits)} characters)"


# ------------------------------------------------------------------------------------------ YAML

TAG = "tag:yaml.org,2002:"
TEXT = {f"{TAG}{kind}" for kind in ("str", "timestamp", "value", "merge")}
"""What is text here: days and times and the lone `=` too."""
PLAIN = {*TEXT, *(f"{TAG}{kind}" for kind in ("null", "bool", "int", "float", "seq", "map"))}
"""What a value of a YAML file may be."""


def read_yaml(path: str | Path, what: str = "YAML", *, typed: bool = True) -> Any:
    """Return what a file in YAML holds, as `parse_yaml` does; what: is expected there."""
    return parse_yaml(read_text(path, what), str(path), typed=typed)


def parse_yaml(text: str, where: str, *, typed: bool = True) -> Any:
    """Return what one document of YAML holds; keys are text, as they are written.

    where: the file, for errors; typed: numbers, true, false and null as such, else every value as the text that it is. Raises
    InputError naming file and line for what is no YAML, several documents, a key that is given twice, aliases that stand for more
    than MAX_ALIASED values or for themselves, more than MAX_DEPTH levels, tags of other than plain values, numbers that are not finite.
    """
    return compose_yaml(text, where, typed=typed)[1]


def compose_yaml(text: str, where: str, *, typed: bool = True) -> tuple[Any, Any]:
    """Return the nodes of a YAML document, which know their lines, and what it holds, as `parse_yaml` does."""
    try:
        loader = CheckedLoader(text)
        loader.typed = typed
        node = loader.get_single_node()
        value = None if node is None else loader.construct_document(node)
    except CheckError as error:
        raise InputError(f"{where}: line {error.line}: {error}") from error
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f"line {error.problem_mark.line + 1}: "
        said = " ".join(f"{error.context or ''} {error.problem or ''}".split())
        raise InputError(f"{where}: is no YAML: {line}{said}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{where}: is no YAML: {' '.join(str(error).split())}") from error
    refuse_untext(value, text, where)
    return node, value


def dotted(key: Sequence[str | int]) -> str:
    """Return a key as the user would write it: samples.priors.two_prong[0]."""
    return "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in key).lstrip(".")


class CheckError(Exception):
    """What is wrong with a YAML document, and in which line (from 1)."""

    def __init__(self, said: str, mark: Any) -> None:
        super().__init__(said)
        self.line = mark.line + 1


class CheckedLoader(yaml.SafeLoader):
    """PyYAML's safe loader, which counts before it makes anything: see `parse_yaml`.

    sizes: of a list or mapping that is whole, the values in it, those by aliases too, and how deep they lie.
    """

    typed = True

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.made = 0
        self.place: list[str | int] = []
        self.open: set[str] = set()
        self.sizes: dict[int, tuple[int, int]] = {}
        self.keys: dict[int, set[str]] = {}

    def get_single_node(self) -> Any:
        """Return the only document, None for an empty text."""
        self.get_event()  # type: ignore[no-untyped-call]
        node = None if self.check_event(yaml.StreamEndEvent) else self.compose_document()
        if not self.check_event(yaml.StreamEndEvent):
            raise CheckError("a second document begins here; one is expected", self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        return node

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node after looking at where it stands, and at what an alias stands for."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        is_key = isinstance(parent, yaml.MappingNode) and index is None
        is_alias = isinstance(event, yaml.AliasEvent)
        if not is_key and parent is not None:
            self.place.append(index.value if isinstance(index, yaml.Node) else index)
        if is_alias and event.anchor in self.open:
            raise CheckError(f"*{event.anchor} stands for a list or mapping that it is in itself", event.start_mark)
        if len(self.place) > MAX_DEPTH:
            raise CheckError(f"lists or mappings inside each other more than {MAX_DEPTH} deep", event.start_mark)
        anchor = None if is_alias else event.anchor
        self.open |= {anchor} if anchor else set()
        node: Any = super().compose_node(parent, index)
        self.open.discard(anchor or "")
        self.count(node, event, is_alias=is_alias)
        if is_key:
            self.refuse_key(node, parent, event)
        elif parent is not None:
            self.place.pop()
        return node

    def count(self, node: Any, event: Any, *, is_alias: bool) -> None:
        """Count what a node stands for, and refuse what is too much."""
        if not is_alias:
            self.made += 1
            if node.tag not in PLAIN:
                tag = node.tag.replace(TAG, "!!")
                raise CheckError(
                    f"{self.here()}tag {shown(tag)} is not read; plain values are expected", event.start_mark
                )
            if self.typed and isinstance(node, yaml.ScalarNode):
                self.check_scalar(node)
            if isinstance(node, yaml.CollectionNode):
                values: list[Any] = node.value
                inner = [part for v in values for part in (v if isinstance(v, tuple) else (v,))]
                found = [self.sizes.get(id(part), (1, 0)) for part in inner]
                self.sizes[id(node)] = 1 + sum(n for n, _ in found), 1 + max((d for _, d in found), default=0)
        size, depth = self.sizes.get(id(node), (1, 0))
        if size > self.made + MAX_ALIASED:
            raise CheckError(f"aliases stand for more than {MAX_ALIASED} values", event.start_mark)
        if is_alias and len(self.place) + depth > MAX_DEPTH:
            raise CheckError(f"lists or mappings inside each other more than {MAX_DEPTH} deep", event.start_mark)

    def here(self) -> str:
        """Return the key that is looked at, for errors; nothing at the top."""
        return f"key {shown(dotted(self.place))}: " if self.place else ""

    def check_scalar(self, node: Any) -> None:
        """Refuse what is not of the kind that it says, and a number that is not finite."""
        kind, text = node.tag.removeprefix(TAG), node.value
        if kind in {"int", "float"} and len(text) > MAX_DIGITS + 1:
            raise CheckError(f"{self.here()}{shown_number(text)} is more than a number can be", node.start_mark)
        try:
            value = self.construct_object(node)
            if kind in {"int", "float"} and not math.isfinite(value):
                raise CheckError(f"{self.here()}{text} is no finite number in double precision", node.start_mark)
        except (ValueError, KeyError, OverflowError) as error:
            raise CheckError(f"{self.here()}{shown(text)} is no {kind}", node.start_mark) from error

    def refuse_key(self, node: Any, parent: Any, event: Any) -> None:
        """Refuse a key that is no text, or is given twice."""
        if not isinstance(node, yaml.ScalarNode):
            raise CheckError("a list or a mapping cannot be a key", event.start_mark)
        known = self.keys.setdefault(id(parent), set())
        if node.value in known:
            key = dotted([*self.place, node.value])
            raise CheckError(f"key {shown(key)} is given twice", event.start_mark)
        known.add(node.value)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        """Return a mapping with its keys as they are written, those of merged mappings too."""
        if self.typed:
            self.flatten_mapping(node)
        return {key.value: self.construct_object(value, deep=deep) for key, value in node.value}

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """Return the value of a node: text where nothing else is asked for, else a number, true, false, null or text."""
        if isinstance(node, yaml.ScalarNode) and (not self.typed or node.tag in TEXT):
            return node.value
        return super().construct_object(node, deep=deep)
