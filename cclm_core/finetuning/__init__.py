"""Fine-tuning on the user's own task: classification, several labels, regression, tags, for texts and pairs."""

from cclm_core.finetuning.config import TaskConfig as TaskConfig
from cclm_core.finetuning.fit import TaskData as TaskData
from cclm_core.finetuning.fit import fine_tune as fine_tune
from cclm_core.finetuning.model import TaskModel as TaskModel
from cclm_core.finetuning.store import load_task as load_task
from cclm_core.finetuning.store import save_task as save_task
