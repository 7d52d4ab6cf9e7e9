"""What may be done to a finished jet image: a Gaussian filter, then a power of every pixel (arXiv:2206.14225).

The filter blurs pixels of a sparse image into their neighbours, so that images which differ by one pixel's shift are near each other;
powers below one make faint pixels count, above one the bright ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError

__all__ = ["ImageSettingsError", "checked_filter", "filtered", "filtered_images"]

Float = npt.NDArray[np.float64]

SMEAR = (0.0, 100.0)
"""Pixels."""
POWER = (1e-3, 10.0)
"""A power of a pixel of a normalised image stays far from underflow, and no pixel above 0 becomes 0."""
BLOCK = 256
"""Images done at a time: in double precision they stay in the processor's cache."""


class ImageSettingsError(InputError):
    """Settings that no image can be made with."""


def filtered_images(images: npt.ArrayLike, *, smear: float = 0.0, power: float = 1.0) -> npt.NDArray[Any]:
    """Return images (n, a, b) after a Gaussian filter of standard deviation `smear` (pixels), then x → x^power / Σ x^power.

    The filter is cut at four standard deviations and mirrors at the border, so that the sum of an image stays. An image that is black
    stays black; of any other the power makes one that sums to one. smear 0 and power 1 do nothing. A floating type is kept, others
    become double precision. Raises ImageSettingsError for a smear or power out of range, InputError for another shape and for pixels
    that are negative or not finite.
    """
    smear, power = checked_filter(smear, power)
    values = np.asarray(images)
    if values.ndim != 3 or 0 in values.shape[1:] or values.dtype.kind not in "fiub":
        raise InputError(
            f"images: {values.dtype} of shape {values.shape}; numbers of shape (n, rows, columns) are expected"
        )
    found = np.empty(values.shape, dtype=values.dtype if values.dtype.kind == "f" else np.float64)
    for first in range(0, len(values), BLOCK):
        block = values[first : first + BLOCK].astype(np.float64)
        good = (np.isfinite(block) & (block >= 0)).all(axis=(1, 2))
        if not good.all():
            raise InputError(f"images: image {first + int(np.argmin(good))} has a pixel that is negative or not finite")
        found[first : first + BLOCK] = filtered(block, smear=smear, power=power)
    return found


def filtered(pixels: Float, *, smear: float, power: float) -> Float:
    """Return what `filtered_images` does, of pixels (n, a, b) and options that were checked."""
    if smear > 0:
        from scipy.ndimage import gaussian_filter

        pixels = gaussian_filter(pixels, smear, axes=(1, 2), mode="reflect", truncate=4.0)
    if power != 1:
        brightest = pixels.max(axis=(1, 2), keepdims=True)
        pixels = np.divide(pixels, brightest, out=np.zeros_like(pixels), where=brightest > 0) ** power
        total = pixels.sum(axis=(1, 2), keepdims=True)
        pixels = np.divide(pixels, total, out=np.zeros_like(pixels), where=total > 0)
    return pixels


def checked_filter(smear: Any, power: Any) -> tuple[float, float]:
    """Return both options as they are; raises ImageSettingsError for what is no number or out of range."""
    for name, value, (low, high), unit in (("smear", smear, SMEAR, " of pixels"), ("power", power, POWER, "")):
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ImageSettingsError(f"{name}: {value!r} is not a number{unit} from {low:g} to {high:g}")
    return smear, power
