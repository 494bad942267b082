"""Which digit is spoken? WAV files, log-mel frames computed in NumPy, and a GRU in both directions.

python examples/spoken_digits.py FOLDER     (with DIGIT_SPEAKER_INDEX.wav, 8 kHz; or a zip of them)
"""

import io
import sys
import wave
import zipfile
from pathlib import Path

import numpy as np

import vivace
from vivace.layers import GRU, Bidirectional, Dense, Dropout, Input, Masking
from vivace.models import Sequential
from vivace.utils import pad_sequences

RATE, WINDOW, HOP, MELS = 8000, 200, 80, 40  # frames of 25 ms every 10 ms


def mel_filters() -> np.ndarray:
    """Triangles, evenly spaced on the mel scale, over the bins of a 256-point spectrum: (129, MELS)."""
    mel = np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), MELS + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    frequencies = np.arange(129)[:, None] * RATE / 256
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling))


def log_mel(samples: np.ndarray) -> np.ndarray:
    """(frames, MELS), with mean 0 and variance 1 over the recording."""
    samples = np.pad(samples, (0, max(0, WINDOW - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP] * np.hanning(WINDOW)
    features = np.log(np.abs(np.fft.rfft(frames, 256)) ** 2 @ mel_filters() + 1e-6)
    return (features - features.mean()) / features.std()


def recordings(folder: Path) -> dict[str, bytes]:
    files = {path.name: path.read_bytes() for path in folder.rglob("*.wav")}
    for archive in folder.glob("*.zip"):
        with zipfile.ZipFile(archive) as content:
            files |= {Path(n).name: content.read(n) for n in content.namelist() if n.endswith(".wav")}
    return files


if len(sys.argv) < 2 or not Path(sys.argv[1]).is_dir():
    sys.exit(__doc__)
vivace.utils.set_random_seed(0)
features, digits, is_test = [], [], []
for name, content in sorted(recordings(Path(sys.argv[1])).items()):
    with wave.open(io.BytesIO(content)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    digit, _, index = name.removesuffix(".wav").split("_")
    features.append(log_mel(samples / 32768))
    digits.append(int(digit))
    is_test.append(int(index) < 5)  # the data set's own split: recordings 0 to 4 are for testing
x = pad_sequences(features, maxlen=80, dtype="float32", padding="post", truncating="post")
y, test = np.array(digits), np.array(is_test)
print(f"{len(x)} recordings, {test.sum()} of them for testing, {x.shape[1]} frames of {MELS} bands")

model = Sequential()
model.add(Input((80, MELS)))
model.add(Masking())
model.add(Bidirectional(GRU(96, return_sequences=True, dropout=0.2)))
model.add(Bidirectional(GRU(96)))
model.add(Dropout(0.4))
model.add(Dense(10, activation="softmax"))
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.summary()
model.fit(x[~test], y[~test], epochs=15, validation_data=(x[test], y[test]))
print(f"Test accuracy {model.evaluate(x[test], y[test], verbose=0)[1]:.1%}")
