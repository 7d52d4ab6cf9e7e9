"""What an ONNX file may hold before it is run: the operations that hunch writes, and weights in the file itself."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

from ...errors import shown
from ..inputs import ScorerError, required_package

__all__ = ["OPERATIONS", "SUM", "checked_onnx", "sum_of"]

SUM = "sha256"
"""The entry of the metadata that keeps the sum of all else."""
NAMES = """Abs Add Cast Clip Concat Div Exp Gather Greater Identity Log MatMul Max Min Mul Neg Pad Pow ReduceMax ReduceMin ReduceSum
    Relu Reshape Sigmoid Slice Softmax Split Sqrt Squeeze Sub Tanh Tile Transpose Unsqueeze"""
OPERATIONS = frozenset(NAMES.split())
"""Of the graphs that hunch exports: none loops, branches, reads a file or makes something out of a size alone."""
MAX_GROWTH = 4096
"""How many times larger a Tile, or by how many values at an edge a Pad, may make what it is given."""
MAX_VALUES = 1 << 22
"""Numbers that a step of a graph may make of one event; the largest of an image of 224 x 224 pixels in 64 channels are fewer."""


def sum_of(model: Any) -> str:
    """Return the hash of all that an ONNX model holds, but for the entry of its metadata that keeps it."""
    rest = type(model)()
    rest.CopyFrom(model)
    del rest.metadata_props[:]
    rest.metadata_props.extend(entry for entry in model.metadata_props if entry.key != SUM)
    return hashlib.sha256(rest.SerializeToString(deterministic=True)).hexdigest()


def checked_onnx(path: str | Path) -> tuple[bytes, int]:
    """Return the content of an ONNX file and the most numbers an event that a step of it makes; raises ScorerError where it is none,
    does not match the sum in its metadata, or holds what hunch does not write.

    Weights in other files are not looked for: the paths in an ONNX file are its maker's.
    """
    onnx: Any = required_package("onnx", "onnx", f"{path}: scoring with it")
    content = Path(path).read_bytes()
    model = onnx.ModelProto()
    broken: Any = required_package("google.protobuf.message", "protobuf", f"{path}: scoring with it").DecodeError
    try:
        model.ParseFromString(content)
    except broken as error:
        raise ScorerError(f"{path}: damaged, or no ONNX file: {error}") from error
    stated = [entry.value for entry in model.metadata_props if entry.key == SUM]
    if stated and stated != [sum_of(model)]:
        raise ScorerError(f"{path}: damaged, or changed by hand: it does not match its own sum")
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    if model.functions or model.graph.sparse_initializer or any(of.domain for of in model.opset_import):
        raise ScorerError(f"{path}: holds functions, sparse weights or operations of its own; hunch export writes none")
    for tensor in constants.values():
        if tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL:
            where = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
            raise ScorerError(
                f"{path}: its weights {shown(tensor.name)} are in another file, {shown(where)}, which is not read"
            )
        kinds = onnx.helper.get_all_tensor_dtypes()
        size = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize if tensor.data_type in kinds else 0
        if len(tensor.raw_data) != math.prod(tensor.dims) * size:
            declared = f"{list(tensor.dims)} of {size} bytes"
            raise ScorerError(
                f"{path}: damaged, its weights {shown(tensor.name)} hold {len(tensor.raw_data)} bytes, not {declared}"
            )
    for node in model.graph.node:
        if node.domain or node.op_type not in OPERATIONS:
            raise ScorerError(f"{path}: holds the operation {shown(node.op_type)}, which hunch export does not write")
        if any(attribute.g.node or attribute.graphs or attribute.HasField("t") for attribute in node.attribute):
            raise ScorerError(f"{path}: operation {shown(node.op_type)} holds a graph or a tensor of its own")
        if node.op_type in {"Tile", "Pad"}:
            given = constants.get(node.input[1]) if len(node.input) > 1 else None
            sizes = [] if given is None else onnx.numpy_helper.to_array(given).ravel().tolist()
            growth = 1
            for size in sizes:
                growth *= max(int(size), 1)
            if not sizes or not 1 <= growth <= MAX_GROWTH:
                raise ScorerError(
                    f"{path}: operation {node.op_type} by {shown(sizes)}; hunch export writes no such sizes"
                )
    return content, largest_value(model, onnx, path)


def largest_value(model: Any, onnx: Any, path: str | Path) -> int:
    """Return how many numbers the largest value of a graph has for one event; raises ScorerError for too many.

    Small steps make large values one after the other: each of them is told by the sizes of what it is given. A value of two events
    that is more than two of one (all of them against each other) is refused too.
    """
    sizes = []
    for events in (1, 2):
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        for given in copy.graph.input:
            if given.type.tensor_type.shape.dim:
                given.type.tensor_type.shape.dim[0].dim_value = events
        try:
            told = onnx.shape_inference.infer_shapes(copy, data_prop=True).graph
        except (RuntimeError, ValueError, onnx.shape_inference.InferenceError) as error:
            raise ScorerError(f"{path}: damaged, its graph has no sizes: {shown(str(error), limit=200)}") from error
        found = {}
        for value in (*told.value_info, *told.output):
            if value.type.tensor_type.HasField("shape"):
                dims = value.type.tensor_type.shape.dim
                found[value.name] = math.prod(d.dim_value if d.HasField("dim_value") else MAX_VALUES + 1 for d in dims)
        sizes.append([found.get(name, MAX_VALUES + 1) for node in told.node for name in node.output if name])
    for one, two in zip(*sizes, strict=True):
        if not one <= MAX_VALUES or two > 2 * one:
            raise ScorerError(
                f"{path}: makes more than {MAX_VALUES:,} numbers of an event, or of events with each other"
            )
    return max(sizes[0], default=1)
