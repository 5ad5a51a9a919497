"""Training: configuration, training module, training loop, and runs that publish their result."""

from cclm_core.training.config import BaseConfig as BaseConfig
from cclm_core.training.config import ComponentConfig as ComponentConfig
from cclm_core.training.config import TrainingConfig as TrainingConfig
from cclm_core.training.config import WeightedObjective as WeightedObjective
from cclm_core.training.loop import evaluate as evaluate
from cclm_core.training.loop import open_data as open_data
from cclm_core.training.loop import train as train
from cclm_core.training.module import TrainingModule as TrainingModule
from cclm_core.training.run import TrainingInputs as TrainingInputs
from cclm_core.training.run import TrainingRun as TrainingRun
from cclm_core.training.trainee import Data as Data
from cclm_core.training.trainee import Point as Point
