"""Layers against Keras itself, over random configurations: outputs, gradients, running statistics.

Opt-in: `VIVACE_KERAS_PYTHON` names a Python that has Keras and TensorFlow; Keras runs there, in a process of its own.
VIVACE_KERAS_SEED and VIVACE_KERAS_CASES choose other configurations, and more or fewer of each layer.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vivace import layers
from vivace.step import Step

KERAS = os.environ.get("VIVACE_KERAS_PYTHON")
COUNT = int(os.environ.get("VIVACE_KERAS_CASES", "6"))
SEED = int(os.environ.get("VIVACE_KERAS_SEED", "1"))

pytestmark = [
    pytest.mark.keras,
    pytest.mark.skipif(not KERAS, reason="opt-in: VIVACE_KERAS_PYTHON names a Python with Keras"),
]

Case = dict[str, Any]
ACTIVATIONS = [None, "relu", "sigmoid", "tanh"]


def case(
    layer: str, shapes: Any, arguments: dict[str, Any], mask: Any = None, mask_names: Any = (), **call: Any
) -> Case:
    return {"layer": layer, "shapes": shapes, "arguments": arguments, "mask": mask, "mask_names": list(mask_names),
            "call": call}  # fmt: skip


def draw_convolution(r: random.Random, name: str, rank: int) -> Case:
    strided = r.random() < 0.5
    separable, transpose, depthwise = "Separable" in name, "Transpose" in name, "Depthwise" in name
    stride = r.randint(1, 3) if strided else 1
    dilation = 1 if strided or transpose else r.randint(1, 2)
    groups = 1 if separable or transpose or depthwise or rank == 3 else r.choice([1, 1, 2])
    channels = groups * r.randint(1, 5)
    arguments: dict[str, Any] = {
        "kernel_size": [r.randint(1, 4) for _ in range(rank)],
        "strides": [stride] * rank,
        "dilation_rate": [dilation] * rank,
        "padding": r.choice(["valid", "same"] + (["causal"] if name == "Conv1D" else [])),
        "activation": r.choice(ACTIVATIONS),
        "use_bias": r.random() < 0.7,
    }
    if not depthwise:
        arguments["filters"] = groups * r.randint(1, 6)
    if separable or depthwise:
        arguments["depth_multiplier"] = r.randint(1, 3)
    elif not transpose:
        arguments["groups"] = groups
    elif r.random() < 0.5 and stride > 1:
        arguments["output_padding"] = [r.randint(0, stride - 1)] * rank
    size = [r.randint(9, 13) for _ in range(rank)] if rank < 3 else [r.randint(8, 9) for _ in range(3)]
    return case(name, [[2, *size, channels]], arguments)


def draw_pooling(r: random.Random, name: str, rank: int) -> Case:
    arguments = {
        "pool_size": [r.randint(1, 3) for _ in range(rank)],
        "strides": r.choice([None, [r.randint(1, 3) for _ in range(rank)]]),
        "padding": r.choice(["valid", "same"]),
    }
    return case(name, [[2, *(r.randint(4, 9) for _ in range(rank)), r.randint(1, 4)]], arguments)


def draw_global(r: random.Random, name: str, rank: int) -> Case:
    shape = [3, *(r.randint(2, 6) for _ in range(rank)), r.randint(1, 4)]
    arguments = {"keepdims": r.random() < 0.5, "data_format": r.choice(["channels_last", "channels_first"])}
    if name == "GlobalAveragePooling1D" and r.random() < 0.6:
        return case(name, [shape], arguments | {"data_format": "channels_last"}, shape[:2], ["mask"])
    return case(name, [shape], arguments)


def draw_batch_norm(r: random.Random, name: str, rank: int) -> Case:
    shape = [r.randint(3, 6), *(r.randint(2, 5) for _ in range(r.randint(1, 3)))]
    arguments = {"axis": r.choice([-1, 1]), "momentum": r.random(), "epsilon": r.choice([1e-3, 0.1]),
                 "center": r.random() < 0.7, "scale": r.random() < 0.7}  # fmt: skip
    if len(shape) == 3 and r.random() < 0.6:
        return case(name, [shape], arguments | {"axis": -1}, shape[:2], ["mask"], training=True)
    return case(name, [shape], arguments, training=r.random() < 0.7)


def draw_layer_norm(r: random.Random, name: str, rank: int) -> Case:
    shape = [3, *(r.randint(2, 5) for _ in range(r.randint(1, 3)))]
    axes = sorted(r.sample(range(1, len(shape)), r.randint(1, len(shape) - 1)))
    if name == "RMSNormalization":  # Keras spreads its scale over the last axes, whatever the axis
        axes = list(range(axes[0], len(shape)))
    arguments: dict[str, Any] = {"axis": r.choice([-1, axes])}
    if name != "UnitNormalization":
        arguments["epsilon"] = r.choice([1e-6, 1e-2])
    if name == "LayerNormalization":
        arguments |= {"center": r.random() < 0.7, "scale": r.random() < 0.7}
    return case(name, [shape], arguments)


def draw_group_norm(r: random.Random, name: str, rank: int) -> Case:
    groups = r.randint(1, 3)
    shape = [2, *(r.randint(2, 5) for _ in range(r.randint(0, 2))), groups * r.randint(1, 3)]
    arguments = {"groups": r.choice([groups, -1]), "epsilon": 1e-2, "center": r.random() < 0.7}
    return case(name, [shape], arguments)


def draw_padding(r: random.Random, name: str, rank: int) -> Case:
    pairs: Any = [[r.randint(0, 2), r.randint(0, 2)] for _ in range(rank)]
    argument = "cropping" if "Cropping" in name else "padding"
    shape = [2, *(r.randint(5, 7) for _ in range(rank)), 3]
    return case(name, [shape], {argument: pairs[0] if rank == 1 else pairs})


def draw_upsampling(r: random.Random, name: str, rank: int) -> Case:
    size: Any = [r.randint(1, 3) for _ in range(rank)]
    arguments = {"size": size[0] if rank == 1 else size}
    if rank == 2:
        arguments["interpolation"] = r.choice(["nearest", "bilinear"])
    return case(name, [[2, *(r.randint(1, 5) for _ in range(rank)), 3]], arguments)


def draw_reshaping(r: random.Random, name: str, rank: int) -> Case:
    shape = [2, r.randint(1, 4), r.randint(1, 4), 6]
    if name == "Permute":
        return case(name, [shape], {"dims": r.sample([1, 2, 3], 3)})
    return case(name, [shape], {"target_shape": r.choice([[-1, 3], [2, -1], [3, shape[1], -1]])})


def draw_activation(r: random.Random, name: str, rank: int) -> Case:
    shape = [3, *(r.randint(2, 5) for _ in range(r.randint(1, 3)))]
    arguments: dict[str, Any] = {
        "ReLU": {"max_value": r.choice([None, 0.5, 6.0]), "negative_slope": r.choice([0.0, 0.2]),
                 "threshold": r.choice([0.0, 0.3])},
        "LeakyReLU": {"negative_slope": r.random()},
        "PReLU": {"shared_axes": r.choice([None, [1]])},
        "ELU": {"alpha": 1.0},  # Keras's gradient of other alphas is TensorFlow's own
        "Softmax": {"axis": r.choice([-1, 1])},
        "Identity": {},
    }[name]  # fmt: skip
    return case(name, [shape], arguments)


def draw_attention(r: random.Random, name: str, rank: int) -> Case:
    batch, queries, keys = 2, r.randint(1, 9), r.randint(1, 9)
    features = [r.randint(1, 6) for _ in range(3)]
    shapes = [[batch, queries, features[0]], [batch, keys, features[1]], [batch, keys, features[2]]][: r.randint(2, 3)]
    heads = r.randint(1, 3)
    if name == "MultiHeadAttention":  # with 3 heads of size 1, TensorFlow's einsum departs from the formula
        arguments: dict[str, Any] = {"num_heads": heads, "key_dim": r.randint(2, 5), "value_dim": r.choice([None, 4]),
                                     "output_shape": r.choice([None, 5]), "use_bias": r.random() < 0.7}  # fmt: skip
    else:
        arguments = {"head_dim": r.randint(2, 5), "num_query_heads": 2 * heads, "num_key_value_heads": heads}
    causal = r.random() < 0.4
    if r.random() < 0.5:
        return case(name, shapes, arguments, [batch, keys], ["value_mask"], use_causal_mask=causal)
    return case(name, shapes, arguments, use_causal_mask=causal)


def draw_sequence_attention(r: random.Random, name: str, rank: int) -> Case:
    queries, steps, features, values = (r.randint(1, 8) for _ in range(4))
    shapes = r.choice(
        [
            [[2, queries, features], [2, steps, features]],
            [[2, queries, features], [2, steps, values], [2, steps, features]],
        ]
    )
    return case(name, shapes, {"use_scale": r.random() < 0.5}, use_causal_mask=r.random() < 0.5)


def draw_scaling(r: random.Random, name: str, rank: int) -> Case:
    if name == "Rescaling":
        return case(name, [[2, 3, 4]], {"scale": r.random(), "offset": r.random()})
    arguments = {"axis": -1, "mean": [r.random() for _ in range(3)], "variance": [r.random() for _ in range(3)]}
    return case(name, [[4, 2, 3]], arguments | {"invert": r.random() < 0.5})


def draw_images(r: random.Random, name: str, rank: int) -> Case:
    shape = [2, r.randint(4, 9), r.randint(4, 9), 3]
    arguments: dict[str, Any] = {"height": r.randint(2, 11), "width": r.randint(2, 11)}
    if name == "Resizing":
        arguments |= {"interpolation": r.choice(["bilinear", "nearest"]), "crop_to_aspect_ratio": r.random() < 0.5}
    return case(name, [shape], arguments)


def draw_augmentation(r: random.Random, name: str, rank: int) -> Case:
    """Random layers whose range is a single value."""
    f, g = r.uniform(-0.4, 0.4), r.uniform(-0.4, 0.4)
    arguments: dict[str, Any] = {
        "RandomRotation": {"factor": [f, f]},
        "RandomZoom": {"height_factor": [f, f], "width_factor": r.choice([None, [g, g]])},
        "RandomTranslation": {"height_factor": [f, f], "width_factor": [g, g]},
        "RandomBrightness": {"factor": [f, f], "value_range": [-1, 1]},
    }[name]
    if name != "RandomBrightness":
        arguments |= {"fill_mode": r.choice(["reflect", "nearest", "constant"]), "fill_value": 0.5}
    c = case(name, [[2, r.randint(4, 9), r.randint(4, 9), 2]], arguments, training=True)
    return c | {"gradients": name == "RandomBrightness"}  # of moved pixels TensorFlow's is approximate


Draw = Callable[[random.Random, str, int], Case]
TABLE: list[tuple[Draw, list[tuple[str, int]]]] = [
    (draw_convolution, [("Conv1D", 1), ("Conv2D", 2), ("Conv3D", 3), ("DepthwiseConv1D", 1), ("DepthwiseConv2D", 2),
                        ("SeparableConv1D", 1), ("SeparableConv2D", 2), ("Conv1DTranspose", 1),
                        ("Conv2DTranspose", 2), ("Conv3DTranspose", 3)]),
    (draw_pooling, [(f"{kind}Pooling{rank}D", rank) for kind in ("Max", "Average") for rank in (1, 2, 3)]),
    (draw_global, [(f"Global{kind}Pooling{rank}D", rank) for kind in ("Max", "Average") for rank in (1, 2, 3)]),
    (draw_batch_norm, [("BatchNormalization", 0)]),
    (draw_layer_norm, [("LayerNormalization", 0), ("RMSNormalization", 0), ("UnitNormalization", 0)]),
    (draw_group_norm, [("GroupNormalization", 0)]),
    (draw_padding, [(f"{kind}{rank}D", rank) for kind in ("ZeroPadding", "Cropping") for rank in (1, 2, 3)]),
    (draw_upsampling, [("UpSampling1D", 1), ("UpSampling2D", 2), ("UpSampling3D", 3)]),
    (draw_reshaping, [("Permute", 0), ("Reshape", 0)]),
    (draw_activation, [(name, 0) for name in ("ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax", "Identity")]),
    (draw_sequence_attention, [("Attention", 0), ("AdditiveAttention", 0)]),
    (draw_scaling, [("Rescaling", 0), ("Normalization", 0)]),
    (draw_images, [("Resizing", 2), ("CenterCrop", 2)]),
    (draw_augmentation, [(f"Random{kind}", 2) for kind in ("Rotation", "Zoom", "Translation", "Brightness")]),
    (draw_attention, [("MultiHeadAttention", 0), ("GroupQueryAttention", 0)]),
]  # fmt: skip
NAMES = [name for _, names in TABLE for name, _ in names]


def all_cases() -> list[Case]:
    r = random.Random(SEED)
    return [draw(r, name, rank) for draw, names in TABLE for name, rank in names for _ in range(COUNT)]


CASES = all_cases()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    folder = tmp_path_factory.mktemp("keras")
    (folder / "cases.json").write_text(json.dumps(CASES))
    worker = Path(__file__).with_name("worker_layers.py")
    command = [str(KERAS), str(worker), str(folder / "cases.json"), str(folder / "results.npz")]
    subprocess.run(command, check=True, capture_output=True)
    with np.load(folder / "results.npz") as arrays:
        return dict(arrays)


def numbered(results: dict[str, np.ndarray], name: str) -> list[np.ndarray]:
    arrays = []
    while f"{name}_{len(arrays)}" in results:
        arrays.append(results[f"{name}_{len(arrays)}"])
    return arrays


def close(got: Any, want: Any, what: str) -> None:
    scale = max(1.0, float(np.abs(want).max(initial=0)))
    np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-5 * scale, err_msg=what)


@pytest.mark.parametrize("i", range(len(CASES)), ids=[f"{c['layer']}-{i % COUNT}" for i, c in enumerate(CASES)])
def test_layer(i: int, results: dict[str, np.ndarray]) -> None:
    c = CASES[i]
    if f"error{i}" in results:
        pytest.skip(f"Keras: {results[f'error{i}']}")
    call = dict(c["call"])
    training = call.pop("training", True)
    arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in c["arguments"].items()}
    layer = getattr(layers, c["layer"])(**arguments, **call)
    xs, weights = numbered(results, f"x{i}"), numbered(results, f"w{i}")
    several = len(xs) > 1
    layer.build_once([x.shape for x in xs] if several else xs[0].shape)
    layer.set_weights(weights)
    step = Step(training)
    mask = results.get(f"m{i}")
    step.mask = [None, mask, None] if several and mask is not None else mask  # type: ignore[assignment]
    y, saved = layer.forward(xs if several else xs[0], step)
    close(y, results[f"y{i}"], f"{c} output")
    if not c.get("gradients", True):
        return
    dx = layer.backward(results[f"d{i}"].copy(), saved, step)
    for k, (got, want) in enumerate(zip(dx if several else [dx], numbered(results, f"dx{i}"), strict=True)):
        close(got, want, f"{c} gradient of input {k}")
    trained = [p.gradient for p in layer.weights if p.trainable]
    for k, (got, want) in enumerate(zip(trained, numbered(results, f"dw{i}"), strict=True)):
        close(got, want, f"{c} gradient of weight {k}")
    for k, (got, want) in enumerate(zip(layer.get_weights(), numbered(results, f"a{i}"), strict=True)):
        close(got, want, f"{c} weight {k} after the call")


def test_keras_could_run_nearly_all(results: dict[str, np.ndarray]) -> None:
    assert sum(name.startswith("error") for name in results) < len(CASES) / 10
