"""An ONNX graph that is built node by node from fitted numbers, in one precision."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["OPSET", "PRECISIONS", "Graph"]

Array = npt.NDArray[Any]

PRECISIONS: dict[str, type[np.floating[Any]]] = {"double": np.float64, "float": np.float32}
"""Name -> type of the input, of all arithmetic, and of the scores."""
OPSET = 17
LARGEST = {"double": 1e300, "float": 3e38}  # of the mapped values, before they are compressed


class Graph:
    """Nodes and constants of one ONNX graph in one precision; every method returns the name of what it made."""

    def __init__(self, precision: str) -> None:
        import onnx

        self.helper, self.numpy_helper = onnx.helper, onnx.numpy_helper
        self.dtype = PRECISIONS[precision]
        self.element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        self.int32 = onnx.TensorProto.INT32
        self.largest = LARGEST[precision]
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def op(self, kind: str, *inputs: str, called: str = "", **attributes: Any) -> str:
        """Add one node with one output, `called` so or numbered."""
        name = called or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(kind, list(inputs), [name], name=f"node_{name}", **attributes))
        return name

    def constant(self, values: npt.ArrayLike | torch.Tensor, *, dtype: Any = None) -> str:
        """Add a constant in the graph's precision, or of `dtype` (axes, indices)."""
        array = np.asarray(values.numpy() if isinstance(values, torch.Tensor) else values)
        if dtype is None and self.dtype is np.float32:
            array = np.where(np.isfinite(array), np.clip(array, -self.largest, self.largest), array)
        name = f"constant_{len(self.constants)}"
        self.constants.append(self.numpy_helper.from_array(np.array(array, dtype or self.dtype, order="C"), name))
        return name

    def leading_to(self, outputs: Iterable[str]) -> tuple[list[Any], list[Any]]:
        """Return the nodes and the constants that outputs depend on, in their order: what else was made on the way is left out."""
        needed, nodes = set(outputs), []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                needed.update(node.input)
                nodes.append(node)
        return nodes[::-1], [constant for constant in self.constants if constant.name in needed]

    def add(self, a: str, b: str | float | Array | torch.Tensor, *, called: str = "") -> str:
        """Return a + b."""
        return self.op("Add", a, b if isinstance(b, str) else self.constant(b), called=called)

    def subtract(self, a: str, b: str | float | Array | torch.Tensor, *, called: str = "") -> str:
        """Return a − b."""
        return self.op("Sub", a, b if isinstance(b, str) else self.constant(b), called=called)

    def multiply(self, a: str, b: str | float | Array | torch.Tensor, *, called: str = "") -> str:
        """Return a · b."""
        return self.op("Mul", a, b if isinstance(b, str) else self.constant(b), called=called)

    def square(self, a: str) -> str:
        """Return a²."""
        return self.op("Mul", a, a)

    def bounded(self, a: str) -> str:
        """Return a / sqrt(1 + a²)."""
        return self.op("Div", a, self.op("Sqrt", self.add(self.square(a), 1.0)))

    def clip(self, a: str, bound: float) -> str:
        """Return a within ±bound."""
        return self.op("Clip", a, self.constant(-bound), self.constant(bound))

    def cast(self, a: str, element: int) -> str:
        """Return a as another type of element."""
        return self.op("Cast", a, to=element)

    def total(self, a: str, axis: int, *, keep: bool = False) -> str:
        """Return the sum over one axis, which goes, or stays with length 1."""
        return self.op("ReduceSum", a, self.constant([axis], dtype=np.int64), keepdims=int(keep))

    def halves(self, x: str, width: int) -> tuple[str, str]:
        """Return the first and the last `width` of the features of x (m, features, n)."""
        first, second = f"first_{len(self.nodes)}", f"second_{len(self.nodes)}"
        sizes = self.constant([width, width], dtype=np.int64)
        node = self.helper.make_node("Split", [x, sizes], [first, second], name=f"node_{first}", axis=1)
        self.nodes.append(node)
        return first, second

    def reshape(self, x: str, *sizes: int) -> str:
        """Return x with other sizes; 0 keeps the size at its place, -1 is what is left."""
        return self.op("Reshape", x, self.constant(sizes, dtype=np.int64))

    def axis(self, losses: str, index: int) -> str:
        """Return one member's row (n,) of the losses (m, n)."""
        return self.op("Gather", losses, self.constant(index, dtype=np.int64), axis=0)
