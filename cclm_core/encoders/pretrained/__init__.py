"""Embeddings that were trained elsewhere: local transformers checkpoints and static word vectors, per character."""
