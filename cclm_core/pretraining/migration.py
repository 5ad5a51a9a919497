"""What to write instead of the arguments and attributes that pretrainers had in cclm 0.1.2."""

_ENCODER = "the architecture is in `encoder=HourglassConfig(...)` or another configuration of `cclm_core.encoders`"
_TASK = "the settings of the objective are in `task`"
_WORD_LOSS = f"{_TASK}, such as `task={{'loss': {{'kind': 'negative_sampling'}}}}`"

ARGUMENTS = {
    "preprocessor": "leave it out, because the embedder has the preprocessor",
    "base_args": "create the embedder first and pass it",
    "load_from": "write `CharacterMaskPretrainer.load(folder, embedder)`, with the class of your pretrainer",
    "augmentor": "write `noise=NoiseRecipe(...)`, or transform the texts before `fit`",
    "character_mask_rate": f"{_TASK}, such as `task={{'rate': 0.125}}`",
    "consecutive_mask_len": f"{_TASK}, such as `task={{'mean_span': 5}}`",
    "dropout_rate": f"{_TASK}, such as `task={{'rate': 0.1}}`",
    "min_mask_len": f"{_TASK}, such as `task={{'min_length': 3}}`",
    "num_negatives": _WORD_LOSS,
    "training_pool_mode": "leave it out, because a word is read at its own characters",
    "mask_id": "leave it out, because the mask always has the id 1",
    "learning_rate": "pass it to `fit`",
    "epochs": "pass it to `fit`",
    "batch_size": "pass it to `fit`",
    "max_len": "pass `window` to `fit`",
    **dict.fromkeys(
        (
            "n_conv_filters",
            "n_strided_convs",
            "stride_len",
            "downsample_factor",
            "n_transformer_blocks",
            "n_transformer_layers",
            "n_transformer_heads",
            "ff_dim",
        ),
        _ENCODER,
    ),
}
"""Arguments of the pretrainers of cclm 0.1.2 that no longer exist."""

FIT = {
    "callbacks": "write `callback=function`; it is called with the step and the values of each evaluation",
    "print_interval": "pass `evaluate_every`, in steps",
    "evaluate_interval": "pass `evaluate_every`, in steps",
    "steps_per_epoch": "pass `steps`, the number of all steps, instead of `epochs`",
    "verbose": "pass `progress=True` or `progress=False`",
    "shuffle": "leave it out, because the batches are always drawn at random",
    "validation_split": "write `held_out=`, the share of the texts to evaluate on",
    "y": "leave it out; for labeled texts use `EntityPretrainer`",
}
"""Arguments of `fit` of cclm 0.1.2 and of Keras that no longer exist."""

ATTRIBUTES = {
    "base": "write `pretrainer.embedder`",
    "preprocessor": "write `pretrainer.embedder.preprocessor`",
    "task_name": "write `pretrainer.name`",
    "augmentor": "write `pretrainer.noise`",
    "save_model": "write `pretrainer.save(folder)`, which saves the head too",
    "save_weights": "write `pretrainer.save(folder)`",
    "load_weights": "write `Pretrainer.load(folder, embedder)`",
    "compile": "leave it out, because `fit` takes the settings of the training",
    "generator": "leave it out, because `fit` takes the texts themselves",
    "get_batch": "leave it out; `embedder.preprocessor.encode_batch(texts)` gives ids",
    "batch_from_strs": "leave it out; `embedder.preprocessor.encode_batch(texts)` gives ids",
    "can_learn_from": "leave it out, because `fit` skips empty texts only",
    "get_substr": "leave it out, because `fit` cuts texts into windows of `window` characters",
    "get_model": "write `pretrainer.model` after `fit`",
    "pretraining_model": "write `pretrainer.model` and `pretrainer.objective`",
    "optimizer": "pass `learning_rate` and other keys of `TrainingConfig` to `fit`",
    "evaluate": "read `pretrainer.curve[-1]`, the last held-out metrics",
    "evaluate_prediction": "use `predict` of `MaskedLanguagePretrainer`, or `tag` of `EntityPretrainer`",
    "summary": "print `pretrainer.model`",
}
"""Attributes of the pretrainers of cclm 0.1.2 that no longer exist."""
