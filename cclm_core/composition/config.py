"""What a composition is made of."""

from pydantic import Field

from cclm_core.composition.card import FusionName
from cclm_core.runtime.config import Config


class CompositionConfig(Config):
    """How the outputs of the parts become one."""

    fusion: FusionName = Field(default="concatenation", description="how outputs are joined; see composition/fusion.py")
    untrained: bool = Field(
        default=False, description="a control: the same parts with new weights, to show what training gave"
    )
