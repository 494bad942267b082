"""JAX: jitted, hand-written steps; recurrent layers by `lax.scan` behind their input product. XLA takes all cores."""

from common import GATES, batches, cnn_weights, images, mnist, repeat, sequences, serve, task

task = task()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax import lax  # noqa: E402


def pool(a):
    return lax.reduce_window(a, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def conv(a, kernel):
    return lax.conv_general_dilated(a, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def cnn(w, x):
    h = pool(jax.nn.relu(conv(x, w[0]) + w[1]))
    h = pool(jax.nn.relu(conv(h, w[2]) + w[3])).reshape(len(x), 1600)
    return jax.nn.relu(h @ w[4] + w[5]) @ w[6] + w[7]


def cell_step(cell, units, u, b, state, xp):
    sigmoid = jax.nn.sigmoid
    h = state[0]
    if cell == "simple":
        return (jnp.tanh(xp + h @ u),)
    if cell == "lstm":
        i, f, g, o = jnp.split(xp + h @ u, 4, -1)
        c = sigmoid(f) * state[1] + sigmoid(i) * jnp.tanh(g)
        return sigmoid(o) * jnp.tanh(c), c
    r = h @ u + b
    update = sigmoid(xp[:, :units] + r[:, :units])
    reset = sigmoid(xp[:, units : 2 * units] + r[:, units : 2 * units])
    return ((1 - update) * jnp.tanh(xp[:, 2 * units :] + reset * r[:, 2 * units :]) + update * h,)


def recurrent():
    cell, _, inputs, units = task.recurrent()
    rng, columns = np.random.default_rng(0), GATES[cell] * units
    shapes = [(inputs, columns), (units, columns), (columns,), (columns,), (units, 10), (10,)]
    weights = [jnp.asarray(rng.uniform(-(units**-0.5), units**-0.5, s).astype("f4")) for s in shapes]

    def states(w, x):
        xp = jnp.swapaxes(x, 0, 1) @ w[0] + w[2]
        zeros = jnp.zeros((len(x), units))
        start = (zeros, zeros) if cell == "lstm" else (zeros,)
        return lax.scan(lambda s, xt: (cell_step(cell, units, w[1], w[3], s, xt), None), start, xp)[0][0]

    return states, weights


def trainer(logits, weights):
    """A jitted step of Adam on the cross-entropy."""

    def step(state, x, y):
        w, m, v, t = state

        def loss(w):
            z = jax.nn.log_softmax(logits(w, x))
            return -jnp.take_along_axis(z, y[:, None], 1).mean()

        g = jax.grad(loss)(w)
        t = t + 1
        m = [0.9 * a + 0.1 * b for a, b in zip(m, g, strict=True)]
        v = [0.999 * a + 0.001 * b * b for a, b in zip(v, g, strict=True)]
        rate = 1e-3 * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        w = [a - rate * b / (jnp.sqrt(c) + 1e-7) for a, b, c in zip(w, m, v, strict=True)]
        return w, m, v, t

    jitted = jax.jit(step, donate_argnums=0)
    state = [(list(weights), [w * 0 for w in weights], [w * 0 for w in weights], 0)]

    def one(x, y):
        state[0] = jitted(state[0], x, y)
        jax.block_until_ready(state[0])

    return one


if task.name == "train-cnn":
    x, y = mnist(task.detail)
    y = y.astype(np.int32)
    rows = batches(len(y), task.batch)
    step = trainer(cnn, [jnp.asarray(w) for w in cnn_weights()])

    def one():
        index = next(rows)
        step(x[index], y[index])

elif task.name == "train-rnn":
    states, weights = recurrent()
    x, y = sequences(task)
    step = trainer(lambda w, x: states(w, x) @ w[4] + w[5], weights)

    def one():
        step(x, y)

elif task.name == "infer-cnn":
    x, weights = images(task.batch), [jnp.asarray(w) for w in cnn_weights()]
    call = jax.jit(lambda w, x: jax.nn.softmax(cnn(w, x)))

    def one():
        return np.asarray(call(weights, x))

else:
    states, weights = recurrent()
    x = sequences(task)[0]
    call = jax.jit(states)

    def one():
        return np.asarray(call(weights, x))


serve(f"JAX {jax.__version__}", repeat(one))
