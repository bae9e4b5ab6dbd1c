"""The JSON of the API: names and types of the existing service."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict


class StatusResponse(BaseModel):
    """The newest execution."""

    last_execution: datetime | None = None
    status: Literal["success", "error", "running", "idle", "cancelled"] = "idle"
    mode: str | None = None
    window_start: datetime | None = None
    window_end: datetime | None = None
    records_processed: int = 0
    duration_seconds: float | None = None
    error_message: str | None = None
    last_updated: datetime | None = None


class ExecutionItem(BaseModel):
    """One execution of a history."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    mode: str
    window_start: datetime | None
    window_end: datetime | None
    status: str
    records_processed: int | None
    duration_seconds: float | None
    error_message: str | None
    created_at: datetime
    updated_at: datetime


class HistoryResponse(BaseModel):
    """The newest executions, and counts over them."""

    executions: list[ExecutionItem]
    total_count: int
    success_count: int
    error_count: int
    running_count: int


class DashboardResponse(BaseModel):
    """Sums over the newest executions."""

    total_executions: int
    success_rate: str
    avg_duration_seconds: str
    last_24h_executions: int
    current_status: str
