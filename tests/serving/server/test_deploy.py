"""The files for production: parsed, consistent, and what they configure is run."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from google.protobuf import text_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families
from tensorflow_serving.config import model_server_config_pb2

from adaptiverec.common import cli
from adaptiverec.serving import ModelServer, RecommenderClient, config_files_pb2

DEPLOY = Path(str(resources.files("adaptiverec.serving") / "deploy"))
ROOT = Path(__file__).parents[3]
# Where the stock image's entrypoint listens.
GRPC, REST = 8500, 8501
SERIES = re.compile(r":tensorflow:[a-zA-Z_:]+")


def text_of(name: str) -> str:
    return (DEPLOY / name).read_text("utf-8")


def parsed(name: str, message: Any) -> Any:
    return text_format.Parse(text_of(name), message)


@pytest.fixture(scope="module")
def model() -> Any:
    config = parsed("models.config", model_server_config_pb2.ModelServerConfig())
    (entry,) = config.model_config_list.config
    return entry


@pytest.fixture(scope="module")
def batching() -> config_files_pb2.BatchingParameters:
    return parsed("batching.config", config_files_pb2.BatchingParameters())


@pytest.fixture(scope="module")
def monitoring() -> config_files_pb2.MonitoringConfig:
    return parsed("monitoring.config", config_files_pb2.MonitoringConfig())


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load(text_of("docker-compose.yaml"))


@pytest.fixture(scope="module")
def manifests() -> dict[str, Any]:
    documents = list(yaml.safe_load_all(text_of("kubernetes.yaml")))
    found = {document["kind"]: document for document in documents}
    assert len(found) == len(documents)
    return found


@pytest.fixture(scope="module")
def container(manifests) -> dict[str, Any]:
    (found,) = manifests["Deployment"]["spec"]["template"]["spec"]["containers"]
    return found


@pytest.fixture(scope="module")
def board() -> dict[str, Any]:
    return json.loads(text_of("grafana.json"))


def test_all_files_are_known() -> None:
    # One that is added wants tests, too.
    assert sorted(path.name for path in DEPLOY.iterdir()) == [
        "batching.config",
        "docker-compose.yaml",
        "grafana.json",
        "kubernetes.yaml",
        "kustomization.yaml",
        "models.config",
        "monitoring.config",
        "prometheus.yaml",
    ]


def test_one_image_of_one_version(compose, container) -> None:
    image = container["image"]
    assert re.fullmatch(r"tensorflow/serving:\d+\.\d+\.\d+", image)
    assert compose["services"]["serving"]["image"] == image
    for service in compose["services"].values():
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])
    for page in ("README.md", "docs/serve.md"):
        named = set(
            re.findall(r"tensorflow/serving:[\d.]*\d", (ROOT / page).read_text())
        )
        assert named == {image}


def test_flags_are_the_servers_and_the_same_everywhere(compose, container) -> None:
    flags = container["args"]
    assert compose["services"]["serving"]["command"] == flags
    assert set(serve_flags(flags)) == {
        flag.removeprefix("--").partition("=")[0] for flag in flags
    }


def serve_flags(flags: list[str]) -> dict[str, Any]:
    _, bound, _ = cli.app.parse_args(
        ["serve", *flags], print_error=False, exit_on_error=False
    )
    return bound.arguments


def test_files_are_where_flags_look_for_them(
    compose, container, manifests, model
) -> None:
    flags = serve_flags(container["args"])
    named = {name: flags[name] for name in flags if name.endswith("_file")}
    assert len(named) == 3
    mounts = dict(
        volume.removesuffix(":ro").rsplit(":", 1)[::-1]
        for volume in compose["services"]["serving"]["volumes"]
    )
    kustomization = yaml.safe_load(text_of("kustomization.yaml"))
    (generator,) = kustomization["configMapGenerator"]
    for path in named.values():
        assert mounts[path] == f"./{Path(path).name}"
        assert (DEPLOY / mounts[path]).is_file()
        assert Path(path).name in generator["files"]
    assert len(generator["files"]) == 3
    assert kustomization["resources"] == ["kubernetes.yaml"]
    volumes = {
        volume["name"]: volume
        for volume in manifests["Deployment"]["spec"]["template"]["spec"]["volumes"]
    }
    assert volumes["config"]["configMap"]["name"] == generator["name"]
    places = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert {str(Path(path).parent) for path in named.values()} == {"/config"}
    assert {mount["name"] for mount in places.values()} == set(volumes)
    assert all(mount["readOnly"] for mount in places.values())
    # Base paths lie in the volume of models, one directory a model, by its name.
    assert model.base_path == f"/models/{model.name}"
    assert "/models" in mounts
    assert "/models" in places


def test_ports(compose, container, manifests, monitoring) -> None:
    published = compose["services"]["serving"]["ports"]
    assert published == [f"127.0.0.1:{port}:{port}" for port in (GRPC, REST)]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"grpc": GRPC, "http": REST}
    for port in manifests["Service"]["spec"]["ports"]:
        assert port["port"] == ports[port["targetPort"]]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["grpc"]["port"] == GRPC
    assert serve_flags(container["args"])["enable_grpc_healthcheck_service"] is True
    path = monitoring.prometheus_config.path
    template = manifests["Deployment"]["spec"]["template"]
    assert template["metadata"]["annotations"] == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(REST),
        "prometheus.io/path": path,
    }
    (scrape,) = yaml.safe_load(text_of("prometheus.yaml"))["scrape_configs"]
    assert scrape["metrics_path"] == path
    assert scrape["static_configs"] == [{"targets": [f"serving:{REST}"]}]
    assert "serving" in compose["services"]


def test_compose_knows_its_own_services(compose, board) -> None:
    contents = {
        name: yaml.safe_load(config["content"])
        for name, config in compose["configs"].items()
    }
    (source,) = contents["datasource"]["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert {target["datasource"]["uid"] for target in targets(board)} == {source["uid"]}
    grafana = compose["services"]["grafana"]
    assert {config["source"] for config in grafana["configs"]} == set(contents)
    (provider,) = contents["dashboards"]["providers"]
    (volume,) = grafana["volumes"]
    assert volume.split(":")[1].startswith(provider["options"]["path"])
    for service in ("prometheus", "grafana"):
        for volume in compose["services"][service]["volumes"]:
            assert (DEPLOY / volume.split(":")[0]).is_file()
    flag = compose["services"]["prometheus"]["command"][0]
    assert (
        flag.removeprefix("--config.file=")
        in compose["services"]["prometheus"]["volumes"][0]
    )


def test_the_objects_of_kubernetes_belong_together(manifests) -> None:
    assert set(manifests) == {
        "Deployment",
        "Service",
        "HorizontalPodAutoscaler",
        "PodDisruptionBudget",
    }
    deployment = manifests["Deployment"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert manifests["Service"]["spec"]["selector"] == labels
    budget = manifests["PodDisruptionBudget"]["spec"]
    assert budget["selector"]["matchLabels"] == labels
    scaler = manifests["HorizontalPodAutoscaler"]["spec"]
    target = scaler["scaleTargetRef"]
    assert (target["kind"], target["apiVersion"], target["name"]) == (
        "Deployment",
        deployment["apiVersion"],
        deployment["metadata"]["name"],
    )
    # Each would undo what the other did.
    assert "replicas" not in deployment["spec"]
    # A budget that allows no pod to be away would hold up every drain.
    assert scaler["minReplicas"] > budget["maxUnavailable"] >= 1


def test_threads_are_for_the_cores_there_are(compose, container, batching) -> None:
    cores = int(container["resources"]["requests"]["cpu"])
    flags = serve_flags(container["args"])
    assert flags["tensorflow_intra_op_parallelism"] == cores
    assert flags["tensorflow_inter_op_parallelism"] == cores
    assert batching.num_batch_threads.value == cores
    assert compose["services"]["serving"]["cpus"] == cores


def test_a_pod_is_held_back_while_it_is_taken_out(manifests, container) -> None:
    command = container["lifecycle"]["preStop"]["exec"]["command"]
    grace = manifests["Deployment"]["spec"]["template"]["spec"]
    assert int(command[-1]) < grace["terminationGracePeriodSeconds"]


# What these files configure


@pytest.fixture(scope="module")
def server(
    base_path, container, model, tmp_path_factory
) -> Iterator[tuple[ModelServer, str]]:
    """The server with the flags and files of the Deployment; base paths moved."""
    models = tmp_path_factory.mktemp("models")
    (models / model.name).symlink_to(base_path)
    moved = models / "models.config"
    moved.write_text(text_of("models.config").replace('"/models/', f'"{models}/'))
    flags = serve_flags(
        [flag.replace("=/config/", f"={DEPLOY}/") for flag in container["args"]]
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        rest = free.getsockname()[1]
    flags |= {"port": 0, "rest_api_port": rest, "model_config_file": str(moved)}
    with ModelServer(**flags) as started:
        yield started, model.name


def test_it_recommends(server, catalogue, artefact) -> None:
    started, name = server
    # Of many lengths, all at once, so that they meet in batches.
    histories = [catalogue[n : n + 1 + n % 5] for n in range(40)]
    with RecommenderClient(started.address, name, timeout=60) as client:

        def ask(history: list[str]) -> list[str]:
            return client.recommend(history, k=7).items

        with ThreadPoolExecutor(16) as pool:
            found = list(pool.map(ask, histories))
    for history, items in zip(histories, found, strict=True):
        answer = artefact("recommend", history=[history], k=[7])
        assert items == [item.decode() for item in answer["items"][0]]


def test_its_probes_are_answered(server, compose) -> None:
    started, _ = server
    with grpc.insecure_channel(started.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        # What Kubernetes asks where a probe names no service.
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    kind, *command = compose["services"]["serving"]["healthcheck"]["test"]
    assert kind == "CMD"
    assert str(REST) in command[-1]
    for script, code in (
        (command[-1].replace(str(REST), str(started.rest_port)), 0),
        (command[-1].replace(str(REST), "1"), 1),
        (
            command[-1].replace(str(REST), str(started.rest_port)).replace("shop", "x"),
            1,
        ),
    ):
        done = subprocess.run(
            [*command[:-1], script], check=False, capture_output=True, timeout=30
        )
        assert (done.returncode == 0) == (code == 0)


def targets(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [target for panel in board["panels"] for target in panel["targets"]]


@pytest.fixture(scope="module")
def exported_series(server, catalogue, monitoring) -> dict[str, set[str]]:
    """Names of the time series on the server's own page, each with its labels."""
    started, name = server
    with RecommenderClient(started.address, name, timeout=60) as client:
        client.recommend(catalogue[:2])
    path = monitoring.prometheus_config.path
    url = f"http://127.0.0.1:{started.rest_port}{path}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        page = answer.read().decode()
    counters = set(re.findall("# TYPE (.*) counter", page))
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            series = sample.name
            if family.type == "counter" and series not in counters:
                # The parser gives every counter this ending.
                series = series.removesuffix("_total")
            found.setdefault(series, set()).update(sample.labels)
    return found


def test_the_board_shows_what_the_server_exports(board, exported_series) -> None:
    expressions = [target["expr"] for target in targets(board)]
    (variable,) = board["templating"]["list"]
    assert variable["query"]["query"] == (
        "label_values(:tensorflow:serving:request_count, model_name)"
    )
    for expression in [*expressions, variable["query"]["query"]]:
        names = SERIES.findall(expression)
        assert names
        labels = set(re.findall(r"(\w+)(?:=~|!=|=)\"", expression))
        for group in re.findall(r"by \(([^)]*)\)", expression):
            labels |= set(re.split(r",\s*", group))
        for name in names:
            assert name in exported_series, name
            assert labels <= exported_series[name], (name, labels)
        # Brackets and braces are closed, and a rate is never of a whole histogram.
        for opening, closing in ("()", "[]", "{}"):
            assert expression.count(opening) == expression.count(closing)
        if "histogram_quantile" in expression:
            assert all(name.endswith("_bucket") for name in names)


def test_legends_name_labels_that_are_kept(board) -> None:
    for target in targets(board):
        for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
            assert re.search(rf"by \([^)]*\b{label}\b", target["expr"])


def test_panels_have_places_of_their_own(board) -> None:
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    cells = [
        (x, y)
        for panel in board["panels"]
        for x in range(
            panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"]
        )
        for y in range(
            panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"]
        )
    ]
    assert len(set(cells)) == len(cells)
    assert all(0 <= x < 24 for x, _ in cells)
