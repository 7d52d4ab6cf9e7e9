"""Mutations of a file: of its bytes, of the words of a text, and of the values of JSON and YAML."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import yaml

__all__ = ["mutate_bytes", "mutate_json", "mutate_text", "mutate_yaml"]

Mutation = Callable[[bytes, np.random.Generator], bytes]

ODD_NUMBERS = (
    *("0", "-0.0", "-1", "1", "0.5", "1e300", "-1e300", "1e400", "nan", "NaN", "inf", "-Infinity", "9007199254740993"),
    *(
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551616",
        "1e-320",
        "1_000",
        "0x10",
        "1,5",
        "9" * 5000,
    ),
)
ODD_WORDS = (
    *(
        "",
        " ",
        "null",
        "true",
        "no",
        "~",
        "[]",
        "{}",
        "''",
        '"',
        "'",
        "#",
        ":",
        "- -",
        "&a *a",
        "*a",
        "!!python/object:os.system",
    ),
    *(
        "../../x",
        "/dev/null",
        "/etc/passwd",
        "a" * 3000,
        "é\u202e",
        "\x00",
        "\x1b[31m",
        "<script>",
        "$x_1^{2}$",
        "=1+1",
        "\ufeff",
    ),
)
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 0.5, -0.5, 1e300, 1e-300, 10**30, float("nan"), float("inf"), -(2**63), 2**64),
    *(
        "",
        "x",
        "no",
        "1e3",
        "137/fb",
        "../../x",
        "<b>",
        "$a_b$",
        "\x00",
        "a" * 2000,
        [],
        {},
        [[]],
        {"": None},
        [None],
        ["x"] * 50,
    ),
)
EXTREMES = (b"\x00" * 8, b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\x80" + b"\x00" * 7, b"\xff\xff\xff\x7f")


def mutate_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """Return the bytes with one kind of damage at places drawn at random: flips, extremes, cuts, copies, a lost end."""
    found = bytearray(data)
    kind = rng.integers(8)
    at = int(rng.integers(max(len(found), 1)))
    size = int(2 ** rng.uniform(0, np.log2(max(len(found), 2))))
    if kind <= 2:
        for _ in range(int(rng.integers(1, 9))):
            found[int(rng.integers(len(found)))] ^= 1 << int(rng.integers(8))
    elif kind == 3:
        extreme = EXTREMES[rng.integers(len(EXTREMES))][: int(rng.choice([1, 2, 4, 8]))]
        found[at : at + len(extreme)] = extreme
    elif kind == 4:
        del found[at:]
    elif kind == 5:
        del found[at : at + size]
    elif kind == 6:
        found[at:at] = found[at : at + size] if rng.random() < 0.5 else rng.bytes(min(size, 4096))
    else:
        found[at : at + min(size, 512)] = rng.bytes(min(size, 512, len(found) - at))
    return bytes(found)


def mutate_text(data: bytes, rng: np.random.Generator) -> bytes:
    """Return the text with a word, a number, a line or its form changed; one time in five its bytes are damaged."""
    if rng.random() < 0.2:
        return mutate_bytes(data, rng)
    text = data.decode()
    kind = rng.integers(7)
    lines = text.split("\n")
    at = int(rng.integers(len(lines)))
    if kind <= 1:
        return another(text, r"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?", ODD_NUMBERS if rng.random() < 0.7 else ODD_WORDS, rng)
    if kind == 2:
        return another(text, r"[A-Za-z_][\w./-]*", ODD_WORDS if rng.random() < 0.7 else ODD_NUMBERS, rng)
    if kind == 3:
        return another(text, r"[][{},:;\"'\-#\s]", (",", ";", ":", "\t", "", "\r", "\n", '"', "{", "[", "]", "  "), rng)
    if kind == 4:
        other = int(rng.integers(len(lines)))
        lines[at], lines[other] = lines[other], lines[at]
    elif kind == 5:
        lines[at : at + 1] = [] if rng.random() < 0.5 else [lines[at]] * int(rng.integers(2, 4))
    else:
        whole = (
            lambda t: t.replace("\n", "\r"),
            lambda t: t.replace("\n", "\r\n"),
            lambda t: "\ufeff" + t,
            lambda t: t + t,
            lambda t: "# a comment\n" + t,
            lambda t: t + "\n---\n" + t,
            lambda t: t.rstrip(),
            lambda t: t.replace(",", ";"),
        )
        changed = whole[rng.integers(len(whole))](text)
        return changed.encode("utf-16" if rng.random() < 0.1 else "utf-8")
    return "\n".join(lines).encode()


def another(text: str, pattern: str, choices: tuple[str, ...], rng: np.random.Generator) -> bytes:
    """Return the text with one match of the pattern, drawn at random, replaced by one of the choices."""
    found = list(re.finditer(pattern, text))
    if not found:
        return text.encode()
    match = found[rng.integers(len(found))]
    return (text[: match.start()] + choices[rng.integers(len(choices))] + text[match.end() :]).encode()


def mutate_json(data: bytes, rng: np.random.Generator) -> bytes:
    """Return JSON with one of its values, keys or lists changed; four times in ten its text is."""
    if rng.random() < 0.4:
        return mutate_text(data, rng)
    return json.dumps(mutated(json.loads(data), rng)).encode()


def mutate_yaml(data: bytes, rng: np.random.Generator) -> bytes:
    """Return YAML with one of its values, keys or lists changed; half of the time its text is."""
    if rng.random() < 0.5:
        return mutate_text(data, rng)
    return yaml.safe_dump(mutated(yaml.safe_load(data), rng), allow_unicode=True).encode()


def mutated(value: Any, rng: np.random.Generator) -> Any:
    """Return a copy of a JSON-like value with one place, drawn at random, changed."""
    root = [copy.deepcopy(value)]
    places: list[tuple[Any, Any]] = []
    collect(root, places)
    holder, key = places[rng.integers(len(places))]
    odd = ODD_VALUES[rng.integers(len(ODD_VALUES))]
    kind = rng.integers(6)
    if kind <= 1 or holder is root:
        holder[key] = copy.deepcopy(odd)
    elif kind == 2:
        del holder[key]
    elif kind == 3 and isinstance(holder, dict):
        holder[f"{key}x" if rng.random() < 0.5 else str(odd)[:40]] = holder.pop(key)
    elif kind == 3:
        holder.insert(key, copy.deepcopy(holder[key]))
    elif kind == 4:
        holder[key] = [holder[key]] if rng.random() < 0.5 else {"x": holder[key]}
    elif isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
        holder[key] = holder[key] * float(rng.choice([-1, 0.5, 1000, 1e-9]))
    else:
        holder[key] = str(holder[key])
    return root[0]


def collect(holder: Any, places: list[tuple[Any, Any]]) -> None:
    """Append every place (its holder, its key) of a JSON-like value; of a long list some items stand for all."""
    keys = list(holder) if isinstance(holder, dict) else [*range(min(len(holder), 20))]
    for key in keys:
        places.append((holder, key))
        if isinstance(holder[key], dict | list):
            collect(holder[key], places)
