"""What to write instead of the arguments and attributes that models had in cclm 0.1.2."""

_CONVOLUTION = "write `config=EmbedderConfig(encoder=ConvolutionConfig(...))`; see docs/encoders.md"
_CALL = "a model is a torch module: call it with ids, `model(ids)`"

EMBEDDER = {
    "max_example_len": "write `Embedder(prep)`, because an embedder reads any length",
    "n_chars": "write `Embedder(prep)`, because the preprocessor knows it",
    "char_emb_size": "write `config=EmbedderConfig(embedding=EmbeddingConfig(width=...))`",
    "n_blocks": _CONVOLUTION,
    "n_filters": _CONVOLUTION,
    "global_filters": _CONVOLUTION,
    "filter_len": _CONVOLUTION,
    "prefix": "leave it out, because weights need no unique names",
    "pool": "leave it out, and pool the features: `embedder(ids).amax(dim=1)`",
    "load_from": "write `load(folder)`, imported from `cclm_core`",
}
"""Arguments of `Embedder` of cclm 0.1.2 that no longer exist."""

COMPOSITION = {"load_from": "write `load(folder)`, imported from `cclm_core`"}
"""Arguments of `ComposedModel` that people try."""

ATTRIBUTES = {
    "model =": "for a composition as the base, pass it to a pretrainer or to `ComposedModel` as `base`",
    "models": "write `composed.components`, by name",
    "model_name": "write `composed.name`",
    "build_model": "leave it out, because the model is ready",
    "call": _CALL,
    "input": _CALL,
    "inputs": _CALL,
    "output": _CALL,
    "outputs": _CALL,
    "predict": "write `composed.embed(texts)` for texts, or `model(ids)` for ids",
    "fit": "use a pretrainer, or a training loop of torch over `model.parameters()`",
    "summary": "print the model",
    "layers": "write `model.modules()`",
    "get_layer": "write `model.get_submodule(name)`",
    "get_weights": "write `model.state_dict()`",
    "set_weights": "write `model.load_state_dict(state)`",
    "trainable_weights": "write `model.parameters()`",
    "save": "write `save(model, folder)`, imported from `cclm_core`",
    "save_weights": "write `save(model, folder)`, imported from `cclm_core`",
    "load_weights": "write `load(folder)`, imported from `cclm_core`",
    "freeze_embedder": "write `embedder.freeze()`",
    "unfreeze_embedder": "write `embedder.unfreeze()`",
    "char_emb_size": "write `embedder.config.embedding.width`",
    "n_filters": "write `embedder.config.encoder`",
    "n_blocks": "write `embedder.config.encoder`",
    "prefix": "weights need no unique names",
}
"""Attributes of models of cclm 0.1.2, and of Keras, that no longer exist."""
