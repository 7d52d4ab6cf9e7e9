"""`make demo`: simulate what a search needs, run the job, print the answer.

EVENTS is the number of QCD events, background and data together. Half of them are data, with a signal injected that is
not the prior: Z'(3500 GeV) -> X(500) Y(100), 1.2 % of the data. The prior's masses are other ones.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HUNCH = [str(Path(sys.executable).with_name("hunch"))]
FOLDER = Path("demo")
SIGNAL_SHARE = 0.012
CONFIGURATION = """\
samples:
  data: [qcd_data.root, signal.root]
  background: [qcd.root]
  priors:
    two_prong: [prior.root]
output: out
"""


def hunch(*arguments: str) -> None:
    """Run one command of the command line, shown as the user would type it."""
    print(f"$ hunch {' '.join(arguments)}", flush=True)
    subprocess.run([*HUNCH, *arguments], check=True, cwd=FOLDER)


def main() -> None:
    """Simulate, write the analysis file, run it."""
    events = int(os.environ.get("EVENTS", "20000"))
    if events < 2000:
        sys.exit(f"EVENTS={events}: at least 2000 QCD events are needed for a background fit")
    FOLDER.mkdir(exist_ok=True)
    data = events // 2
    wanted = {
        "qcd_data.root": ("qcd", data, "--seed", "1"),
        "qcd.root": ("qcd", events - data, "--seed", "2"),
        "signal.root": ("zprime_xy", max(20, round(SIGNAL_SHARE * data)), "--seed", "3"),
        "prior.root": (
            "zprime_xy",
            min(3000, max(500, events // 5)),
            "--seed",
            "4",
            "--set",
            "m_zprime=4500",
            "--set",
            "m_x=500",
            "--set",
            "m_y=150",
        ),
    }
    for name, (process, n, *options) in wanted.items():
        made = FOLDER / f".{name}.made"
        settings = f"{process} {n} {' '.join(options)}"
        if made.is_file() and made.read_text() == settings and (FOLDER / name).is_file():
            print(f"{FOLDER / name}: already there")
            continue
        hunch("simulate", process, "-n", str(n), "-o", name, *options)
        made.write_text(settings)
    (FOLDER / "analysis.yaml").write_text(CONFIGURATION)
    hunch("run", "analysis.yaml")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
    except KeyboardInterrupt:
        sys.exit(130)
