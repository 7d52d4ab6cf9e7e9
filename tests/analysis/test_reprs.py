"""Values that hold arrays tell themselves in a line and do not print their arrays."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil

import pytest

import hunch.analysis


def values_with_arrays() -> list[type]:
    """Return every dataclass of the room with a field that is an array."""
    found: set[type] = set()
    for module in pkgutil.walk_packages(hunch.analysis.__path__, "hunch.analysis."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and dataclasses.is_dataclass(value) and value.__module__ == module.name:
                kinds = [str(field.type) for field in dataclasses.fields(value)]
                if any(word in kind for kind in kinds for word in ("NDArray", "Floats", "Ints", "Bools", "Integers")):
                    found.add(value)
    return sorted(found, key=lambda kind: kind.__name__)


def test_there_are_some() -> None:
    assert {"BumpHunt", "Limits", "PlaneScan", "Scored", "Search"} <= {kind.__name__ for kind in values_with_arrays()}


@pytest.mark.parametrize("kind", values_with_arrays())
def test_values_with_arrays_have_a_line_of_their_own(kind: type) -> None:
    assert not kind.__dataclass_params__.repr  # type: ignore[attr-defined]
    assert kind.__repr__ is not object.__repr__
