"""Read the lists of names that pandas pickles into HDF5 attributes, and nothing else that a pickle can be."""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import Any

__all__ = ["plain_value"]

LARGEST = 1 << 22
"""Bytes of a pickle; names of a hundred thousand columns take two million."""

CONTAINERS = (list, dict, tuple)
SCALARS = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    }
)
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
"""Operations that push what pickletools gives as their argument, and those that push one value."""


class Mark:
    """Where a list, tuple or dict begins on the stack."""


class Stack:
    """The stack of a pickle, and its memo, from which scalars alone may be taken: no value is inside another twice."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.memo: dict[int, Any] = {}

    def pop(self) -> Any:
        """Return and remove the value on top; raises ValueError where there is none."""
        if not self.values or isinstance(self.values[-1], Mark):
            raise ValueError("a pickle that takes a value from an empty stack")
        return self.values.pop()

    def top(self, kind: type) -> Any:
        """Return the value on top, a list or dict to be filled."""
        if not self.values or not isinstance(self.values[-1], kind):
            raise ValueError("a pickle that fills what is no list or dict")
        return self.values[-1]

    def since_mark(self) -> list[Any]:
        """Return and remove the values above the last mark, and the mark."""
        for i in range(len(self.values) - 1, -1, -1):
            if isinstance(self.values[i], Mark):
                found = self.values[i + 1 :]
                del self.values[i:]
                return found
        raise ValueError("a pickle without the beginning of a list")

    def recall(self, place: int) -> None:
        """Push a value of the memo."""
        if place not in self.memo or isinstance(self.memo[place], CONTAINERS):
            raise ValueError("a pickle that uses a list twice, or what it has not stored")
        self.values.append(self.memo[place])

    def store(self, place: int) -> None:
        """Put the value on top into the memo."""
        value = self.pop()
        self.values.append(value)
        self.memo[place] = value

    def fill(self, items: list[Any]) -> None:
        """Put keys and values into the dict on top; keys are scalars."""
        keys = items[::2]
        if len(items) % 2 or any(isinstance(key, CONTAINERS) for key in keys):
            raise ValueError("a pickled dict whose keys are no scalars")
        self.top(dict).update(zip(keys, items[1::2], strict=True))

    def pair(self) -> None:
        """Put one key and its value into the dict below them."""
        value, key = self.pop(), self.pop()
        self.fill([key, value])

    def dict_of(self, items: list[Any]) -> None:
        """Push a dict of keys and values."""
        self.values.append({})
        self.fill(items)

    def extend(self, items: list[Any]) -> None:
        """Put values into the list on top."""
        self.top(list).extend(items)

    def append(self) -> None:
        """Put a value into the list below it."""
        value = self.pop()
        self.top(list).append(value)

    def tuple_of(self, n: int) -> None:
        """Push a tuple of the n values on top."""
        self.values.append(tuple(reversed([self.pop() for _ in range(n)])))


OPERATIONS: dict[str, Callable[[Stack, Any], Any]] = {
    "PROTO": lambda _, __: None,
    "FRAME": lambda _, __: None,
    "MARK": lambda s, _: s.values.append(Mark()),
    "LIST": lambda s, _: s.values.append(s.since_mark()),
    "TUPLE": lambda s, _: s.values.append(tuple(s.since_mark())),
    "DICT": lambda s, _: s.dict_of(s.since_mark()),
    "EMPTY_LIST": lambda s, _: s.values.append([]),
    "EMPTY_TUPLE": lambda s, _: s.values.append(()),
    "EMPTY_DICT": lambda s, _: s.values.append({}),
    "TUPLE1": lambda s, _: s.tuple_of(1),
    "TUPLE2": lambda s, _: s.tuple_of(2),
    "TUPLE3": lambda s, _: s.tuple_of(3),
    "APPEND": lambda s, _: s.append(),
    "APPENDS": lambda s, _: s.extend(s.since_mark()),
    "SETITEM": lambda s, _: s.pair(),
    "SETITEMS": lambda s, _: s.fill(s.since_mark()),
    "PUT": lambda s, place: s.store(place),
    "BINPUT": lambda s, place: s.store(place),
    "LONG_BINPUT": lambda s, place: s.store(place),
    "MEMOIZE": lambda s, _: s.store(len(s.memo)),
    "GET": lambda s, place: s.recall(place),
    "BINGET": lambda s, place: s.recall(place),
    "LONG_BINGET": lambda s, place: s.recall(place),
}
"""What is done for each operation that is allowed; none of them imports, calls or builds an object of a class."""


def plain_value(stored: bytes) -> Any:
    """Return the value of a pickle of lists, tuples, dicts, text, numbers and None; raises ValueError for any other.

    Nothing is imported or called: the operations are walked one by one, and the first that is not allowed ends it.

    >>> plain_value(b"(lp0\\nVmjj\\np1\\naI7\\na.")
    ['mjj', 7]
    """
    if len(stored) > LARGEST:
        raise ValueError(f"a pickle of {len(stored):,} bytes; allowed: {LARGEST:,}")
    stack = Stack()
    for operation, argument, _ in pickletools.genops(stored):
        if operation.name == "STOP":
            value = stack.pop()
            if stack.values:
                raise ValueError("a pickle that leaves values behind")
            return value
        if operation.name in SCALARS:
            stack.values.append(argument)
        elif operation.name in CONSTANTS:
            stack.values.append(CONSTANTS[operation.name])
        elif operation.name in OPERATIONS:
            OPERATIONS[operation.name](stack, argument)
        else:
            raise ValueError(f"a pickle with the operation {operation.name}; lists of names and numbers alone are read")
    raise ValueError("a pickle without an end")
