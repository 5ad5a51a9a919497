"""Teachers: models trained elsewhere that turn texts into vectors, for the objective `distill`."""

from typing import Annotated

from pydantic import Field

from cclm_core.objectives.teachers.base import Teacher as Teacher
from cclm_core.objectives.teachers.base import TeacherConfig as TeacherConfig
from cclm_core.objectives.teachers.huggingface import HuggingfaceTeacherConfig as HuggingfaceTeacherConfig
from cclm_core.objectives.teachers.outputs import TeacherOutputs as TeacherOutputs
from cclm_core.objectives.teachers.vectors import VectorsTeacherConfig as VectorsTeacherConfig

AnyTeacherConfig = Annotated[HuggingfaceTeacherConfig | VectorsTeacherConfig, Field(discriminator="kind")]
"""Any teacher. This union is the catalogue."""
