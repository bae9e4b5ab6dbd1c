"""Reports by SQL: plain updates of a row of sync_executions, found by its id.

The database itself keeps a finished row from changing again, so nothing is checked here.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import asyncpg

from .reports import Report, persist
from .request import Request

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 10.0
# What a database that is away, starting or shutting down answers with.
FAILURES = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
)


def update(report: Report) -> tuple[str, list[Any]]:
    """The statement for a report and its values; $1 is left for the id.

    >>> update(Report("running", records_processed=10))
    ('UPDATE sync_executions SET records_processed=$2 WHERE id=$1', [10])
    """
    told = report.told()
    if report.is_progress:
        del told["status"]
    if report.duration_seconds is not None:
        told["duration_seconds"] = Decimal(str(report.duration_seconds))
    # Column names are the field names of Report, never text from outside.
    columns = ", ".join(f"{column}=${place}" for place, column in enumerate(told, start=2))
    return f"UPDATE sync_executions SET {columns} WHERE id=$1", list(told.values())


class SqlReporter:
    """Writes reports straight into the operator's table."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def adopt(self, request: Request, patience: float) -> None:
        return None

    async def send(self, execution: str, report: Report, patience: float) -> None:
        statement, values = update(report)
        result = await persist(lambda: self._pool.execute(statement, int(execution), *values), FAILURES, patience)
        if result == "UPDATE 0":
            log.warning("execution=%s was not updated: no such row, or it may not change any more", execution)


@asynccontextmanager
async def sql_reporter(database_url: str) -> AsyncIterator[SqlReporter]:
    """Opens a pool of one connection, made when first needed and made again after it was lost."""
    async with asyncpg.create_pool(
        database_url, min_size=0, max_size=1, timeout=TIMEOUT_SECONDS, command_timeout=TIMEOUT_SECONDS
    ) as pool:
        yield SqlReporter(pool)
