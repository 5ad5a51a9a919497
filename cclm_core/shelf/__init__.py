"""The shelf: published preprocessors, embedders, components and compositions, shared through git and DVC."""

from cclm_core.shelf.shelf import About, Shelf

__all__ = ["About", "Shelf"]
