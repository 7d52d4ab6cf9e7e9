"""The Sinkhorn loss between images: exact limits, a linear programme's distances, and its gradient."""

from __future__ import annotations

import numpy as np
import ot
import pytest
import torch

from hunch.models.distance import grid_transport
from hunch.models.distance.grid_transport import GridTransport
from hunch.models.distance.transport import TransportOptionError

SIDE = 16
POINTS = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij"), axis=-1).reshape(-1, 2).astype(float)


def sparse(n: int, seed: int) -> np.ndarray:
    """Images of some ten pixels, as jets have them, each of another number."""
    rng = np.random.default_rng(seed)
    found = np.zeros((n, SIDE**2))
    for i in range(n):
        chosen = rng.choice(SIDE**2, 6 + i, replace=False)
        found[i, chosen] = rng.exponential(size=6 + i)
    return found / found.sum(axis=1, keepdims=True)


def dense(n: int, seed: int) -> np.ndarray:
    """Images above zero everywhere, as a softmax gives them."""
    blurred = 0.95 * sparse(n, seed) + 0.05 / SIDE**2
    return blurred / blurred.sum(axis=1, keepdims=True)


def exact(a: np.ndarray, b: np.ndarray, p: float) -> np.ndarray:
    cost = np.linalg.norm(POINTS[:, None] - POINTS[None], axis=-1) ** p
    return np.array([ot.emd2(x, y, cost, numItermax=10**6) for x, y in zip(a, b, strict=True)]) ** (1 / p)


@pytest.mark.parametrize(("p", "tolerance"), [(1.0, 0.06), (2.0, 0.01), (3.0, 0.01), (5.0, 0.01), (7.0, 0.02)])
def test_the_loss_is_the_distance_of_a_linear_programme(p: float, tolerance: float) -> None:
    a, b = sparse(8, 1), dense(8, 2)
    found = GridTransport(SIDE, SIDE, p=p)(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    np.testing.assert_allclose(found, exact(a, b, p), rtol=tolerance)
    single = GridTransport(SIDE, SIDE, p=p)(torch.from_numpy(a).float(), torch.from_numpy(b).float())
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), found, rtol=1e-3)


def test_the_unit_is_that_of_the_pixel() -> None:
    a, b = torch.from_numpy(sparse(3, 1)), torch.from_numpy(dense(3, 2))
    for p in (1.0, 2.0):
        in_pixels = GridTransport(SIDE, SIDE, p=p)(a, b)
        torch.testing.assert_close(GridTransport(SIDE, SIDE, p=p, pixel=0.05)(a, b), 0.05 * in_pixels)


def test_a_shifted_point_is_as_far_as_it_was_shifted() -> None:
    a, b = np.zeros((1, SIDE**2)), np.full((1, SIDE**2), 1e-9)
    a[0, 3 * SIDE + 4] = 1.0
    b[0, 6 * SIDE + 8] = 1.0
    for p in (1.0, 2.0):
        found = GridTransport(SIDE, SIDE, p=p)(torch.from_numpy(a), torch.from_numpy(b / b.sum()))
        assert found.item() == pytest.approx(5.0, rel=1e-3)


def test_images_are_what_they_are_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are done by groups of like numbers of pixels, whatever order they come in."""
    monkeypatch.setattr(grid_transport, "GROUP", 3)
    order = np.random.default_rng(5).permutation(10)
    a, b = torch.from_numpy(sparse(10, 1)[order]), torch.from_numpy(dense(10, 2)[order])
    grid = GridTransport(SIDE, SIDE)
    value, gradient = grid.divergence(a, b)
    for i in range(len(a)):
        alone = grid.divergence(a[i : i + 1], b[i : i + 1])
        torch.testing.assert_close(value[i : i + 1], alone[0])
        torch.testing.assert_close(gradient[i : i + 1], alone[1])
    assert [len(x) for x in grid.divergence(a[:0], b[:0])] == [0, 0]


def test_equal_images_are_at_no_distance() -> None:
    a = torch.from_numpy(dense(4, 3))
    assert GridTransport(SIDE, SIDE)(a, a).max().item() < 1e-3


def test_peer_at_the_same_temperature() -> None:
    """POT's Sinkhorn in the log domain, debiased by hand, at the same regularisation."""
    a, b = sparse(1, 1)[0], dense(1, 2)[0]
    cost = np.linalg.norm(POINTS[:, None] - POINTS[None], axis=-1)

    def regularised(x: np.ndarray, y: np.ndarray) -> float:
        keep_x, keep_y = x > 0, y > 0
        c = cost[keep_x][:, keep_y]
        plan = ot.sinkhorn(
            x[keep_x], y[keep_y], c, 1.0, method="sinkhorn_log", numItermax=20_000, stopThr=1e-9, warn=False
        )
        product = np.outer(x[keep_x], y[keep_y])
        return float((plan * c).sum() + (plan * np.log(plan / product)).sum())

    peer = regularised(a, b) - 0.5 * regularised(a, a) - 0.5 * regularised(b, b)
    # POT's last step leaves the sums of one side a little off
    ours = GridTransport(SIDE, SIDE, blur=1.0)(torch.from_numpy(a)[None], torch.from_numpy(b)[None])
    assert ours.item() == pytest.approx(peer, rel=1e-3)


def test_gradient_has_the_direction_after_the_usual_iterations(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = torch.from_numpy(sparse(4, 1)), torch.from_numpy(dense(4, 2))
    found = []
    for steps in (grid_transport.STEPS, 100):
        monkeypatch.setattr(grid_transport, "STEPS", steps)
        logits = b.log().requires_grad_()
        GridTransport(SIDE, SIDE)(a, torch.softmax(logits, dim=1)).sum().backward()
        assert logits.grad is not None
        found.append(logits.grad)
    assert torch.cosine_similarity(*found, dim=1).min().item() > 0.97


@pytest.mark.parametrize("p", [1.0, 2.0])
def test_gradient_is_that_of_finite_differences(p: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the iterations have converged: the envelope theorem holds there."""
    monkeypatch.setattr(grid_transport, "STEPS", 100)
    monkeypatch.setattr(grid_transport, "SELF_STEPS", 40)
    a, b = torch.from_numpy(sparse(2, 1)), torch.from_numpy(dense(2, 2))
    grid = GridTransport(SIDE, SIDE, p=p, blur=0.5 if p == 1 else 2.0)
    logits = b.log().requires_grad_()
    grid(a, torch.softmax(logits, dim=1)).sum().backward()
    assert logits.grad is not None
    step = 1e-3
    for pixel in (0, 77, 200):
        moved = torch.zeros_like(b)
        moved[:, pixel] = step
        up, down = (grid(a, torch.softmax(b.log() + sign * moved, dim=1)) for sign in (1, -1))
        numeric = ((up - down) / (2 * step)).detach()
        torch.testing.assert_close(logits.grad[:, pixel], numeric, rtol=2e-3, atol=1e-7)


def test_options_that_mean_nothing_are_named() -> None:
    with pytest.raises(TransportOptionError, match=r"p is 0\.5"):
        GridTransport(4, 4, p=0.5)
    with pytest.raises(TransportOptionError, match=r"p is 8 and blur 0\.1.*0\.15 pixels or more"):
        GridTransport(4, 4, p=8)
    assert GridTransport(4, 4, p=8, blur=0.2).double_inside
    with pytest.raises(TransportOptionError, match="blur is 0"):
        GridTransport(4, 4, blur=0)
    with pytest.raises(TransportOptionError, match="pixel is -1"):
        GridTransport(4, 4, pixel=-1)
