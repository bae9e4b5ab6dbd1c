"""A stand-in for the REST API: keeps what it is sent and gives the answers that a test chose."""

import json
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Any, Self


@dataclass
class Call:
    """One request that came in."""

    method: str
    path: str
    authorization: str | None
    body: dict[str, Any]


@dataclass
class Api:
    """Answers 200 with an id, or the next of `answers` while there are any."""

    calls: list[Call] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    new_id: Any = 77

    def __enter__(self) -> Self:
        api = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("content-length", 0))
                body = json.loads(self.rfile.read(length))
                api.calls.append(Call(self.command, self.path, self.headers.get("authorization"), body))
                status = api.answers.pop(0) if api.answers else 200
                text = {"id": api.new_id} if status < 300 else {"detail": f"answer {status} of the test"}
                payload = json.dumps(text).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            do_PATCH = do_POST = answer

            def log_message(self, format: str, *args: Any) -> None:
                return None

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
