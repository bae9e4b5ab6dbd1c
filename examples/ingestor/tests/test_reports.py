"""Reports and how each way repeats or gives up, against a stand-in for the REST API where one is needed."""

from base64 import b64encode
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import httpx
import pytest

from ingestor.report_http import http_reporter
from ingestor.report_sql import update
from ingestor.reports import Report, persist
from ingestor.request import Request
from ingestor.window import backfill_window, update_window

CUIABA = ZoneInfo("America/Cuiaba")
UPDATE = update_window(datetime(2025, 7, 10, 16, tzinfo=UTC), CUIABA)
BACKFILL = backfill_window("2025-07-10T12:00:00", "2025-07-10T18:00:00", CUIABA)
END = Report("success", 15, 0.25, window_start=UPDATE.start, window_end=UPDATE.end)


def test_json_has_only_what_is_told():
    assert Report("running").as_json() == {"status": "running"}
    assert Report("running", 0).as_json() == {"status": "running", "records_processed": 0}
    assert END.as_json() == {
        "status": "success",
        "records_processed": 15,
        "duration_seconds": 0.25,
        "window_start": "2025-07-10T11:45:00-04:00",
        "window_end": "2025-07-10T12:00:00-04:00",
    }


@pytest.mark.parametrize(
    ("report", "columns", "values"),
    [
        (Report("running"), "status=$2", ["running"]),
        (Report("running", 10), "records_processed=$2", [10]),
        (
            Report("error", duration_seconds=1.5, error_message="no"),
            "status=$2, duration_seconds=$3, error_message=$4",
            ["error", Decimal("1.5"), "no"],
        ),
        (
            END,
            "status=$2, records_processed=$3, duration_seconds=$4, window_start=$5, window_end=$6",
            ["success", 15, Decimal("0.25"), UPDATE.start, UPDATE.end],
        ),
    ],
)
def test_sql_sets_only_what_is_told(report, columns, values):
    assert update(report) == (f"UPDATE sync_executions SET {columns} WHERE id=$1", values)


async def test_persist_gives_up_when_patience_ends():
    tries = 0

    async def attempt():
        nonlocal tries
        tries += 1
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await persist(attempt, OSError, patience=0)
    assert tries == 1
    with pytest.raises(ConnectionResetError):
        await persist(attempt, OSError, patience=0.5)
    assert tries > 2


async def test_persist_does_not_repeat_other_failures():
    async def attempt():
        raise KeyError("no")

    with pytest.raises(KeyError):
        await persist(attempt, OSError, patience=60)


async def test_http_sends_name_and_password(api):
    async with http_reporter(api.url, ("admin", "s3cret")) as reporter:
        await reporter.send("42", END, patience=0)
    [call] = api.calls
    assert (call.method, call.path) == ("PATCH", "/sync/executions/42")
    assert call.authorization == "Basic " + b64encode(b"admin:s3cret").decode()
    assert call.body == END.as_json()


async def test_http_without_password_and_with_a_path_in_the_address(api):
    async with http_reporter(api.url + "/base/", None) as reporter:
        await reporter.send("a/b", Report("running"), patience=0)
    [call] = api.calls
    assert (call.path, call.authorization) == ("/base/sync/executions/a%2Fb", None)


async def test_http_repeats_what_may_pass_later(api):
    api.answers = [503, 500, 429]
    async with http_reporter(api.url, None) as reporter:
        await reporter.send("42", Report("running"), patience=30)
    assert len(api.calls) == 4


async def test_http_repeats_when_nobody_listens_and_gives_up(api):
    async with http_reporter("http://127.0.0.1:1", None) as reporter:
        with pytest.raises(httpx.ConnectError):
            await reporter.send("42", Report("running"), patience=0.3)


async def test_http_takes_a_conflict_for_an_answer(api, caplog):
    api.answers = [409]
    async with http_reporter(api.url, None) as reporter:
        await reporter.send("42", Report("error"), patience=30)
    assert len(api.calls) == 1
    assert "execution=42 is already finished, report not taken: answer 409 of the test" in caplog.text


@pytest.mark.parametrize("status", [400, 401, 404, 422])
async def test_http_refusals_are_not_repeated(api, status):
    api.answers = [status]
    async with http_reporter(api.url, None) as reporter:
        with pytest.raises(RuntimeError, match=f"PATCH /sync/executions/42 answered {status}: answer {status}"):
            await reporter.send("42", Report("running"), patience=30)
    assert len(api.calls) == 1


async def test_http_asks_for_an_id_when_the_message_had_none(api):
    api.answers = [503]
    async with http_reporter(api.url, None) as reporter:
        assert await reporter.adopt(Request("backfill", BACKFILL), patience=30) == "77"
        assert await reporter.adopt(Request("update", UPDATE), patience=30) == "77"
    window = {"window_start": "2025-07-10T12:00:00-04:00", "window_end": "2025-07-10T18:00:00-04:00"}
    assert [(call.method, call.path) for call in api.calls] == [("POST", "/sync/executions")] * 3
    assert [call.body for call in api.calls] == [{"mode": "backfill"} | window] * 2 + [{"mode": "update"}]


async def test_http_does_not_repeat_a_post_that_may_have_been_done(api):
    api.answers = [500]
    async with http_reporter(api.url, None) as reporter:
        with pytest.raises(RuntimeError, match="answered 500"):
            await reporter.adopt(Request("update", UPDATE), patience=30)
    assert len(api.calls) == 1
