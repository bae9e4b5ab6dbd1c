"""Windows: local times to instants, with and without daylight saving time."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from ingestor.window import Window, backfill_window, local_time, update_window

CUIABA = ZoneInfo("America/Cuiaba")
NEW_YORK = ZoneInfo("America/New_York")


def test_local_time_is_read_in_the_zone_of_the_worker():
    assert local_time("2025-07-10T12:00:00", CUIABA, "data_ini") == datetime(2025, 7, 10, 16, tzinfo=UTC)
    assert local_time("2025-07-10T12:00:00", NEW_YORK, "data_ini") == datetime(2025, 7, 10, 16, tzinfo=UTC)
    assert local_time("2025-01-10T12:00:00", NEW_YORK, "data_ini") == datetime(2025, 1, 10, 17, tzinfo=UTC)


def test_cuiaba_had_daylight_saving_time_until_2019():
    assert local_time("2018-12-10T12:00:00", CUIABA, "data_ini") == datetime(2018, 12, 10, 15, tzinfo=UTC)
    assert local_time("2019-12-10T12:00:00", CUIABA, "data_ini") == datetime(2019, 12, 10, 16, tzinfo=UTC)


def test_fractions_of_a_second_are_kept():
    assert local_time("2025-07-10T12:00:00.5", CUIABA, "x").microsecond == 500_000


def test_a_skipped_time_is_refused():
    with pytest.raises(ValueError, match=r"data_ini '2018-11-04T00:30:00' does not exist in America/Cuiaba"):
        local_time("2018-11-04T00:30:00", CUIABA, "data_ini")


def test_of_a_time_that_happened_twice_the_earlier_is_meant():
    assert local_time("2025-11-02T01:30:00", NEW_YORK, "x").astimezone(UTC) == datetime(2025, 11, 2, 5, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "data_fim is missing"),
        (7, "data_fim is missing"),
        ("", "is not a time like"),
        ("10/07/2025", "is not a time like"),
        ("2025-07-10T12:00:00-04:00", "has an offset: expected local time of America/Cuiaba"),
        ("2025-07-10T12:00:00Z", "has an offset"),
    ],
)
def test_what_is_no_local_time_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        local_time(text, CUIABA, "data_fim")


def test_a_window_holds_its_start_but_not_its_end():
    window = backfill_window("2025-07-10T12:00:00", "2025-07-10T18:00:00", CUIABA)
    assert window.holds(window.start)
    assert window.holds(window.end - timedelta(microseconds=1))
    assert not window.holds(window.end)
    assert not window.holds(window.start - timedelta(microseconds=1))
    assert str(window) == "2025-07-10T12:00:00-04:00..2025-07-10T18:00:00-04:00"


@pytest.mark.parametrize("end", ["2025-07-10T12:00:00", "2025-07-10T11:59:59"])
def test_a_window_must_start_before_it_ends(end):
    with pytest.raises(ValueError, match="is not before its end"):
        backfill_window("2025-07-10T12:00:00", end, CUIABA)


def test_windows_are_compared_as_instants_when_clocks_are_put_back():
    first = datetime(2025, 11, 2, 1, 30, tzinfo=NEW_YORK)
    again = first.replace(fold=1)
    assert Window(first, again).holds(datetime(2025, 11, 2, 6, 0, tzinfo=UTC))
    with pytest.raises(ValueError, match="is not before its end"):
        Window(again, first.replace(minute=45))


@pytest.mark.parametrize("zone", [CUIABA, NEW_YORK])
def test_an_update_covers_the_last_15_minutes_even_over_a_change_of_clocks(zone):
    now = datetime(2025, 11, 2, 6, 5, tzinfo=UTC)
    window = update_window(now, zone)
    assert window.end.astimezone(UTC) == now
    assert window.start.astimezone(UTC) == now - timedelta(minutes=15)
    assert window.end.tzinfo is zone
