"""What trained components are used for: writing and scoring text, correcting misspelled text."""

from cclm_core.applications.corrector import Change, Corrected, Corrector
from cclm_core.applications.generation import Sampling, write
from cclm_core.applications.language_model import LanguageModel
from cclm_core.applications.readings import KnownWords

__all__ = ["Change", "Corrected", "Corrector", "KnownWords", "LanguageModel", "Sampling", "write"]
