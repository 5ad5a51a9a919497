"""What every part of a composition is: a component, or a composition itself."""

from abc import ABC, abstractmethod
from pathlib import Path

from torch import Tensor, nn

from cclm_core.encoders.embedder import Base, Reading


class Part(nn.Module, ABC):
    """Says features (B, L, `width`) of a batch, over a base that it shares with others or over one of its own.

    Attributes:
        width: features per character.
    """

    width: int

    @property
    @abstractmethod
    def name(self) -> str:
        """Its name in a composition."""

    @property
    @abstractmethod
    def causal(self) -> bool:
        """Whether its features of a character depend on it and those before it alone."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """SHA-256 over all that it makes of its features: shape and weights, not its name nor the base it shares."""

    @abstractmethod
    def placed(self, base: Base, digest: str, known: dict[str, Base]) -> "Part":
        """This part, once it is sure that it can stand on or beside `base`, whose digest is given.

        A composition gives a twin of itself where a base below it is in `known`, by digest, so that each is there once;
        its other bases are added. The part itself is not changed.

        Raises:
            CompositionError: it belongs to another base or vocabulary; both sides are named.
        """

    @abstractmethod
    def encode(self, reading: Reading, base: Base) -> Tensor:
        """The features (B, L, width) of the batch, over `base` where it shares it."""

    @abstractmethod
    def outputs(self, reading: Reading, base: Base) -> dict[str, Tensor]:
        """As `encode`, by the name ``; behind it what each part of it says, by its path, e.g. `inner/first`."""

    @abstractmethod
    def untrained(self, seed: int) -> "Part":
        """A control: the same shape, with new weights that depend on `seed` alone. Bases stay as they are."""

    @abstractmethod
    def adopt_base(self, renamed: dict[str, str]) -> None:
        """Says that it was trained together with the bases whose digests changed, old to new: see `Base.adopt_base`."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Writes all that it needs into `folder`, but for the base that a component shares."""

    def store(self, folder: Path, stored: set[Base]) -> None:  # noqa: ARG002
        """As `save`, but for the bases in `stored`, which stand elsewhere in the same model; adds what it writes."""
        self.save(folder)
