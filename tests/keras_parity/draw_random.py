"""Random configurations of layers that are random in training, over many copies of one sample: their distribution."""

from __future__ import annotations

from typing import Any

import numpy as np
from dice import Case, Dice, Job

COPIES = 1500


def random_layer(d: Dice, name: str, config: dict[str, Any], sample: np.ndarray, **more: Any) -> Case:
    """`more`: calls, how many of them instead of many copies in one, where a whole batch is treated alike."""
    count = 1 if "calls" in more else COPIES
    job: Job = {"kind": "random", "class_name": name, "config": config} | more
    return job, {"x0": np.repeat(sample[None], count, 0)}


def draw_noise(d: Dice, name: str, rank: int) -> Case:
    shape = d.integers(1, 4, rank or d.integer(1, 3))
    config: dict[str, Any] = {"stddev" if name == "GaussianNoise" else "rate": d.number(0.05, 0.9)}
    config |= d.some(seed=d.integer(0, 9))
    if name in ("Dropout", "AlphaDropout"):
        config |= d.some(noise_shape=[None, *(n if d.chance() else d.pick(1, None) for n in shape)])
    if name in ("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D") and d.chance(0.1):
        config["rate"] = d.pick(0, 1)
    if name in ("SpatialDropout2D", "SpatialDropout3D"):
        config |= d.some(data_format=d.pick("channels_first", "channels_last"))
    sample = d.pick(np.ones(shape, d.dtype), d.normal(*shape))
    return random_layer(d, name, config, sample)


def draw_image_change(d: Dice, name: str, rank: int) -> Case:
    f, g = sorted(d.numbers(2, -0.5, 0.5)), sorted(d.numbers(2, -0.5, 0.5))
    height, width, ends = d.pick(f, f[1], -f[0]), d.pick(g, g[1]), d.pick([0, 1], [0, 255], [-1, 1])
    shear = sorted(d.numbers(2))
    config: dict[str, Any] = {
        "RandomFlip": {"mode": d.pick("horizontal", "vertical")},  # with both, Keras mirrors in both ways or in neither
        "RandomRotation": {"factor": height},
        "RandomZoom": {"height_factor": height, **d.some(width_factor=width)},
        "RandomTranslation": {"height_factor": height, "width_factor": width},
        "RandomBrightness": {"factor": height, **d.some(value_range=ends)},
        # one number f: Keras draws from [1, 1 + f], and documents [1 - f, 1 + f]
        "RandomContrast": {"factor": d.numbers(2), **d.some(value_range=ends)},
        "RandomCrop": {"height": d.integer(1, 3), "width": d.integer(1, 4)},
        "RandomShear": {"x_factor": shear, **d.some(y_factor=d.pick(shear[0], shear))},
        "RandomGrayscale": d.some(factor=shear[1]),
        "RandomInvert": d.some(factor=d.pick(shear[1], shear), value_range=ends),
        "RandomColorDegeneration": {"factor": height, **d.some(value_range=ends)},
        "RandomHue": {"factor": d.pick(shear[1], shear), **d.some(value_range=ends)},
        "RandomColorJitter": {
            "brightness_factor": height,
            "contrast_factor": d.numbers(2),
            "hue_factor": shear,
            **d.some(value_range=ends, saturation_factor=0.6),
        },
        "RandomSaturation": {"factor": d.pick(shear[1] * 0.9, height), **d.some(value_range=ends)},
        # of a range's ends, Keras takes the lower for a number between 0 and 255, the upper for a part of 255
        "Solarization": d.some(addition_factor=shear[0], threshold_factor=shear[1], value_range=ends),
    }[name]
    shape = [d.integer(4, 6), d.integer(5, 7), d.integer(1, 2)]
    if name in ("RandomGrayscale", "RandomColorDegeneration", "RandomHue", "RandomSaturation", "RandomColorJitter"):
        shape[2] = 3
    if name in ("RandomRotation", "RandomZoom", "RandomTranslation", "RandomShear"):
        config |= d.some(fill_mode=d.pick("reflect", "nearest", "constant", "wrap"), fill_value=d.number())
        config |= d.some(interpolation=d.pick("bilinear", "nearest"))
    low, high = config.get("value_range", (0, 255))
    sample = d.uniform(*shape, low=low, high=high)
    # RandomCrop where nothing is left to choose, and outside training: there Keras 3.15 cuts windows of another
    # proportion than it documents, and leaves images as they are.
    return random_layer(d, name, config, sample, **({"calls": 400} if name == "RandomCrop" else {}))


def draw_dropping(d: Dice, name: str, rank: int) -> Case:
    """Recurrent layers and attention with their dropout."""
    d.dtype = "float32"  # Keras's SimpleRNN on JAX takes no other
    steps, features = d.integer(1, 4), d.integer(1, 3)
    sample = d.normal(steps, features, scale=2)
    if "Attention" in name:
        heads: dict[str, Any] = {"num_heads": 2, "key_dim": 2}
        config = {"dropout": d.number(0.1, 0.8), **(heads if name == "MultiHeadAttention" else {})}
        return random_layer(d, name, config, sample, times=2)
    config = {"units": d.integer(1, 3), **d.some(return_sequences=d.chance(), go_backwards=d.chance())}
    kind = d.pick("dropout", "recurrent_dropout", "both")
    config |= {"dropout": d.number(0.2, 0.7)} if kind != "recurrent_dropout" else {}
    config |= {"recurrent_dropout": d.number(0.2, 0.7)} if kind != "dropout" else {}
    return random_layer(d, name, config, sample)


TABLE = [
    (draw_noise, [("Dropout", 0), ("SpatialDropout1D", 2), ("SpatialDropout2D", 3), ("SpatialDropout3D", 4),
                  ("GaussianNoise", 0), ("GaussianDropout", 0), ("AlphaDropout", 0)]),
    (draw_image_change, [("Solarization", 2)] + [(f"Random{kind}", 2) for kind in (
        "Flip", "Rotation", "Zoom", "Translation", "Shear", "Crop", "Brightness", "Contrast", "Grayscale", "Invert",
        "ColorDegeneration", "ColorJitter", "Hue", "Saturation")]),
    (draw_dropping, [(name, 0) for name in ("SimpleRNN", "LSTM", "GRU", "MultiHeadAttention", "Attention",
                                            "AdditiveAttention")]),
]  # fmt: skip
