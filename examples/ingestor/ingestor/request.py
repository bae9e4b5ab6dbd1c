"""What a message asks for. Pure: reads the body, takes no action."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

from .window import Window, backfill_window, update_window


@dataclass(frozen=True)
class Request:
    """A request that can be worked on."""

    mode: Literal["update", "backfill"]
    window: Window


def decode(body: bytes) -> dict[str, Any]:
    """The JSON object in a message body."""
    try:
        fields = json.loads(body)
    except ValueError as error:
        raise ValueError(f"message body is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise ValueError("message body is not a JSON object")
    return fields


def request_id(fields: dict[str, Any]) -> str | None:
    """The execution to report on, or None when the sender keeps no record of this request."""
    value = fields.get("request_id")
    return None if value in (None, "") else str(value)


def parse(fields: dict[str, Any], now: datetime, zone: ZoneInfo) -> Request:
    """The request in a decoded body. Keys that are not known here are ignored."""
    match fields.get("mode"):
        case "update":
            return Request("update", update_window(now, zone))
        case "backfill":
            return Request("backfill", backfill_window(fields.get("data_ini"), fields.get("data_fim"), zone))
        case mode:
            raise ValueError(f"mode {mode!r} is unknown: expected 'update' or 'backfill'")
