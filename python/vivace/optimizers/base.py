"""What every optimizer is: a rule for one flat block, and what may be done to gradients and weights around it."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .._config import Configurable, plain, take_former
from .._core import native
from .._naming import closest
from .._typing import Array
from ..parameters import FlatParameters, Parameter
from . import schedules


class Optimizer(Configurable):
    """Base of all optimizers.

    A subclass says in `slot_count` how many arrays of state it keeps and defines `update(values, gradients)`: change
    the flat values in place, and leave the gradients zero. `slots` are its state, `scratch(k)` is memory for it.

    Args:
        learning_rate: a number, a schedule of `vivace.optimizers.schedules`, or a function of the number of updates.
        weight_decay: before each update every weight loses this share, times the learning rate; None.
        clipnorm: largest Euclidean norm of each weight array's gradient; None.
        clipvalue: largest absolute value of each element of the gradient; None.
        global_clipnorm: largest norm of all gradients together; None. Only one of the three clips may be given.
        use_ema: keep a moving average of the weights; `fit` ends by putting it into the model.
        ema_momentum: the average's share that an update keeps, 0.99.
        ema_overwrite_frequency: put the average into the model after every so many updates; None.
        loss_scale_factor: None; it is for half precision, which training does not use.
        gradient_accumulation_steps: update only at every so many steps, from the mean gradient; None.
        name: the class's name in lower case.

    Raises:
        ValueError: an argument out of its range; the message names it.

    `learning_rate` may be set to a number at any time, unless it is a schedule. `iterations` counts the updates.
    """

    family = "optimizers"
    former = ("decay",)

    def __init__(
        self,
        learning_rate: float | Mapping[str, Any] | Callable[[int], float] = 0.001,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        owner = type(self).__name__
        if loss_scale_factor is not None:
            raise ValueError(f"{owner}: loss_scale_factor is not supported, received {loss_scale_factor!r}")
        take_former(kwargs, "decay", "it is ignored; a schedule as learning_rate does it")
        if kwargs:
            unknown = next(iter(kwargs))
            known = inspect.signature(type(self).__init__).parameters
            hint = "; it is called learning_rate" if unknown == "lr" else closest(unknown, known)
            raise TypeError(f"{owner} has no argument {unknown!r}{hint}")
        self.name = name or owner.lower()
        rate = schedules.get(learning_rate) if isinstance(learning_rate, Mapping) else learning_rate
        self._schedule: Callable[[int], float] | None = rate if callable(rate) else None
        if not callable(rate):
            self.learning_rate = rate
        clips = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
        given = {argument: value for argument, value in clips.items() if value is not None}
        if len(given) > 1:
            raise ValueError(f"{owner}: only one of clipnorm, clipvalue and global_clipnorm may be given, got {given}")
        for argument, value in {**given, "weight_decay": weight_decay}.items():
            if value is not None and not value >= 0:
                raise ValueError(f"{owner}: {argument} must not be negative, received {value!r}")
        if not 0 <= ema_momentum <= 1:
            raise ValueError(f"{owner}: ema_momentum must lie in [0, 1], received {ema_momentum!r}")
        for argument, value, least in (
            ("ema_overwrite_frequency", ema_overwrite_frequency, 1),
            ("gradient_accumulation_steps", gradient_accumulation_steps, 2),
        ):
            if value is not None and not (isinstance(value, int) and value >= least):
                raise ValueError(f"{owner}: {argument} must be an integer >= {least} or None, received {value!r}")
        self.weight_decay = weight_decay
        self.clipnorm, self.clipvalue, self.global_clipnorm = clipnorm, clipvalue, global_clipnorm
        self.use_ema, self.ema_momentum, self.ema_overwrite_frequency = use_ema, ema_momentum, ema_overwrite_frequency
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.steps = 0  # calls of `apply`; every so many of them are an update
        self.slots: list[Array] = []  # state, each of the block's shape
        self.average: Array | None = None
        self._scratch: list[Array] = []
        self._loose: FlatParameters | None = None  # the block of weights that were given to `apply` themselves
        self._parameters: tuple[Parameter, ...] | None = None  # whose state this is
        self._resting: list[tuple[Parameter, list[Array]]] = []  # the state of those that are frozen now
        self._spared: tuple[list[Parameter], list[str]] = ([], [])

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """As in Keras, the arguments above may follow a class's own by position."""
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = _with_options(cls.__init__)  # type: ignore[method-assign]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_scratch": [], "_loose": None}

    @property
    def learning_rate(self) -> float:
        return self._learning_rate if self._schedule is None else float(self._schedule(self.steps))

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        if self._schedule is not None:
            raise TypeError(f"{type(self).__name__}: the learning rate follows a schedule, so it cannot be set")
        if not float(value) >= 0:
            raise ValueError(f"{type(self).__name__}: learning_rate must not be negative, received {value!r}")
        self._learning_rate = float(value)

    @property
    def iterations(self) -> int:
        return self.steps // (self.gradient_accumulation_steps or 1)

    def slot_count(self) -> int:
        """State arrays needed, each as large as the parameters."""
        return 0

    def first_slot_value(self, slot: int) -> float:
        """What a slot of the state starts from."""
        return 0.0

    def exclude_from_weight_decay(
        self, var_list: Iterable[Parameter] | None = None, var_names: Iterable[str] | None = None
    ) -> None:
        """Spare some weights the weight decay.

        Args:
            var_list: weights, entries of `model.weights`.
            var_names: regular expressions; a weight whose name ("bias") or path ("dense/bias") one of them matches is
                spared.
        """
        self._spared = list(var_list or ()), list(var_names or ())

    # One step

    def apply(
        self, grads: FlatParameters | Sequence[Any], trainable_variables: Iterable[Parameter] | None = None
    ) -> None:
        """One step: the weights change, their gradients are left zero, ready to accumulate again.

        Args:
            grads: a model's block, with the gradients in it; or the gradients of trainable_variables, arrays.
            trainable_variables: weights, entries of `model.weights` say; by default those of the step before.

        Raises:
            ValueError: gradients of another number or shape, or the optimizer holds the state of other weights.
        """
        flat = grads if isinstance(grads, FlatParameters) else self._gathered(list(grads), trainable_variables)
        self._own(flat)
        every = self.gradient_accumulation_steps or 1
        if (self.steps + 1) % every == 0:
            if every > 1:
                flat.gradients *= 1 / every
            self._clip(flat)
            self._decay(flat)
            self.update(flat.values, flat.gradients)
        if self.use_ema:
            self._average(flat)
        for parameter in flat.constrained:
            parameter.constrain()
        self.steps += 1

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Parameter]]) -> None:
        """`apply` for pairs of a gradient and a weight."""
        grads, variables = zip(*grads_and_vars, strict=True)
        self.apply(grads, variables)

    def build(self, variables: Iterable[Parameter]) -> None:
        """Make the state for these weights; done at the first step anyway."""
        self._loose = FlatParameters(list(variables))
        self._own(self._loose)

    def _gathered(self, grads: list[Any], variables: Iterable[Parameter] | None) -> FlatParameters:
        """A block of these weights with these gradients."""
        parameters = list(self._parameters or ()) if variables is None else list(variables)
        if len(grads) != len(parameters):
            raise ValueError(f"{self.name}.apply: received {len(grads)} gradients for {len(parameters)} weights")
        flat = self._loose
        if flat is None or not flat.holds(parameters):
            flat = self._loose = FlatParameters(parameters)
        for parameter, grad in zip(parameters, grads, strict=True):
            if np.shape(grad) != parameter.shape:
                raise ValueError(
                    f"{self.name}.apply: {parameter.path} has shape {parameter.shape}, its gradient {np.shape(grad)}"
                )
            parameter.gradient[...] = np.asarray(grad)
        return flat

    def update(self, values: Array, gradients: Array) -> None:
        raise TypeError(f"{type(self).__name__} must define update(values, gradients)")

    def scratch(self, k: int) -> Array:
        """The k-th array for intermediate values, of the block's shape."""
        while len(self._scratch) <= k:
            self._scratch.append(np.empty(self._size, self._dtype))
        return self._scratch[k]

    def finalize(self, flat: FlatParameters) -> None:
        """End of training: with `use_ema`, the weights become their moving average."""
        if self.average is not None:
            self._own(flat)
            flat.values[:] = self.average

    def _own(self, flat: FlatParameters) -> None:
        """Have state for the block's parameters: new, the one that is there, or a part of it (some were frozen)."""
        if self._parameters is flat.parameters:
            return
        known = {id(p): (p, parts) for p, parts in self._resting}
        starts = FlatParameters.layout(self._parameters or ())[0]
        for p, start in zip(self._parameters or (), starts, strict=True):
            known[id(p)] = p, [array[start : start + p.size] for array in self._state()]
        unknown = [p.path for p in flat.parameters if id(p) not in known]
        if self._parameters is not None and unknown:
            raise ValueError(
                f"{self.name}: this optimizer holds the state of other weights, and {unknown[0]} is not among them; "
                "give every model an optimizer of its own, and compile with a new one after adding or unfreezing layers"
            )
        self._size, self._dtype = flat.values.shape, flat.values.dtype
        self.slots = [np.full(self._size, self.first_slot_value(k), self._dtype) for k in range(self.slot_count())]
        self.average = flat.values.copy() if self.use_ema else None
        self._scratch = []
        if self._parameters is not None:
            for p, start in zip(flat.parameters, FlatParameters.layout(flat.parameters)[0], strict=True):
                for array, part in zip(self._state(), known.pop(id(p))[1], strict=True):
                    array[start : start + p.size] = part
        self._parameters, self._resting = flat.parameters, list(known.values())

    def _state(self) -> list[Array]:
        return [*self.slots, *([] if self.average is None else [self.average])]

    def _clip(self, flat: FlatParameters) -> None:
        g = flat.gradients
        if self.clipvalue:
            np.clip(g, -self.clipvalue, self.clipvalue, out=g)
        elif self.global_clipnorm:
            norm = float(np.sqrt(np.multiply(g, g, out=self.scratch(0)).sum(dtype=np.float64)))
            g *= self.global_clipnorm / max(norm, self.global_clipnorm) if np.isfinite(norm) else np.nan
        elif self.clipnorm:
            for parameter in flat.parameters:
                of_one = parameter.gradient
                square = self.scratch(0)[: of_one.size].reshape(of_one.shape)
                norm = float(np.sqrt(np.multiply(of_one, of_one, out=square).sum(dtype=np.float64)))
                of_one *= self.clipnorm / max(norm, self.clipnorm)

    def decay_of(self, weight: Parameter) -> float | None:
        """The weight decay of one weight."""
        return self.weight_decay

    def _decay(self, flat: FlatParameters) -> None:
        weights, names = self._spared
        if not weights and not names and type(self).decay_of is Optimizer.decay_of:
            if self.weight_decay is not None:
                values = flat.values
                values *= 1 - self.weight_decay * self.learning_rate
            return
        spared = set(map(id, weights))
        for parameter in flat.parameters:
            decay = self.decay_of(parameter)
            called = parameter.name, parameter.path
            if decay is None or id(parameter) in spared or any(re.search(n, c) for n in names for c in called):
                continue
            parameter.array *= 1 - decay * self.learning_rate

    def _average(self, flat: FlatParameters) -> None:
        average = self.average
        assert average is not None
        momentum = self.ema_momentum if self.iterations else 0.0
        native.moving_average_update(average, flat.values, momentum)
        if self.ema_overwrite_frequency and (self.iterations + 1) % self.ema_overwrite_frequency == 0:
            flat.values[:] = average

    # Configuration and state

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the same optimizer, without its state."""
        rate = self._learning_rate if self._schedule is None else plain(self._schedule)
        return super().get_config() | {"learning_rate": rate}

    def get_state(self) -> dict[str, Array]:
        """Copies of all that changes in training, by name."""
        state = {f"slot_{i}": slot.copy() for i, slot in enumerate(self.slots)}
        if self.average is not None:
            state["average"] = self.average.copy()
        if self._schedule is None:
            state["learning_rate"] = np.array(self._learning_rate)
        return state | {"steps": np.array(self.steps)}

    def state_of(self, flat: FlatParameters) -> dict[str, Array]:
        """`get_state` for a model's block, also before the first step on it."""
        self._own(flat)
        return self.get_state()

    def set_state(self, flat: FlatParameters, state: dict[str, Array]) -> None:
        """Go on from what `get_state` returned, on the block of a model made the same way."""
        self._own(flat)
        names = [f"slot_{i}" for i in range(len(self.slots))] + (["average"] if self.average is not None else [])
        for name, array in zip(names, self._state(), strict=True):
            if name not in state or state[name].shape != array.shape:
                raise ValueError(f"{self.name}: the state has no {name} of shape {array.shape}; it has {list(state)}")
        for name, array in zip(names, self._state(), strict=True):
            array[:] = state[name]
        if self._schedule is None and "learning_rate" in state:
            self.learning_rate = float(state["learning_rate"])
        self.steps = int(state["steps"])


def _with_options(init: Callable[..., None]) -> Callable[..., None]:
    """A constructor that hands on what is given by position behind its own arguments, if it has **options."""
    parameters = list(inspect.signature(init).parameters.values())
    own = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    if all(p.kind is not p.VAR_KEYWORD for p in parameters):
        return init
    options = [name for name in inspect.signature(Optimizer.__init__).parameters if name not in own]

    @functools.wraps(init)
    def made(self: Any, *args: Any, **kwargs: Any) -> None:
        count = len(own) - 1
        init(self, *args[:count], **dict(zip(options, args[count:], strict=False)), **kwargs)

    return made
