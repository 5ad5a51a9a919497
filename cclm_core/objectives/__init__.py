"""Objectives: each corrupts clean text, reads features with a head of its own, and measures a loss."""

from cclm_core.objectives.base import Example as Example
from cclm_core.objectives.base import Objective as Objective
from cclm_core.objectives.base import ObjectiveContext as ObjectiveContext
from cclm_core.objectives.base import Sums as Sums
from cclm_core.objectives.catalogue import *  # noqa: F403  the objectives are listed in the catalogue, and only there
from cclm_core.objectives.word_losses import WordLossConfig as WordLossConfig
