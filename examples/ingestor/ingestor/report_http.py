"""Reports by HTTP: PATCH /sync/executions/{id}, and POST /sync/executions for a run without id."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx

from .reports import NotNow, Report, persist
from .request import Request

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 10.0


class HttpReporter:
    """Talks to the REST API of the operator."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def adopt(self, request: Request, patience: float) -> str:
        body: dict[str, str] = {"mode": request.mode}
        if request.mode == "backfill":
            body |= {"window_start": request.window.start.isoformat(), "window_end": request.window.end.isoformat()}

        async def attempt() -> httpx.Response:
            response = await self._client.post("/sync/executions", json=body)
            # Other failures may come after the row was made, and a repeat would make another.
            if response.status_code in (429, 503):
                raise NotNow(refusal(response))
            return response

        response = await persist(attempt, (NotNow, httpx.ConnectError, httpx.ConnectTimeout), patience)
        if not response.is_success:
            raise RuntimeError(refusal(response))
        return str(response.json()["id"])

    async def send(self, execution: str, report: Report, patience: float) -> None:
        path = f"/sync/executions/{quote(execution, safe='')}"

        async def attempt() -> httpx.Response:
            response = await self._client.patch(path, json=report.as_json())
            if response.status_code == 429 or response.is_server_error:
                raise NotNow(refusal(response))
            return response

        response = await persist(attempt, (NotNow, httpx.TransportError), patience)
        if response.status_code == httpx.codes.CONFLICT:
            log.warning("execution=%s is already finished, report not taken: %s", execution, detail(response))
        elif not response.is_success:
            raise RuntimeError(refusal(response))


def refusal(response: httpx.Response) -> str:
    """What the API said, without the address it was said at."""
    return f"{response.request.method} {response.request.url.path} answered {response.status_code}: {detail(response)}"


def detail(response: httpx.Response) -> str:
    """The sentence in a problem+json answer, or the start of any other answer."""
    try:
        problem: Any = response.json()
    except ValueError:
        problem = None
    sentence = problem.get("detail") if isinstance(problem, dict) else None
    return sentence if isinstance(sentence, str) else response.text[:200]


@asynccontextmanager
async def http_reporter(base_url: str, credentials: tuple[str, str] | None) -> AsyncIterator[HttpReporter]:
    """Opens the reporter and closes its connections at the end."""
    # trust_env: a proxy meant for the way out must not see reports or the password.
    client = httpx.AsyncClient(
        base_url=base_url,
        auth=httpx.BasicAuth(*credentials) if credentials else None,
        timeout=TIMEOUT_SECONDS,
        trust_env=False,
    )
    async with client:
        yield HttpReporter(client)
