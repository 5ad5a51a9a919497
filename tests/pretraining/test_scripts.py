"""Training at the default learning rate stays finite for many scripts, most of whose characters are rare."""

import math
import os
import random
from pathlib import Path

import pytest

from cclm_core.encoders import AttentionConfig, ConvolutionConfig, EncoderConfig, HourglassConfig
from cclm_core.encoders.embedder import Embedder, EmbedderConfig
from cclm_core.pretraining import CharacterMaskPretrainer
from cclm_core.runtime.random import seeded_initialization
from cclm_core.text.vocabulary import Preprocessor
from cclm_core.training.config import BaseConfig, ComponentConfig

FOLDER = Path(os.environ.get("CCLM_UDHR", "data/udhr"))
"""Texts of the Universal Declaration of Human Rights, `udhr_LANGUAGE.txt`."""

SMALL: dict[str, EncoderConfig] = {
    "hourglass": HourglassConfig(core_width=64, num_layers=1, num_heads=2, width=32),
    "convolution": ConvolutionConfig(num_blocks=2, width=64, global_width=8),
    "attention": AttentionConfig(num_layers=1, num_heads=2, width=32),
}
SENTENCES = (
    "Whereas recognition of the inherent dignity is the foundation of freedom,",
    "Принимая во внимание, что признание достоинства является основой свободы,",
    "人類社会のすべての構成員の固有の尊厳を承認することは自由の基礎である",
    "鉴于对人类家庭所有成员的固有尊严的承认乃是世界自由的基础",
    "ولما كان الاعتراف بالكرامة المتأصلة هو أساس الحرية",
    "모든 인류 구성원의 천부의 존엄성을 인정하는 것이 자유의 기초이며",
    "மனிதக் குடும்பத்தினைச் சேர்ந்த யாவரதும் உள்ளார்ந்த மரியாதை",
    "โดยที่การยอมรับนับถือเกียรติศักดิ์ประจำตัวเป็นหลักมูลเหตุแห่งอิสรภาพ",
)


@pytest.mark.parametrize("kind", SMALL)
def test_many_scripts_train_without_nan_at_the_default_rate(kind: str) -> None:
    draw = random.Random(1)
    texts = ["".join(draw.choices(sentence, k=80)) for sentence in SENTENCES for _ in range(20)]
    files = sorted(FOLDER.glob("udhr_*.txt"))
    if files:
        texts = [line for file in files for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    with seeded_initialization(1):
        base = Embedder(Preprocessor().fit(texts), EmbedderConfig(encoder=SMALL[kind]))
    trainer = CharacterMaskPretrainer(base, encoder=SMALL[kind], train_base=True)
    curve = trainer.fit(texts, steps=20, batch_size=8, window=64, evaluation_windows=16, warmup_steps=5)
    assert all(math.isfinite(value) for point in curve for value in point.values())
    assert curve[-1]["held_out_bits_per_masked_character"] < curve[0]["held_out_bits_per_masked_character"]


def test_the_default_learning_rate_is_that_of_the_encoder() -> None:
    convolution = {"kind": "convolution", "width": 16}
    task = {"objective": "masked_characters"}
    for config, rate in (
        (BaseConfig.parse({}, "base"), 4e-3),
        (BaseConfig.parse({"embedder": {"encoder": convolution}}, "base"), 1e-3),
        (BaseConfig.parse({"embedder": {"encoder": convolution}, "training": {"steps": 3}}, "base"), 1e-3),
        (BaseConfig.parse({"embedder": {"encoder": convolution}, "training": {"learning_rate": 4e-3}}, "base"), 4e-3),
        (ComponentConfig.parse({"task": task, "encoder": convolution}, "component"), 1e-3),
        (ComponentConfig.parse({"task": task, "encoder": {"kind": "attention"}}, "component"), 4e-3),
    ):
        assert config.training.learning_rate == rate == config.canonical()["training"]["learning_rate"]
