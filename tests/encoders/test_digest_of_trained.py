"""The digest of a model changes with every optimizer step, fused or not."""

import pytest
import torch

from cclm_core.encoders.embedder import Embedder, EmbedderConfig
from cclm_core.encoders.embedding import EmbeddingConfig
from cclm_core.text.vocabulary import Preprocessor


@pytest.mark.parametrize("is_fused", [False, True])
def test_an_optimizer_step_changes_the_digest(is_fused: bool) -> None:
    config = EmbedderConfig.parse({"embedding": EmbeddingConfig(width=16, ngram_buckets=16).canonical()}, "embedder")
    embedder = Embedder(Preprocessor(alphabet="ab"), config)
    optimizer = torch.optim.AdamW(embedder.parameters(), fused=is_fused)
    digests = {embedder.digest}
    for _ in range(2):
        embedder(torch.tensor([[260, 261]])).sum().backward()
        optimizer.step()
        digests.add(embedder.digest)
    assert len(digests) == 3
