"""Models by the name that they are published under, from a hub on this machine."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import headway
from encoders import make_encoder
from headway.cli._main import main
from headway.errors import ConfigError, FileError
from headway.files.hub import local_folder

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.ThreadingHTTPServer):
    """Publish the folders of a directory as repositories of "owner"."""

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.root, self.asked, self.breaks_off = root, [], "\0"


class _Answer(http.server.BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        self.answer()

    def do_HEAD(self) -> None:
        self.answer()

    def log_message(self, format: str, *args) -> None:
        pass

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(path)
        content, headers = self.find(path)
        self.send_response(404 if content is None else 200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        if self.command == "GET" and content:
            is_whole = not path.endswith(self.server.breaks_off)
            self.wfile.write(content if is_whole else content[: len(content) // 2])

    def find(self, path: str) -> tuple[bytes | None, dict[str, str]]:
        parts = path.strip("/").split("/")
        if parts[0] == "api":
            folder = self.server.root / parts[3]
            if parts[4] == "revision" and parts[5] not in ("main", COMMIT):
                return None, {"X-Error-Code": "RevisionNotFound"}
            if parts[2] != "owner" or not folder.is_dir():
                return None, {"X-Error-Code": "RepoNotFound"}
            names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
            if parts[4] == "tree":
                listed = [
                    {"type": "file", "path": name, "oid": name.replace("/", "-"), "size": 1}
                    for name in names
                ]
            else:
                listed = {
                    "id": f"owner/{parts[3]}",
                    "sha": COMMIT,
                    "siblings": [{"rfilename": name} for name in names],
                }
            return json.dumps(listed).encode(), {"Content-Type": "application/json"}
        file = self.server.root / parts[1] / "/".join(parts[4:])
        if not file.is_file():
            return None, {"X-Error-Code": "EntryNotFound"}
        return file.read_bytes(), {"ETag": f'"{parts[-1]}"', "X-Repo-Commit": COMMIT}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Serve the folder "published", with an empty cache."""
    root = tmp_path / "published"
    root.mkdir()
    server = Hub(root)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def published(hub):
    """Publish an encoder, with files beside it that nobody asked for."""
    folder = hub.root / "tiny-bert"
    make_encoder("bert").save(folder)
    (folder / "pytorch_model.bin").write_bytes(b"pickled")
    (folder / "modeling.py").write_text("raise SystemExit")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "config.json").write_text("{}")
    return folder


def test_a_path_is_a_path():
    assert local_folder("some/where") == Path("some/where")


def test_a_published_model_is_fetched_once_and_without_what_could_run(hub, published):
    folder = local_folder("hub:owner/tiny-bert")
    names = {path.name for path in folder.iterdir()}
    assert names == {path.name for path in published.iterdir()} - {
        *("pytorch_model.bin", "modeling.py", "onnx")
    }
    hub.asked.clear()
    assert local_folder("hub:owner/tiny-bert") == folder
    assert not [path for path in hub.asked if path.endswith(".safetensors")]


def test_a_published_model_answers_as_its_folder(hub, published):
    rows = [{"text": "a [MASK] text"}]
    expected = headway.load(published).predict(rows)
    assert headway.load("hub:owner/tiny-bert").predict(rows) == expected


def test_without_the_hub_what_was_fetched_is_taken(hub, published, monkeypatch):
    folder = local_folder("hub:owner/tiny-bert")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert local_folder("hub:owner/tiny-bert") == folder


def test_nothing_but_the_model_is_asked_for(hub, published, tmp_path):
    address = f"http://127.0.0.1:{hub.server_port}"
    environment = os.environ | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "headway", "inspect", "hub:owner/tiny-bert"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "bert" in done.stdout
    assert all("owner/tiny-bert" in path for path in hub.asked)


def test_a_commit_can_be_named(hub, published):
    assert local_folder(f"hub:owner/tiny-bert@{COMMIT}").name == COMMIT


@pytest.mark.parametrize("name", ["hub:owner/absent", "hub:owner/tiny-bert@other"])
def test_a_model_that_is_not_there_is_one_line(name, hub, published, capsys):
    assert main(["inspect", name]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"headway: {name} could not be fetched: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "name",
    ["a/b/c", "", "..", "x", "owner/x@", "owner/x@../y", "owner/x@/tmp/y", "../../x", "a b/c"],
)
def test_a_name_that_is_none_asks_for_nothing(name, hub):
    with pytest.raises(FileError, match="is no name of a model"):
        local_folder(f"hub:{name}")
    assert hub.asked == []


def test_an_answer_that_breaks_off_is_one_line(hub, published, capsys):
    hub.breaks_off = ".safetensors"
    assert main(["inspect", "hub:owner/tiny-bert"]) == 1
    assert "could not be fetched" in capsys.readouterr().err


def test_a_model_that_cannot_be_used_is_refused_before_its_weights_come(hub, published):
    (published / "config.json").write_text('{"model_type": "unheard-of"}')
    with pytest.raises(ConfigError, match="unheard-of"):
        local_folder("hub:owner/tiny-bert")
    assert not [path for path in hub.asked if path.endswith(".safetensors")]


def test_weights_that_would_have_to_be_unpickled_are_not_fetched(hub):
    folder = hub.root / "old"
    folder.mkdir()
    (folder / "pytorch_model.bin").write_bytes(b"pickled")
    with pytest.raises(FileError, match="hub:owner/old has no weights in safetensors"):
        local_folder("hub:owner/old")


def test_a_training_begins_from_a_published_model(hub, published, tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("a line of text and another word\n" * 40)
    words = ["--model.path", "hub:owner/tiny-bert", "--data.train", str(corpus)]
    out = tmp_path / "run"
    assert main(["train", "domain-adapt", *words, "--training.epochs", "1", "--out", str(out)]) == 0
    # A commit is the same for ever; where it lies here is not.
    assert f'path = "hub:owner/tiny-bert@{COMMIT}"' in (out / "recipe.toml").read_text()
    assert main(["train", "--resume", str(out), "--training.epochs", "2"]) == 0


@pytest.fixture
def adapter(hub, published, tmp_path):
    """Adapt the published encoder."""
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("a line of text and another word\n" * 40)
    words = ["--model.path", "hub:owner/tiny-bert", "--data.train", str(corpus)]
    words += ["--playbook.lora-rank", "2", "--training.epochs", "1", "--out", str(tmp_path / "run")]
    assert main(["train", "domain-adapt", *words]) == 0
    return tmp_path / "run" / "model"


def test_an_adapter_names_its_model_as_it_is_published(adapter):
    said = json.loads((adapter / "adapter_config.json").read_text())
    assert (said["base_model_name_or_path"], said["revision"]) == ("owner/tiny-bert", COMMIT)


def test_an_adapter_takes_its_model_from_the_cache_and_asks_for_nothing(hub, adapter):
    hub.asked.clear()
    assert headway.load(adapter).predict([{"text": "a [MASK] text"}])
    assert hub.asked == []


def test_the_model_of_an_adapter_that_was_never_fetched_is_named(hub, adapter, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(adapter / "empty"))
    hub.asked.clear()
    with pytest.raises(FileError, match="belongs to owner/tiny-bert") as error:
        headway.load(adapter)
    assert f"headway inspect hub:owner/tiny-bert@{COMMIT}" in str(error.value)
    assert hub.asked == []
