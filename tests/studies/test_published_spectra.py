"""The study of published spectra, with few pseudo-experiments."""

from __future__ import annotations

import pytest


@pytest.mark.slow
def test_the_study_has_a_row_for_every_published_spectrum(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import study_published_spectra as study

    monkeypatch.setattr(study, "EXPERIMENTS", 40)
    # checks beside the answer, which the study does not state
    monkeypatch.setattr("hunch.analysis.spectrum_hunt.q0_row", lambda found, _: (None,) * len(found.masses))
    monkeypatch.setattr("hunch.analysis.spectrum_hunt.local_p_uniformity", lambda *_, **__: ())
    found = study.run()
    names = [path.stem for path in sorted(study.FOLDER.glob("*.json"))]
    assert [row["spectrum"] for row in found["rows"]] == [row["spectrum"] for row in found["sources"]] == names
    assert len(names) >= 5
    assert {row["refused"] for row in found["rows"]} == {"no"}
    assert min(row["p_global"] for row in found["rows"]) > 0.01
