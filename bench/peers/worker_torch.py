"""PyTorch, eager: the default layout or channels_last, fused or foreach Adam."""

from common import batches, cnn_weights_channels_first, images, mnist, repeat, sequences, serve, task

task = task()

import torch  # noqa: E402
from torch import nn  # noqa: E402

torch.set_num_threads(task.threads)
layout = torch.channels_last if "channels_last" in task.variant else torch.contiguous_format
adam = {"lr": 1e-3, "eps": 1e-7, "fused": "foreach" not in task.variant}


def cnn():
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(1600, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), cnn_weights_channels_first(), strict=True):
            parameter.copy_(torch.from_numpy(value))
    return model.to(memory_format=layout)


def to_layout(x):
    return torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(memory_format=layout)


def train_cnn():
    images, labels = mnist(task.detail)
    x, y = to_layout(images), torch.from_numpy(labels)
    model = cnn()
    optimizer = torch.optim.Adam(model.parameters(), **adam)
    rows = batches(len(y), task.batch)
    correct, total = torch.zeros((), dtype=torch.long), torch.zeros(())

    def step():
        index = torch.from_numpy(next(rows))
        xb, yb = x[index], y[index]
        z = model(xb)
        loss = nn.functional.cross_entropy(z, yb)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        correct.add_((z.detach().argmax(1) == yb).sum())
        total.add_(loss.detach())

    return repeat(step)


def infer_cnn():
    model, x = nn.Sequential(cnn(), nn.Softmax(1)).eval(), to_layout(images(task.batch))

    def call():
        with torch.inference_mode():
            return model(x).numpy()

    return repeat(call)


def recurrent():
    cell, _, inputs, units = task.recurrent()
    return {"simple": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[cell](inputs, units, batch_first=True)


def train_rnn():
    layer = recurrent()
    head = nn.Linear(layer.hidden_size, 10)
    optimizer = torch.optim.Adam([*layer.parameters(), *head.parameters()], **adam)
    x, y = map(torch.from_numpy, sequences(task))

    def step():
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(head(layer(x)[0][:, -1]), y).backward()
        optimizer.step()

    return repeat(step)


def infer_rnn():
    layer, x = recurrent().eval(), torch.from_numpy(sequences(task)[0])

    def call():
        with torch.inference_mode():
            return layer(x)[0][:, -1].numpy()

    return repeat(call)


runs = {"train-cnn": train_cnn, "infer-cnn": infer_cnn, "train-rnn": train_rnn, "infer-rnn": infer_rnn}
serve(f"PyTorch {torch.__version__}", runs[task.name]())
