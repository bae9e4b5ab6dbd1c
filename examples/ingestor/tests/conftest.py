"""What the tests with a real RabbitMQ and PostgreSQL need: queues and a database of their own.

Without RABBITMQ_URL, RABBITMQ_MANAGEMENT_URL and DATABASE_URL those tests are skipped, and with
INGESTOR_REQUIRE_STACK=1 they fail instead. Nothing of the servers but what was made here is touched.
"""

import os
from collections.abc import AsyncIterator, Iterator
from urllib.parse import unquote
from uuid import uuid4

import aio_pika
import asyncpg
import pytest
from api import Api
from broker import Broker
from process import Ingestor
from yarl import URL

NEEDED = ("RABBITMQ_URL", "RABBITMQ_MANAGEMENT_URL", "DATABASE_URL")

# The columns that a worker may write, as the operator's table has them.
TABLE = """
CREATE TABLE sync_executions (
    id bigint PRIMARY KEY,
    status varchar(10) NOT NULL DEFAULT 'running',
    records_processed integer,
    duration_seconds numeric(10, 2),
    error_message text,
    window_start timestamptz,
    window_end timestamptz
)
"""
# Keeps every version of a row, so that the order of reports can be seen.
HISTORY = """
CREATE TABLE history AS SELECT * FROM sync_executions;
CREATE FUNCTION remember() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO history SELECT NEW.*;
    RETURN NEW;
END $$;
CREATE TRIGGER remember AFTER UPDATE ON sync_executions FOR EACH ROW EXECUTE FUNCTION remember();
"""


@pytest.fixture(scope="session")
def stack() -> dict[str, str]:
    """The addresses of the real servers."""
    missing = [name for name in NEEDED if not os.environ.get(name)]
    if missing:
        reason = f"{', '.join(missing)} not set: start the servers (see README) and source their env file"
        if os.environ.get("INGESTOR_REQUIRE_STACK") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return {name: os.environ[name] for name in NEEDED}


@pytest.fixture
async def broker(stack: dict[str, str]) -> AsyncIterator[Broker]:
    """A pair of queues with names of their own, deleted at the end."""
    connection = await aio_pika.connect(stack["RABBITMQ_URL"])
    async with connection:
        vhost = unquote(URL(stack["RABBITMQ_URL"]).raw_path[1:]) or "/"
        broker = Broker(connection, stack["RABBITMQ_MANAGEMENT_URL"], vhost, f"test.ingest.{uuid4().hex[:8]}")
        try:
            yield broker
        finally:
            await broker.clean()


@pytest.fixture
async def database(stack: dict[str, str]) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database of its own with the operator's table, dropped at the end."""
    name = f"test_ingestor_{uuid4().hex[:8]}"
    admin = await asyncpg.connect(stack["DATABASE_URL"])
    await admin.execute(f"CREATE DATABASE {name}")
    try:
        connection = await asyncpg.connect(database_url(stack, name))
        try:
            await connection.execute(TABLE)
            await connection.execute(HISTORY)
            yield connection
        finally:
            await connection.close()
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


def database_url(stack: dict[str, str], name: str) -> str:
    return str(URL(stack["DATABASE_URL"]).with_path(f"/{name}"))


@pytest.fixture
def api() -> Iterator[Api]:
    """A stand-in for the REST API that keeps what it is sent."""
    with Api() as api:
        yield api


@pytest.fixture
async def ingestor(stack: dict[str, str], broker: Broker) -> AsyncIterator[Ingestor]:
    """The worker as a process of its own, ended with the test."""
    ingestor = Ingestor(
        {
            "RABBITMQ_URL": stack["RABBITMQ_URL"],
            "RABBITMQ_QUEUE": broker.queue,
            "RABBITMQ_STATUS_QUEUE": broker.status_queue,
        }
    )
    try:
        yield ingestor
    finally:
        await ingestor.kill()
