"""A stand-in for W&B's server on this machine, which can be slow, refuse, fall silent and die."""

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PROJECT = {"id": "UA==", "name": "rnnlab", "entity": {"id": "RQ==", "name": "me"}}
USER = {
    "id": "VQ==",
    "name": "me",
    "username": "me",
    "email": "",
    "admin": False,
    "flags": "{}",
    "entity": "me",
}
VIEWER = USER | {"deletedAt": None, "apiKeys": {"edges": []}, "teams": {"edges": []}}


class Server:
    """Enough of W&B's answers that runs are recorded, and what they sent.

    Args:
        mood: What every request is met with: 200 for an answer, another status for a refusal, None for
            silence. It may change.
        delay: Seconds before each answer.

    Attributes:
        url: For WANDB_BASE_URL.
        requests: The path of each request.
        runs: By id, the variables of the mutations that made or changed the run.
        rows: By id, what was logged.
        files: By name, the bytes of what was uploaded.
        answers: Further answers: from the name of a GraphQL operation to a function of its variables.
    """

    def __init__(self, mood: int | None = 200, delay: float = 0.0) -> None:
        self.mood, self.delay = mood, delay
        self.requests: list[str] = []
        self.runs: dict[str, list[dict[str, Any]]] = {}
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.files: dict[str, bytes] = {}
        self.answers: dict[str, Callable[[dict[str, Any]], Any]] = {
            "UpsertBucket": self._upsert_run,
            "CreateRunFiles": self._upload_urls,
            "Viewer": lambda given: {"viewer": VIEWER},
            "GetProject": self._project,
        }
        self._released = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                server.requests.append(self.path)
                if server.mood is None:
                    server._released.wait()
                    return
                time.sleep(server.delay)
                refused = {"errors": [{"message": "user is not logged in"}]}
                answer = server._answer(self.path, body) if server.mood == 200 else refused
                with suppress(ConnectionError):  # who asked has gone
                    self.send_response(server.mood or 500)
                    self.send_header("content-type", "application/json")
                    self.end_headers()
                    self.wfile.write(json.dumps(answer).encode())

            do_GET = do_PUT = do_POST

            def log_message(self, *_: Any) -> None: ...

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Die: what connects is refused by the machine."""
        if not self._released.is_set():
            self._released.set()
            self._http.shutdown()
            self._http.server_close()

    def _answer(self, path: str, body: bytes) -> Any:
        if path.endswith("/file_stream"):
            sent = json.loads(body).get("files", {}).get("wandb-history.jsonl", {}).get("content", [])
            self.rows.setdefault(path.split("/")[-2], []).extend(map(json.loads, sent))
            return {"exitcode": None, "limits": {}}
        if path.startswith("/upload/"):
            self.files[path.removeprefix("/upload/")] = body
            return {}
        if path != "/graphql":
            return {}
        asked = json.loads(body)
        operation = asked["query"].split("(")[0].split("{")[0].split()[-1]
        make = self.answers.get(operation)
        return {"data": make(asked.get("variables") or {}) if make else {}}

    def _upsert_run(self, given: dict[str, Any]) -> dict[str, Any]:
        said = self.runs.setdefault(given["name"], [])
        said.append(given)
        bucket = {"id": "QQ==", "name": given["name"], "config": "{}", "project": PROJECT}
        bucket |= {"displayName": given["displayName"], "sweepName": given["sweep"]}
        return {"upsertBucket": {"bucket": bucket, "inserted": len(said) == 1}}

    def _upload_urls(self, given: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in given["files"]]
        return {"createRunFiles": {"runID": "QQ==", "uploadHeaders": [], "files": files}}

    def _project(self, given: dict[str, Any]) -> dict[str, Any]:
        if (given["entity"], given["name"]) != ("me", PROJECT["name"]):
            return {"project": None}
        facts = {"createdAt": "2026-01-01T00:00:00", "isBenchmark": False, "user": VIEWER}
        typed = {"__typename": "Project", "id": PROJECT["id"], "name": PROJECT["name"], "entityName": "me"}
        return {"project": typed | facts}
