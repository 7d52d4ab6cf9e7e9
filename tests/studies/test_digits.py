"""The digits study at small size: dilution as stated, no test image in training, a reader of MNIST's files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import study_digits
from benchmarks.mnist import read_mnist
from hunch.errors import InputError


def by_digit() -> dict[int, np.ndarray]:
    pixels, digits, name = study_digits.images()
    assert "scikit-learn" in name
    return {digit: pixels[digits == digit] for digit in (5, 9, 7, 0)}


@pytest.fixture(autouse=True)
def scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HUNCH_MNIST", raising=False)


def test_small_study(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_digits, "SPLITS", 2)
    monkeypatch.setattr(study_digits, "EPOCHS", 1)
    monkeypatch.setattr(study_digits, "FEW", 0)
    monkeypatch.setattr(study_digits, "PARTS", (1.0,))
    result = json.loads(json.dumps(study_digits.run()))
    auc = {row["method"]: row["auc"] for row in result["rows"]}
    assert auc["background loss"] > 0.8
    assert len(auc) == 7
    paired = {row["difference"]: row["auc"] for row in result["differences"]}
    expected = auc["losses, linear head"] - auc["latent, linear head"]
    assert paired["losses - latent, linear head"] == pytest.approx(expected, abs=2e-4)
    assert result["tested_anomaly"] == 180


@pytest.mark.parametrize("part", [1.0, 0.2, 0.05, 0.0])
def test_dilution_and_no_shared_image(part: float) -> None:
    images = by_digit()
    background, prior, tested, anomaly = study_digits.drawn(images, part, np.random.default_rng(3))
    seven = {row.tobytes() for row in images[7]}
    assert sum(row.tobytes() in seven for row in prior) == round(part * len(prior))
    assert len(background) + len(tested) == len(images[5])
    assert not {row.tobytes() for row in background} & {row.tobytes() for row in tested}
    assert not {row.tobytes() for row in np.concatenate([background, prior])} & {row.tobytes() for row in anomaly}


@pytest.mark.slow
def test_scores_of_background_do_not_depend_on_the_anomaly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_digits, "EPOCHS", 1)
    images = by_digit()
    scores, label = study_digits.scored(images, 0.5, 0)
    other, _ = study_digits.scored({**images, 9: 16 - images[0][:50]}, 0.5, 0)
    n = int((label == 0).sum())
    for method, score in scores.items():
        np.testing.assert_allclose(score[:n], other[method][:n], rtol=1e-6, err_msg=method)


def test_large_images_are_reduced(rng: np.random.Generator) -> None:
    x = rng.normal(size=(200, 784))
    (found,) = study_digits.reduced([x[:20]], x, 0)
    assert found.shape == (20, study_digits.COLUMNS)


# ------------------------------------------------------------------------------------------ MNIST


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes() + array.tobytes()


@pytest.fixture
def mnist(tmp_path: Path, rng: np.random.Generator) -> tuple[Path, np.ndarray, np.ndarray]:
    """Write 30 + 10 images of 4 x 3 pixels in MNIST's layout, one file of the four compressed."""
    pixels = rng.integers(256, size=(40, 4, 3), dtype=np.uint8)
    labels = (np.arange(40) % 10).astype(np.uint8)
    for name, rows in (("train", slice(0, 30)), ("t10k", slice(30, 40))):
        (tmp_path / f"{name}-images-idx3-ubyte").write_bytes(idx(pixels[rows]))
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(idx(labels[rows]))
    plain = tmp_path / "train-images-idx3-ubyte"
    plain.with_suffix(".gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    return tmp_path, pixels, labels


def test_mnist_is_read(
    mnist: tuple[Path, np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, pixels, labels = mnist
    for found, expected in zip(read_mnist(folder), (pixels, labels), strict=True):
        np.testing.assert_array_equal(found, expected)
    monkeypatch.setenv("HUNCH_MNIST", str(folder))
    flat, digits, name = study_digits.images()
    assert (flat.shape, name) == ((40, 12), "MNIST")
    np.testing.assert_allclose(flat.reshape(pixels.shape), pixels * (16 / pixels.max()))
    np.testing.assert_array_equal(digits, labels)
    other = tmp_path / "npz"
    other.mkdir()
    arrays = {"x_train": pixels[:30], "y_train": labels[:30], "x_test": pixels[30:], "y_test": labels[30:]}
    np.savez(other / "mnist.npz", **arrays)
    np.testing.assert_array_equal(read_mnist(other)[0], pixels)
    np.savez(other / "mnist.npz", **{k: v for k, v in arrays.items() if k != "y_test"})
    with pytest.raises(InputError, match="lacks y_test"):
        read_mnist(other)


def test_mnist_errors_name_what_is_missing(mnist: tuple[Path, np.ndarray, np.ndarray]) -> None:
    folder, _, _ = mnist
    path = folder / "t10k-labels-idx1-ubyte"
    whole = path.read_bytes()
    for content, message in (
        (whole[:-1], "17 bytes, expected 18"),
        (b"\x1f\x8b" + whole[2:], "starts with"),
        (whole[:6], "ends inside its header"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_mnist(folder)
    path.unlink()
    with pytest.raises(InputError, match=r"lacks t10k-labels-idx1-ubyte \("):
        read_mnist(folder)
    with pytest.raises(InputError, match="no such folder"):
        read_mnist(folder / "nowhere")
