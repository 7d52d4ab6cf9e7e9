"""The campaign of faults, small: three kills, each rerun as if nothing had happened."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CAMPAIGN = Path(__file__).with_name("faults.py")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_reruns_after_kills_end_in_the_same_result() -> None:
    done = subprocess.run(
        [sys.executable, str(CAMPAIGN), "3", "--seed", "2", "--kills-only"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 of 3 faults leave nothing wrong" in done.stdout
