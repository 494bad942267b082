"""What Keras refuses, vivace refuses, and the other way round; exceptions stand here with their reasons. Opt-in."""

from __future__ import annotations

import fnmatch
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

KERAS = os.environ.get("VIVACE_KERAS_PYTHON")
pytestmark = [
    pytest.mark.keras,
    pytest.mark.skipif(not KERAS, reason="opt-in: VIVACE_KERAS_PYTHON names a Python with Keras"),
]

# Calls that Keras runs and vivace refuses: mostly arguments that Keras does not look at until they do harm, if ever.
STRICTER = {
    "arguments that can mean nothing are refused at once": (
        "L.MaxPooling2D(padding*", "L.MaxPooling2D(strides=0)", "L.UpSampling2D(interpolation*", "L.ZeroPadding2D(-1)",
        "L.GaussianDropout(1)", "L.AlphaDropout(1)", "L.BatchNormalization(axis=1.5)", "L.LSTM(3, *dropout=*",
        "L.LSTM(2.5)", "L.Attention(dropout=2)", "L.Rescaling(*", "L.Resizing(*", "L.RandomFlip(*",
        "L.RandomBrightness(*", "L.Discretization(num_bins=0)", "losses.*label_smoothing=*", "losses.Huber(*",
        "metrics.AUC(thresholds*", "metrics.IoU(2, *", "metrics.TopK*", "metrics.AUC(multi_label*",
        "optimizers.Adam(c*", "optimizers.Adam(ema*", "optimizers.Adam(use_ema*", "optimizers.Adam(gradient*",
        "optimizers.Adam(0.1*",
        "optimizers.Adam(weight_decay*", "optimizers.RMSprop(rho*", "k.initializers.RandomNormal(std*",
        "k.initializers.RandomUniform(*", "k.regularizers.L2(None)", "k.constraints.MaxNorm(*", "k.callbacks.*mode=*",
        "*compile(loss=\"nope\")",
    ),
    "numbers out of range are refused where Keras loses them silently": (
        "L.CategoryEncoding(2)(ids)", "k.utils.to_categorical([[]-1], 3)",
    ),
    "an output of no size is refused": ("L.MaxPooling2D(7)(x)",),
    "a batch of one is not repeated for a batch of several": ("L.MultiHeadAttention(2, 2)(steps, steps[[]:1])",),
    "sequences of features are needed": ("L.Masking(0)(flat)",),
    "nothing is made of nothing": (
        "losses.get(None)", "metrics.get(None)", "optimizers.get(None)", "k.initializers.get(None)",
        "*.build()", "k.models.*",
    ),
}  # fmt: skip
# Calls that vivace runs and Keras refuses.
MORE_LENIENT = {
    "strides and dilation go together": ("L.Conv2D*strides=2, dilation_rate=2)",),
    "a query may attend to itself": ("L.MultiHeadAttention(2, 2)(steps)",),
    "what is as good as a number or a name is taken for it": (
        "L.Dense(np.int64(3))", "L.Dense(3, name=3)", "L.Dropout(0.5, seed=*", "metrics.FBetaScore(beta=1)",
        "metrics.MeanSquaredError(name=3)", "optimizers.Adam(1)", "k.activations.get(\"Relu\")", "losses.deserialize*",
        "k.initializers.RandomNormal(seed=*", "k.regularizers.L2(float*",
    ),
    "an empty list of sequences, a base class, a second Input do no harm": (
        "k.utils.pad_sequences([[]])", "optimizers.Optimizer()", "k.Sequential([[]L.Input*",
    ),
}  # fmt: skip


def outcomes(python: str, package: str) -> dict[str, str]:
    program = str(Path(__file__).with_name("program_refusals.py"))
    done = subprocess.run([python, program, package], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    said: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return said


def test_what_is_refused() -> None:
    theirs, own = outcomes(str(KERAS), "keras"), outcomes(sys.executable, "vivace")
    wrong, used = [], set()
    for call, outcome in theirs.items():
        if (outcome == "runs") == (own[call] == "runs"):
            continue
        known = [p for part in (STRICTER if outcome == "runs" else MORE_LENIENT).values() for p in part]
        found = [pattern for pattern in known if fnmatch.fnmatchcase(call, pattern)]
        used |= set(found)
        if not found:
            wrong.append(f"{call}: Keras {outcome}, vivace {own[call]}")
    assert not wrong, "\n".join(wrong)
    every = {p for table in (STRICTER, MORE_LENIENT) for part in table.values() for p in part}
    assert every == used, f"nothing differs any more at {every - used}"
    # what vivace raises are errors that Python's users expect of wrong arguments
    assert set(own.values()) <= {"runs", "ValueError", "TypeError", "AxisError", "IndexError", "AttributeError",
                                 "FileNotFoundError"}, set(own.values())  # fmt: skip
