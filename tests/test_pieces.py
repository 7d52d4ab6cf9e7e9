"""Finished pieces: what is taken up is what was kept, and whatever else is made anew."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from hunch.pieces import NONE_KEPT, Pieces, digest


def test_a_piece_is_made_once_and_is_the_same_bit_for_bit(tmp_path: Path, rng: np.random.Generator) -> None:
    values, calls = rng.normal(size=(3, 4)), []

    def make() -> dict[str, object]:
        calls.append(1)
        return {"values": values, "n": 3, "said": "no limit: ½"}

    for _ in range(2):
        found = Pieces(tmp_path, "key").of("loop", values, {"seed": 1}).kept("0", make)
        assert found["values"].tobytes() == values.tobytes()
        assert (int(found["n"]), str(found["said"])) == (3, "no limit: ½")
    assert len(calls) == 1
    # another seed, another loop, another key
    Pieces(tmp_path, "key").of("loop", values, {"seed": 2}).kept("0", make)
    Pieces(tmp_path, "key").of("pool", values, {"seed": 1}).kept("0", make)
    Pieces(tmp_path, "other").of("loop", values, {"seed": 1}).kept("0", make)
    assert len(calls) == 4
    NONE_KEPT.of("loop").kept("0", make)
    NONE_KEPT.save("0", x=1)
    assert len(calls) == 5


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign"])
def test_a_damaged_piece_is_made_anew(damage: str, tmp_path: Path) -> None:
    own = Pieces(tmp_path, "key")
    own.save("0", x=np.arange(5))
    path = own.path("0")
    content = path.read_bytes()
    flipped = content[:-5] + bytes([content[-5] ^ 1]) + content[-4:]
    path.write_bytes({"cut": content[:-1], "flipped": flipped, "empty": b"", "foreign": b"x" * 200}[damage])
    assert own.load("0") is None
    assert own.kept("0", lambda: {"x": 7})["x"] == 7
    assert own.load("0") == {"x": 7}


def test_what_pieces_depend_on_is_told_apart() -> None:
    @dataclass(frozen=True)
    class Settings:
        seed: int
        edges: np.ndarray

    edges = np.linspace(0, 1, 3)
    one = [
        Settings(1, edges),
        Settings(2, edges),
        Settings(1, edges.astype(np.float32)),
        Settings(1, edges + 1e-16 * np.arange(3)),
        Settings(1, edges.reshape(1, -1)),
        None,
        0,
        0.5,
        "0",
        Path("0x"),
        np.float64(0.25),
        [1, [2]],
        [[1], 2],
    ]
    assert len({digest(value) for value in one}) == len(one)
    assert digest(Settings(1, edges)) == digest(Settings(1, edges.copy()))
