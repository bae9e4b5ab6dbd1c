"""Bodies of messages: what is understood, ignored and refused."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from ingestor.request import decode, parse, request_id

CUIABA = ZoneInfo("America/Cuiaba")
NOW = datetime(2025, 7, 10, 16, 0, tzinfo=UTC)


def test_update():
    request = parse(decode(b'{"mode":"update"}'), NOW, CUIABA)
    assert request.mode == "update"
    assert str(request.window) == "2025-07-10T11:45:00-04:00..2025-07-10T12:00:00-04:00"


def test_backfill():
    body = b'{"mode":"backfill","data_ini":"2025-07-10T12:00:00","data_fim":"2025-07-10T18:00:00"}'
    request = parse(decode(body), NOW, CUIABA)
    assert request.mode == "backfill"
    assert str(request.window) == "2025-07-10T12:00:00-04:00..2025-07-10T18:00:00-04:00"


def test_unknown_keys_are_ignored():
    fields = decode(b'{"mode":"update","request_id":"42","priority":9,"nested":{"mode":"backfill"},"data_ini":"x"}')
    assert parse(fields, NOW, CUIABA).mode == "update"
    assert request_id(fields) == "42"


@pytest.mark.parametrize(("value", "known"), [('"42"', "42"), ("42", "42"), ("null", None), ('""', None)])
def test_request_id(value, known):
    assert request_id(decode(f'{{"request_id":{value}}}'.encode())) == known


def test_no_request_id():
    assert request_id(decode(b"{}")) is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"{'mode': 'update'}", "not JSON"),
        (b'["update"]', "not a JSON object"),
        (b'"update"', "not a JSON object"),
        (b"{}", "mode None is unknown"),
        (b'{"mode":"UPDATE"}', "mode 'UPDATE' is unknown"),
        (b'{"mode":"backfill"}', "data_ini is missing"),
        (b'{"mode":"backfill","data_ini":"2025-07-10T12:00:00"}', "data_fim is missing"),
    ],
)
def test_other_bodies_are_refused(body, message):
    with pytest.raises(ValueError, match=message):
        parse(decode(body), NOW, CUIABA)
