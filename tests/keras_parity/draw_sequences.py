"""Random configurations of recurrent layers, attention, embeddings, and layers around layers."""

from __future__ import annotations

from typing import Any

from dice import Arrays, Case, Dice
from draw_layers import layer, penalties


def recurrent_config(d: Dice, name: str) -> dict[str, Any]:
    config: dict[str, Any] = {"units": d.integer(1, 7), **d.some(use_bias=d.chance())}
    config |= d.some(activation=d.pick("tanh", "relu", "sigmoid", "linear", "softsign", "elu"))
    if name != "SimpleRNN":
        config |= d.some(recurrent_activation=d.pick("sigmoid", "hard_sigmoid", "tanh"))
    if name == "GRU":
        config |= d.some(reset_after=d.chance(0.7))
    if name == "LSTM":
        config |= d.some(unit_forget_bias=d.chance())
    config |= d.some(return_sequences=d.chance(), go_backwards=d.chance())
    # without sequences, it zeroes the last output where the last step is masked, though Keras says it does nothing
    config |= d.some(zero_output_for_mask=d.chance()) if config.get("return_sequences") else {}
    # Keras's SimpleRNN has the argument activity_regularizer, and forgets it
    return config | penalties(d, "kernel", "recurrent", "bias", *(["activity"] if name != "SimpleRNN" else []))


def states_of(d: Dice, name: str, units: int, batch: int, copies: int = 1) -> Arrays:
    count = copies * (2 if name == "LSTM" else 1)
    return {f"s{k}": d.normal(batch, units) for k in range(count)}


def draw_recurrent(d: Dice, name: str, rank: int) -> Case:
    if name == "SimpleRNN":
        d.dtype = "float32"  # another one Keras on JAX does not take there
    config = recurrent_config(d, name) | d.some(return_state=d.chance())
    batch, steps, features = d.integer(1, 4), d.integer(1, 7), d.integer(1, 5)
    arrays: Arrays = {"x0": d.normal(batch, steps, features)}
    if d.chance():
        arrays["m0"] = d.mask(batch, steps)
    else:
        config |= d.some(unroll=d.chance())  # unrolled, Keras gives masked steps in front zeros, not the initial state
    more: dict[str, Any] = {}
    if d.chance(0.25):
        config["stateful"], more["passes"] = True, 2
    elif d.chance(0.3):
        arrays |= states_of(d, name, config["units"], batch)
    return layer(name, config, arrays, **more)


def cell_of(d: Dice, kind: str) -> dict[str, Any]:
    config = recurrent_config(d, kind)
    for argument in ("return_sequences", "go_backwards", "zero_output_for_mask", "activity_regularizer"):
        config.pop(argument, None)
    return {"class_name": f"{kind}Cell", "config": config}


def draw_cell(d: Dice, name: str, rank: int) -> Case:
    cell, batch = cell_of(d, name.removesuffix("Cell")), d.integer(1, 4)
    arrays = {"x0": d.normal(batch, d.integer(1, 5))}
    arrays |= states_of(d, name.removesuffix("Cell"), cell["config"]["units"], batch)
    return layer(name, cell["config"], arrays, states="states")


def draw_cells(d: Dice, name: str, rank: int) -> Case:
    """A cell, or several, in an RNN."""
    kinds = [d.pick("SimpleRNN", "LSTM", "GRU") for _ in range(d.pick(0, 0, 1, 2, 3) or 1)]
    several, batch, steps = len(kinds) > 1, d.integer(1, 4), d.integer(1, 6)
    if several:
        d.dtype = "float32"  # the states of several cells are of no other in Keras on JAX
    if several and d.chance(0.4):
        kinds = ["LSTM"] * len(kinds)
    cells = [cell_of(d, kind) for kind in kinds]
    config: dict[str, Any] = {"cell": cells if several else cells[0]}
    if several and d.chance():
        config["cell"] = {"class_name": "StackedRNNCells", "config": {"cells": cells}}
    config |= d.some(return_sequences=d.chance(), return_state=d.chance(), go_backwards=d.chance())
    arrays: Arrays = {"x0": d.normal(batch, steps, d.integer(1, 5))}
    # At a masked step Keras takes the first state of the last cell, if it is a list, for the output, else of the first.
    if d.chance() and (not several or kinds[-1] == kinds[0] == "LSTM"):
        arrays["m0"] = d.mask(batch, steps)
        config |= d.some(zero_output_for_mask=d.chance()) if config.get("return_sequences") else {}
    else:
        config |= d.some(unroll=d.chance())
    more: dict[str, Any] = {}
    if d.chance(0.25) and not several:  # Keras cannot keep lists of states
        config["stateful"], more["passes"] = True, 2
    elif d.chance(0.4):
        sizes = [(cell["config"]["units"], 2 if kind == "LSTM" else 1) for cell, kind in zip(cells, kinds, strict=True)]
        units = [n for n, count in sizes for _ in range(count)]
        arrays |= {f"s{k}": d.normal(batch, n) for k, n in enumerate(units)}
        more |= {"nest": [count for _, count in sizes]} if several else {}
    return layer(name, config, arrays, **more)


def draw_bidirectional(d: Dice, name: str, rank: int) -> Case:
    kind, d.dtype = d.pick("SimpleRNN", "LSTM", "GRU"), "float32"  # its layers do not take another in Keras on JAX
    inner = recurrent_config(d, kind) | d.some(return_state=d.chance(0.4))
    for argument in ("kernel_regularizer", "recurrent_regularizer", "bias_regularizer", "activity_regularizer"):
        inner.pop(argument, None)
    backwards = bool(inner.pop("go_backwards", False))
    config: dict[str, Any] = {"layer": {"class_name": kind, "config": inner}}
    config |= d.some(merge_mode=d.pick("concat", "sum", "mul", "ave", None))
    batch, steps, features = d.integer(1, 4), d.integer(1, 6), d.integer(1, 5)
    arrays: Arrays = {"x0": d.normal(batch, steps, features)}
    if d.chance():
        arrays["m0"] = d.mask(batch, steps)
    if d.chance(0.3):
        arrays |= states_of(d, kind, inner["units"], batch, 2)
    if d.chance(0.25):  # the same by a cell
        flags = {flag: inner.pop(flag) for flag in ("return_sequences", "return_state") if flag in inner}
        inner.pop("zero_output_for_mask", None)
        cell = {"class_name": f"{kind}Cell", "config": inner}
        config["layer"] = {"class_name": "RNN", "config": {"cell": cell, **flags}}
    if backwards:  # Keras then takes no copy of the layer for the other
        half = config["layer"]
        config["backward_layer"] = half
        config["layer"] = {**half, "config": {**half["config"], "go_backwards": True}}
    return layer(name, config, arrays)


def draw_time_distributed(d: Dice, name: str, rank: int) -> Case:
    batch, steps = d.integer(1, 3), d.integer(1, 4)
    inner, shape = d.pick(
        ({"class_name": "Dense", "config": {"units": 3, "activation": "tanh"}}, [5]),
        ({"class_name": "Conv2D", "config": {"filters": 2, "kernel_size": 2}}, [4, 5, 2]),
        ({"class_name": "MaxPooling1D", "config": {}}, [6, 2]),
        ({"class_name": "Flatten", "config": {}}, [2, 3]),
        ({"class_name": "LSTM", "config": {"units": 2}}, [3, 2]),
    )
    arrays: Arrays = {"x0": d.normal(batch, steps, *shape)}
    if d.chance() and inner["class_name"] != "LSTM":  # which Keras gives a mask without steps, and fails
        arrays["m0"] = d.mask(batch, steps)
    return layer(name, {"layer": inner}, arrays)


def draw_embedding(d: Dice, name: str, rank: int) -> Case:
    words = d.integer(1, 9)
    config = {"input_dim": words, "output_dim": d.integer(1, 5), **d.some(mask_zero=d.chance())}
    config |= penalties(d, "embeddings")
    x = d.labels(words, d.integer(1, 4), *d.integers(1, 5, d.integer(0, 2)))
    return layer(name, config, {"x0": x.astype("int32")})


def draw_masking(d: Dice, name: str, rank: int) -> Case:
    value = d.pick(0.0, -1.0)
    x = d.normal(3, d.integer(1, 5), d.integer(1, 3))
    x[d.rng.random(x.shape[:2]) < 0.4] = value
    x[d.rng.random(x.shape) < 0.2] = value
    config = {} if value == 0 and d.chance() else {"mask_value": value}
    return layer(name, config, {"x0": x})


def masks(d: Dice, arrays: Arrays, probability: float = 0.4) -> Arrays:
    return {
        f"m{name[1:]}": d.mask(*a.shape[:2]) for name, a in arrays.items() if name[0] == "x" and d.chance(probability)
    }


def draw_attention(d: Dice, name: str, rank: int) -> Case:
    batch, queries, keys = d.integer(1, 3), d.integer(1, 9), d.integer(1, 9)
    features = d.integers(1, 6, 3)
    heads = d.integer(1, 3)
    if name == "MultiHeadAttention":
        config: dict[str, Any] = {"num_heads": heads, "key_dim": d.integer(1, 5)}
        config |= d.some(value_dim=d.pick(None, 4), output_shape=d.pick(None, 5, [5], [2, 3]), use_bias=d.chance())
        config |= d.some(use_gate=d.chance(0.3), sliding_window=d.pick(None, d.integer(1, 4)))
    else:
        config = {"head_dim": d.integer(1, 5), "num_query_heads": 2 * heads, "num_key_value_heads": d.pick(heads, 1)}
        config |= d.some(use_bias=d.chance(), use_gate=d.chance(0.3))
        features = [features[0]] * 3
    shapes = [[batch, queries, features[0]], [batch, keys, features[1]], [batch, keys, features[2]]][: d.integer(2, 3)]
    if config.get("sliding_window"):
        shapes = [[batch, queries, one[-1]] for one in shapes]
    if name == "MultiHeadAttention" and d.chance(0.2) and not config.get("sliding_window"):
        axes = d.pick([2], [1, 2], None)
        config["attention_axes"] = axes
        inner = d.integer(1, 3)
        shapes = [[one[0], inner, *one[1:]] for one in shapes]
        arrays: Arrays = {f"x{k}": d.normal(*shape) for k, shape in enumerate(shapes)}
        return layer(name, config, arrays, form="several")
    arrays = {f"x{k}": d.normal(*shape) for k, shape in enumerate(shapes)}
    call = d.some(use_causal_mask=d.chance())
    if d.chance(0.3):  # outside training: but then Keras computes along another path
        config["dropout"], call["training"] = d.number(0.1, 0.5), False
    if d.chance(0.3):
        arrays["p0"] = d.rng.random((batch, shapes[0][1], shapes[1][1])) < 0.7
    return layer(name, config | penalties(d, "kernel", "bias"), arrays | masks(d, arrays), form="several", call=call)


def draw_sequence_attention(d: Dice, name: str, rank: int) -> Case:
    batch, queries, steps, features, values = d.integer(1, 3), *d.integers(1, 8, 4)
    shapes = d.pick(
        [[batch, queries, features], [batch, steps, features]],
        [[batch, queries, features], [batch, steps, values], [batch, steps, features]],
    )
    arrays: Arrays = {f"x{k}": d.normal(*shape) for k, shape in enumerate(shapes)}
    config = d.some(use_scale=d.chance())
    if name == "Attention":
        config |= d.some(score_mode=d.pick("dot", "concat"))
    call = d.some(use_causal_mask=d.chance())
    arrays |= masks(d, dict(list(arrays.items())[:2]))
    if d.dtype == "float64" and "m1" in arrays:  # of a query that may attend to nothing, see docs/keras-differences.md
        arrays["m1"][:, 0] = True
    return layer(name, config, arrays, form="list", call=call)


TABLE = [
    (draw_recurrent, [("SimpleRNN", 0), ("LSTM", 0), ("GRU", 0)]),
    (draw_cell, [("SimpleRNNCell", 0), ("LSTMCell", 0), ("GRUCell", 0)]),
    (draw_cells, [("RNN", 0)]),
    (draw_bidirectional, [("Bidirectional", 0)]),
    (draw_time_distributed, [("TimeDistributed", 0)]),
    (draw_embedding, [("Embedding", 0)]),
    (draw_masking, [("Masking", 0)]),
    (draw_attention, [("MultiHeadAttention", 0), ("GroupQueryAttention", 0)]),
    (draw_sequence_attention, [("Attention", 0), ("AdditiveAttention", 0)]),
]
