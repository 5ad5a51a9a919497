"""The parts of a composition by name: replacing or removing one takes effect at once."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

Check = Callable[[Mapping[str, nn.Module | None]], None]
"""Adopts new parts; raises CclmError, and changes nothing, if they do not fit together."""


class PartDict(nn.ModuleDict):
    """A `ModuleDict` whose owner checks every change before it is made.

    ```
    composed.components["entities"] = other     replaces a part, at the same place
    del composed.components["entities"]         removes one; at least one part must remain
    composed.components["new"] = part           adds one at the end
    ```

    Args:
        parts: the first parts, already checked.
        check: called with all parts before a change.
    """

    def __init__(self, parts: Mapping[str, nn.Module], check: Check) -> None:
        super().__init__()
        self._check: Check = lambda _: None  # the owner has checked the first parts
        self.update(parts)
        self._check = check

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """Adds or replaces a part. Raises like `ComposedModel`; then nothing changes."""
        self._check({**self._modules, name: module})
        super().add_module(name, module)

    def __setattr__(self, name: str, value: Any) -> None:
        """Replaces a part that is set as an attribute, as tools that swap modules do."""
        if isinstance(value, nn.Module):
            self.add_module(name, value)
        else:
            super().__setattr__(name, value)

    def __delitem__(self, key: str) -> None:
        """Removes a part. Raises KeyError for an unknown name, and ConfigError for the last part."""
        remaining = dict(self._modules)
        del remaining[key]
        self._check(remaining)
        super().__delitem__(key)

    def __delattr__(self, name: str) -> None:
        """Removes a part that is deleted as an attribute."""
        if name in self._modules:
            del self[name]
        else:
            super().__delattr__(name)

    def clear(self) -> None:
        """Raises ConfigError: at least one part must remain."""
        self._check({})
