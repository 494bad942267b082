"""The reference CNN in PyTorch: eager mode, in the default layout or channels_last, fused Adam."""

from common import arguments, batches, data, serve, set_threads, weights

variant, batch, threads, folder = arguments()
set_threads(threads)

import torch  # noqa: E402
from torch import nn  # noqa: E402

torch.set_num_threads(threads)
layout = torch.channels_last if "channels_last" in variant else torch.contiguous_format
images, labels = data(folder)
x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=layout)
y = torch.from_numpy(labels)
model = nn.Sequential(
    nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(1600, 128), nn.ReLU(), nn.Linear(128, 10),
)  # fmt: skip
w = weights()
w[4] = w[4].reshape(5, 5, 64, 128).transpose(2, 0, 1, 3).reshape(1600, 128)  # channels first when flattened
with torch.no_grad():
    for parameter, value in zip(model.parameters(), w, strict=True):
        axes = (3, 2, 0, 1) if value.ndim == 4 else (1, 0) if value.ndim == 2 else (0,)
        parameter.copy_(torch.from_numpy(value.transpose(axes).copy()))
model = model.to(memory_format=layout)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-7, fused="foreach" not in variant)
rows = batches(len(y), batch)
correct = torch.zeros((), dtype=torch.long)
total = torch.zeros(())


def run(steps: int) -> None:
    for _ in range(steps):
        index = torch.from_numpy(next(rows))
        xb, yb = x[index], y[index]
        z = model(xb)
        loss = nn.functional.cross_entropy(z, yb)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        correct.add_((z.detach().argmax(1) == yb).sum())
        total.add_(loss.detach())


serve(f"PyTorch {torch.__version__}", run)
