"""Pictures of models as graphs, drawn by Graphviz through pydot."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..models import Model


def plot_model(
    model: Model,
    to_file: str | Path = "model.png",
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = False,
    rankdir: str = "TB",
    expand_nested: bool = False,
    dpi: int = 200,
    show_layer_activations: bool = False,
    show_trainable: bool = False,
    splines: str = "ortho",
) -> None:
    """Draw a built model into a file, whose ending says the format: .png, .svg, .pdf, ...; .dot is Graphviz's own text.

    Args:
        model: a built model.
        to_file: where to; "model.png".
        show_shapes: tell each layer's input and output shapes.
        show_dtype: tell each layer's dtype.
        show_layer_names: tell the layers' names besides their classes.
        rankdir: "TB" from top to bottom, or "LR" from left to right.
        expand_nested: draw the layers inside nested models, in a box.
        dpi: dots per inch of pictures made of dots.
        show_layer_activations: tell the activations of layers that have one.
        show_trainable: tell of layers with weights whether they are trained.
        splines: how edges run: "ortho" in right angles, "curved", "polyline", ...

    Raises:
        ImportError: pydot is not installed (pip install 'vivace[plot]').
        RuntimeError: Graphviz's program `dot` is not installed.
        ValueError: the model is not built.
    """
    dot = model_to_dot(
        model, show_shapes, show_dtype, show_layer_names, rankdir, expand_nested, dpi, False, show_layer_activations,
        show_trainable, splines,
    )  # fmt: skip
    path = Path(to_file)
    if path.suffix in ("", ".dot"):
        path.write_text(dot.to_string())
        return
    try:
        dot.write(str(path), format=path.suffix[1:])
    except FileNotFoundError as error:
        if not path.parent.is_dir():
            raise
        raise RuntimeError(
            f"plot_model: {path.name} needs Graphviz's program dot, which is not installed (Debian: apt-get install "
            "graphviz; or write a .dot file)"
        ) from error


def model_to_dot(
    model: Model,
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = True,
    rankdir: str = "TB",
    expand_nested: bool = False,
    dpi: int = 200,
    subgraph: bool = False,
    show_layer_activations: bool = False,
    show_trainable: bool = False,
    splines: str = "ortho",
) -> Any:
    """The model as a `pydot.Dot` (as a `pydot.Cluster` with subgraph); the arguments are those of `plot_model`."""
    try:
        import pydot
    except ImportError as error:
        raise ImportError("plot_model draws with pydot: pip install 'vivace[plot]'") from error
    if rankdir not in ("TB", "LR", "BT", "RL"):
        raise ValueError(f"plot_model: rankdir must be TB, LR, BT or RL, received {rankdir!r}")
    model.check_built("plot_model")
    dot: Any
    if subgraph:
        dot = _cluster(model)
    else:
        dot = pydot.Dot(rankdir=rankdir, dpi=dpi, splines=splines, nodesep=0.5, ranksep=0.4)
        dot.set_node_defaults(shape="plaintext", fontname="Helvetica", fontsize=11)
        dot.set_edge_defaults(color="#5f6b7a", arrowsize=0.7)
    shown = (show_shapes, show_dtype, show_layer_names, show_layer_activations, show_trainable)
    _draw(model, dot, expand_nested, shown)
    return dot


def _cluster(model: Any) -> Any:
    import pydot

    return pydot.Cluster(
        str(id(model)), label=f'"{model.name}"', style="dashed", fontname="Helvetica", margin=16, labeljust="l"
    )


def _draw(model: Any, dot: Any, expand_nested: bool, shown: tuple[bool, ...], frozen: bool = False) -> None:
    """Add the model's layers and the ways between them; frozen: a model around this one is."""
    import pydot

    for layer in model.layers:
        if expand_nested and hasattr(layer, "connections"):
            inside = _cluster(layer)
            _draw(layer, inside, True, shown, frozen or not layer.trainable)
            dot.add_subgraph(inside)
        else:
            dot.add_node(pydot.Node(str(id(layer)), label=_label(layer, frozen, *shown)))
    for source, target in model.connections():
        first, second = _end(source, expand_nested, -1), _end(target, expand_nested, 0)
        dot.add_edge(pydot.Edge(str(id(first)), str(id(second))))


def _end(layer: Any, expand_nested: bool, which: int) -> Any:
    """Where an edge meets a layer: for a model that is drawn open, its first or last layer."""
    while expand_nested and hasattr(layer, "connections"):
        layer = layer.layers[which]
    return layer


def _label(layer: Any, frozen: bool, shapes: bool, dtype: bool, name: bool, activation: bool, trainable: bool) -> str:
    """A table of what is to be told, in Graphviz's HTML."""
    kind = type(layer).__name__
    title = f"<b>{html.escape(layer.name)}</b> ({kind})" if name else f"<b>{kind}</b>"
    rows = [f'<tr><td bgcolor="#2f3e55"><font color="white">{title}</font></td></tr>']
    if activation and isinstance(getattr(layer, "activation", None), str):
        rows.append(f"<tr><td>activation: <b>{layer.activation}</b></td></tr>")
    if shapes:
        inputs = "" if kind == "InputLayer" else f"in: <b>{_shapes(layer.input_shape)}</b><br/>"
        rows.append(f"<tr><td>{inputs}out: <b>{_shapes(layer.output_shape)}</b></td></tr>")
    if dtype:
        rows.append(f"<tr><td>dtype: <b>{layer.input_dtype or layer.dtype}</b></td></tr>")
    if trainable and layer.weights:
        trained = bool(layer.trainable_weights) and not frozen
        rows.append(
            f'<tr><td bgcolor="{"#d9ead3" if trained else "#f4cccc"}">{"" if trained else "not "}trained</td></tr>'
        )
    return f'<<table border="0" cellborder="1" cellspacing="0" cellpadding="6">{"".join(rows)}</table>>'


def _shapes(shape: Any) -> str:
    return ", ".join(map(str, shape)) if isinstance(shape, list) else str(shape)
