"""Every SQL statement on sync_executions. The rules for rows are in the table's triggers."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg

# How long a claim holds if its relay dies: longer than publishing a batch can take.
CLAIM_SECONDS = 20.0
CHANNEL = "sync_executions"

COLUMNS = """id, request_uid::text, mode, window_start, window_end, status, records_processed,
    duration_seconds::float8 AS duration_seconds, error_message, revision, created_at, updated_at, publish_problem,
    publish_message, publish_failed_at, published_at, started_at, finished_at, finish_reason"""

ENSURE = f"""
    WITH added AS (
        INSERT INTO sync_executions
            (request_uid, namespace, name, mode, window_start, window_end, requested_by, reason, deadline_at)
        SELECT $1::uuid, $2::text, $3::text, $4::text, $5::timestamptz, $6::timestamptz, $7::text, $8::text,
            now() + make_interval(secs => $9::float8)
        WHERE NOT EXISTS (SELECT FROM sync_executions WHERE request_uid = $1::uuid)
        ON CONFLICT (request_uid) DO NOTHING
        RETURNING *)
    SELECT {COLUMNS} FROM added
    UNION ALL
    SELECT {COLUMNS} FROM sync_executions WHERE request_uid = $1::uuid"""

CLAIM = """
    UPDATE sync_executions AS execution SET claimed_until = now() + make_interval(secs => $2)
    FROM (
        SELECT id FROM sync_executions
        WHERE published_at IS NULL AND status = 'running' AND request_uid IS NOT NULL
            AND deleted_at IS NULL AND held_at IS NULL AND (claimed_until IS NULL OR claimed_until < now())
            AND ($3 = '' OR namespace = $3)
        ORDER BY id LIMIT $1
        FOR UPDATE SKIP LOCKED) AS free
    WHERE execution.id = free.id
    RETURNING execution.id, request_uid::text, attempt, mode, window_start, window_end, created_at"""

MARK_PUBLISHED = """
    UPDATE sync_executions SET published_at = now(), claimed_until = NULL,
        publish_problem = NULL, publish_message = NULL, publish_failed_at = NULL
    WHERE id = ANY($1::bigint[]) AND published_at IS NULL"""

RELEASE = """
    UPDATE sync_executions
    SET claimed_until = NULL, publish_problem = $2, publish_message = $3, publish_failed_at = now()
    WHERE id = ANY($1::bigint[]) AND published_at IS NULL AND status = 'running'"""

FAIL = """
    UPDATE sync_executions SET status = 'error', finish_reason = $2, error_message = $3, claimed_until = NULL
    WHERE id = $1 AND status = 'running'"""

CANCEL = """
    UPDATE sync_executions
    SET deleted_at = now(), status = 'cancelled', finish_reason = 'ObjectDeleted', claimed_until = NULL
    WHERE request_uid = $1::text::uuid AND status = 'running' AND published_at IS NULL
        AND (claimed_until IS NULL OR claimed_until < now())"""


class Store:
    """The record of executions."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.pool = pool

    @classmethod
    async def open(cls, url: str, connections: int) -> "Store":
        """A pool of at most so many connections. It connects when it is first used."""
        return cls(
            await asyncpg.create_pool(
                url, min_size=0, max_size=connections, timeout=3, command_timeout=10, server_settings={"jit": "off"}
            )
        )

    async def close(self) -> None:
        """Ends the pool."""
        await self.pool.close()

    async def ensure(self, uid: str, namespace: str, name: str, spec: Mapping[str, Any]) -> None:
        """Records the request unless its UID is recorded already. Repeats draw no id."""
        window = spec.get("window") or {}
        await self.pool.execute(
            ENSURE,
            uid,
            namespace,
            name,
            spec["mode"],
            _time(window.get("start")),
            _time(window.get("end")),
            spec.get("requestedBy"),
            spec.get("reason"),
            spec.get("activeDeadlineSeconds"),
        )

    async def by_uids(self, uids: Iterable[str]) -> Sequence[asyncpg.Record]:
        """The rows of those SyncExecutions that are recorded."""
        return await self.pool.fetch(
            f"SELECT {COLUMNS} FROM sync_executions WHERE request_uid = ANY($1::text[]::uuid[])", list(uids)
        )

    async def claim(self, limit: int, namespace: str) -> Sequence[asyncpg.Record]:
        """Takes unpublished rows, oldest first. Two relays never get the same one."""
        return sorted(await self.pool.fetch(CLAIM, limit, CLAIM_SECONDS, namespace), key=lambda row: row["id"])

    async def mark_published(self, ids: Sequence[int]) -> None:
        """Marks rows whose messages the broker confirmed. Marking twice is harmless."""
        await self.pool.execute(MARK_PUBLISHED, ids)

    async def release(self, ids: Sequence[int], problem: str, message: str) -> None:
        """Gives up claims, and notes why the messages are not out."""
        await self.pool.execute(RELEASE, ids, problem, message)

    async def fail(self, id: int, reason: str, message: str) -> None:
        """Ends a row whose window cannot be told to the worker."""
        await self.pool.execute(FAIL, id, reason, message)

    async def cancel(self, uid: str) -> None:
        """Ends what was not published when its SyncExecution was deleted. A claimed row is left to its relay."""
        await self.pool.execute(CANCEL, uid)


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
