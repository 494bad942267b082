"""One program of compile, fit, evaluate and predict, written once and run with Keras and with vivace.

`api` is the package, `keras` or `vivace`; nothing here knows which. A case says what to do, arrays come beside it.
"""

from typing import Any

import numpy as np

Case = dict[str, Any]


def model_of(api: Any, case: Case) -> Any:
    layers = api.layers
    if case["kind"] == "two":
        a, b = layers.Input((4,), name="a"), layers.Input((3,), name="b")
        h = layers.Concatenate()([layers.Dense(5, "tanh")(a), b])
        one = layers.Dense(2, name="one")(h)
        two = layers.Dense(3, "softmax", name="two", kernel_regularizer=case["regularizer"])(h)
        return api.Model([a, b], [one, two])
    shapes = {"steps": (5, 3), "image": (6, 6, 2), "words": (5,), "tags": (None,)}
    shapes |= {"chain": (5,), "chain_of_steps": (5,)}
    x = layers.Input(shapes.get(case["kind"], (4,)))
    if case["kind"] == "image":
        h = layers.Conv2D(3, 3, padding="same", activation="relu", kernel_regularizer=case["regularizer"])(x)
        h = layers.Flatten()(layers.MaxPooling2D()(layers.BatchNormalization()(h)))
    elif case["kind"] in ("chain", "chain_of_steps"):
        h = layers.Embedding(7, 4, mask_zero=True)(x)
        for link in case["chain"]:
            h = linked(layers, link, h)
    elif case["kind"] in ("words", "tags"):
        h = layers.Embedding(7, 4, mask_zero=True)(x)
        h = layers.Bidirectional(layers.LSTM(3, return_sequences=case["kind"] == "tags"))(h)
    else:
        h = layers.Dense(5, "tanh", kernel_regularizer=case["regularizer"])(x)
    if case["activity"]:
        h = layers.ActivityRegularization(l2=0.01)(h)
    if case["kind"] == "steps":
        h = layers.SimpleRNN(4, return_sequences=True)(h)
    return api.Model(x, layers.Dense(case["units"], case["activation"], name="out")(h))


def linked(layers: Any, link: Any, h: Any) -> Any:
    """What a link of a chain, [name, configuration], makes of a sequence with a mask."""
    name, config = link[0], dict(link[1])
    if name == "Residual":
        return layers.Add()([h, layers.Dense(h.shape[-1], **config)(h)])
    if name == "Joined":
        return layers.Concatenate()([h, layers.GRU(2, return_sequences=True)(h)])
    if name == "SelfAttention":
        return layers.MultiHeadAttention(2, 3)(h, h, **config)
    if name == "DotAttention":
        return layers.Attention(**config)([h, h])
    if name in ("Bidirectional", "TimeDistributed"):
        inner, of_inner = config.pop("layer")
        return getattr(layers, name)(getattr(layers, inner)(**of_inner), **config)(h)
    if name == "RNN":
        cells = [getattr(layers, kind)(units) for kind, units in config.pop("cells")]
        return layers.RNN(cells if len(cells) > 1 else cells[0], **config)(h)
    return getattr(layers, name)(**config)(h)


def metric_of(api: Any, identifier: Any) -> Any:
    """A name, a class with its arguments, or lists and dicts of them."""
    if isinstance(identifier, list) and identifier and identifier[0] == "class":
        return getattr(api.metrics, identifier[1])(**identifier[2])
    if isinstance(identifier, list):
        return [metric_of(api, one) for one in identifier]
    if isinstance(identifier, dict):
        return {name: metric_of(api, one) for name, one in identifier.items()}
    return identifier


def batches(api: Any, source: str, arrays: tuple[Any, Any, Any], size: int, endless: bool) -> Any:
    """The arrays as a PyDataset or a generator of batches."""
    x, y, w = arrays

    def part(a: Any, rows: slice) -> Any:
        return tuple(one[rows] for one in a) if isinstance(a, list) else a[rows]

    def batch(i: int) -> Any:
        rows = slice(i * size, (i + 1) * size)
        return (part(x, rows), part(y, rows)) if w is None else (part(x, rows), part(y, rows), part(w, rows))

    first = x[0] if isinstance(x, list) else x
    count = -(-len(first) // size)

    class Batches(api.utils.PyDataset):
        def __len__(self) -> int:
            return count

        def __getitem__(self, i: int) -> Any:
            return batch(i)

    def generator() -> Any:
        while True:
            yield from (batch(i) for i in range(count))
            if not endless:
                return

    return Batches() if source == "dataset" else generator()


def run_callbacks(api: Any, case: Case) -> dict[str, Any]:
    """What callbacks make of a script of values to monitor: epochs, learning rates, the weights in the end."""
    model = api.Sequential([api.layers.Input((1,)), api.layers.Dense(1, use_bias=False)])
    model.compile(api.optimizers.SGD(0.5), "mse")

    class Script(api.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            logs[case["monitor"]] = case["script"][epoch]
            self.model.set_weights([np.full((1, 1), float(epoch))])

    callbacks = [Script(), *(getattr(api.callbacks, name)(**config) for name, config in case["callbacks"])]
    if case["schedule"]:
        callbacks.append(api.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9))
    x = np.zeros((2, 1), "float32")
    history = model.fit(x, x, epochs=len(case["script"]), verbose=0, callbacks=callbacks)
    rates = history.history.get("learning_rate", [])
    return {"epochs": np.array(history.epoch), "rates": np.array(rates), "weight": model.get_weights()[0]}


def run(api: Any, case: Case, arrays: dict[str, Any]) -> dict[str, Any]:
    """All numbers that the program gives, by name; the kind of error where it is refused."""
    if case["kind"] == "callbacks":
        return run_callbacks(api, case)
    model = model_of(api, case)
    model.set_weights([arrays[f"weight_{i}"] for i in range(len(model.weights))])
    chosen = dict(case["compile"])
    for argument in ("metrics", "weighted_metrics"):
        chosen[argument] = metric_of(api, chosen[argument])
    smooth = (
        {} if case["optimizer"] == "SGD" else {"epsilon": 0.01}
    )  # else it makes much of gradients that are rounding
    optimizer = getattr(api.optimizers, case["optimizer"])(learning_rate=0.05, **smooth)
    out: dict[str, Any] = {}
    try:
        model.compile(optimizer=optimizer, **chosen)
        for what, call in (("fit", fit), ("evaluate", evaluate), ("on_batch", on_batch), ("predict", predict)):
            out |= {f"{what}/{name}": value for name, value in call(api, model, case, arrays).items()}
    except (ValueError, KeyError, TypeError) as error:
        return {"refused": np.array(1), "message": np.array(f"{type(error).__name__}: {error}"[:300])}
    return out | {f"after/{i}": w for i, w in enumerate(model.get_weights())}


def named(arrays: dict[str, Any], prefix: str) -> Any:
    """x, or [x_0, x_1] where there are several; None where there is none."""
    if prefix in arrays:
        return arrays[prefix]
    found = [arrays[f"{prefix}_{i}"] for i in range(2) if f"{prefix}_{i}" in arrays]
    return found or None


def fit(api: Any, model: Any, case: Case, arrays: dict[str, Any]) -> dict[str, Any]:
    arguments = dict(case["fit"])
    given = named(arrays, "x"), named(arrays, "y"), named(arrays, "w")
    if "class_weight" in arguments:
        arguments["class_weight"] = {int(k): v for k, v in arguments["class_weight"].items()}
    if case["validate"]:
        data = named(arrays, "vx"), named(arrays, "vy"), named(arrays, "vw")
        if case["validate"] == "dataset":
            arguments["validation_data"] = batches(api, "dataset", data, 4, False)
        else:
            arguments["validation_data"] = data if data[2] is not None else data[:2]
    begun, ended = [], []

    class Spy(api.callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            begun.append(batch)

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            ended.append(batch)
            self.last = dict(logs or {})

    spy = Spy()
    arguments |= {"verbose": 0, "callbacks": [spy], "shuffle": False}
    if case["source"] == "arrays":
        x, y, w = given
        history = model.fit(x, y, sample_weight=w, **arguments)
    else:
        size = arguments.pop("batch_size")
        endless = "steps_per_epoch" in arguments
        history = model.fit(batches(api, case["source"], given, size, endless), **arguments)
    out = {name: np.array(values) for name, values in history.history.items()}
    out |= {f"last_batch_{name}": np.array(value) for name, value in spy.last.items()}
    # Keras numbers an execution's end by where a whole one would end, also where the data ends before.
    return out | {"epochs": np.array(history.epoch), "begun": np.array(begun), "ended": np.array(len(ended))}


def evaluate(api: Any, model: Any, case: Case, arrays: dict[str, Any]) -> dict[str, Any]:
    x, y, w = named(arrays, "vx"), named(arrays, "vy"), named(arrays, "vw")
    logs = model.evaluate(x, y, sample_weight=w, verbose=0, return_dict=True, **case["evaluate"])
    out = {name: np.array(value) for name, value in logs.items()}
    if case["in_order"]:
        out["in_order"] = np.atleast_1d(model.evaluate(x, y, sample_weight=w, verbose=0, **case["evaluate"]))
    dataset = batches(api, "dataset", (x, y, w), 3, False)
    logs = model.evaluate(dataset, verbose=0, return_dict=True)
    return out | {f"dataset_{name}": np.array(value) for name, value in logs.items()}


def on_batch(api: Any, model: Any, case: Case, arrays: dict[str, Any]) -> dict[str, Any]:
    x, y, w = named(arrays, "vx"), named(arrays, "vy"), named(arrays, "vw")
    tested = model.test_on_batch(x, y, sample_weight=w, return_dict=True)
    more = {}
    if w is None and "class_weight" in case["fit"]:
        more = {"class_weight": {int(k): v for k, v in case["fit"]["class_weight"].items()}}
    trained = model.train_on_batch(x, y, sample_weight=w, return_dict=True, **more)
    out = {f"tested_{name}": np.array(value) for name, value in tested.items()}
    return out | {f"trained_{name}": np.array(value) for name, value in trained.items()}


def predict(api: Any, model: Any, case: Case, arrays: dict[str, Any]) -> dict[str, Any]:
    x = named(arrays, "x")
    results = {
        "arrays": model.predict(x, verbose=0, **case["predict"]),
        "on_batch": model.predict_on_batch(x),
        "dataset": model.predict(batches(api, "dataset", (x, named(arrays, "y"), None), 5, False), verbose=0),
    }
    out = {}
    for name, result in results.items():
        for i, one in enumerate(result if isinstance(result, (list, tuple)) else [result]):
            out[f"{name}_{i}"] = np.asarray(one)
    return out
