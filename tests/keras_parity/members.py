"""What objects of Keras's most used classes have, and ours: the last sections of docs/keras-names.md.

A layer is a Dense, a model a Functional, a chain a Sequential, an optimizer Adam, a metric Mean.
"""

from __future__ import annotations

import fnmatch
from typing import Any

# Run with both packages: api.layers, api.Model and so on are their modules and classes.
MAKE = """
def made(layers, models, metrics):
    inputs = layers.Input((3,))
    model = models.Model(inputs, layers.Dense(2)(inputs))
    chain = models.Sequential([layers.Input((3,)), layers.Dense(2)])
    for one in (model, chain):
        one.compile("adam", "mse")
    dense = chain.layers[0]
    things = {"layer": dense, "model": model, "chain": chain, "variable": dense.kernel, "optimizer": chain.optimizer,
              "metric": metrics.Mean()}
    return {name: [one for one in dir(thing) if one[0] != "_"] for name, thing in things.items()}
"""

_TAPE = "there is no gradient tape: a layer has `forward` and `backward`, `fit` one step around them"
_JAX = "for functions of state that JAX traces"
_QUANTIZED = "no low-rank adaptation or quantization yet"
_FILES = "`save` writes all arrays by their names"
_INTERNAL = "internal to Keras"

# Why ours lacks a member: a pattern of "Class.member", and the reason.
ABSENT = {
    "*.add_loss": _TAPE,
    "*.add_metric": "metrics are given to `compile`",
    "*.add_variable": "`add_weight`; of an optimizer `slots`",
    "*.add_optimizer_variables": "`slots`",
    "*.add_variable_from_reference": "`slots`",
    "optimizer.assign*": "`set_weights` and `Parameter.assign`",
    "*.autocast": "an array is converted to the layer's dtype",
    "optimizer.built": "state is made at the first step",
    "*.call_signature_parameters": _INTERNAL,
    "*.compute_loss*": _TAPE,
    "*.compute_metrics": "`get_metrics_result`",
    "*.compute_output_spec": "`compute_output_shape`",
    "*.dtype_policy": "`dtype`: nothing is computed in another precision",
    "*.export": "not yet",
    "*.finalize_variable_values": "`finalize`",
    "*.get_quantization_layer_structure": _QUANTIZED,
    "*.get_state_tree": _JAX,
    "*.set_state_tree": _JAX,
    "*.input_spec": "shape rules are written in `compute_output_shape`",
    "*.jax_state_sync": _JAX,
    "*.load_own_variables": _FILES,
    "*.save_own_variables": _FILES,
    "*.lora_*": _QUANTIZED,
    "*.enable_lora": _QUANTIZED,
    "*.loss_scale_factor": "for half precision, which training does not use",
    "*.scale_loss": "for half precision, which training does not use",
    "*.make_*_function": "there is nothing to compile",
    "*.train_function": "there is nothing to compile",
    "*.test_function": "there is nothing to compile",
    "*.predict_function": "there is nothing to compile",
    "*.predict_step": "`predict_on_batch`",
    "layer.metrics": "metrics are given to `compile`",
    "*.metrics_variables": "a metric's numbers are its attributes",
    "*.operations": "`layers`",
    "layer.path": "`name`",
    "model.path": "`name`",
    "chain.path": "`name`",
    "*.quanti*": _QUANTIZED,
    "*.rematerialized_call": "activations are kept",
    "*.stateless_*": _JAX,
    "*.supports_jit": "there is nothing to compile",
    "*.supports_masking": "a layer that cannot pass a mask on warns once",
    "*.symbolic_call": _INTERNAL,
    "optimizer.set_weights": "`set_state`",
    "optimizer.variables": "`get_state`",
    "optimizer.update_step": "`update`",
    "*.variable_serialization_spec": _INTERNAL,
    "variable.aggregation": "for distribution",
    "variable.synchronization": "for distribution",
    "variable.overwrite_with_gradient": _INTERNAL,
}


def ours() -> dict[str, list[str]]:
    from vivace import layers, metrics, models

    scope: dict[str, Any] = {}
    exec(MAKE, scope)
    return scope["made"](layers, models, metrics)


def rows(keras: dict[str, list[str]]) -> tuple[list[str], list[str]]:
    """The lines of the page, and what has no reason, or a reason too many."""
    lines, wrong, used, own = [], [], set(), ours()
    for kind, members in keras.items():
        absent = [member for member in members if member not in own[kind]]
        lines += [
            "",
            f"## What {'an' if kind == 'optimizer' else 'a'} {kind} has",
            "",
            f"{len(members) - len(absent)} of {len(members)}: ",
        ]
        lines[-1] += ", ".join(f"`{member}`" for member in members if member in own[kind])
        lines += ["", "| absent | why |", "|---|---|"]
        for member in absent:
            pattern = next((p for p in ABSENT if fnmatch.fnmatchcase(f"{kind}.{member}", p)), None)
            used.add(pattern)
            if pattern is None:
                wrong.append(f"{kind} has no {member}, without a reason")
            else:
                lines.append(f"| `{member}` | {ABSENT[pattern]} |")
    return lines, wrong + [f"nothing is absent that {p!r} gives a reason for" for p in ABSENT if p not in used]
