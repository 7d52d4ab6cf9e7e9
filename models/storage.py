"""A trained scorer on disk: a folder of scorer.json and weights.safetensors, never half written, never a pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from ..documents import read_json
from ..errors import InputError, shown
from ..files import write_folder_aside
from .inputs import ScorerError

__all__ = ["RECORD", "WEIGHTS", "ScorerFolderError", "read_folder", "sealed", "write_folder"]

RECORD = "scorer.json"
WEIGHTS = "weights.safetensors"
FORMAT = 2
"""Of the folder; 1 had no sum of the record."""
SUM = "record_sha256"


class ScorerFolderError(ScorerError):
    """A scorer's folder is missing, damaged, or not a scorer's folder."""


def write_folder(path: str | Path, record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
    """Write a scorer's folder beside `path` and rename it as a whole; an older scorer there is replaced.

    record: JSON-like, without NaN or infinity; tensors: name -> tensor. Raises ScorerFolderError when `path` is
    a file or a folder that holds something else than a scorer.
    """
    target = Path(path)
    if target.exists() and not target.is_dir():
        raise ScorerFolderError(f"{target}: is a file; a scorer is written as a folder")
    if target.is_dir() and any(target.iterdir()) and not (target / RECORD).is_file():
        raise ScorerFolderError(f"{target}: holds files but no {RECORD}; not overwritten")
    weights = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    full = sealed({"format": FORMAT, **record, "weights_sha256": hashlib.sha256(weights).hexdigest()})
    with write_folder_aside(target) as aside:
        (aside / WEIGHTS).write_bytes(weights)
        (aside / RECORD).write_text(json.dumps(full, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a scorer's record with the sum of all else in it: a change by damage or by hand is seen when it is read."""
    content = {key: value for key, value in record.items() if key != SUM}
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return {**content, SUM: hashlib.sha256(text.encode()).hexdigest()}


def read_folder(path: str | Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return the record and the tensors of a scorer's folder; raises ScorerFolderError saying which part is bad."""
    folder = Path(path)
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "no such folder"
        raise ScorerFolderError(f"{folder}: {found}; a scorer is a folder with {RECORD} and {WEIGHTS}")
    for name in (RECORD, WEIGHTS):
        if not (folder / name).is_file():
            present = ", ".join(sorted(p.name for p in folder.iterdir())[:12]) or "nothing"
            raise ScorerFolderError(f"{folder}: no {name} in it; found: {present}")
    try:
        record = read_json(folder / RECORD)
    except InputError as error:
        raise ScorerFolderError(str(error)) from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        version = record.get("format") if isinstance(record, dict) else type(record).__name__
        raise ScorerFolderError(f"{folder / RECORD}: format {shown(version)}; this version reads format {FORMAT}")
    if record != sealed(record):
        raise ScorerFolderError(f"{folder / RECORD}: damaged, or changed by hand: it does not match its own sum")
    data = (folder / WEIGHTS).read_bytes()
    if hashlib.sha256(data).hexdigest() != record.get("weights_sha256"):
        raise ScorerFolderError(f"{folder / WEIGHTS}: damaged, {len(data)} bytes do not match the sum in {RECORD}")
    try:
        return record, load(data)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ScorerFolderError(f"{folder / WEIGHTS}: damaged: {error}") from error
