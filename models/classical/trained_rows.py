"""What the networks of this room share: training on scaled rows in epochs, and scores in double precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch

from ..density.column_map import map_columns
from ..inputs import as_matrix
from ..sample import Events, as_sample, named_inputs, refuse_unused, split_rows
from ..scorer import require_fitted
from ..train.loop import TrainingSettings, resolve_device, train_stack
from ..train.objective import Objective
from ..train.threads import few_threads
from .row_scorer import MIN_ROWS, Matrix, RowScorer

__all__ = ["TrainedRows"]

SCORE_THREADS = 4
NETWORK = "network."


@dataclass(kw_only=True, eq=False, repr=False)
class TrainedRows(RowScorer):
    """Base of those that are trained in epochs; network_: the network of one model, in float64 on the CPU."""

    hidden: int = 64
    max_epochs: int = 60
    patience: int = 10
    batch_size: int = 512
    learning_rate: float = 3e-3
    network_: Any = field(default=None, init=False)

    whole_numbers: ClassVar = {"hidden": (1, 65_536)}

    def check(self, shape: Sequence[int] = ()) -> None:
        """Raise ScorerError for options that mean nothing."""
        super().check(shape)
        self.settings()

    def settings(self) -> TrainingSettings:
        """Return how long and how fast to train."""
        return TrainingSettings(
            max_epochs=self.max_epochs,
            patience=self.patience,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
        )

    def build(self, n_columns: int) -> torch.nn.Module:
        """Return the untrained network of rows of so many columns."""
        raise NotImplementedError

    def objective(self, network: Any, rows: torch.Tensor) -> Objective:
        """Return what is minimised; rows: scaled rows (n, d) of the training, which may set what the network is trained to."""
        raise NotImplementedError

    def finish(self, mapped: Matrix) -> dict[str, Any]:
        """Return what else the record says of a trained network, given the scaled rows (n, d) of its training; nothing."""
        del mapped
        return {}

    def fit(
        self,
        x: Events,
        *,
        validation: Events | None = None,
        checkpoint: str | Path | None = None,
        progress: bool = False,
    ) -> Self:
        """Train on rows x (n, d), n at least 100, and return self.

        x: rows, whose names are stored where they have some; validation: rows for early stopping, matched by name, else 15 % of x by seed;
        checkpoint: a file to resume a killed training from; progress: a bar on stderr, or a log line in 30 s. Raises the errors of
        `as_matrix`, ScorerError for options that mean nothing and for weights, TooFewRowsError, DeviceError.
        """
        refuse_unused(x, self.uses, type(self).__name__)
        self.check()
        sample = as_sample(x)
        names = sample.names
        rows = as_matrix(sample.inputs, name="x", min_rows=MIN_ROWS, columns=names or None)
        if validation is None:
            train, held = split_rows(rows, np.random.default_rng(self.seed))
        else:
            own = named_inputs(validation, names, made=sample.made, where="validation")
            train = rows
            held = as_matrix(own, name="validation", n_columns=rows.shape[1], min_rows=1, columns=names or None)
        device, columns = resolve_device(self.device), self.scaled_to(train)
        mapped = map_columns(columns, train)[0]
        pair = [torch.from_numpy(part).float() for part in (mapped, map_columns(columns, held)[0])]
        network = self.build(rows.shape[1])
        self.fitted_ = {}
        objective = self.objective(network, pair[0])
        record = train_stack(
            objective,
            pair[:1],
            pair[1:],
            settings=self.settings(),
            seed=self.seed,
            device=device,
            identity={name: value for name, value in self.parameters().items() if name != "device"},
            checkpoint=checkpoint,
            progress=progress,
        )
        # scores are float64 on the CPU wherever the training ran
        self.network_ = network.to("cpu").double().requires_grad_(requires_grad=False)
        self.training_ = {**record, **self.finish(mapped)}
        self.columns_ = columns
        self.input_names, self.made_ = names, dict(sample.made)
        return self

    @torch.no_grad()
    def scores(self, mapped: Matrix, metric: str) -> Matrix:
        """Return one metric (n,) of scaled rows (n, d)."""
        require_fitted(self.network_, self)
        with few_threads(SCORE_THREADS):
            return np.asarray(self.terms(torch.from_numpy(mapped)[None], metric)[0].numpy())

    def terms(self, rows: torch.Tensor, metric: str) -> torch.Tensor:
        """Return one metric (1, n) of scaled rows (1, n, d)."""
        raise NotImplementedError

    def network_tensors(self) -> dict[str, torch.Tensor]:
        """Return the parameters of the network as named tensors."""
        return {f"{NETWORK}{name}": value for name, value in self.network_.state_dict().items()}

    def take_network(self, n_columns: int, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take the network from the tensors that were stored, once their sizes are those of the options."""
        parameters = {name.removeprefix(NETWORK): t for name, t in tensors.items() if name.startswith(NETWORK)}
        self.require_size(n_columns, parameters)
        network = self.build(n_columns).double().requires_grad_(requires_grad=False)
        network.load_state_dict(parameters)
        self.network_ = network

    def require_size(self, n_columns: int, parameters: Mapping[str, torch.Tensor]) -> None:
        """Raise ScorerError where stored parameters (name -> array) are not those of the options and rows of so many columns."""
        raise NotImplementedError
