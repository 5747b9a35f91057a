"""Forward hooks and replaced forward methods of a model, for the length of a `with` block."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from tegakari.schemas.progress import OnStep

ForwardHook = Callable[[nn.Module, Any, Any], Any]
"""Called with (module, positional inputs, output) after a module; what it returns, unless None, is the output."""

PreForwardHook = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]] | None]
"""Called with (module, args, kwargs) before a module; what it returns, unless None, are its args and kwargs."""


class Hooks:
    """Registers forward hooks for the passes of one thread. Made by `forward_hooks`, which removes them.

    A pass of another thread through the same modules calls none of them: between two blocks of a long pass, the service
    runs passes of other requests.
    """

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._handles: list[RemovableHandle] = []

    def before(self, module: nn.Module, hook: PreForwardHook) -> None:
        """Call a hook before each forward pass of a module."""

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return hook(module, args, kwargs) if threading.get_ident() == self._thread else None

        self._handles.append(module.register_forward_pre_hook(before, with_kwargs=True))

    def after(self, module: nn.Module, hook: ForwardHook) -> None:
        """Call a hook after each forward pass of a module."""

        def after(module: nn.Module, inputs: Any, output: Any) -> Any:
            return hook(module, inputs, output) if threading.get_ident() == self._thread else None

        self._handles.append(module.register_forward_hook(after))

    def after_each(self, modules: Iterable[nn.Module], on_step: OnStep) -> None:
        """Call a function after each forward pass of each module; it may raise, to end the pass of the model."""

        def call(_module: nn.Module, _inputs: Any, _output: Any) -> None:
            on_step()

        for module in modules:
            self.after(module, call)

    def remove(self) -> None:
        """Remove all registered hooks."""
        while self._handles:
            self._handles.pop().remove()


@contextmanager
def forward_hooks() -> Iterator[Hooks]:
    """Hooks to register in the `with` block; all of them are removed at its end, however it ends."""
    hooks = Hooks()
    try:
        yield hooks
    finally:
        hooks.remove()


@contextmanager
def replaced_forward(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Modules that run another `forward` in the `with` block; their own runs again after it.

    Args:
        forwards: module -> the function that is called in place of its `forward`.
    """
    for module, forward in forwards.items():
        module.forward = forward
    try:
        yield
    finally:
        for module in forwards:
            del module.forward  # the attribute hid the method of the module's class
