"""What Keras says about itself: constructors, configurations, and models as JSON with what they compute.

python worker_configs.py OUT.json OUT.npz. Knows nothing of vivace.
"""

import importlib
import importlib.util
import inspect
import json
import os
import sys

os.environ.setdefault("KERAS_BACKEND", "jax" if importlib.util.find_spec("jax") else "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np
from keras import layers as L

FAMILIES = ("layers", "losses", "metrics", "optimizers", "optimizers.schedules", "initializers", "regularizers",
            "constraints")  # fmt: skip
NEEDED = {
    "activation": "tanh", "axes": 1, "backward_layer": None, "cropping": 1, "decay_rate": 0.5, "decay_steps": 5,
    "dims": (2, 1), "factor": 0.1, "filters": 4, "first_decay_steps": 4, "head_dim": 2, "height": 3,
    "height_factor": 0.1, "initial_learning_rate": 0.1, "input_dim": 4, "kernel_size": 2, "key_dim": 2, "n": 2,
    "normalizer": [1.0], "num_classes": 3, "num_heads": 2, "num_key_value_heads": 1, "num_query_heads": 2,
    "output_dim": 3, "pool_size": 2, "precision": 0.5, "rate": 0.5, "recall": 0.5, "scale": 2.0, "sensitivity": 0.5,
    "shape": (3,), "specificity": 0.5, "stddev": 0.1, "target_class_ids": [0], "target_shape": (3,), "units": 4,
    "width": 3, "width_factor": 0.1, "num_tokens": 3, "boundaries": [2], "values": [0.1, 0.2],
}  # fmt: skip


def classes():
    for family in FAMILIES:
        module = keras
        for part in family.split("."):
            module = getattr(module, part)
        for name in dir(module):
            if inspect.isclass(getattr(module, name)):
                yield f"{family}.{name}", getattr(module, name)


def parameters(cls):
    found = list(inspect.signature(cls.__init__).parameters.values())[1:]
    return [p for p in found if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]


def made(name, cls):
    if name in ("layers.Bidirectional", "layers.TimeDistributed"):
        return cls(L.LSTM(2, return_sequences=True) if "Bi" in name else L.Dense(2))
    needed = {p.name: NEEDED[p.name] for p in parameters(cls) if p.default is p.empty}
    if name == "layers.InputLayer":
        needed = {"shape": (3,)}
    return cls(**needed)


def named():
    """What stands for an object where one is asked for: names, and classes that need no arguments."""
    for family in ("activations", "constraints", "initializers", "losses", "metrics", "optimizers", "regularizers"):
        known = importlib.import_module(f"keras.src.{family}").ALL_OBJECTS_DICT
        get = getattr(keras, family).get
        for name, thing in known.items():
            try:
                found = get(name)
                config = found.get_config() if family in ("initializers", "regularizers", "constraints") else None
            except Exception:  # it needs arguments, or is a base class
                continue
            by_class = inspect.isclass(thing) and thing.__name__ == name and family not in ("optimizers", "activations")
            yield family, name, getattr(found, "__name__", type(found).__name__), config, by_class


def models():
    x = L.Input((12, 12, 3), name="image")
    h = L.Conv2D(4, 3, padding="same", activation="relu", kernel_constraint="max_norm")(x)
    h = L.BatchNormalization()(L.MaxPooling2D()(h))
    h = L.add([h, L.SeparableConv2D(4, 3, padding="same", activation="gelu")(h)])
    yield keras.Model(x, L.Dense(5, "softmax")(L.Dropout(0.2)(L.GlobalAveragePooling2D()(h))), name="vision")
    a, b = L.Input((6, 3), name="a"), L.Input((5,), name="b")
    shared = L.Dense(4, "tanh")
    inner_in = L.Input((4,))
    inner = keras.Model(inner_in, [L.Dense(3)(inner_in), L.LeakyReLU(0.1)(inner_in)], name="inner")
    y, state = L.GRU(4, return_sequences=True, return_state=True)(a)
    y = L.MultiHeadAttention(2, 3)(y, y)
    y = L.LayerNormalization()(L.Bidirectional(L.LSTM(3, return_sequences=True), merge_mode="sum")(y))
    one, two = inner(L.Average()([shared(state), shared(L.Dense(4)(b))]))
    yield keras.Model([a, b], [L.TimeDistributed(L.Dense(2))(y), one, two], name="two_and_three")
    yield keras.Sequential([L.Input((7, 2)), L.Conv1D(3, 2, padding="causal"), L.PReLU(), L.Flatten(), L.Dense(2)])
    yield keras.Sequential([keras.Sequential([L.Input((4,)), L.Dense(3, "selu")], name="body"), L.Dense(2)])


def main(text_path, arrays_path):
    said = {"named": list(named()), "parameters": {}, "configs": {}, "failed": {}, "models": []}
    for name, cls in classes():
        said["parameters"][name] = [p.name for p in parameters(cls)]
        try:
            said["configs"][name] = json.loads(json.dumps(keras.saving.serialize_keras_object(made(name, cls))))
        except Exception as error:
            said["failed"][name] = str(error)[:200]
    arrays, rng = {}, np.random.default_rng(0)
    for i, model in enumerate(models()):
        said["models"].append(model.to_json())
        if not model.built:
            model.build((None, 4))
        model.set_weights([rng.uniform(0.1, 0.9, w.shape) for w in model.get_weights()])
        x = [rng.normal(size=(2, *tensor.shape[1:])).astype("float32") for tensor in model.inputs]
        y = model.predict(x if len(x) > 1 else x[0], verbose=0)
        for kind, group in (("w", model.get_weights()), ("x", x), ("y", y if isinstance(y, list) else [y])):
            arrays |= {f"{kind}{i}_{k}": array for k, array in enumerate(group)}
    with open(text_path, "w") as file:
        json.dump(said, file)
    np.savez(arrays_path, **arrays)


main(*sys.argv[1:])
