"""Seeded typing errors and other text noise, with a map of the edits. See docs/noise.md."""

from cclm_core.noise.adversarial import AttackResult, Scorer, attack
from cclm_core.noise.augmentor import Augmentor
from cclm_core.noise.edits import Edits, Noised
from cclm_core.noise.engine import apply, eligible
from cclm_core.noise.kinds import CATALOGUE, Kind
from cclm_core.noise.misspellings import Spellings, read_misspellings, write_misspellings
from cclm_core.noise.recipe import NoiseConfig, NoiseRecipe, SpellingSources, TrainingNoise
from cclm_core.noise.tables import SymbolTables
from cclm_core.noise.text import NoisedText, TextNoiser, noise_text

__all__ = [
    "CATALOGUE",
    "AttackResult",
    "Augmentor",
    "Edits",
    "Kind",
    "NoiseConfig",
    "NoiseRecipe",
    "Noised",
    "NoisedText",
    "Scorer",
    "SpellingSources",
    "Spellings",
    "SymbolTables",
    "TextNoiser",
    "TrainingNoise",
    "apply",
    "attack",
    "eligible",
    "noise_text",
    "read_misspellings",
    "write_misspellings",
]
