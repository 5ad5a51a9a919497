"""The catalogue of sources."""

from typing import Annotated

from pydantic import Field

from cclm_core.ingest.sources.archive import ArchiveConfig
from cclm_core.ingest.sources.files import FilesConfig
from cclm_core.ingest.sources.hub import DatasetConfig

Source = Annotated[ArchiveConfig | FilesConfig | DatasetConfig, Field(discriminator="kind")]
