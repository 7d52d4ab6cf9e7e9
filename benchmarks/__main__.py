"""`make bench [ONLY=name]` and `make study [ONLY=name]`.

A benchmark is a file here with a function `run() -> list[dict]`; each dict becomes one JSON line on stdout with the keys
name, ours, reference, ratio (larger is better), bar (met when ratio >= bar) and unit. It raises `Unavailable` with the
reason where it cannot run on this machine. A study is `study_NAME.py` with `run() -> dict`, written to docs/results/.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import traceback
from pathlib import Path

HERE = Path(__file__).parent
NO_BENCHMARKS = {
    "__init__",
    "__main__",
    "demo",
    "mnist",
    "simulated",
    "jets",
    "spaces",
    "image_baselines",
    "whole_events",
    "reference_jets",
}
KEYS = ("name", "ours", "reference", "ratio", "bar", "unit")


class Unavailable(Exception):
    """A benchmark that cannot run here; the message says why."""


def found(*, studies: bool, only: str) -> list[str]:
    """Return the names of the benchmarks or studies whose name holds `only`."""
    names = sorted(p.stem for p in HERE.glob("*.py") if p.stem not in NO_BENCHMARKS)
    return [n for n in names if n.startswith("study_") is studies and only in n]


def results_page() -> str:
    """Return docs/results.md: every study's numbers as they stand in docs/results/*.json, lists of rows as tables."""
    lines = [
        "# Results",
        "",
        "Made by `make study` from `docs/results/*.json`; each with the command that makes it again.",
        "",
    ]
    for path in sorted((HERE.parent / "docs" / "results").glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        module = HERE / f"study_{path.stem}.py"
        title = (
            module.read_text(encoding="utf-8").split('"""')[1].strip().splitlines()[0]
            if module.is_file()
            else path.stem
        )
        lines += [f"## {path.stem}", "", title, ""]
        for key, value in result.items():
            if isinstance(value, list) and value and isinstance(value[0], dict):
                columns = list(value[0])
                lines += [
                    "",
                    f"{key}:",
                    "",
                    "| " + " | ".join(columns) + " |",
                    "| " + " | ".join("---" for _ in columns) + " |",
                ]
                lines += ["| " + " | ".join(shown(row[c]) for c in columns) + " |" for row in value]
                lines.append("")
            else:
                lines.append(f"- {key}: {shown(value)}")
        lines.append("")
    return "\n".join(lines)


def shown(value: object) -> str:
    """Write a value of a result as a person would."""
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, dict):
        return ", ".join(f"{k} {shown(v)}" for k, v in value.items())
    if str(value).endswith(".png"):
        return f"![{value}](results/{value})"
    if isinstance(value, list):
        return ", ".join(shown(v) for v in value)
    return f"`{value}`" if str(value).startswith("make ") else str(value)


def main(arguments: list[str]) -> int:
    """Run what matches; return 1 when something failed, 2 when nothing matched."""
    studies = "--study" in arguments
    only = next((a for a in arguments if not a.startswith("-")), "")
    names = found(studies=studies, only=only)
    if not names:
        print(f"nothing matches {only!r}; there are: {', '.join(found(studies=studies, only=''))}", file=sys.stderr)
        return 2
    # libraries print to stdout (fastjet's banner, from C): only JSON lines go to the real one
    real = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    failed = []
    for name in names:
        print(f"-- {name}", file=sys.stderr)
        try:
            with contextlib.redirect_stdout(sys.stderr):
                result = importlib.import_module(f"benchmarks.{name}").run()
        except Exception as error:  # noqa: BLE001 - one failing benchmark does not stop the others; it is named and counted
            if type(error).__name__ == "Unavailable":
                print(f"{name}: cannot run here: {error}", file=sys.stderr)
                continue
            traceback.print_exc()
            failed.append(name)
            continue
        if studies:
            target = HERE.parent / "docs" / "results" / f"{name.removeprefix('study_')}.json"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
            print(f"{name}: {target}", file=real, flush=True)
        else:
            for line in result:
                print(json.dumps({key: line[key] for key in KEYS}), file=real, flush=True)
    if studies:
        (HERE.parent / "docs" / "results.md").write_text(results_page(), encoding="utf-8")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
