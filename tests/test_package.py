"""The package as a whole: the one-way imports, import cost, ISA choice, the main job, pictures."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vivace
from vivace import _core, plotting

SOURCE = Path(vivace.__file__).parent

# Rooms from the top down: a module may import from its own room and from those below.
ROOMS = [
    ["__main__"],
    ["models", "saving"],
    ["wrappers"],
    ["training"],
    ["compiled", "batches"],
    ["heads", "watching"],
    ["callbacks"],
    ["progress", "data", "plotting", "explain", "testing"],
    ["fusion", "plan"],
    ["metrics", "ops", "backend"],
    ["layers", "losses", "optimizers", "datasets"],
    ["activations", "formulas", "step", "utils"],
    ["initializers", "parameters", "random", "config"],
    ["regularizers", "constraints"],
    ["_config"],
    ["differentiation"],
    ["_core", "_naming", "_typing"],
]
LEVEL = {name: i for i, room in enumerate(ROOMS) for name in room}


def imported_rooms(path: Path) -> set[str]:
    """The top-level modules of vivace that a file imports when it runs (not for type checking only)."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    rooms = set()
    depth = len(path.relative_to(SOURCE).parts)
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.level == depth:
            rooms |= {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
        elif node.level == 0 and node.module and node.module.startswith("vivace."):
            rooms.add(node.module.split(".")[1])
    return rooms & set(LEVEL)


def test_imports_run_one_way() -> None:
    files = [p for p in SOURCE.rglob("*.py") if p != SOURCE / "__init__.py"]
    assert len(files) > 15
    for path in files:
        own = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        for room in imported_rooms(path):
            lazy_saving = own == "models" and room == "saving"
            assert LEVEL[room] >= LEVEL[own] or lazy_saving, f"{path.name} imports {room} from above"


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


def test_importing_loads_no_third_party_module_but_numpy() -> None:
    code = (
        "import sys, numpy; before = set(sys.modules); import vivace.models, vivace.layers, vivace.datasets; "
        "new = {m.split('.')[0] for m in set(sys.modules) - before}; "
        "print(new - set(sys.stdlib_module_names) - {'vivace', 'numpy'})"
    )
    assert run(code).stdout.strip() == "set()"


def test_isa_levels() -> None:
    assert _core.native.isa in _core.supported_levels()
    forced = _core.built_levels()[0]
    code = "from vivace._core import native; print(native.isa)"
    assert run(code, VIVACE_ISA=forced).stdout.strip() == forced
    failed = run(code, VIVACE_ISA="x86-64-v9")
    assert "the ISA level 'x86-64-v9' is unknown; this machine supports" in failed.stderr
    with pytest.raises(ImportError, match="is not supported by this machine|is not part of this build"):
        _core.load("aarch64" if "aarch64" not in _core.supported_levels() else "x86-64-v2")


def stub_signatures(body: list[ast.stmt]) -> dict[str, list[str]]:
    return {f.name: [a.arg for a in f.args.args] for f in body if isinstance(f, ast.FunctionDef)}


def native_signatures(module: object) -> dict[str, list[str]]:
    """Argument names of a native module's functions, from the signatures that pybind11 writes into their docstrings."""
    signatures = {}
    for name, function in vars(module).items():
        if callable(function) and not isinstance(function, type) and not name.startswith("_"):
            signature = function.__doc__.splitlines()[0]
            signatures[name] = re.findall(r"(?:\(|, )(\w+): ", signature)
    return signatures


def test_the_stub_says_what_the_native_module_has() -> None:
    stub = ast.parse((SOURCE / "_core" / "native.pyi").read_text())
    native = _core.native
    assert stub_signatures(stub.body) == native_signatures(native)
    classes = {c.name: c for c in stub.body if isinstance(c, ast.ClassDef)}
    public = {name for name, value in vars(native).items() if not name.startswith("_") and not callable(value)}
    annotated = {s.target.id for s in stub.body if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name)}
    assert public == annotated | {"reference", "im2col"}
    for name, definition in classes.items():
        actual = getattr(native, name)
        members = stub_signatures(definition.body)
        if isinstance(actual, type):
            assert {m for m in vars(actual) if not m.startswith("_")} == set(members) - {"__init__"}
        else:
            assert members == native_signatures(actual)


def test_show_config() -> None:
    config = vivace.show_config()
    assert config["ISA level"] == _core.native.isa
    assert config["CUDA"] == "no"
    assert "threads" in str(config)


def test_summary_reads_well(capsys: pytest.CaptureFixture[str]) -> None:
    from vivace.__main__ import reference_cnn

    reference_cnn().summary()
    text = capsys.readouterr().out
    assert "225,034" in text
    assert "Per sample: 5.26 MFLOP forward" in text
    assert "(None, 11, 11, 64)" in text


def test_denormals_are_flushed_inside_kernels_only() -> None:
    tiny = np.full(1000, 1e-39, "float32")
    y = np.empty_like(tiny)
    _core.native.activation_forward("sigmoid", tiny, y)
    assert (tiny * np.float32(0.5) > 0).all()  # the caller's arithmetic still has them


def test_main_trains_the_digits_and_draws(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vivace", "--epochs", "2", "--output", str(tmp_path)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    environment.pop("VIVACE_DATA", None)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "digits that come with vivace" in done.stdout
    assert "Test accuracy" in done.stdout
    assert "samples/s" in done.stdout
    assert (tmp_path / "vivace-training.png").exists() or "pip install 'vivace[plot]'" in done.stdout


def test_plots(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the plot extra is not installed")
    history = {"loss": [1.0, 0.5], "val_loss": [1.1, 0.7], "accuracy": [0.6, 0.8]}
    figure = plotting.plot_history(history, tmp_path / "curves.png")
    assert len(figure.axes) == 2
    plotting.plot_predictions(np.zeros((3, 8, 8)), np.arange(3), np.eye(3), tmp_path / "predictions.png")
    assert (tmp_path / "predictions.png").stat().st_size > 1000


def test_threads_for_a_while() -> None:
    before = vivace.get_num_threads()
    with vivace.threads(before + 1):
        assert vivace.get_num_threads() == before + 1
    assert vivace.get_num_threads() == before
    with pytest.raises(ValueError, match="threads must be at least 1, received 0"), vivace.threads(0):
        pass


def test_explain_kernels_names_the_way_of_each_layer() -> None:
    import vivace
    from vivace.__main__ import reference_cnn

    text: list[str] = []
    vivace.explain_kernels(reference_cnn(), print_fn=text.append)
    first, second, *dense = text[0].splitlines()[1:5]
    assert "one_channel (one_channel.cpp)" in first
    assert "winograd (winograd.cpp)" in second
    assert second.count("structured (conv2d_pool_gradient.cpp)") == 2
    assert all(line.count("product (gemm.cpp)") == 3 for line in dense)
    vivace.explain_kernels(reference_cnn(), batch_size=1, print_fn=text.append)
    assert text[1].count("single row (gemm.cpp)") == 2
