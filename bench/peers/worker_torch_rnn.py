"""A recurrent layer and a dense one in PyTorch: one training step on random sequences, Adam fused."""

from common import arguments, recurrent_case, serve, set_threads

variant, batch, threads, case = arguments()
set_threads(threads)

import torch  # noqa: E402
from torch import nn  # noqa: E402

torch.set_num_threads(threads)
cell, steps, inputs, units, x, y = recurrent_case(case, batch)
layer = {"simple": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[cell](inputs, units, batch_first=True)
head = nn.Linear(units, 10)
optimizer = torch.optim.Adam([*layer.parameters(), *head.parameters()], fused=True)
xs, ys = torch.from_numpy(x), torch.from_numpy(y)


def run(count: int) -> None:
    for _ in range(count):
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(head(layer(xs)[0][:, -1]), ys).backward()
        optimizer.step()


serve(f"PyTorch {torch.__version__}", run)
