"""Objectives: each corrupts clean text, predicts targets from features with its own head, and computes a loss."""

from cclm_core.objectives.base import Example as Example
from cclm_core.objectives.base import Objective as Objective
from cclm_core.objectives.base import ObjectiveContext as ObjectiveContext
from cclm_core.objectives.base import Sums as Sums
from cclm_core.objectives.catalogue import *  # noqa: F403  only the catalogue lists the objectives
from cclm_core.objectives.word_losses import WordLossConfig as WordLossConfig
