"""What a worker tells about a run, and what the three ways of telling it have in common.

No way of reporting is chosen or spoken here; see report_http, report_amqp and report_sql.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal, Protocol, TypeVar

from .request import Request

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
ERROR_LIMIT = 1000


@dataclass(frozen=True)
class Report:
    """One thing to tell. A field that is None is not told and stays as it was."""

    status: Literal["running", "success", "error"]
    records_processed: int | None = None
    duration_seconds: float | None = None
    error_message: str | None = None
    window_start: datetime | None = None
    window_end: datetime | None = None

    def told(self) -> dict[str, Any]:
        """The fields that are told, by the names that every way of reporting uses."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in named.items() if value is not None}

    def as_json(self) -> dict[str, Any]:
        """The same with times as RFC 3339 texts."""
        return {
            name: value.isoformat() if isinstance(value, datetime) else value for name, value in self.told().items()
        }

    @property
    def is_progress(self) -> bool:
        """Whether this only moves the count of a run that was already reported as started."""
        return self.status == "running" and self.records_processed is not None


class Reporter(Protocol):
    """A way of reporting. `patience` is for how many seconds a failing attempt may be repeated."""

    async def adopt(self, request: Request, patience: float) -> str | None:
        """Finds or creates the execution of a request that named none; None if this way cannot."""

    async def send(self, execution: str, report: Report, patience: float) -> None:
        """Delivers one report or raises."""


class Silent:
    """Reports nothing, as a worker does that knows nothing of executions."""

    async def adopt(self, request: Request, patience: float) -> str | None:
        return None

    async def send(self, execution: str, report: Report, patience: float) -> None:
        return None


class NotNow(Exception):
    """The other side cannot take a report at present; the same report may pass later."""


async def persist(
    attempt: Callable[[], Awaitable[T]],
    transient: type[Exception] | tuple[type[Exception], ...],
    patience: float,
) -> T:
    """Repeats an attempt while it fails with a transient error, with growing, jittered pauses.

    Raises the last error once the next pause would end after `patience` seconds.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    pause = FIRST_PAUSE
    while True:
        try:
            return await attempt()
        except transient:
            # Jitter keeps many workers from coming back in step after an outage.
            wait = random.uniform(pause / 2, pause)
            if loop.time() + wait > deadline:
                raise
        await asyncio.sleep(wait)
        pause = min(pause * 2, LONGEST_PAUSE)
