"""MNIST as its four idx files or as mnist.npz, read from a folder of the user's; no study of its own."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hunch.errors import InputError

Images = npt.NDArray[np.uint8]

PARTS = ("train", "t10k")
KINDS = {"images-idx3-ubyte": 3, "labels-idx1-ubyte": 1}
ARRAYS = ("x_train", "y_train", "x_test", "y_test")
UNSIGNED_BYTE = 8  # the idx format's code of uint8


def read_mnist(folder: str | Path) -> tuple[Images, Images]:
    """Return images (n, rows, columns) and labels (n,) of both parts; InputError names what is missing or wrong.

    The folder holds mnist.npz (x_train, y_train, x_test, y_test), or train-images-idx3-ubyte, train-labels-idx1-ubyte,
    t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, each as it is or as .gz.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; HUNCH_MNIST names one with mnist.npz or the four idx files")
    if (folder / "mnist.npz").is_file():
        parts = read_npz(folder / "mnist.npz")
    else:
        names = [f"{part}-{kind}" for part in PARTS for kind in KINDS]
        found = [next((p for p in (folder / n, folder / f"{n}.gz") if p.is_file()), None) for n in names]
        missing = [n for n, path in zip(names, found, strict=True) if path is None]
        if missing:
            raise InputError(f"{folder}: holds no mnist.npz and lacks {', '.join(missing)} (as it is or as .gz)")
        parts = [
            read_idx(path, dimensions=KINDS[name.split("-", 1)[1]])
            for name, path in zip(names, found, strict=True)
            if path is not None
        ]
    images, labels = np.concatenate(parts[0::2]), np.concatenate(parts[1::2])
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise InputError(f"{folder}: images of shape {images.shape} and labels of shape {labels.shape}")
    return images, labels


def read_npz(path: Path) -> list[Images]:
    """Return the arrays of an npz file; none is unpickled."""
    with np.load(path, allow_pickle=False) as file:
        missing = [name for name in ARRAYS if name not in file]
        if missing:
            raise InputError(f"{path}: lacks {', '.join(missing)}; it has {', '.join(file.files)}")
        return [np.asarray(file[name], dtype=np.uint8) for name in ARRAYS]


def read_idx(path: Path, *, dimensions: int) -> Images:
    """Return the array of an idx file of unsigned bytes: two zeros, type, dimensions, big-endian sizes, the bytes."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    head = bytes([0, 0, UNSIGNED_BYTE, dimensions])
    if raw[:4] != head:
        raise InputError(f"{path}: starts with {raw[:4].hex(' ')}, an idx file of this kind with {head.hex(' ')}")
    start = 4 + 4 * dimensions
    if len(raw) < start:
        raise InputError(f"{path}: ends inside its header, after {len(raw)} bytes")
    shape = tuple(int(n) for n in np.frombuffer(raw[4:start], dtype=">u4"))
    expected = start + int(np.prod(shape))
    if len(raw) != expected:
        raise InputError(f"{path}: {len(raw)} bytes, expected {expected} for shape {shape}")
    return np.frombuffer(raw, dtype=np.uint8, offset=start).reshape(shape)
