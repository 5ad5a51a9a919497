"""The catalogue of heads."""

from typing import Annotated

from pydantic import Field

from cclm_core.heads.tags import TagsConfig
from cclm_core.heads.texts import ClassificationConfig, MultilabelConfig, RegressionConfig
from cclm_core.runtime.blocks import Registered

HeadConfig = Annotated[
    ClassificationConfig | MultilabelConfig | RegressionConfig | TagsConfig,
    Field(discriminator="head"),
    Registered("head"),
]

_DEFAULTS: dict[str, type[ClassificationConfig | MultilabelConfig | RegressionConfig | TagsConfig]] = {
    "classify": ClassificationConfig,
    "multilabel": MultilabelConfig,
    "regress": RegressionConfig,
    "tag": TagsConfig,
}


def default_head(task: str) -> HeadConfig:
    """The default head of a kind of task: `classify`, `multilabel`, `regress` or `tag`."""
    return _DEFAULTS[task]()
