"""What a composition is made of."""

from typing import Literal

from pydantic import Field

from cclm_core.config import Config


class CompositionConfig(Config):
    """How the outputs of the parts become one."""

    fusion: Literal["concatenation"] = Field(default="concatenation", description="how outputs are joined")
    untrained: bool = Field(
        default=False, description="a control: the same parts with new weights, to show what training gave"
    )
