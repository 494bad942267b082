"""PyTorch, eager: the default layout or channels_last, fused or foreach Adam."""

from common import (
    BLOCKS,
    ENCODER_BLOCKS,
    HEADS,
    HIDDEN,
    STEPS,
    VOCABULARY,
    WIDTH,
    batches,
    cifar,
    cnn_weights_channels_first,
    images,
    mnist,
    repeat,
    sequences,
    serve,
    task,
    texts,
)

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


class Residual(nn.Module):
    def __init__(self, before, filters, stride):
        super().__init__()
        self.conv1, self.norm1 = convolution(before, filters, 3, stride), nn.BatchNorm2d(filters, 1e-3, 0.01)
        self.conv2, self.norm2 = convolution(filters, filters, 3), nn.BatchNorm2d(filters, 1e-3, 0.01)
        self.way = nn.Identity()
        if stride > 1:
            self.way = nn.Sequential(convolution(before, filters, 1, stride), nn.BatchNorm2d(filters, 1e-3, 0.01))

    def forward(self, x):
        y = nn.functional.relu(self.norm1(self.conv1(x)), inplace=True)
        return nn.functional.relu(self.norm2(self.conv2(y)) + self.way(x), inplace=True)


def convolution(before, filters, size, stride=1):
    layer = nn.Conv2d(before, filters, size, stride, size // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return layer


def resnet():
    before = [16, *(filters for filters, _ in BLOCKS)]
    return nn.Sequential(
        convolution(3, 16, 3), nn.BatchNorm2d(16, 1e-3, 0.01), nn.ReLU(inplace=True),
        *(Residual(b, *block) for b, block in zip(before, BLOCKS, strict=False)),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    ).to(memory_format=layout)  # fmt: skip


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, 1e-3), nn.LayerNorm(WIDTH, 1e-3)
        self.wide, self.narrow = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)

    def forward(self, x):
        n, steps, width = x.shape
        q, k, v = self.qkv(x).view(n, steps, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, steps, width)
        x = self.norm1(x + self.out(y))
        return self.norm2(x + self.narrow(nn.functional.relu(self.wide(x))))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Parameter(torch.empty(STEPS, WIDTH))
        for weight in (self.words.weight, self.places):
            nn.init.uniform_(weight, -0.05, 0.05)
        whole = {"dim_feedforward": HIDDEN, "dropout": 0.0, "layer_norm_eps": 1e-3, "batch_first": True}
        self.blocks = nn.Sequential(
            *(
                Block() if "sdpa" in task.variant else nn.TransformerEncoderLayer(WIDTH, HEADS, **whole)
                for _ in range(ENCODER_BLOCKS)
            )
        )
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, x):
        return self.head(self.blocks(self.words(x) + self.places).mean(1))


def trainer(model, x, y):
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


def train_cnn():
    x, y = mnist(task.detail)
    return trainer(cnn(), to_layout(x), torch.from_numpy(y))


def train_resnet():
    x, y = cifar(task.detail)
    return trainer(resnet(), to_layout(x), torch.from_numpy(y))


def train_transformer():
    return trainer(Encoder(), *map(torch.from_numpy, texts()))


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


runs = {
    "train-cnn": train_cnn,
    "train-resnet": train_resnet,
    "train-transformer": train_transformer,
    "train-rnn": train_rnn,
    "infer-cnn": infer_cnn,
    "infer-rnn": infer_rnn,
}
serve(f"PyTorch {torch.__version__}", runs[task.name]())
