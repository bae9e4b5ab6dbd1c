"""Counting records in a window, in files made for the test and in the committed ones."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from data import make
from ingestor.records import in_window
from ingestor.settings import DATA
from ingestor.window import backfill_window, update_window

CUIABA = ZoneInfo("America/Cuiaba")
NOW = datetime(2025, 7, 10, 16, 0, tzinfo=UTC)
SOURCES = [DATA / "contracts.jsonl", DATA / "live.jsonl"]
GOOD = {"id": "r-1", "agency": "A", "object": "B", "value": "10.50", "published_at": "2025-07-10T12:00:00"}


def lines(folder, *records):
    """A file of records; a text is taken as the raw line."""
    source = folder / "records.jsonl"
    source.write_text("".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in records))
    return [source]


def count(sources, start, end, now=NOW):
    return sum(1 for _ in in_window(sources, backfill_window(start, end, CUIABA), now, CUIABA))


def test_a_record_is_read(tmp_path):
    window = backfill_window("2025-07-10T12:00:00", "2025-07-10T13:00:00", CUIABA)
    [record] = in_window(lines(tmp_path, GOOD), window, NOW, CUIABA)
    assert (record.id, record.agency, record.object) == ("r-1", "A", "B")
    assert record.value == Decimal("10.50")
    assert record.published_at == datetime(2025, 7, 10, 16, tzinfo=UTC)


def test_neighbouring_windows_count_a_record_on_their_edge_once(tmp_path):
    source = lines(tmp_path, GOOD)
    assert count(source, "2025-07-10T11:00:00", "2025-07-10T12:00:00") == 0
    assert count(source, "2025-07-10T12:00:00", "2025-07-10T13:00:00") == 1


def test_ages_are_counted_from_the_start_of_the_run(tmp_path):
    ages = ("now-0m", "now-1m", "now-14m", "now-15m", "now-16m")
    source = lines(tmp_path, *(GOOD | {"id": age, "published_at": age} for age in ages))
    found = [record.id for record in in_window(source, update_window(NOW, CUIABA), NOW, CUIABA)]
    assert found == ["now-1m", "now-14m", "now-15m"]


def test_a_wrong_record_fails_the_run_only_when_it_is_in_the_window(tmp_path):
    source = lines(tmp_path, GOOD, GOOD | {"id": "r-2", "value": "R$ 12.x", "published_at": "2025-07-11T12:00:00"})
    assert count(source, "2025-07-10T00:00:00", "2025-07-11T00:00:00") == 1
    with pytest.raises(ValueError, match=r"^record r-2: value 'R\$ 12\.x' is not a number$"):
        count(source, "2025-07-10T00:00:00", "2025-07-12T00:00:00")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (GOOD | {"value": "NaN"}, "record r-1: value 'NaN' is not an amount"),
        (GOOD | {"value": 10.5}, "record r-1: value is missing or is not a text"),
        ({key: GOOD[key] for key in GOOD if key != "agency"}, "record r-1: agency is missing"),
        (GOOD | {"published_at": "yesterday"}, "record r-1: published_at 'yesterday' is not a time"),
        (GOOD | {"published_at": "now-xm"}, "record r-1: published_at 'now-xm' is not a time"),
        ({key: GOOD[key] for key in GOOD if key != "published_at"}, "record r-1: published_at is missing"),
        ("{", "records.jsonl line 2 is not JSON"),
        ("[]", "records.jsonl line 2 is not a JSON object"),
    ],
)
def test_wrong_lines_are_named(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        count(lines(tmp_path, GOOD, wrong), "2025-07-10T00:00:00", "2025-07-11T00:00:00")


def test_the_committed_files_are_what_the_generator_makes():
    assert (DATA / "contracts.jsonl").read_text(encoding="utf-8") == make.as_lines(make.contracts())
    assert (DATA / "live.jsonl").read_text(encoding="utf-8") == make.as_lines(make.live())


def test_the_windows_of_the_example_manifests():
    now = datetime(2026, 1, 5, 12, tzinfo=UTC)
    assert sum(1 for _ in in_window(SOURCES, update_window(now, CUIABA), now, CUIABA)) == 15
    assert count(SOURCES, "2025-07-10T12:00:00", "2025-07-10T18:00:00", now) == 59
    with pytest.raises(ValueError, match=r"^record 2025-0310: value 'R\$ 12\.x' is not a number$"):
        count(SOURCES, "2025-07-20T00:00:00", "2025-07-21T00:00:00", now)
