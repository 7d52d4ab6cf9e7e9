"""What a training starts from: which scorer of a folder it is, what it had trained on, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from hunch.models import EventToEnsemble, Sample, ScorerError, ScorerFolderError, ScorerSpace
from hunch.models.pretrained import check_pretrained, content_of, origin_of, pretrained_scorer


@dataclass(kw_only=True, eq=False, repr=False)
class Tuned(EventToEnsemble):
    """A method with the option."""

    pretrained: str = ""


def images(seed: int) -> np.ndarray:
    made = np.random.default_rng(seed).exponential(size=(60, 4, 4))
    return made / made.sum(axis=(1, 2), keepdims=True)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("hunch.models.scorer.method_class", lambda name: Tuned)
    monkeypatch.setattr("hunch.models.scorer.scorer_class", stored_as(Tuned))
    alone = Tuned(distance="mae", k=2).fit(images(0))
    alone.save(tmp_path / "alone")
    space = ScorerSpace(Tuned(distance="mae", k=1), {"near": Tuned(distance="mae", k=2)})
    samples = {name: Sample(images(i), event=np.arange(60) + 100 * i) for i, name in enumerate(("own", "near"))}
    monkeypatch.setattr("hunch.models.scorer_space.scorer_class", stored_as(Tuned))
    space.fit(samples["own"], priors={"near": samples["near"]}).save(tmp_path / "space")
    return tmp_path


def stored_as(kind: type) -> object:
    from hunch.models.scorer import scorer_class

    return lambda name, *, where="": kind if name == kind.__name__ else scorer_class(name, where=where)


def test_a_scorer_is_taken_from_its_folder_or_from_the_background_axis_of_a_space(folders: Path) -> None:
    assert pretrained_scorer(Tuned(), agree=("k",)) is None
    alone = pretrained_scorer(Tuned(k=2, pretrained=str(folders / "alone")), agree=("k",))
    assert alone is not None
    assert alone.training_
    axis = pretrained_scorer(Tuned(k=1, pretrained=str(folders / "space")), agree=("k",))
    assert axis is not None
    assert axis.k == 1
    assert len(origin_of(folders / "alone").trained_on) == 0
    assert origin_of(folders / "space").trained_on.tolist() == [*range(60), *range(100, 160)]


def test_the_content_of_a_folder_is_told_whatever_its_place(folders: Path) -> None:
    before = content_of(folders / "alone")
    (folders / "alone").rename(folders / "elsewhere")
    assert content_of(folders / "elsewhere") == before != content_of(folders / "space")


def test_what_cannot_be_started_from_is_said(folders: Path) -> None:
    with pytest.raises(ScorerFolderError, match="nowhere: no such folder"):
        pretrained_scorer(Tuned(pretrained=str(folders / "nowhere")), agree=())
    with pytest.raises(
        ScorerError, match=r"pretrained: .*alone: option k is 5, allowed: 2, as the scorer there has it"
    ):
        pretrained_scorer(Tuned(k=5, pretrained=str(folders / "alone")), agree=("k",))
    Other = dataclass(kw_only=True, eq=False, repr=False)(type("Other", (Tuned,), {}))
    with pytest.raises(ScorerError, match="holds a Tuned; allowed: Other, or a space whose background axis is one"):
        pretrained_scorer(Other(pretrained=str(folders / "alone")), agree=())
    with pytest.raises(ScorerError, match="pretrained is 3, allowed: the path of a folder as text"):
        check_pretrained(3)
