"""Spectra of supersymmetric particles for Pythia, in the SUSY Les Houches format (arXiv:hep-ph/0311123): masses, decays, and states that do not mix."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Decay", "spectrum", "spectrum_settings"]

GLUINO, NEUTRALINO, NEUTRALINO2, CHARGINO = 1000021, 1000022, 1000023, 1000024
LIGHT_SQUARKS = tuple(chirality + flavour for chirality in (1_000_000, 2_000_000) for flavour in (1, 2, 3, 4))
STOP = 1000006
PARTNERS = (
    *LIGHT_SQUARKS,
    *(chirality + flavour for chirality in (1_000_000, 2_000_000) for flavour in (5, 6, 11, 13, 15)),
    *(1_000_000 + neutrino for neutrino in (12, 14, 16)),
    GLUINO,
    NEUTRALINO,
    NEUTRALINO2,
    CHARGINO,
    1000025,
    1000035,
    1000037,
)
"""Superpartners, by PDG number."""
DECOUPLED = 10_000.0
"""GeV; the mass of every superpartner that a signal does not have."""
HIGGS_MASSES = {25: 125.0, 35: DECOUPLED, 36: DECOUPLED, 37: DECOUPLED}
MIXING = {"NMIX": 4, "UMIX": 2, "VMIX": 2, "STOPMIX": 2, "SBOTMIX": 2, "STAUMIX": 2}
"""Mixing matrices and their sizes; they are one, so that the lightest neutralino is the bino, the next one and the lighter chargino are winos."""
RELATIVE_WIDTH = 1e-3
Decay = tuple[float, tuple[int, ...]]
"""Branching ratio, and PDG numbers of the products."""


def spectrum(masses: Mapping[int, float], decays: Mapping[int, tuple[Decay, ...]]) -> str:
    """Return a spectrum as text; masses: PDG number -> GeV, other superpartners have 10 TeV; decays: PDG number -> the channels.

    What decays has a width of 0.1 % of its mass; the lightest neutralino is stable.
    """
    lines = ["BLOCK MODSEL", " 1 0", "BLOCK MASS"]
    lines += [
        f" {number} {mass:.6e}"
        for number, mass in (HIGGS_MASSES | dict.fromkeys(PARTNERS, DECOUPLED) | dict(masses)).items()
    ]
    for name, size in MIXING.items():
        lines.append(f"BLOCK {name}")
        lines += [f" {i} {j} {float(i == j):.1f}" for i in range(1, size + 1) for j in range(1, size + 1)]
    lines += ["BLOCK ALPHA", " 0.0", "BLOCK HMIX", " 1 1000.0", " 2 10.0"]
    lines.append(f"DECAY {NEUTRALINO} 0.0")
    for number, channels in decays.items():
        lines.append(f"DECAY {number} {RELATIVE_WIDTH * masses[number]:.6e}")
        lines += [
            f" {ratio:.6e} {len(products)} {' '.join(str(product) for product in products)}"
            for ratio, products in channels
        ]
    return "\n".join(lines) + "\n"


@contextmanager
def spectrum_settings(text: str) -> Iterator[tuple[str, ...]]:
    """Give the lines for Pythia that read a spectrum, from a temporary file that is there until the block ends; none for an empty text."""
    if not text:
        yield ()
        return
    with tempfile.TemporaryDirectory(prefix="hunch-") as folder:
        path = Path(folder) / "spectrum.slha"
        path.write_text(text, encoding="ascii")
        yield ("SLHA:verbose = 0", f"SLHA:file = {path}")
