"""All probes. To add one, write a module and a test, and add a line here."""

from typing import Annotated, get_args

from pydantic import Field

from cclm_core.evaluation.probes.characters import CharactersProbeConfig
from cclm_core.evaluation.probes.contexts import ContextsProbeConfig
from cclm_core.evaluation.probes.labels import LabelsProbeConfig
from cclm_core.evaluation.probes.tags import TagsProbeConfig

AnyProbe = CharactersProbeConfig | TagsProbeConfig | LabelsProbeConfig | ContextsProbeConfig

ProbeConfig = Annotated[AnyProbe, Field(discriminator="probe")]

DEFAULT_PROBES: tuple[AnyProbe, ...] = tuple(
    member() for member in get_args(AnyProbe) if member is not ContextsProbeConfig
)
"""Those that every composition can have. The contexts probe needs a part that reads contexts."""
