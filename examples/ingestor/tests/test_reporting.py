"""The whole way in each way of reporting: a message in, the reports out, in order, by real servers."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from api import Api
from asyncpg import Connection
from broker import Broker
from conftest import database_url
from process import DEADLINE_SECONDS, Ingestor

JULY_10 = {
    "mode": "backfill",
    "data_ini": "2025-07-10T12:00:00",
    "data_fim": "2025-07-10T18:00:00",
    "request_id": "42",
}
BROKEN_DAY = JULY_10 | {"data_ini": "2025-07-20T00:00:00", "data_fim": "2025-07-21T00:00:00"}
UPDATE = {"mode": "update", "request_id": "42"}
BROKEN = "record 2025-0310: value 'R$ 12.x' is not a number"

PROGRESS = [{"status": "running", "records_processed": count} for count in (20, 40)]


def timeless(report: dict) -> dict:
    """A report without its duration, which is checked to be there and small."""
    assert 0 <= report["duration_seconds"] < 10
    return {key: value for key, value in report.items() if key != "duration_seconds"}


def check_update_window(report: dict) -> None:
    """An update tells its last 15 minutes with an offset."""
    start, end = (datetime.fromisoformat(report[name]) for name in ("window_start", "window_end"))
    assert end - start == timedelta(minutes=15)
    assert end.utcoffset() == timedelta(hours=-4)
    assert timedelta(0) <= datetime.now(UTC) - end < timedelta(minutes=1)


async def run(broker: Broker, ingestor: Ingestor, way: str, *bodies: dict) -> None:
    for number, body in enumerate(bodies):
        await broker.publish(body, f"uid-{number}/1")
    await ingestor.start("--report", way, "--progress-every", "20", "--max-messages", str(len(bodies)))
    assert await ingestor.end() == 0, ingestor.log
    assert await broker.waiting() == 0


async def test_amqp(broker: Broker, ingestor: Ingestor):
    await run(broker, ingestor, "amqp", JULY_10, BROKEN_DAY | {"request_id": "43"}, UPDATE | {"request_id": "44"})
    messages = await broker.reports(8)
    assert await broker.waiting(broker.status_queue) == 0
    assert {message.delivery_mode for message in messages} == {2}
    assert {message.content_type for message in messages} == {"application/json"}
    reports = [json.loads(message.body) for message in messages]
    assert [message.correlation_id for message in messages] == [report["request_id"] for report in reports]
    first, second, third = (
        [
            {key: value for key, value in report.items() if key != "request_id"}
            for report in reports
            if report["request_id"] == execution
        ]
        for execution in ("42", "43", "44")
    )
    assert first[:3] == [{"status": "running"}, *PROGRESS]
    assert timeless(first[3]) == {"status": "success", "records_processed": 59}
    assert second[0] == {"status": "running"}
    assert timeless(second[1]) == {"status": "error", "error_message": BROKEN}
    assert third[0] == {"status": "running"}
    assert third[1]["records_processed"] == 15
    check_update_window(third[1])


async def test_http(broker: Broker, ingestor: Ingestor, api: Api):
    ingestor.env |= {"SYNC_API_URL": api.url, "ADMIN_USERNAME": "admin", "ADMIN_PASSWORD": "s3cret"}
    await run(broker, ingestor, "http", JULY_10, BROKEN_DAY, UPDATE)
    assert {(call.method, call.path) for call in api.calls} == {("PATCH", "/sync/executions/42")}
    assert all(call.authorization for call in api.calls)
    bodies = [call.body for call in api.calls]
    assert bodies[:3] == [{"status": "running"}, *PROGRESS]
    assert timeless(bodies[3]) == {"status": "success", "records_processed": 59}
    assert bodies[4] == {"status": "running"}
    assert timeless(bodies[5]) == {"status": "error", "error_message": BROKEN}
    assert bodies[6] == {"status": "running"}
    check_update_window(bodies[7])
    assert "s3cret" not in "\n".join(ingestor.log)


async def test_http_outages_and_conflicts_do_not_decide_over_the_work(broker: Broker, ingestor: Ingestor, api: Api):
    ingestor.env["SYNC_API_URL"] = api.url
    await broker.dead_letter()
    api.answers = [503, 200, 500, 200, 409]
    await run(broker, ingestor, "http", JULY_10)
    assert [call.body.get("records_processed") for call in api.calls] == [None, None, 20, 40, 59]
    text = "\n".join(ingestor.log)
    assert "execution=42 {'status': 'running', 'records_processed': 20} was not reported" in text
    assert "execution=42 is already finished, report not taken" in text
    assert "message=uid-0/1 acknowledged" in text
    assert await broker.waiting(broker.dead_queue) == 0


async def test_http_without_request_id(broker: Broker, ingestor: Ingestor, api: Api):
    ingestor.env["SYNC_API_URL"] = api.url
    await run(broker, ingestor, "http", {"mode": "update"})
    assert [(call.method, call.path) for call in api.calls] == [
        ("POST", "/sync/executions"),
        ("PATCH", "/sync/executions/77"),
        ("PATCH", "/sync/executions/77"),
    ]
    assert api.calls[0].body == {"mode": "update"}
    assert api.calls[-1].body["status"] == "success"


async def versions(database: Connection, execution: int) -> list[dict]:
    """All states of a row, the oldest first."""
    rows = await database.fetch("SELECT * FROM history WHERE id = $1 ORDER BY ctid", execution)
    return [dict(row) for row in rows]


async def test_sql(broker: Broker, ingestor: Ingestor, database: Connection, stack):
    name = await database.fetchval("SELECT current_database()")
    ingestor.env["DATABASE_URL"] = database_url(stack, name)
    await database.executemany("INSERT INTO sync_executions (id) VALUES ($1)", [(42,), (43,), (44,)])
    await run(broker, ingestor, "sql", JULY_10, BROKEN_DAY | {"request_id": "43"}, UPDATE | {"request_id": "44"})

    first = await versions(database, 42)
    assert [(row["status"], row["records_processed"]) for row in first] == [
        ("running", None),
        ("running", 20),
        ("running", 40),
        ("success", 59),
    ]
    assert first[-1]["duration_seconds"] < Decimal(10)
    assert (first[-1]["window_start"], first[-1]["error_message"]) == (None, None)

    second = await versions(database, 43)
    assert [row["status"] for row in second] == ["running", "error"]
    assert second[-1]["error_message"] == BROKEN

    third = await versions(database, 44)
    assert third[-1]["records_processed"] == 15
    assert third[-1]["window_end"] - third[-1]["window_start"] == timedelta(minutes=15)


async def test_sql_rows_that_are_not_there_do_not_decide_over_the_work(
    broker: Broker, ingestor: Ingestor, database: Connection, stack
):
    ingestor.env["DATABASE_URL"] = database_url(stack, await database.fetchval("SELECT current_database()"))
    await run(broker, ingestor, "sql", JULY_10, JULY_10 | {"request_id": "not-a-number"}, {"mode": "update"})
    text = "\n".join(ingestor.log)
    assert "execution=42 was not updated: no such row" in text
    assert "execution=not-a-number {'status': 'success'" in text
    assert text.count("acknowledged") == 3


async def test_sql_comes_back_after_the_connection_was_lost(
    broker: Broker, ingestor: Ingestor, database: Connection, stack
):
    ingestor.env["DATABASE_URL"] = database_url(stack, await database.fetchval("SELECT current_database()"))
    await database.executemany("INSERT INTO sync_executions (id) VALUES ($1)", [(42,)])
    await broker.publish(JULY_10, "uid/1")
    await ingestor.ready("--report", "sql", "--once", "--delay-per-record", "0.05", "--progress-every", "20")
    await ingestor.line("message=uid/1 started")
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await database.fetchval(f"SELECT count(pg_terminate_backend(pid)) {others}"):
            pass
    assert await ingestor.end() == 0
    assert (await versions(database, 42))[-1]["records_processed"] == 59
