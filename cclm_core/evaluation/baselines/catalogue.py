"""All baselines, the main one of each metric first. To add one, write a module and a test, and add a line here."""

from typing import Annotated, get_args

from pydantic import Field

from cclm_core.evaluation.baselines.counts import TrigramConfig, UnigramConfig
from cclm_core.evaluation.baselines.names import DictionaryConfig
from cclm_core.evaluation.baselines.ngrams import MajorityConfig, NgramsConfig
from cclm_core.runtime.blocks import Registered

AnyBaseline = TrigramConfig | UnigramConfig | DictionaryConfig | NgramsConfig | MajorityConfig

BaselineConfig = Annotated[AnyBaseline, Field(discriminator="baseline"), Registered("baseline")]

ALL_BASELINES: tuple[AnyBaseline, ...] = tuple(member() for member in get_args(AnyBaseline))
