"""The restricted reader gives what pickle gives for lists of names, and refuses everything else."""

from __future__ import annotations

import pickle
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hunch.hdf5.pickled import LARGEST, plain_value

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=5)
    ),
    max_leaves=20,
)


@settings(max_examples=40, deadline=None)
@given(value=values, protocol=st.integers(0, 5))
def test_plain_values_are_what_pickle_gives(value: Any, protocol: int) -> None:
    assert plain_value(pickle.dumps(value, protocol)) == value


def test_names_of_python_2_are_read() -> None:
    assert plain_value(b"(lp0\nS'E_0'\np1\naS'it\\'s'\np2\naL7L\nag1\na.") == ["E_0", "it's", 7, "E_0"]


REFUSED = {
    "a function": b"cos\nsystem\n(S'true'\ntR.",
    "a function by name": pickle.dumps(print, 4),
    "an object": pickle.dumps(Exception("x"), 2),
    "bytes": pickle.dumps(b"x", 4),
    "a set": pickle.dumps({1}, 4),
    "an old instance": b"(ios\nsystem\n.",
    "a persistent name": b"Pname\n.",
    "an extension": b"\x82\x01.",
    "a buffer": b"\x97.",
    "a list twice in another": b"(lp0\n(lp1\nag1\na.",
    "a list in itself": b"(lp0\ng0\na.",
    "a name that was not stored": b"(lp0\ng7\na.",
    "nothing": b"",
    "no end": b"(lp0\n",
    "an empty stack": b".",
    "values left behind": b"I1\nI2\n.",
    "an item of no list": b"I1\nI2\na.",
    "a key without a value": b"(I1\nd.",
    "a key that is a list": b"((lI1\nd.",
    "a number of many digits": b"I" + b"9" * 5000 + b"\n.",
    "a tuple out of a mark": b"(\x86.",
    "text that is none": b"V\\u12\n.",
    "zeros": bytes(40),
    "more than names take": b"(l" + b"I1\na" * (LARGEST // 4) + b".",
}


@pytest.mark.parametrize("name", REFUSED)
def test_everything_else_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        plain_value(REFUSED[name])


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=60))
def test_any_bytes_give_a_value_or_a_value_error(data: bytes) -> None:
    with suppress(ValueError):
        plain_value(data + b".")
