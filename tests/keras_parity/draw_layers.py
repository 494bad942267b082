"""Random configurations of layers over images, sequences of features, and arrays of any rank."""

from __future__ import annotations

import math
from typing import Any

from dice import Arrays, Case, Dice, Job

NAMED = [None, "linear", "relu", "sigmoid", "tanh", "softmax", "elu", "selu", "gelu", "silu", "softplus", "softsign",
         "mish", "leaky_relu", "relu6", "hard_sigmoid", "exponential", "log_softmax", "celu", "hard_silu", "hard_tanh",
         "log_sigmoid", "squareplus", "soft_shrink", "tanh_shrink", "sparse_plus"]  # fmt: skip


def layer(class_name: str, config: dict[str, Any], arrays: Arrays, **more: Any) -> Case:
    job: Job = {"kind": "layer", "class_name": class_name, "config": config}
    return job | more, arrays


def activation(d: Dice) -> Any:
    """By name, or now and then a layer."""
    if d.chance(0.1):
        kind, config = d.pick(
            ("LeakyReLU", {"negative_slope": d.number()}), ("ELU", {"alpha": d.number(0.5, 2)}), ("PReLU", {}),
            ("ReLU", {"max_value": 1.0, "negative_slope": 0.1}), ("Softmax", {}),
            ("Activation", {"activation": "gelu"}),
        )  # fmt: skip
        return {"class_name": kind, "config": config}
    return d.pick(None, "relu", "tanh", "sigmoid", d.pick(*NAMED))


def values(d: Dice, *shape: int) -> Any:
    """An input, now and then of integers."""
    return d.labels(5, *shape).astype(d.pick("uint8", "int32")) if d.chance(0.12) else d.normal(*shape)


def penalties(d: Dice, *names: str) -> dict[str, Any]:
    return {f"{name}_regularizer": d.pick("l1", "l2") for name in names if d.chance(0.15)}


def formatted(d: Dice, shape: list[int], config: dict[str, Any]) -> list[int]:
    """Now and then with the channels first."""
    if not d.chance(0.3):
        config |= d.some(data_format="channels_last")
        return shape
    config["data_format"] = "channels_first"
    return [shape[0], shape[-1], *shape[1:-1]]


def draw_dense(d: Dice, name: str, rank: int) -> Case:
    config = {"units": d.integer(1, 9), **d.some(use_bias=d.chance()), **penalties(d, "kernel", "bias", "activity")}
    config["activation"] = activation(d)
    return layer(name, config, {"x0": values(d, d.integer(1, 5), *d.integers(1, 5, d.integer(0, 3)), d.integer(1, 7))})


def draw_einsum(d: Dice, name: str, rank: int) -> Case:
    a, b, c, e = d.integers(1, 5, 4)
    equation, output, shape, biases = d.pick(
        ("ab,bc->ac", e, [a, b], "c"), ("abc,cd->abd", [d.pick(None, b), e], [a, b, c], "d"),
        ("abc,cd->abd", [b, e], [a, b, c], "bd"), ("...x,xy->...y", e, [a, *d.integers(1, 4, d.integer(0, 2)), b], "y"),
        ("ab...,bc->ac...", e, [a, b, *d.integers(1, 4, d.integer(0, 2))], "c"),
        ("abc,cde->abde", [None, 2, e], [a, b, c], d.pick("de", "e", "d")),
        ("abcd,cde->abe", [None, e], [a, b, c, 2], "e"), ("abc,bcd->abd", [b, e], [a, b, c], d.pick("bd", "b")),
        ("abc,bd->adc", [e, c], [a, b, c], d.pick("d", "dc")), ("abc,dbc->adb", [e, b], [a, b, c], "d"),
        ("abc,bd->ad", e, [a, b, c], "d"),
    )  # fmt: skip
    config: dict[str, Any] = {"equation": equation, "output_shape": output, "activation": activation(d)}
    config |= d.some(bias_axes=biases)
    config |= penalties(d, "kernel", "activity", *(["bias"] if "bias_axes" in config else []))
    return layer(name, config, {"x0": values(d, *shape)})


def draw_convolution(d: Dice, name: str, rank: int) -> Case:
    separable, transpose, depthwise = "Separable" in name, "Transpose" in name, "Depthwise" in name
    strided = d.chance()
    odd = d.chance(0.2)  # windows larger than the input, strides larger than the window, single elements
    kernel = d.size(1, 6 if odd else 4, rank)
    config: dict[str, Any] = {"kernel_size": kernel, "activation": activation(d)} | d.some(use_bias=d.chance())
    strides: Any = 1
    if strided:
        # Keras on JAX takes equal strides only for depthwise kernels
        config["strides"] = strides = d.integer(1, 3) if depthwise or separable else d.size(1, 5 if odd else 3, rank)
    elif not transpose or d.chance():
        config["dilation_rate"] = d.size(1, 3 if odd else 2, rank)
    config |= d.some(padding=d.pick("valid", "same", *(["causal"] if name == "Conv1D" else [])))
    groups = 1 if separable or transpose or depthwise else d.pick(1, 1, 2, 3)
    channels = groups * d.integer(1, 5)
    names = ["kernel", "bias"]
    if not depthwise:
        config["filters"] = groups * d.integer(1, 6)
    if separable or depthwise:
        config |= d.some(depth_multiplier=d.integer(1, 3))
        names = ["depthwise", "bias"] + ["pointwise"] * separable
    elif not transpose:
        config |= {"groups": groups} if groups > 1 else {}
    elif d.chance(0.4):
        each = strides if isinstance(strides, list) else [strides] * rank
        config["output_padding"] = [d.integer(0, s - 1) for s in each]
    config |= penalties(d, *names, "activity")
    sizes = d.integers(8, 13, rank) if rank < 3 else d.integers(7, 9, 3)
    if odd:
        sizes = d.integers(1, 7, rank)
        if not transpose and d.chance(0.7):
            config["padding"] = "same"
    elif transpose:
        sizes = d.integers(2, 6, rank)
    taken = Dice.normal if separable or transpose or depthwise else values  # Keras on JAX takes no integers there
    return layer(name, config, {"x0": taken(d, *formatted(d, [d.integer(1, 3), *sizes, channels], config))})


def draw_pooling(d: Dice, name: str, rank: int) -> Case:
    config = d.some(strides=d.pick(None, d.size(1, 5, rank)), padding=d.pick("valid", "same"))
    config |= {"pool_size": d.size(1, 3, rank)} if d.chance(0.8) or name.startswith("Average") else {}
    shape = [d.integer(1, 3), *d.integers(3, 9, rank), d.integer(1, 4)]
    if d.chance(0.2):  # windows larger than the input
        config |= {"padding": "same", "pool_size": d.size(1, 7, rank)}
        shape[1:-1] = d.integers(1, 5, rank)
    return layer(name, config, {"x0": values(d, *formatted(d, shape, config))})


def draw_global(d: Dice, name: str, rank: int) -> Case:
    shape = [d.integer(1, 4), *d.integers(1, 6, rank), d.integer(1, 4)]
    config = d.some(keepdims=d.chance())
    arrays: Arrays = {}
    if name == "GlobalAveragePooling1D" and d.chance(0.6):
        arrays = {"m0": d.mask(*shape[:2])}
        arrays["m0"][:, 0] = True  # a mean of nothing is 0 / 0
    else:
        shape = formatted(d, shape, config)
    return layer(name, config, {"x0": values(d, *shape), **arrays})


def draw_adaptive(d: Dice, name: str, rank: int) -> Case:
    config: dict[str, Any] = {"output_size": d.size(1, 4, rank)}
    shape = [d.integer(1, 3), *d.integers(4, 8, rank), d.integer(1, 3)]
    return layer(name, config, {"x0": d.normal(*formatted(d, shape, config))})


def draw_batch_norm(d: Dice, name: str, rank: int) -> Case:
    shape = [d.integer(1, 6), *d.integers(1, 5, d.integer(1, 4))]
    config = d.some(momentum=d.number(), epsilon=d.pick(1e-3, 0.1), center=d.chance(), scale=d.chance())
    config |= penalties(
        d, *(part for part in ("beta", "gamma") if config.get({"beta": "center"}.get(part, "scale"), True))
    )
    more: dict[str, Any] = {"call": {"training": d.chance(0.7)}, "passes": d.integer(1, 2)}
    if d.chance(0.15):
        config["trainable"] = False
    arrays: Arrays = {"x0": d.normal(*shape)}
    if len(shape) == 3 and d.chance(0.6):
        arrays["m0"] = d.mask(*shape[:2])
    else:
        config |= d.some(axis=d.integer(1, len(shape) - 1) * d.pick(1, 1))
        config |= d.pick({}, {"axis": -d.integer(1, len(shape) - 1)})
    return layer(name, config, arrays, **more)


def draw_layer_norm(d: Dice, name: str, rank: int) -> Case:
    shape = [3, *d.integers(1, 5, d.integer(1, 4))]
    axes = sorted(int(a) for a in d.rng.choice(range(1, len(shape)), d.integer(1, len(shape) - 1), replace=False))
    if name == "RMSNormalization":  # Keras spreads its scale over the last axes, whatever the axis
        axes = list(range(axes[0], len(shape)))
    config: dict[str, Any] = d.some(axis=d.pick(-1, axes, [a - len(shape) for a in axes]))
    if name != "UnitNormalization":
        config |= d.some(epsilon=d.pick(1e-6, 1e-2))
    chosen = config.get("axis", -1)
    if math.prod(shape[a] for a in (chosen if isinstance(chosen, list) else [chosen])) < 3:
        # Of one or two numbers their difference decides, however small: in Keras, what float32 leaves of it.
        shape[-1] = d.integer(3, 6)
        config.pop("axis", None)
    if name == "LayerNormalization":
        config |= d.some(center=d.chance(), scale=d.chance())
        config |= penalties(
            d, *(part for part in ("beta", "gamma") if config.get({"beta": "center"}.get(part, "scale"), True))
        )
    return layer(name, config, {"x0": d.normal(*shape)})


def draw_group_norm(d: Dice, name: str, rank: int) -> Case:
    groups = d.integer(1, 4)
    middle = d.integers(2, 5, d.integer(0, 3))
    # Of a single number Keras's variance is not 0 but what float32 rounds.
    channels = groups * d.integer(1 if middle else 2, 3)
    config: dict[str, Any] = {"groups": d.pick(groups, groups, -1) if middle else groups}
    config |= d.some(epsilon=1e-2, center=d.chance(), scale=d.chance())
    shape = [d.integer(1, 3), *middle, channels]
    if middle and d.chance(0.3):
        config["axis"] = d.pick(1, -len(shape) + 1)
        shape = [shape[0], channels, *middle]
    return layer(name, config, {"x0": d.normal(*shape)})


def draw_border(d: Dice, name: str, rank: int) -> Case:
    pairs: Any = [d.integers(0, 2, 2) for _ in range(rank)]
    value = d.pick(d.integer(0, 2), pairs[0] if rank == 1 else d.pick(pairs, d.integers(0, 2, rank)))
    config = d.some(**{"cropping" if "Cropping" in name else "padding": value})
    shape = [2, *d.integers(5, 7, rank), 3]
    if name != "Cropping1D":
        shape = formatted(d, shape, config)
    return layer(name, config, {"x0": values(d, *shape)})


def draw_upsampling(d: Dice, name: str, rank: int) -> Case:
    config = d.some(size=d.integer(1, 3) if rank == 1 else d.size(1, 3, rank))
    if rank == 2:
        config |= d.some(interpolation=d.pick("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"))
    shape = [2, *d.integers(1, 5, rank), 3]
    if rank > 1:
        shape = formatted(d, shape, config)
    return layer(name, config, {"x0": d.normal(*shape)})


def draw_reshaping(d: Dice, name: str, rank: int) -> Case:
    shape = [d.integer(1, 3), d.integer(1, 4), d.integer(1, 4), 6]
    config: dict[str, Any] = {}
    if name == "Permute":
        config = {"dims": [int(a) for a in d.rng.permutation([1, 2, 3])]}
    elif name == "Reshape":
        config = {"target_shape": d.pick([-1, 3], [2, -1], [3, shape[1], -1], [-1], [shape[2], shape[1] * 6])}
    elif name == "RepeatVector":
        config, shape = {"n": d.integer(1, 5)}, shape[:2]
    elif name == "Flatten":
        shape = shape[: d.integer(1, 4)]
        config = d.some(data_format=d.pick("channels_first", "channels_last"))
    return layer(name, config, {"x0": values(d, *shape)})


def draw_activation(d: Dice, name: str, rank: int) -> Case:
    shape = [3, *d.integers(2, 5, d.integer(1, 3))]
    axes = [int(a) for a in d.rng.choice(range(1, len(shape)), d.integer(1, len(shape) - 1), replace=False)]
    config: dict[str, Any] = d.some(
        **{
            "ReLU": {"max_value": d.pick(None, 0.5, 6.0), "negative_slope": d.pick(0.0, 0.2),
                     "threshold": d.pick(0.0, 0.3)},
            "LeakyReLU": {"negative_slope": d.number()},
            "PReLU": {"shared_axes": d.pick(None, axes), "alpha_regularizer": "l2"},
            "ELU": {"alpha": d.number(0.5, 2)},
            "Softmax": {"axis": d.pick(-1, 1, sorted(axes))},
            "Identity": {},
            "ActivityRegularization": {"l1": d.number(), "l2": d.number()},
        }.get(name, {})
    )  # fmt: skip
    if name == "Activation":
        config = {"activation": d.pick(*NAMED[1:])}
    arrays: Arrays = {"x0": d.normal(*shape, scale=2)}
    if name == "Softmax" and d.chance(0.4):
        arrays["m0"] = d.rng.random(shape) < 0.7
    return layer(name, config, arrays)


def draw_scaling(d: Dice, name: str, rank: int) -> Case:
    shape = [4, *d.integers(2, 4, d.integer(1, 2))]
    if name == "Rescaling":
        scale = d.pick(d.number(), d.numbers(shape[-1]))
        return layer(name, {"scale": scale, **d.some(offset=d.number())}, {"x0": d.normal(*shape)})
    axis = d.pick(-1, None, list(range(1, len(shape))))
    config: dict[str, Any] = d.some(axis=axis, invert=d.chance())
    arrays: Arrays = {"x0": d.normal(*shape)}
    if d.chance(0.3):
        return layer(name, config, arrays | {"adapt": d.normal(20, *shape[1:])})
    kept = config.get("axis", -1)
    sizes = [] if kept is None else shape[-1:] if kept == -1 else shape[1:]
    mean, variance = d.uniform(*sizes), d.uniform(*sizes, low=0.2)
    config |= {"mean": mean.tolist(), "variance": variance.tolist()}
    return layer(name, config, arrays)


def draw_merge(d: Dice, name: str, rank: int) -> Case:
    shape, count = [3, *d.integers(1, 4, d.integer(1, 3))], 2 if name == "Subtract" else d.integer(2, 4)
    shapes = [shape] * count
    config: dict[str, Any] = {}
    if name == "Concatenate":
        axis = d.integer(1, len(shape) - 1)
        shapes = [[d.integer(1, 4) if i == axis else n for i, n in enumerate(shape)] for _ in range(count)]
        config = d.some(axis=d.pick(axis, axis - len(shape)))
        shapes = shapes if "axis" in config else [[*shape[:-1], d.integer(1, 4)] for _ in range(count)]
    elif d.chance(0.3):
        shapes = [[3, *(1 if d.chance(0.4) else n for n in shape[1:])] for _ in range(count)]
    taken = values if name in ("Add", "Multiply", "Concatenate") else Dice.normal
    arrays: Arrays = {f"x{k}": taken(d, *one) for k, one in enumerate(shapes)}
    if len(shape) == 3 and shapes == [shape] * count:
        arrays |= {f"m{k}": d.mask(*shape[:2]) for k in range(count) if d.chance(0.6)}
    return layer(name, config, arrays, form="list")


def draw_dot(d: Dice, name: str, rank: int) -> Case:
    n, f, a, b = 3, d.integer(1, 4), d.integer(1, 4), d.integer(1, 4)
    first, second, axes = d.pick(
        ([n, f], [n, f], d.pick(1, -1)), ([n, a, f], [n, b, f], d.pick(2, -1)), ([n, f, a], [n, f, b], 1),
        ([n, a, f], [n, f, b], [2, 1]), ([n, f, a], [n, b, f], [1, 2]),
    )  # fmt: skip
    config = {"axes": axes} | d.some(normalize=d.chance())
    return layer(name, config, {"x0": d.normal(*first), "x1": d.normal(*second)}, form="list")


def draw_resizing(d: Dice, name: str, rank: int) -> Case:
    config: dict[str, Any] = {"height": d.integer(1, 11), "width": d.integer(1, 11)}
    if name == "Resizing":
        config |= d.some(interpolation=d.pick("bilinear", "nearest", "bicubic", "lanczos3", "lanczos5"))
        config |= d.some(antialias=d.chance())
        config |= d.pick({}, {"crop_to_aspect_ratio": True}, {"pad_to_aspect_ratio": True, **d.some(fill_value=0.3)})
    shape = formatted(d, [2, d.integer(2, 9), d.integer(2, 9), 3], config)
    return layer(name, config, {"x0": d.normal(*shape)})


def draw_augmentation(d: Dice, name: str, rank: int) -> Case:
    """Random layers whose range is a single value, and those that draw nothing."""
    f, g, ends, bits = d.number(-0.4, 0.4), d.number(-0.4, 0.4), d.pick([-1, 1], [0, 255]), d.integer(1, 8)
    config: dict[str, Any] = {
        "RandomRotation": {"factor": [f, f]},
        "RandomZoom": {"height_factor": [f, f], "width_factor": d.pick(None, [g, g])},
        "RandomTranslation": {"height_factor": [f, f], "width_factor": [g, g]},
        "RandomBrightness": {"factor": [f, f], "value_range": ends},
        "RandomPosterization": {"factor": [bits, bits], **d.some(value_range=ends)},
        "AutoContrast": d.some(value_range=ends),
        "Equalization": {"bins": d.integer(2, 40), **d.some(value_range=ends)},  # (Keras takes a step for each bin)
    }[name]
    shape = [2, d.integer(3, 9), d.integer(3, 9), 2]
    if name in ("RandomPosterization", "AutoContrast", "Equalization"):
        shape[0] = 1 if name == "Equalization" else 2  # of several images Keras makes one histogram
        low, high = config.get("value_range", [0, 255])
        shape = (
            shape if name == "AutoContrast" else formatted(d, shape, config)
        )  # of whose format Keras takes no notice
        return layer(name, config, {"x0": d.uniform(*shape, low=low, high=high)}, call={"training": True})
    if name != "RandomBrightness":
        config |= d.some(fill_mode=d.pick("reflect", "nearest", "constant", "wrap"), fill_value=0.5)
        config |= d.some(interpolation=d.pick("bilinear", "bilinear", "nearest"))
        shape = formatted(d, shape, config)
    return layer(name, config, {"x0": d.normal(*shape)}, call={"training": True})


def draw_inert(d: Dice, name: str, rank: int) -> Case:
    """Layers that act in training only."""
    config: dict[str, Any] = {"stddev" if name == "GaussianNoise" else "rate": d.number(0, 0.9)}
    rank = rank or d.integer(0, 2)
    return layer(name, config, {"x0": d.normal(3, *d.integers(1, 4, rank), 2)}, call={"training": False})


RANKS = (1, 2, 3)
TABLE = [
    (draw_dense, [("Dense", 0)]),
    (draw_einsum, [("EinsumDense", 0)]),
    (draw_convolution, [("Conv1D", 1), ("Conv2D", 2), ("Conv3D", 3), ("DepthwiseConv1D", 1), ("DepthwiseConv2D", 2),
                        ("SeparableConv1D", 1), ("SeparableConv2D", 2), ("Conv1DTranspose", 1),
                        ("Conv2DTranspose", 2), ("Conv3DTranspose", 3)]),
    (draw_pooling, [(f"{kind}Pooling{rank}D", rank) for kind in ("Max", "Average") for rank in RANKS]),
    (draw_global, [(f"Global{kind}Pooling{rank}D", rank) for kind in ("Max", "Average") for rank in RANKS]),
    (draw_adaptive, [(f"Adaptive{kind}Pooling{rank}D", rank) for kind in ("Average", "Max") for rank in RANKS]),
    (draw_batch_norm, [("BatchNormalization", 0)]),
    (draw_layer_norm, [("LayerNormalization", 0), ("RMSNormalization", 0), ("UnitNormalization", 0)]),
    (draw_group_norm, [("GroupNormalization", 0)]),
    (draw_border, [(f"{kind}{rank}D", rank) for kind in ("ZeroPadding", "Cropping") for rank in RANKS]),
    (draw_upsampling, [(f"UpSampling{rank}D", rank) for rank in RANKS]),
    (draw_reshaping, [(name, 0) for name in ("Permute", "Reshape", "RepeatVector", "Flatten")]),
    (draw_activation, [(name, 0) for name in ("Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax", "Identity",
                                              "ActivityRegularization")]),
    (draw_scaling, [("Rescaling", 0), ("Normalization", 0)]),
    (draw_merge, [(name, 0) for name in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum",
                                         "Concatenate")]),
    (draw_dot, [("Dot", 0)]),
    (draw_resizing, [("Resizing", 2), ("CenterCrop", 2)]),
    (draw_augmentation, [("AutoContrast", 2), ("Equalization", 2)] + [(f"Random{kind}", 2) for kind in (
        "Rotation", "Zoom", "Translation", "Brightness", "Posterization")]),
    (draw_inert, [("Dropout", 0), ("SpatialDropout1D", 1), ("SpatialDropout2D", 2), ("SpatialDropout3D", 3),
                  ("GaussianNoise", 0), ("GaussianDropout", 0), ("AlphaDropout", 0)]),
]  # fmt: skip
