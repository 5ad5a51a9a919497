"""The routes of `cclm serve`: answers, errors with the field that is wrong, credentials, limits, metrics."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cclm_core.finetuning.store import load_task
from cclm_core.labeled.examples import LabeledTask
from cclm_core.runtime.errors import ArtifactError, ConfigError, IntegrityError
from flows.servers.guard import bound_socket
from flows.service.config import ServiceConfig
from flows.service.metrics import ROUTES, Metrics
from flows.service.models import Models
from flows.service.predictors import CompositionPredictor, check, load_predictor
from flows.service.sources import FolderSource, split_name
from flows.service.start import serve
from tests.flows.services import TOKEN, Given, Lengths, Service, composition, saved, saved_task

TEXTS = ["Give me excess", "", "na\u00efve \u2603", "of it " * 500]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("models") / "full")


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Service]:
    """A composition and a task."""
    sources = [FolderSource(folder), Given(Lengths(), "task", "champion"), Given(Lengths(is_pair=True), "pairs")]
    with Service(sources, TOKEN, max_characters=10_000) as running:
        yield running


def test_embeddings_are_means_over_the_characters(service: Service) -> None:
    status, answer = service.ask("/embed", {"texts": TEXTS, "model": "full"}, TOKEN)
    assert status == 200 and answer["model"] == "full" and len(answer["version"]) == 12
    rows = composition().embed(TEXTS)
    np.testing.assert_allclose(answer["embeddings"][0], rows[0].mean(axis=0), atol=1e-6)
    assert answer["embeddings"][1] == [0.0] * 16
    snowman = rows[2][-3:].mean(axis=0)  # three bytes, one character
    letters = np.stack([rows[2][0], rows[2][1], rows[2][2:4].mean(axis=0), *rows[2][4:-3], snowman])
    np.testing.assert_allclose(answer["embeddings"][2], letters.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(answer["embeddings"][3], rows[3].mean(axis=0), atol=1e-5)
    assert service.ask("/embed", {"texts": [], "model": "full"}, TOKEN)[1]["embeddings"] == []


def test_predictions_of_texts_and_of_pairs(service: Service) -> None:
    answer = service.ask("/predict", {"texts": ["abc", ""], "model": "task"}, TOKEN)
    assert answer == (200, {"model": "task@champion", "version": "1", "predictions": [{"value": 3}, {"value": 0}]})
    answer = service.ask("/predict", {"texts": [["a", "a"], ["a", "b"]], "model": "pairs"}, TOKEN)
    assert answer[1]["predictions"] == [{"equal": True}, {"equal": False}]
    models = service.ask("/models", token=TOKEN)[1]["models"]
    assert [(model["model"], model["kind"], model["task"], model["is_pair"]) for model in models] == [
        ("full", "composition", None, False),
        ("task@champion", "task", "regress", False),
        ("pairs", "task", "regress", True),
    ]


@pytest.mark.parametrize(
    ("task", "is_pair"),
    [("classify", False), ("classify", True), ("multilabel", False), ("regress", False), ("tag", False)],
)
def test_models_of_every_task_are_served(tmp_path: Path, task: LabeledTask, is_pair: bool) -> None:
    folder = saved_task(tmp_path / "intent", task, is_pair)
    texts: list[Any] = [[text, TEXTS[0]] for text in TEXTS] if is_pair else TEXTS
    with Service([folder]) as running:
        status, answer = running.ask("/predict", {"texts": texts})
        assert status == 200, answer
        model = load_task(folder)
        for prediction, expected in zip(answer["predictions"], model.predict(texts), strict=True):
            assert prediction == json.loads(json.dumps(expected), parse_float=lambda value: approximately(float(value)))
        embeddings = running.ask("/embed", {"texts": TEXTS})[1]["embeddings"]
        np.testing.assert_allclose(embeddings, model.embed(TEXTS), atol=1e-6)
        description = running.ask("/models")[1]["models"][0]
        assert (description["task"], description["is_pair"]) == (task, is_pair)
        assert description["labels"] == list(model.labels)


def approximately(value: float) -> Any:
    """Equal but for rounding in another batch."""
    return pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize(
    ("value", "status", "message"),
    [
        (b"{", 400, "the body is not valid JSON"),
        (b"", 400, "the body is not valid JSON"),
        (b"\xff", 400, "the body is not valid"),
        (b"[" * 100_000, 400, "the body is not valid: nested deeper"),
        (b'{"texts": [NaN]}', 400, "the body is not valid"),
        (b'{"texts": ["\\ud800"]}', 400, "the body is not valid: a lone surrogate"),
        (b'{"texts": ["a"], "texts": ["b"]}', 400, "the body is not valid: the key 'texts' appears twice"),
        ([], 422, "the body must be an object"),
        ({}, 422, "`texts` is missing"),
        ({"texts": ["a"], "text": 1}, 422, "the body must have only the keys `texts` and `model`, got 'text'"),
        ({"texts": "a"}, 422, "`texts` must be a list of strings, got 'a'"),
        ({"texts": ["a", 5]}, 422, "`texts[1]` must be a string, or a list of two strings, got 5"),
        ({"texts": [True]}, 422, "`texts[0]` must be a string, or a list of two strings, got True"),
        ({"texts": [["a"]]}, 422, "`texts[0]` must be a string, or a list of two strings, got ['a']"),
        ({"texts": [["a", None]]}, 422, "`texts[0]` must be a string, or a list of two strings, got"),
        ({"texts": ["a"], "model": 5}, 422, "`model` must be a string, got 5"),
        ({"texts": ["a"]}, 400, "`model` must name one of full, task@champion, pairs"),
        ({"texts": ["a"], "model": "fll"}, 404, "`model` must be one of full, task@champion, pairs, got 'fll'"),
        ({"texts": ["a"], "model": "full"}, 400, "full is a composition, which has nothing to predict"),
        ({"texts": ["a", ["a", "b"]], "model": "task"}, 400, "`texts[1]` must be a string."),
        ({"texts": [["a", "b"], "a"], "model": "pairs"}, 400, "`texts[1]` must be a list of two strings"),
        ({"texts": ["a"] * 1001, "model": "task"}, 413, "`texts` must have at most 1,000 texts, got 1,001"),
        ({"texts": ["", "a" * 10_001], "model": "task"}, 413, "`texts[1]` must have at most 10,000 characters"),
        (b'{"texts": ["' + b"a" * 3_000_000, 413, "the body must have at most 1,000,000 bytes"),
        ({"texts": ["refuse"], "model": "task"}, 400, "refuse is not a text"),
        ({"texts": ["fail"], "model": "task"}, 500, "the model failed; the output of the server has the reason"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else "",
)
def test_a_wrong_request_is_one_clear_error(service: Service, value: Any, status: int, message: str) -> None:
    actual, answer = service.ask("/predict", value, TOKEN)
    assert actual == status and set(answer) == {"error"} and answer["error"].startswith(message), answer


def test_other_paths_and_methods_are_errors_in_json(service: Service) -> None:
    assert service.ask("/nothing", token=TOKEN)[1]["error"].startswith("the paths are /predict, /embed")
    status, answer = service.ask("/embed", token=TOKEN)
    assert status == 405 and answer["error"].startswith("the method must be POST")


def test_only_health_needs_no_token_and_it_tells_no_names(service: Service) -> None:
    for path in (*ROUTES, "/", "/nothing"):
        for token in (None, "wrong" * 8):
            status, answer = service.ask(path, token=token)
            if path == "/health":
                assert (status, answer) == (200, {"status": "ok", "ready": True})
            else:
                assert status == 401 and answer["error"].startswith("credentials are missing or wrong")
    for name in ("Host", "Origin"):
        status, answer = service.ask("/models", token=TOKEN, **{name: "evil.example"})
        assert status == 403 and f"the header {name} must name this machine" in answer["error"]


def test_a_name_behind_a_proxy_can_be_allowed(folder: Path) -> None:
    with Service([folder], allowed_hosts=("models.example",)) as running:
        assert running.ask("/models", Host="models.example")[0] == 200
        assert running.ask("/models", Host="evil.example")[0] == 403


def test_the_description_lists_the_routes_and_the_page_needs_no_other_server(service: Service) -> None:
    status, description = service.ask("/openapi.json", token=TOKEN)
    assert status == 200 and set(description["paths"]) == {"/predict", "/embed", "/models", "/health", "/metrics"}
    body = description["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(body["properties"]) == {"texts", "model"} and body["required"] == ["texts"]
    errors = {
        path: {*next(iter(operations.values()))["responses"]} for path, operations in description["paths"].items()
    }
    assert errors["/embed"] - errors["/models"] == {"400", "408", "413", "422", "503"}
    status, page = service.ask("/docs", token=TOKEN)
    assert status == 200 and "<script" not in page and "POST /predict" in page and page.count(">503<") == 1
    assert f"http://127.0.0.1:{service.port}/predict</pre>" in page
    assert not [address for address in re.findall(r"https?://[^\s/:&<]+", page) if "127.0.0.1" not in address]


def test_metrics_count_requests_texts_and_versions(folder: Path) -> None:
    with Service([folder]) as running:
        running.ask("/embed", {"texts": ["ab", "c"]})
        running.ask("/embed", {"texts": [1]})
        running.ask("/a/path/of/a/scanner")
        text = running.ask("/metrics")[1]
        families = {family.name: family for family in text_string_to_metric_families(text)}
        assert {"cclm_requests", "cclm_request_seconds", "cclm_queue_requests", "cclm_batch_texts"} <= set(families)
        version = running.models.get(None).current.version
        assert running.metric("requests_total", route="/embed", status="200") == 1
        assert running.metric("requests_total", route="/embed", status="422") == 1
        assert running.metric("requests_total", route="other", status="404") == 1
        assert running.metric("request_seconds_count", route="/embed") == 2
        assert running.metric("texts_total", model="full") == 2
        assert running.metric("characters_total", model="full") == 3
        assert running.metric("queue_requests", model="full") == 0
        assert running.metric("model_info", model="full", version=version, digest=composition().digest) == 1


def test_a_request_names_a_model_with_or_without_alias() -> None:
    sources = [Given(Lengths(), "full", "candidate"), Given(Lengths(), "full", "champion"), Given(Lengths(), "other")]
    with Service(sources) as running:
        for name, key in (("full", "full@champion"), ("full@candidate", "full@candidate"), ("other", "other")):
            answer = running.ask("/predict", {"texts": ["a"], "model": name})[1]
            assert answer["model"] == key
        assert running.ask("/predict", {"texts": ["a"], "model": "other@champion"})[0] == 404


def test_models_that_cannot_be_served_are_refused_at_the_start(tmp_path: Path) -> None:
    def start(*folders: Path) -> None:
        """Loads folders as a service does."""
        Models([FolderSource(folder) for folder in folders], ServiceConfig(), Metrics()).close()

    with pytest.raises(ArtifactError, match=r"manifest.json not found in .*none"):
        start(tmp_path / "none")
    folder = saved(tmp_path / "full")
    with pytest.raises(ConfigError, match="models must differ, got full twice"):
        start(folder, folder)
    (folder / "composition.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"full version \w+ is not served: .*composition.json is altered"):
        start(folder)
    with pytest.raises(IntegrityError, match="is altered"):
        load_predictor(folder)


def test_a_model_whose_answers_are_not_finite_is_refused() -> None:
    model = composition()
    check(CompositionPredictor(model))
    next(model.components.parameters()).data.fill_(float("nan"))
    with pytest.raises(ArtifactError, match="the embeddings must be finite"):
        check(CompositionPredictor(model))


def test_the_command_refuses_what_is_no_model_and_an_open_port_without_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert split_name("full@previous") == ("full", "previous")
    for target in ("full@chmpion", "full@", "@champion", "a b", ""):
        with pytest.raises(ConfigError, match="a model must be NAME, NAME@ALIAS or the path of a folder"):
            split_name(target)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CCLM_SERVE_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="--no-token must not be combined with --host"):
        serve(["./full"], ServiceConfig(host="0.0.0.0"), with_token=False)
    with pytest.raises(ConfigError, match="CCLM_SERVE_TOKEN must be set"):
        serve(["./full"], ServiceConfig(port=_free_port()), with_token=True)
    with pytest.raises(ConfigError, match=r"dvc.yaml not found"):
        serve(["full"], ServiceConfig(port=_free_port()), with_token=True)


def _free_port() -> int:
    """A port that nothing listens on."""
    with bound_socket(0) as listener:
        return int(listener.getsockname()[1])
