"""Configuration of the encoders: shapes only, nothing about data or training."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cclm_core.runtime.config import Config


class EmbeddingConfig(Config):
    """Character embeddings with hashed n-grams.

    The tables cost memory and no time: a character reads one row of each. What they gain: benchmarks/quality.py.
    """

    width: int = Field(default=128, ge=8, description="features per character")
    ngram_sizes: tuple[int, ...] = Field(default=(2, 3), description="characters per hashed n-gram, 2 to 8")
    ngram_buckets: int = Field(default=16384, ge=16, description="rows of each n-gram table")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if any(not 2 <= size <= 8 for size in self.ngram_sizes):
            raise ValueError(f"ngram_sizes must lie between 2 and 8, got {self.ngram_sizes}")
        return self


class HourglassConfig(Config):
    """Convolution over characters, downsampling, a transformer over positions, upsampling with a skip."""

    kind: Literal["hourglass"] = "hourglass"
    kernel_size: int = Field(default=7, ge=1, description="characters that the convolutions see, an odd number")
    stride: Annotated[int, Field(ge=1, le=16)] | Literal["word"] = Field(
        default=4, description="characters per position of the transformer; `word` makes each word one position"
    )
    word_length: int = Field(
        default=16, ge=2, le=256, description="characters at which `word` cuts a longer word, what follows it included"
    )
    core_width: int = Field(default=256, ge=16, description="features per position, a multiple of num_heads")
    num_layers: int = Field(default=4, ge=1, description="transformer layers")
    num_heads: int = Field(default=4, ge=1, description="attention heads")
    width: int = Field(default=192, ge=8, description="features per character in the output")
    causal: bool = Field(default=False, description="whether a character sees only itself and those before it")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {self.kernel_size}")
        if self.core_width % (2 * self.num_heads):
            raise ValueError(
                f"core_width must be a multiple of twice num_heads (rotary positions turn pairs), "
                f"got {self.core_width} and {self.num_heads} heads"
            )
        return self
