"""Applications of trained components: generating and scoring text, and correcting misspelled text."""

from cclm_core.applications.changes import Change, changes
from cclm_core.applications.corrector import Corrected, Corrector
from cclm_core.applications.generation import Sampling, generate
from cclm_core.applications.language_model import LanguageModel
from cclm_core.applications.readings import KnownWords

__all__ = ["Change", "Corrected", "Corrector", "KnownWords", "LanguageModel", "Sampling", "changes", "generate"]
