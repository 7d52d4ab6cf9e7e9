"""Reading an analysis file: errors name its line, the key and the nearest key that there is."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from ..documents import compose_yaml, dotted, parse_yaml, read_text, require_name
from ..errors import IN_QUOTES, HunchError, InputError, nearest, printable, shown
from ..files import matching
from ..table import is_table, is_table_folder
from .methods import SPACE_KEYS
from .schema import Analysis

__all__ = ["ConfigError", "read_analysis", "yaml_value"]


class ConfigError(HunchError):
    """The configuration is not one; the message names file, line and key."""


def read_analysis(path: str | Path, overrides: Sequence[str] = ()) -> Analysis:
    """Read and check an analysis file; paths in it, `output` too, become absolute, relative to the file itself.

    overrides: KEY=VALUE, as in "regions.fraction=0.1", put in place of what the file says. Raises ConfigError naming the file,
    the line and the key for unknown keys, wrong types, combinations that cannot be, and files that do not exist.
    """
    path = Path(path)
    try:
        require_name(path.resolve())
        node, raw = compose_yaml(read_text(path, "an analysis file (YAML)"), str(path))
    except InputError as error:
        raise ConfigError(str(error)) from error
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{path}: holds no keys; samples and output are needed")
    if not raw.keys() & Analysis.model_fields.keys():
        found = ", ".join(printable(str(key), limit=40) for key in list(raw)[:8]) or "no key"
        raise ConfigError(f"{path}: is no analysis: samples and output are needed; found: {found}")
    lines = key_lines(node)
    written = raw
    raw = overridden(raw, overrides)
    for text in overrides:  # line 0 is the command line
        named = tuple(full_key(text.partition("=")[0].strip(), raw).split("."))
        lines |= {named[:n]: 0 for n in range(1, len(named) + 1) if n == len(named) or named[:n] not in lines}
    try:
        analysis = Analysis.model_validate(raw)
    except ValidationError as error:
        if overrides and is_valid(written):  # what is wrong came by the command line, whichever key it is said of
            lines = {(): 0, **dict.fromkeys(lines, 0)}
        # a list of wrong items is no list that is too short
        wrong = [e for e in error.errors() if not (e["type"] == "too_short" and e["input"])]
        raise ConfigError("\n".join(explain(e, path, lines, raw) for e in wrong)) from error
    return located(analysis, path, lines)


def is_valid(raw: Mapping[str, Any]) -> bool:
    """Tell whether the content of an analysis file is an analysis, whatever files it names."""
    try:
        Analysis.model_validate(raw)
    except ValidationError:
        return False
    return True


def overridden(raw: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return the file's content with KEY=VALUE pairs in place: dotted keys, values as YAML reads them.

    A key that is none of the analysis' is one of its representation or else of its method: pixels is representation.pixels. Whole
    sections come first, whatever their place: what is set inside them stays.
    """
    found = dict(raw)
    parsed: list[tuple[str, Any]] = []
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {shown(text)}: KEY=VALUE is expected, as in --set regions.fraction=0.1")
        try:
            parsed.append((key.strip(), yaml_value(value, f"--set {key.strip()}")))
        except InputError as error:
            raise ConfigError(str(error)) from error
    for key, given in sorted(parsed, key=lambda pair: pair[0] not in Analysis.model_fields):
        *sections, last = full_key(key, found).split(".")
        place = found
        for section in sections:
            inner = place.get(section, {})
            place[section] = dict(inner) if isinstance(inner, Mapping) else {"name": inner}
            place = place[section]
        place[last] = given
    return found


def yaml_value(text: str, where: str) -> Any:
    """Return a value as YAML reads it, and 1e2 as the number that it is; where: the option, for errors. Raises InputError."""
    try:
        value = parse_yaml(text, where)
    except InputError as error:
        raise InputError(f"{where}: {shown(text)} is no value: {str(error).removeprefix(f'{where}: ')}") from error
    if not isinstance(value, str) or not re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return value
    if not math.isfinite(float(value)):
        raise InputError(f"{where}: {shown(text)} is more than a number in double precision can be")
    return float(value)


def full_key(key: str, found: Mapping[str, Any]) -> str:
    """Return a key of --set as the file would have it."""
    first = key.split(".", maxsplit=1)[0]
    if first in Analysis.model_fields:
        return key
    from ..models.scorer import SCORERS, scorer_class, scorer_fields
    from ..processors.representations import REPRESENTATIONS

    chosen = {}
    for section, usual in (("representation", "features"), ("scorer", "Quak")):
        given = found.get(section, usual)
        chosen[section] = given.get("name", usual) if isinstance(given, Mapping) else given
    cls = REPRESENTATIONS.get(str(chosen["representation"]))
    if cls is not None and key in {field.name for field in dataclasses.fields(cls)}:
        return f"representation.{key}"
    if chosen["scorer"] in SCORERS and first in {*scorer_fields(scorer_class(chosen["scorer"])), *SPACE_KEYS}:
        return f"scorer.{key}"
    return key


Key = tuple[str | int, ...]


def key_lines(node: Any, prefix: Key = ()) -> dict[Key, int]:
    """Return the line (from 1) of every key and list item."""
    lines: dict[Key, int] = {prefix: node.start_mark.line + 1}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*prefix, str(key.value))
            lines |= key_lines(value, here)
            lines[here] = key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            lines |= key_lines(value, (*prefix, i))
    return lines


def explain(error: Any, path: Path, lines: Mapping[Key, int], raw: Any) -> str:
    """Turn one pydantic error into one line: file, line, key, what was found, what is allowed."""
    # pydantic names union members and validators in its locations; keys of the file are what is left
    key: Key = ()
    for part in error["loc"]:
        if (*key, part) in lines or error["type"] in {"missing", "extra_forbidden"}:
            key = (*key, part)
    line = next((lines[key[:n]] for n in range(len(key), -1, -1) if key[:n] in lines), 1)
    where = f"{path}: line {line}: " if line else "on the command line: "
    if error["type"] == "extra_forbidden":
        allowed = section_keys(key[:-1])
        guess = nearest(str(key[-1]), allowed)
        hint = f"; did you mean {guess!r}?" if guess else ";"
        return f"{where}unknown key {dotted(key)!r}{hint} allowed: {', '.join(allowed)}"
    if error["type"] == "missing":
        return f"{where}key {dotted(key)!r} is missing"
    message = error["msg"].removeprefix("Value error, ")
    message = re.sub(r" or instance of \w+", "", message)
    guess = None
    if error["type"] == "literal_error":
        guess = nearest(str(error["input"]), re.findall(r"'([^']+)'", str(error["ctx"]["expected"])))
    for theirs, ours in (
        ("tuple", "list"),
        ("Tuple", "List"),
        ("dictionary", "mapping"),
        (" after validation, not", ", not"),
    ):
        message = message.replace(theirs, ours)
    if not key:
        quoted = re.match(r"(?:unknown )?key '([^']+)'", message)
        named = tuple((quoted[1] if quoted else message.split(":")[0]).split("."))
        line = next((lines[named[:n]] for n in range(len(named), -1, -1) if named[:n] in lines), 1)
        return f"{path}: line {line}: {message}" if line else f"on the command line: {message}"
    found = raw
    for part in key:
        found = found[part]
    # an empty section is empty, and no name that was misread
    misread = error["type"] in NAMED and not isinstance(found, str | list | dict)
    hint = f"; {IN_QUOTES}" if misread and (found is not None or error["type"] in {"string_type", "dict_type"}) else ""
    hint = f"; did you mean {guess!r}?" if guess else hint
    told = "nothing" if found is None else str(found).lower() if isinstance(found, bool) else shown(found)
    repeated = f", found {told}" if not isinstance(found, str) or told not in message else ""
    return f"{where}key {dotted(key)!r}: {message[0].lower()}{message[1:]}{repeated}{hint}"


NAMED = ("string_type", "literal_error", "dict_type", "model_type", "tuple_type", "list_type")
"""pydantic's errors where a name is, or may have been, meant."""


def section_keys(prefix: Key) -> list[str]:
    """Return the keys allowed under a section of the schema."""
    model: Any = Analysis
    for part in prefix:
        field = model.model_fields.get(part) if hasattr(model, "model_fields") else None
        if field is None:
            return []
        # an optional section is Section | None
        model = next((a for a in get_args(field.annotation) if hasattr(a, "model_fields")), field.annotation)
    return list(model.model_fields) if hasattr(model, "model_fields") else []


def named_files(files: Sequence[str], key: Key, path: Path, lines: Mapping[Key, int]) -> Iterator[tuple[str, str]]:
    """Give the files that a sample's names stand for, wildcards among them, and how a message about each begins.

    An address elsewhere is left as it is and looked at when it is opened.
    """
    for i, name in enumerate(files):
        where = f"{path}: line {lines.get((*key, i), lines.get(key, 1))}: key {dotted((*key, i))!r}: "
        try:
            found = [name] if "://" in name else matching(path.resolve().parent / name)
        except HunchError as error:
            raise ConfigError(f"{where}{error}") from error
        for file in found:
            yield file, where


def require_file(file: Path, where: str) -> None:
    """Raise ConfigError where a sample's file does not exist, or is a directory that is no table."""
    if not file.exists():
        here = [p.name for p in file.parent.glob("*")] if file.parent.is_dir() else []
        guess = nearest(file.name, here)
        hint = f"; did you mean {guess!r}?" if guess else ""
        raise ConfigError(f"{where}no such file: {file}{hint}")
    if file.is_dir() and not is_table_folder(file):
        raise ConfigError(f"{where}{file} is a directory; name its files")


def located(analysis: Analysis, path: Path, lines: Mapping[Key, int]) -> Analysis:
    """Make every path absolute and check that each sample's files exist and are of one kind."""
    folder = path.resolve().parent

    def find(files: tuple[str, ...], key: Key) -> tuple[str, ...]:
        found: list[str] = []
        for file, where in named_files(files, key, path, lines):
            if "://" not in file:
                require_file(Path(file), where)
            if file in found:
                raise ConfigError(f"{where}{file} is listed twice")
            found.append(file)
            real = file if "://" in file else str(Path(file).resolve())
            if real in seen:
                raise ConfigError(f"{where}{file} is also in {seen[real]}; two samples never share events")
            seen[real] = dotted(key)
        if len({is_table(name) for name in found}) > 1:
            table, events = (next(name for name in found if is_table(name) is kind) for kind in (True, False))
            raise ConfigError(
                f"{path}: line {lines.get(key, 1)}: key {dotted(key)!r}: event files and tables in one sample, "
                f"{Path(events).name} and {Path(table).name}; one kind at a time"
            )
        return tuple(found)

    seen: dict[str, str] = {}
    samples = analysis.samples
    moved = samples.model_copy(
        update={
            "data": find(samples.data, ("samples", "data")),
            "background": samples.background and find(samples.background, ("samples", "background")),
            "validation": samples.validation and find(samples.validation, ("samples", "validation")),
            "exposure": samples.exposure and find(samples.exposure, ("samples", "exposure")),
            **{
                kind: {name: find(files, ("samples", kind, name)) for name, files in getattr(samples, kind).items()}
                for kind in ("priors", "signals")
            },
        }
    )
    output = folder / analysis.output
    if output.exists() and not output.is_dir():
        raise ConfigError(
            f"{path}: line {lines.get(('output',), 1)}: key 'output': {output} is a file; a folder is written"
        )
    started = {
        section: located_folders(analysis.method, getattr(analysis, section), section, path, lines)
        for section in ("scorer", "training")
    }
    return analysis.model_copy(update={"samples": moved, "output": str(output), **started})


def located_folders(
    method: Any, options: Mapping[str, Any], section: str, path: Path, lines: Mapping[Key, int]
) -> dict[str, Any]:
    """Return a section's options with the paths of what was trained before absolute; ConfigError where there is no folder."""
    located = dict(options)
    for option, name in method.folders(options).items():
        folder = path.resolve().parent / name
        if not folder.is_dir():
            key = (section, option)
            line = lines.get(key, lines.get(key[:1], 1))
            where = f"{path}: line {line}: " if line else "on the command line: "
            found = "is a file; a scorer is a folder" if folder.exists() else "no such folder"
            raise ConfigError(f"{where}key {dotted(key)!r}: {folder}: {found}")
        located[option] = str(folder)
    return located
