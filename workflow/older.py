"""The report of before, marked while something that it tells of is made anew: a run that is interrupted leaves no old answer as if new."""

from __future__ import annotations

from pathlib import Path

from ..files import write_aside

__all__ = ["mark_older", "unmark"]

MARK = (
    '<p id="older" style="border: 2px solid #b00; padding: 0.5em; font-weight: bold">This report is older than its folder: a run '
    "began after it was written, and either is not over or was interrupted. Run hunch again.</p>"
)
BODY = "<body>"


def mark_older(output: Path) -> None:
    """Say at the top of report.html, where there is one, that it is older than what lies beside it."""
    path = output / "report.html"
    if path.is_symlink() or not path.is_file():
        return
    page = path.read_text(encoding="utf-8", errors="surrogateescape")
    if MARK in page:
        return
    with write_aside(path) as aside:
        aside.write_text(
            page.replace(BODY, BODY + MARK, 1) if BODY in page else MARK + page, "utf-8", "surrogateescape"
        )


def unmark(output: Path) -> None:
    """Take the mark away: what was begun has changed nothing."""
    path = output / "report.html"
    if path.is_symlink() or not path.is_file():
        return
    page = path.read_text(encoding="utf-8", errors="surrogateescape")
    if MARK in page:
        with write_aside(path) as aside:
            aside.write_text(page.replace(MARK, "", 1), "utf-8", "surrogateescape")
