"""Which stretch of time a run covers. Pure: no clock, no files, no network.

Requests carry local times without an offset, so a time zone is needed to know the instants.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

UPDATE_SPAN = timedelta(minutes=15)


@dataclass(frozen=True)
class Window:
    """From `start` up to but not including `end`, so that neighbours never count a record twice."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        # Compared as instants: with one zone on both sides Python would compare the clock faces.
        if self.start.astimezone(UTC) >= self.end.astimezone(UTC):
            raise ValueError(f"window start {self.start.isoformat()} is not before its end {self.end.isoformat()}")

    def holds(self, instant: datetime) -> bool:
        """Whether an aware time lies in the window."""
        return self.start.astimezone(UTC) <= instant.astimezone(UTC) < self.end.astimezone(UTC)

    def __str__(self) -> str:
        return f"{self.start.isoformat()}..{self.end.isoformat()}"


def local_time(text: object, zone: ZoneInfo, what: str) -> datetime:
    """Reads "2025-07-10T12:00:00" as a time on the wall clock of `zone`.

    A time that the zone skipped (clocks put forward) is refused. Of a time that happened twice
    (clocks put back) the earlier one is meant.
    """
    if not isinstance(text, str):
        raise ValueError(f"{what} is missing: expected a local time like 2025-07-10T12:00:00")
    try:
        naive = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{what} {text!r} is not a time like 2025-07-10T12:00:00") from None
    if naive.tzinfo is not None:
        raise ValueError(f"{what} {text!r} has an offset: expected local time of {zone.key} without one")
    aware = naive.replace(tzinfo=zone)
    if aware.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != naive:
        raise ValueError(f"{what} {text!r} does not exist in {zone.key}: its clocks were put forward over it")
    return aware


def backfill_window(data_ini: object, data_fim: object, zone: ZoneInfo) -> Window:
    """The window that a backfill request names."""
    return Window(local_time(data_ini, zone, "data_ini"), local_time(data_fim, zone, "data_fim"))


def update_window(now: datetime, zone: ZoneInfo) -> Window:
    """The 15 minutes before `now`, which an update covers."""
    end = now.astimezone(UTC)
    return Window((end - UPDATE_SPAN).astimezone(zone), end.astimezone(zone))
