"""The status that a SyncExecution should show, from its row. All times come from the row, so equal rows give equal
statuses, and nothing is written twice."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

Row = Mapping[str, Any]

ERROR_MAX = 1024
NOT_AGAIN = "it is not run again by itself"
WAITING = {
    "Pending": "waiting for the broker to confirm the message",
    "Queued": "waiting for a worker to start",
    "Running": "a worker is on it",
}
FINAL = {"success": "Succeeded", "error": "Failed", "cancelled": "Cancelled"}
FINAL_PHASES = frozenset(FINAL.values())


def status_of(row: Row, generation: int) -> dict[str, Any]:
    """The status of a row, without what is not known yet."""
    duration = row["duration_seconds"]
    begun = row["started_at"] is not None or row["status"] in FINAL
    status = {
        "observedGeneration": generation,
        "phase": phase_of(row),
        "executionID": str(row["id"]),
        "revision": row["revision"],
        "window": _window(row),
        "queuedTime": _seconds(row["created_at"]),
        "publishTime": _seconds(row["published_at"]),
        "startTime": _seconds(row["started_at"]),
        "completionTime": _seconds(row["finished_at"]),
        "duration": None if duration is None else f"{duration:.1f}s",
        "recordsProcessed": (row["records_processed"] or 0) if begun else None,
        "error": _short(row["error_message"]),
        "conditions": conditions_of(row, generation),
    }
    return {name: value for name, value in status.items() if value is not None}


def phase_of(row: Row) -> str:
    """How far it got, for people."""
    if row["status"] in FINAL:
        return FINAL[row["status"]]
    if row["started_at"] is not None:
        return "Running"
    return "Pending" if row["published_at"] is None else "Queued"


def conditions_of(row: Row, generation: int) -> list[dict[str, Any]]:
    """For programs."""

    def condition(kind: str, is_true: bool, reason: str, message: str, at: datetime) -> dict[str, Any]:
        return {
            "type": kind,
            "status": "True" if is_true else "False",
            "reason": reason,
            "message": message,
            "lastTransitionTime": _seconds(at),
            "observedGeneration": generation,
        }

    created, reason = row["created_at"], _reason(row)
    ended = row["finished_at"] or row["updated_at"]
    conditions = [
        condition("Recorded", True, "RowWritten", f"recorded as execution {row['id']}", created),
        condition("Published", *_published(row, ended)),
    ]
    match row["status"]:
        case "success":
            message = f"{row['records_processed'] or 0} records processed"
            conditions += [condition(kind, True, reason, message, ended) for kind in ("Finished", "Complete")]
        case "error":
            message = _short(row["error_message"]) or "no error text was reported"
            conditions += [condition(kind, True, reason, message, ended) for kind in ("Finished", "Failed")]
            conditions.append(condition("Stalled", True, reason, f"{message}; {NOT_AGAIN}", ended))
        case "cancelled":
            deleted = reason == "ObjectDeleted"
            message = (
                "the object was deleted before its message was published"
                if deleted
                else "the worker reported that it was cancelled"
            )
            conditions.append(condition("Finished", True, reason, message, ended))
            conditions.append(condition("Stalled", True, reason, f"{message}; {NOT_AGAIN}", ended))
        case _:
            since = row["started_at"] or row["published_at"] or created
            conditions.append(condition("Finished", False, reason, WAITING[reason], created))
            conditions.append(condition("Reconciling", True, reason, WAITING[reason], since))
    return conditions


def _published(row: Row, ended: datetime) -> tuple[bool, str, str, datetime]:
    if row["published_at"] is not None:
        return True, "Confirmed", "the broker confirmed the message", row["published_at"]
    if row["status"] in FINAL:
        return False, "NeverPublished", "it ended before its message was published", ended
    if row["publish_problem"] is not None:
        message = f"{_short(row['publish_message'] or '')}; tried again until it works"
        return False, row["publish_problem"], message, row["publish_failed_at"] or row["updated_at"]
    return False, "AwaitingConfirm", "to be published", row["created_at"]


def _reason(row: Row) -> str:
    if row["status"] == "running" or row["status"] == "success":
        return phase_of(row)
    return row["finish_reason"] or ("WorkerError" if row["status"] == "error" else "Cancelled")


def _window(row: Row) -> dict[str, str | None] | None:
    if row["window_start"] is None or row["window_end"] is None:
        return None
    return {"start": _seconds(row["window_start"]), "end": _seconds(row["window_end"])}


def _seconds(at: datetime | None) -> str | None:
    return None if at is None else f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _short(text: str | None) -> str | None:
    return text if text is None or len(text) <= ERROR_MAX else text[: ERROR_MAX - 1] + "…"
