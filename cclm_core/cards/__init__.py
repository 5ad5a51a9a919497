"""The model card: one template for every published, exported or registered item."""

from cclm_core.cards.facts import Facts, Score, facts_of
from cclm_core.cards.template import render, write_card

__all__ = ["Facts", "Score", "facts_of", "render", "write_card"]
