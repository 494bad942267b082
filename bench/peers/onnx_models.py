"""The inference tasks as ONNX models."""

from __future__ import annotations

import numpy as np
from common import GATES, Task, cnn_weights_channels_first
from onnx import TensorProto, helper, numpy_helper


def model(task: Task) -> bytes:
    return cnn() if task.name == "infer-cnn" else recurrent(task)


def _serialized(nodes: list, x_shape: list, y_shape: list, weights: dict[str, np.ndarray]) -> bytes:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x_shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, y_shape)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    whole.ir_version = 9
    return bytes(whole.SerializeToString())


def cnn() -> bytes:
    weights = {f"w{i}": w for i, w in enumerate(cnn_weights_channels_first())}
    weights["shape"] = np.array([-1, 1, 28, 28], np.int64)
    node = helper.make_node
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        node("Reshape", ["x", "shape"], ["image"]),  # with one channel the two layouts are the same
        node("Conv", ["image", "w0", "w1"], ["a"], kernel_shape=[3, 3]),
        node("Relu", ["a"], ["b"]),
        node("MaxPool", ["b"], ["c"], **pool),
        node("Conv", ["c", "w2", "w3"], ["d"], kernel_shape=[3, 3]),
        node("Relu", ["d"], ["e"]),
        node("MaxPool", ["e"], ["f"], **pool),
        node("Flatten", ["f"], ["g"]),
        node("Gemm", ["g", "w4", "w5"], ["h"], transB=1),
        node("Relu", ["h"], ["i"]),
        node("Gemm", ["i", "w6", "w7"], ["j"], transB=1),
        node("Softmax", ["j"], ["y"], axis=1),
    ]
    return _serialized(nodes, ["N", 28, 28, 1], ["N", 10], weights)


def recurrent(task: Task) -> bytes:
    cell, steps, inputs, units = task.recurrent()
    rng, gates = np.random.default_rng(0), GATES[cell]
    shapes = {"w": (1, gates * units, inputs), "r": (1, gates * units, units), "b": (1, 2 * gates * units)}
    weights = {k: rng.uniform(-(units**-0.5), units**-0.5, s).astype(np.float32) for k, s in shapes.items()}
    kind = {"simple": "RNN", "lstm": "LSTM", "gru": "GRU"}[cell]
    after = {"linear_before_reset": 1} if cell == "gru" else {}
    nodes = [
        helper.make_node("Transpose", ["x"], ["time_first"], perm=[1, 0, 2]),
        helper.make_node(kind, ["time_first", "w", "r", "b"], ["", "y"], hidden_size=units, **after),
    ]
    return _serialized(nodes, [task.batch, steps, inputs], [1, task.batch, units], weights)
