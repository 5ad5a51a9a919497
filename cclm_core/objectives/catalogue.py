"""The objectives, by name. To add one, write a module with its configuration and class, two lines here, and a test.

A configuration builds its objective: `config.build(context)`.
"""

from typing import Annotated

from pydantic import Field

from cclm_core.objectives.characters import CharactersConfig as CharactersConfig
from cclm_core.objectives.denoise import DenoiseConfig as DenoiseConfig
from cclm_core.objectives.detect import DetectConfig as DetectConfig
from cclm_core.objectives.distill import DistillConfig as DistillConfig
from cclm_core.objectives.entities import EntitiesConfig as EntitiesConfig
from cclm_core.objectives.labels import LabelsConfig as LabelsConfig
from cclm_core.objectives.masked_characters import MaskedCharactersConfig as MaskedCharactersConfig
from cclm_core.objectives.masked_words import MaskedWordsConfig as MaskedWordsConfig
from cclm_core.objectives.next_characters import NextCharactersConfig as NextCharactersConfig
from cclm_core.objectives.vectors import VectorsConfig as VectorsConfig
from cclm_core.objectives.whole_texts import WholeTextsConfig as WholeTextsConfig
from cclm_core.runtime.blocks import Registered

WindowObjectives = (
    MaskedCharactersConfig
    | EntitiesConfig
    | CharactersConfig
    | DenoiseConfig
    | NextCharactersConfig
    | MaskedWordsConfig
    | DetectConfig
    | WholeTextsConfig
    | DistillConfig
    | VectorsConfig
    | LabelsConfig
)

ObjectiveConfig = Annotated[WindowObjectives, Field(discriminator="objective"), Registered("objective")]
"""Any objective. This union is the catalogue: the contract tests run over its members."""
