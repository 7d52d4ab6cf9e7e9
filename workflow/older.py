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
    page = page_of(output)
    if page and MARK not in page:
        rewrite(output, page.replace(BODY, BODY + MARK, 1) if BODY in page else MARK + page)


def unmark(output: Path) -> None:
    """Take the mark away: what was begun has changed nothing."""
    page = page_of(output)
    if MARK in page:
        rewrite(output, page.replace(MARK, "", 1))


def page_of(output: Path) -> str:
    """Return the report of an output folder, "" where there is none, or a link in its place."""
    path = output / "report.html"
    if path.is_symlink() or not path.is_file():
        return ""
    return path.read_text(encoding="utf-8", errors="surrogateescape")


def rewrite(output: Path, page: str) -> None:
    """Write the report of an output folder anew."""
    with write_aside(output / "report.html") as aside:
        aside.write_text(page, "utf-8", "surrogateescape")
