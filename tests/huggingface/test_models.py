"""Models in Hugging Face's format: the features of our models, whatever the padding, and clear errors."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="needs transformers: pip install 'cclm-core[huggingface]'")

import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from cclm_core.composition import ComposedModel, load, save
from cclm_core.encoders.embedder import Base
from cclm_core.huggingface import (
    CclmForSequenceClassification,
    CclmModel,
    config_of,
    from_cclm,
    to_cclm,
    tokenizer_from,
)
from cclm_core.huggingface.architecture import build, preprocessor_of
from cclm_core.runtime.errors import ArtifactError, CompositionError, ConfigError, DataError
from cclm_core.runtime.initialization import without_storage
from tests.huggingface.small import ENCODERS, TEXTS, component, compositions, embedder, vocabulary

TOKENIZER = tokenizer_from(vocabulary())
MODELS: dict[str, Base] = {kind: embedder(kind) for kind in ENCODERS} | compositions()
SHORT = ["", "T", "To", "be,", "To be, or not to be: that is the question. 🙂"]


def encoded(texts: list[str], **options: Any) -> Any:
    return TOKENIZER(texts, padding=True, return_tensors="pt", **options)


@pytest.mark.parametrize("name", MODELS)
def test_the_features_are_those_of_our_model_before_and_after_saving(name: str, tmp_path: Path) -> None:
    batch = encoded(TEXTS)
    with torch.no_grad():
        expected = MODELS[name](batch["input_ids"])
    model = from_cclm(MODELS[name])
    model.save_pretrained(tmp_path)
    loaded, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert type(loaded) is CclmModel and not loaded.training
    for other in (model, loaded):
        features = other(**batch).last_hidden_state
        assert torch.equal(features, expected)
        assert all(parameter.requires_grad for parameter in other.parameters())
    assert loaded.encoder.digest == to_cclm(model).digest == MODELS[name].digest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("name", MODELS)
def test_padding_and_the_rest_of_the_batch_change_nothing(name: str) -> None:
    model = from_cclm(MODELS[name])
    with torch.no_grad():
        alone = [model(**encoded([text])).last_hidden_state[0] for text in SHORT]
        for side in ("right", "left"):
            batch = encoded(SHORT, padding_side=side, pad_to_multiple_of=64)
            together = model(**batch).last_hidden_state
            for features, row, mask in zip(alone, together, batch["attention_mask"], strict=True):
                assert torch.allclose(row[mask.bool()], features, atol=1e-5)
                assert not row[~mask.bool()].any()


def test_a_masked_character_does_not_exist() -> None:
    model = from_cclm(embedder())
    text, hidden = encoded(["Tobe"]), encoded(["To be"])
    hidden["attention_mask"][0, 2] = 0
    with torch.no_grad():
        features = model(**hidden).last_hidden_state[0, [0, 1, 3, 4]]
        assert torch.allclose(features, model(**text).last_hidden_state[0], atol=1e-6)


def test_the_tree_keeps_shared_models_and_the_order_of_parts() -> None:
    tower = MODELS["base among the parts"]
    copy = from_cclm(tower).encoder
    assert copy.part("below") is copy.base and copy.parts == ("below", "upper")
    backwards = ComposedModel(embedder(), [component(embedder(), "z"), component(embedder(), "a", seed=4)])
    assert from_cclm(backwards).encoder.parts == ("z", "a")


def test_each_part_has_a_configuration_of_its_own() -> None:
    model = MODELS["nested"]
    config = AutoConfig.for_model(**config_of(model).to_dict())
    assert list(config.parts) == ["composition", "last"]
    for name, part in config.parts.items():
        alone = CclmModel(part)
        assert alone.encoder.width == part.hidden_size == model.part(name).width
        assert CclmModel(part).encoder.base.digest != "", "it has its base"
    whole = from_cclm(model)
    features = whole.part_features(**{k: v for k, v in encoded(TEXTS).items() if k != "token_type_ids"})
    assert {name: part.shape[-1] for name, part in features.items() if "/" not in name} == {
        name: part.hidden_size for name, part in config.parts.items()
    }


def test_hidden_states_are_the_features_of_base_and_parts() -> None:
    model = from_cclm(MODELS["plain"])
    output = model(**encoded(TEXTS), output_hidden_states=True)
    widths = [states.shape[-1] for states in output.hidden_states]
    assert widths == [16, 12, 12, 12, 24]
    assert torch.equal(torch.cat(output.hidden_states[2:4], -1), output.last_hidden_state)
    assert model(**encoded(TEXTS)).hidden_states is None
    assert isinstance(model(**encoded(TEXTS), return_dict=False), tuple)
    with pytest.raises(ConfigError, match="`output_attentions` must not be set"):
        model(**encoded(TEXTS), output_attentions=True)


def test_a_fine_tuned_encoder_returns_to_our_format(tmp_path: Path) -> None:
    model = from_cclm(MODELS["tower"], "sequence-classification", labels=["no", "yes"])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(**encoded(TEXTS), labels=torch.tensor([0, 1, 0, 1])).loss.backward()
    optimizer.step()
    encoder = to_cclm(model)
    save(encoder, tmp_path / "tuned")
    batch = encoded(TEXTS)
    with torch.no_grad():
        assert torch.equal(load(tmp_path / "tuned")(batch["input_ids"]), model.cclm(**batch).last_hidden_state)
    assert encoder.digest != MODELS["tower"].digest, "training reached the encoder, and did not change the original"


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_every_head_reads_short_texts(length: int) -> None:
    text, base = "To be"[:length], embedder("causal")
    masked, causal = from_cclm(base, "masked-lm"), from_cclm(base, "causal-lm")
    tags = from_cclm(base, "token-classification", labels=["O", "B-A", "I-A"])
    texts = from_cclm(base, "sequence-classification", labels=["x", "y", "z"])
    batch = TOKENIZER(text, return_tensors="pt")
    assert masked(**batch).logits.shape == causal(**batch).logits.shape == (1, length, vocabulary().num_ids)
    assert tags(**batch).logits.shape == (1, length, 3)
    assert texts(**batch).logits.shape == (1, 3) and texts(**batch).logits.isfinite().all()
    for model in (masked, causal, tags):
        loss = model(**batch, labels=batch["input_ids"].clamp(max=2)).loss
        assert loss.isfinite() and (loss > 0) == (length > int(model is causal))
        loss.backward()


def test_the_last_character_matters() -> None:
    model = from_cclm(embedder(), "sequence-classification", labels=["x", "y"])
    for text in ("T", "To", "To be, or not"):
        vectors = model.get_input_embeddings()
        model.zero_grad()
        batch = encoded([text + "q", "To be, or not to be: that is the question. Mary"])
        model(**batch).logits[0].sum().backward()
        assert vectors.weight.grad[vocabulary().encode("q")[0]].any()


def test_the_losses_of_sequence_classification() -> None:
    batch = encoded(TEXTS)
    single = from_cclm(embedder(), "sequence-classification", labels=["a", "b", "c"])
    labels = torch.tensor([0, 2, 1, 0])
    expected = torch.nn.functional.cross_entropy(single(**batch).logits, labels)
    assert torch.allclose(single(**batch, labels=labels).loss, expected)
    assert single.config.problem_type == "single_label_classification"
    several = from_cclm(
        embedder(), "sequence-classification", labels=["a", "b"], problem_type="multi_label_classification"
    )
    targets = torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(several(**batch).logits, targets)
    assert torch.allclose(several(**batch, labels=targets).loss, expected)
    number = from_cclm(embedder(), "sequence-classification", labels=["value"])
    values = torch.tensor([0.5, 1.0, -1.0, 2.0])
    expected = (number(**batch).logits[:, 0] - values).square().mean()
    assert torch.allclose(number(**batch, labels=values).loss, expected)
    assert number.config.problem_type == "regression"


def test_a_model_of_pairs_encodes_each_text_on_its_own() -> None:
    model = from_cclm(embedder(), "sequence-classification", labels=["x", "y"], pair=True)
    with torch.no_grad():
        first, second = (model.cclm(**encoded([text])).last_hidden_state for text in ("To be", "or not"))
        pair = TOKENIZER("To be", "or not", return_tensors="pt")
        logits = model(**pair).logits
        u, v = (torch.cat([text.mean(1), text.amax(1)], -1) for text in (first, second))
        joined = torch.cat([u, v, (u - v).abs(), u * v], -1)
        assert torch.allclose(model.classifier(model.norm(joined)), logits, atol=1e-5)
        assert not torch.allclose(model(**TOKENIZER("or not", "To be", return_tensors="pt")).logits, logits)
        framed = tokenizer_from(vocabulary(), "bert")("To be", "or not", return_tensors="pt")
        assert torch.allclose(model(**framed).logits, logits, atol=1e-5), "special tokens are no characters of a text"
        empty = TOKENIZER(["To be", ""], ["", ""], padding=True, return_tensors="pt")
        assert model(**empty).logits.isfinite().all()
    with pytest.raises(ConfigError, match="a model of pairs needs `token_type_ids` of shape"):
        model(pair["input_ids"])


def test_gradient_checkpointing_computes_layers_twice_and_changes_no_gradient() -> None:
    model = from_cclm(MODELS["plain"], "masked-lm").train()
    batch = encoded(TEXTS)
    layer = model.cclm.encoder.base.encoder.layers[0]
    calls = []
    layer.attention_norm.register_forward_hook(lambda *_: calls.append(1))

    def gradients() -> list[torch.Tensor]:
        calls.clear()
        model.zero_grad()
        model(**batch, labels=batch["input_ids"]).loss.backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    plain = gradients()
    assert len(calls) == 1 and not model.is_activation_checkpointing
    model.activation_checkpointing_enable()
    checkpointed = gradients()
    assert len(calls) == 2 and model.is_activation_checkpointing
    assert all(torch.allclose(left, right, atol=1e-6) for left, right in zip(plain, checkpointed, strict=True))
    model.activation_checkpointing_disable()
    gradients()
    assert len(calls) == 1


def test_a_new_head_is_initialized_and_reported(tmp_path: Path) -> None:
    from_cclm(MODELS["plain"]).save_pretrained(tmp_path)
    model, info = AutoModelForSequenceClassification.from_pretrained(
        tmp_path,
        num_labels=3,
        id2label={0: "a", 1: "b", 2: "c"},
        label2id={"a": 0, "b": 1, "c": 2},
        output_loading_info=True,
    )
    assert info["missing_keys"] == {"norm.weight", "norm.bias", "classifier.weight", "classifier.bias"}
    assert torch.equal(model.norm.weight, torch.ones(48)) and not model.norm.bias.any()
    assert 0 < model.classifier.weight.abs().max() < 1 and model.config.id2label[2] == "c"
    batch = encoded(TEXTS)
    with torch.no_grad():
        assert torch.equal(model.cclm(**batch).last_hidden_state, MODELS["plain"](batch["input_ids"]))


def test_weights_that_a_checkpoint_lacks_get_initial_values(tmp_path: Path) -> None:
    model = from_cclm(MODELS["attention"])
    weights = model.state_dict()
    lost = [name for name in weights if "layers" in name or "fusion" in name or "ngrams" in name]
    model.save_pretrained(tmp_path, state_dict={name: some for name, some in weights.items() if name not in lost})
    loaded, info = CclmModel.from_pretrained(tmp_path, output_loading_info=True)
    assert info["missing_keys"] == set(lost)
    for name, tensor in loaded.state_dict().items():
        expected = tensor.isfinite().all() and tensor.abs().max() < 10
        assert expected and (name in lost or torch.equal(tensor, weights[name]))


def test_low_precision(tmp_path: Path) -> None:
    model = from_cclm(MODELS["plain"], "sequence-classification", labels=["x", "y"])
    model.save_pretrained(tmp_path)
    half = CclmForSequenceClassification.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16 and half.config.dtype == torch.bfloat16
    assert torch.allclose(half(**encoded(TEXTS)).logits.float(), model(**encoded(TEXTS)).logits, atol=0.1)
    half.save_pretrained(tmp_path)
    assert CclmForSequenceClassification.from_pretrained(tmp_path).dtype == torch.bfloat16


def test_the_vocabulary_is_closed() -> None:
    model = from_cclm(MODELS["plain"], "masked-lm")
    assert model.resize_token_embeddings(model.config.vocab_size) is model.get_input_embeddings()
    with pytest.raises(ConfigError, match=f"the vocabulary must keep its {vocabulary().num_ids} ids, got 1000"):
        model.resize_token_embeddings(1000)
    with pytest.raises(ConfigError, match="cannot replace the embeddings by Embedding"):
        model.set_input_embeddings(torch.nn.Embedding(3, 3))


def test_wrong_inputs_are_refused() -> None:
    model = from_cclm(embedder())
    with pytest.raises(ConfigError, match="`input_ids` is missing"):
        model(inputs_embeds=torch.zeros(1, 2, 16))
    with pytest.raises(ConfigError, match="`attention_mask` must have the shape of `input_ids`"):
        model(torch.tensor([[4, 5]]), torch.ones(1, 3))
    with pytest.raises(DataError, match="ids must be at least 0 and below"):
        model(torch.tensor([[99999]]))
    with pytest.raises(CompositionError, match="CclmForCausalLM needs a causal encoder"):
        from_cclm(embedder(), "causal-lm")
    with pytest.raises(ConfigError, match="did you mean 'masked-lm'"):
        from_cclm(embedder(), "maskedlm")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="`labels` needs a task of classification, got masked-lm"):
        from_cclm(embedder(), "masked-lm", labels=["a"])
    with pytest.raises(ConfigError, match="`labels` must be a list of distinct names"):
        from_cclm(embedder(), "token-classification", labels=["a", "a"])
    with pytest.raises(ConfigError, match="Create it with `config_of"):
        CclmModel(AutoConfig.for_model("cclm"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "unknown"}, "has an unknown kind 'unknown'"),
        ({"parts": 5}, "the architecture is damaged at encoder"),
        ({"base": {"kind": "embedder"}}, "the architecture is damaged at base"),
        ({"base": {"kind": "same", "path": ["parts", 3]}}, "the architecture is damaged at base"),
    ],
)
def test_a_damaged_architecture_is_refused(change: dict[str, Any], message: str) -> None:
    config = config_of(MODELS["plain"])
    assert config.encoder is not None and config.vocabulary is not None
    with pytest.raises(ArtifactError, match=message), without_storage():
        build(config.encoder | change, preprocessor_of(config.vocabulary))
