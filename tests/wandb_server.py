"""A stand-in for the server of Weights & Biases, with the endpoints for a run, its files and an artifact."""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0123456789abcdef" * 2 + "01234567"  # of the form that W&B accepts


class WandbServer(ThreadingHTTPServer):
    """Records what runs send.

    Args:
        silent_after: stop answering at the first request that contains this text. None: answer all.
    """

    daemon_threads = True

    def __init__(self, silent_after: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.silent_after = silent_after
        self.silent, self.closing = threading.Event(), threading.Event()
        self.queries: dict[str, dict[str, Any]] = {}  # name -> its latest variables
        self.uploads: dict[str, bytes] = {}
        self.history: list[dict[str, Any]] = []
        self.exit_code: int | None = None
        self.sweep = ""  # the YAML of a sweep
        self.commands: list[dict[str, Any]] = []  # for the sweep's agent

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that make a run use this server."""
        return {"WANDB_BASE_URL": f"http://127.0.0.1:{self.server_port}", "WANDB_API_KEY": KEY, "WANDB_MODE": "online"}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that have closed their connection."""


@contextmanager
def serving(silent_after: str | None = None) -> Iterator[WandbServer]:
    with WandbServer(silent_after) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WandbServer

    def log_message(self, *arguments: Any) -> None:
        pass

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        silent_after = self.server.silent_after
        if silent_after is not None and silent_after.encode() in self.path.encode() + body:
            self.server.silent.set()
        if self.server.silent.is_set():
            self.server.closing.wait()
            self.close_connection = True
            return
        content = json.dumps(self.take(body)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = answer

    def take(self, body: bytes) -> dict[str, Any]:
        if self.path == "/graphql":
            query = json.loads(body)
            name = re.search(r"\b(?:query|mutation)\s+(\w+)", query["query"]).group(1)
            variables = query.get("variables") or {}
            self.server.queries[name] = self.server.queries.get(name, {}) | {k: v for k, v in variables.items() if v}
            return {"data": self.data(name, variables)}
        if self.path.endswith("/file_stream"):
            sent = json.loads(body)
            for line in sent.get("files", {}).get("wandb-history.jsonl", {}).get("content", []):
                self.server.history.append(json.loads(line))
            self.server.exit_code = sent.get("exitcode", self.server.exit_code)
        if self.path.startswith("/upload/"):
            self.server.uploads[self.path.removeprefix("/upload/")] = body
        return {}

    def data(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a GraphQL query."""
        run = {"id": "run", "name": given.get("name"), "displayName": given.get("displayName")}
        run["project"] = {"name": given.get("project"), "entity": {"name": given.get("entity") or "me"}}
        return {
            "Viewer": {"viewer": {"id": "me", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}},
            "UpsertBucket": {"upsertBucket": {"bucket": run, "inserted": True}},
            "RunResumeStatus": {"model": {**run["project"], "id": "project", "bucket": None}},
            "SweepWithRuns": {
                "project": {"sweep": {"id": "sweep", "config": self.server.sweep, "runs": {"edges": []}}}
            },
            "CreateAgent": {"createAgent": {"agent": {"id": "agent"}}},
            "Heartbeat": {"agentHeartbeat": {"agent": {"id": "agent"}, "commands": self.commands_of(name)}},
            "CreateRunFiles": {
                "createRunFiles": {
                    "runID": "run",
                    "uploadHeaders": [],
                    "files": [{"name": file, **self.upload(file)} for file in given.get("files", ())],
                }
            },
            "ArtifactType": {"project": {"artifact": None}},
            "CreateArtifact": {
                "createArtifact": {
                    "artifact": {"id": "artifact", "state": "PENDING", "artifactSequence": {"latestArtifact": None}}
                }
            },
            "CreateArtifactManifest": {
                "createArtifactManifest": {
                    "artifactManifest": {
                        "id": "manifest",
                        "file": {"id": "file", **self.upload("manifest")},
                    }
                }
            },
            "CreateArtifactFiles": {
                "createArtifactFiles": {
                    "files": {
                        "edges": [
                            {"node": {**self.upload(file["name"]), "storagePath": "x", "artifact": {"id": "artifact"}}}
                            for file in given.get("input", {}).get("artifactFiles", ())
                        ]
                    }
                }
            },
            "CommitArtifact": {"commitArtifact": {"artifact": {"id": "artifact", "digest": "digest"}}},
        }.get(name, {})

    def commands_of(self, query: str) -> str:
        """The commands that an agent has not received yet."""
        if query != "Heartbeat":
            return "[]"
        commands = json.dumps(self.server.commands)
        self.server.commands = []
        return commands

    def upload(self, file: str) -> dict[str, Any]:
        """Return the upload URL of a file."""
        return {"uploadUrl": f"http://127.0.0.1:{self.server.server_port}/upload/{file}", "uploadHeaders": []}
