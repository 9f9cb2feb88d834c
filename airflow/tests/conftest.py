"""A fake Forebay that implements the rule of keys and attempts, and nothing else."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

# Set before Airflow is imported: it creates its folder then, and only this mode lets tests execute
# tasks.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-")
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "True"
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"

import pytest

TOKEN = "secret-token"


class FakeForebay:
    """Serves on a loopback port. `refusals` are sent first, one per request."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str, dict[str, Any] | None]] = []
        self.refusals: list[tuple[int, dict[str, Any] | str]] = []
        self.events: list[dict[str, Any]] = []
        self.role = "operator"
        self.changed = threading.Condition()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(size)) if size else None
                fake.requests.append((self.command, self.path, body))
                if fake.refusals:
                    status, answer = fake.refusals.pop(0)
                elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    status, answer = problem(401, "auth.token", "the token is not known", "send the one in [api] tokens")
                elif urlsplit(self.path).path == "/v1/events":
                    return self._stream()
                else:
                    status, answer = fake.answer(self.command, self.path, body)
                text = answer if isinstance(answer, str) else json.dumps(answer)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def _stream(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Connection", "close")
                self.end_headers()
                after = int(self.headers.get("Last-Event-ID") or 0)
                for event in [event for event in fake.events if event["seq"] > after]:
                    self.wfile.write(f"id: {event['seq']}\ndata: {json.dumps(event)}\n\n:\n\n".encode())
                self.close_connection = True

            do_GET = do_PUT = do_POST = _serve

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def answer(self, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, dict[str, Any]]:
        parts = [unquote(part) for part in urlsplit(path).path.split("/")[2:]]
        with self.changed:
            match method, parts:
                case "GET", ["version"]:
                    return 200, {"name": "forebay", "version": "0.1.0", "api": "v1"}
                case "GET", ["whoami"]:
                    return 200, {"role": self.role, "by": "token"}
                case "GET", ["snapshot"]:
                    return 200, {"seq": self.events[0]["seq"] - 1 if self.events else 0}
                case "PUT", ["pipelines", "users", "runs", key]:
                    return self._ask(key, body or {})
                case "GET", ["runs", run]:
                    wait = float(parse_qs(urlsplit(path).query).get("wait", ["0s"])[0].rstrip("s"))
                    if run not in self.runs:
                        return problem(404, "run.unknown", "no such run")
                    self.changed.wait_for(lambda: self.runs[run]["terminal"], min(wait, 0.2))
                    return 200, self.runs[run]
                case "POST", ["runs", run, "cancel"]:
                    self.end(run, "cancelled", cancelled={"by": "operator", "reason": (body or {}).get("reason", "")})
                    return 200, self.runs[run]
        return problem(404, "pipeline.unknown", f"no pipeline {path}")

    def _ask(self, key: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        attempts = [run for run in self.runs.values() if run["key"] == key]
        for run in reversed(attempts):
            if run["attempt"] == body["attempt"]:
                return 200, run
        if attempts and not attempts[-1]["terminal"]:
            return 200, attempts[-1]
        run = {"id": f"run-{len(self.runs) + 1}", "key": key, "attempt": body["attempt"], "state": "running", "terminal": False}
        run |= {"counts": {"pages": 0, "fetched": 0, "produced": 0, "rejected": 0}, "ranges": {}, "requested_at": "2026-01-01T00:00:00.5Z"}
        self.runs[run["id"]] = run | {"labels": body.get("labels", {})}
        return 201, self.runs[run["id"]]

    def end(self, run: str, state: str = "succeeded", **more: Any) -> None:
        with self.changed:
            if not self.runs[run]["terminal"]:
                counts = {"pages": 1, "fetched": 7, "produced": 7, "rejected": 0}
                ended = {"state": state, "terminal": True, "ended_at": "2026-01-01T00:00:02.123456789Z", "counts": counts}
                self.runs[run] |= ended | {"ranges": {"0": {"from": 3, "to": 10}}} | more
                self.changed.notify_all()

    def end_soon(self, run: str, state: str = "succeeded", asked: int = 0, **more: Any) -> None:
        """End a run once it exists and runs have been requested this often."""

        def work() -> None:
            until = time.monotonic() + 10
            while (run not in self.runs or len(self.asked("PUT", "/runs/")) < asked) and time.monotonic() < until:
                time.sleep(0.01)
            self.end(run, state, **more)

        threading.Thread(target=work, daemon=True).start()

    def asked(self, method: str, part: str) -> list[dict[str, Any] | None]:
        """Return the bodies of the requests with this method whose path contains this part."""
        return [body for asked, path, body in self.requests if asked == method and part in path]


def problem(status: int, kind: str, title: str, remedy: str = "", retryable: bool = False) -> tuple[int, dict[str, Any]]:
    return status, {"type": kind, "title": title, "status": status, "detail": "", "remedy": remedy, "retryable": retryable}


class Task:
    """The part of a task instance that an operator uses."""

    def __init__(self, try_number: int = 1, map_index: int = -1, run_id: str = "manual__2026-01-01T00:00:00+00:00") -> None:
        self.dag_id, self.task_id, self.run_id = "pipe", "fetch", run_id
        self.try_number, self.map_index = try_number, map_index
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value

    def context(self, **more: Any) -> Any:
        from airflow.sdk.execution_time.context import OutletEventAccessors

        return {"ti": self, "outlet_events": OutletEventAccessors()} | more


@pytest.fixture
def forebay(monkeypatch: pytest.MonkeyPatch) -> Any:
    fake = FakeForebay()
    connection = {
        "conn_type": "forebay",
        "host": "127.0.0.1",
        "port": fake.port,
        "password": TOKEN,
        "extra": {"timeout": 5, "link": "http://shown"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_FOREBAY_DEFAULT", json.dumps(connection))
    yield fake
    fake.server.shutdown()
    fake.server.server_close()
