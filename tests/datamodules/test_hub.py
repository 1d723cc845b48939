"""WikiText-2 from the Hub's files: from a folder, and from a stand-in on loopback that fails in every way."""

import hashlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow
import pyarrow.parquet
import pytest

from datamodules import WikiText2, hub, wikitext2
from datamodules.corpus import PARTS
from datamodules.hub import FILES, REPOSITORY, REVISION, fetch, holds_hub_files, text_of
from tests.corpora import made_text, real_data

TEXTS = {"train": made_text(300, seed=0), "valid": made_text(40, seed=1), "test": made_text(50, seed=2)}
HASHES = {part: hashlib.sha256(text.encode()).hexdigest() for part, text in TEXTS.items()}
HINT = "try again, or give task.data_dir=FOLDER with train.txt, valid.txt and test.txt."


def parquet(text, column="text"):
    """A Parquet file as the Hub has it: a row a line, "" for a blank one."""
    rows = ["" if line == " \n" else line for line in text.splitlines(keepends=True)]
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table({column: rows}), sink)
    return sink.getvalue().to_pybytes()


def texts(folder):
    return {part: (folder / f"{part}.txt").read_bytes().decode() for part in PARTS}


@pytest.fixture
def snapshot(tmp_path):
    folder = tmp_path / "snapshot"
    for part, name in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(parquet(TEXTS[part]))
    return folder


@pytest.fixture
def endpoint(monkeypatch):
    """A stand-in for the Hub; `bad` says how it treats which part, `asked` what was asked."""

    class Hub(BaseHTTPRequestHandler):
        bad, asked = {}, []

        def do_GET(self):
            self.asked.append(self.path)
            prefix = f"/datasets/{REPOSITORY}/resolve/{REVISION}/"
            parts = {name: part for part, name in FILES.items()}
            if self.path.startswith(prefix):  # as the Hub does for large files
                self.send_response(302)
                self.send_header("Location", f"/store/{self.path.removeprefix(prefix)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            part = parts[self.path.removeprefix("/store/")]
            content, way = parquet(TEXTS[part]), self.bad.get(part)
            if way == "missing":
                self.send_error(404, "Not Found")
                return
            if way == "hangs":
                time.sleep(1.0)
                return
            if way == "other text":
                content = parquet(TEXTS[part] + " more \n")
            if way == "a page":
                content = b"<html>Please log in</html>"
            self.send_response(200)
            if way != "no length":
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if way in ("half", "no length") else content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    Hub.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", Hub.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    yield Hub
    server.shutdown()
    server.server_close()
    thread.join()


def test_rows_are_the_lines_byte_for_byte():
    text = " \n = Ōsaka = \n \n\n the <unk> crab \n"
    assert text_of(parquet(text), "here") == text.encode()


def test_a_copy_of_the_hubs_files_will_do(snapshot, tmp_path):
    assert holds_hub_files(snapshot)
    folder = fetch(tmp_path / "cache", HASHES, snapshot)
    assert texts(folder) == TEXTS
    (snapshot / FILES["train"]).unlink()
    assert not holds_hub_files(snapshot)
    assert fetch(tmp_path / "cache", HASHES, snapshot) == folder  # what is kept is not read again


def test_the_hub_is_asked_for_the_pinned_revision_and_only_once(endpoint, tmp_path, capsys):
    folder = fetch(tmp_path, HASHES)
    assert texts(folder) == TEXTS
    assert endpoint.asked[0] == (
        "/datasets/Salesforce/wikitext/resolve/b08601e04326c79dfdd32d625aee71d232d685c3/"
        "wikitext-2-v1/train-00000-of-00001.parquet"
    )
    assert len(endpoint.asked) == 6
    bars = capsys.readouterr().err
    assert all(f"WikiText-2 {part}: 100%" in bars for part in PARTS)
    assert fetch(tmp_path, HASHES) == folder
    assert len(endpoint.asked) == 6


def test_a_damaged_copy_is_fetched_again(endpoint, tmp_path):
    folder = fetch(tmp_path, HASHES)
    (folder / "valid.txt").write_text("cut", encoding="utf-8")
    endpoint.asked.clear()
    assert texts(fetch(tmp_path, HASHES)) == TEXTS
    assert [path.rsplit("/", 1)[1] for path in endpoint.asked] == [FILES["valid"].rsplit("/", 1)[1]] * 2


@pytest.mark.parametrize(
    ("way", "error", "message"),
    [
        ("half", ConnectionError, "(it broke off)"),
        ("no length", ValueError, "is no Parquet file with a column text, or is damaged: fetch it again."),
        ("other text", ValueError, "is not the text of WikiText-2 (its SHA-256 is"),
        ("a page", ValueError, "is no Parquet file with a column text, or is damaged"),
        ("missing", ConnectionError, "(404 Not Found)"),
        ("hangs", ConnectionError, "(no answer)"),
    ],
)
def test_what_goes_wrong_is_one_line_and_what_came_before_is_kept(
    endpoint, tmp_path, monkeypatch, way, error, message
):
    monkeypatch.setattr(hub, "PATIENCE", 0.3)
    endpoint.bad["valid"] = way
    with pytest.raises(error) as caught:
        fetch(tmp_path, HASHES)
    said = str(caught.value)
    assert message in said
    assert "\n" not in said
    if error is ConnectionError:
        assert said.startswith(f"WikiText-2 can't be fetched from {endpoint.url} (")
        assert said.endswith(HINT)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["train.txt"]
    endpoint.bad.clear()
    endpoint.asked.clear()
    assert texts(fetch(tmp_path, HASHES)) == TEXTS
    assert len(endpoint.asked) == 4


def test_a_column_of_another_name():
    with pytest.raises(ValueError, match="here is no Parquet file with a column text"):
        text_of(parquet("a \n", column="words"), "here")


def test_a_column_of_numbers():
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table({"text": [1, 2]}), sink)
    with pytest.raises(ValueError, match="here is no Parquet file with a column text"):
        text_of(sink.getvalue().to_pybytes(), "here")


def test_no_network(endpoint, tmp_path, monkeypatch):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", "http://127.0.0.1:9/")  # nothing listens there
        with pytest.raises(ConnectionError) as caught:
            fetch(tmp_path, HASHES)
    assert str(caught.value) == f"WikiText-2 can't be fetched from http://127.0.0.1:9 (no connection): {HINT}"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE is set"):
        fetch(tmp_path, HASHES)
    assert endpoint.asked == []


def test_a_look_up_that_hangs_is_given_up(monkeypatch, tmp_path):
    gate = threading.Event()
    monkeypatch.setattr(hub, "PATIENCE", 0.1)
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: gate.wait(60) and [])
    monkeypatch.setenv("HF_ENDPOINT", "http://nowhere.invalid")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(ConnectionError, match=r"from http://nowhere.invalid \(no answer\)"):
        fetch(tmp_path, HASHES)
    gate.set()


def test_the_task_without_a_folder_asks_the_hub(endpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(wikitext2, "HASHES", HASHES)
    counts = {part: len(text.split()) + text.count("\n") for part, text in TEXTS.items()}
    monkeypatch.setattr(wikitext2, "WORDS", counts)
    monkeypatch.setattr(wikitext2, "VOCABULARY", len({*TEXTS["train"].split(), "<unk>", "<eos>"}))
    task = WikiText2(cache_dir=tmp_path)
    assert {part: len(words) for part, words in task.parts.items()} == counts
    assert [task.vocabulary[n] for n in task.parts["train"]][:4] == ["<eos>", "=", "naïve", "="]


def test_the_files_of_the_hub_give_the_published_text(tmp_path):
    folder = fetch(tmp_path, wikitext2.HASHES, real_data("wikitext-2-hub"))
    assert {p.name for p in folder.iterdir()} == {"train.txt", "valid.txt", "test.txt"}
