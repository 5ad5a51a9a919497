"""State dictionaries with one name per weight, for modules that hold the same weight at several places.

A base that is at several depths of a composition has several names. Formats such as safetensors refuse weights that
share memory, and so do checkpoints and trainers that are built on it.
"""

from typing import Any

from torch import nn

from cclm_core.encoders.digest import weights_of


class UniqueNames(nn.Module):
    """A module whose `state_dict` has each weight once, under its first name; `load_state_dict` accepts any name."""

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The weights by name, as in `torch.nn.Module`, each of them once."""
        state = super().state_dict(*args, **kwargs)
        prefix = kwargs.get("prefix", args[1] if len(args) > 1 else "")
        for name in further_names(self):
            state.pop(prefix + name, None)
        return state

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Gives a weight with several names each of them."""
        for name, first in further_names(self).items():
            if prefix + first in state_dict:
                state_dict.setdefault(prefix + name, state_dict[prefix + first])
        super()._load_from_state_dict(state_dict, prefix, *args)


def further_names(module: nn.Module) -> dict[str, str]:
    """Further names of the weights of a module that have several -> the first one."""
    first: dict[int, str] = {}
    return {
        name: first[id(tensor)] for name, tensor in weights_of(module) if first.setdefault(id(tensor), name) != name
    }
