"""Evaluation of a frozen composition: probes on its features, baselines, metrics with confidence intervals.

`EvaluationConfig` and `evaluate_composition` are imported on first use, because they import torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cclm_core.evaluation.config import EvaluationConfig
    from cclm_core.evaluation.evaluator import evaluate_composition

__all__ = ["EvaluationConfig", "evaluate_composition"]


def __getattr__(name: str) -> Any:
    """Imports a public name on first use."""
    if name == "EvaluationConfig":
        from cclm_core.evaluation.config import EvaluationConfig

        return EvaluationConfig
    if name == "evaluate_composition":
        from cclm_core.evaluation.evaluator import evaluate_composition

        return evaluate_composition
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
