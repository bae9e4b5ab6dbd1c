"""Counting in Python over the executions that were fetched. Asks neither clock nor database."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

from .database import SyncExecution
from .schemas import DashboardResponse, ExecutionItem, HistoryResponse, StatusResponse


def status(executions: Sequence[SyncExecution]) -> StatusResponse:
    """How the newest execution stands."""
    if not executions:
        return StatusResponse()
    last = executions[0]
    return StatusResponse(
        last_execution=last.created_at,
        status=last.status,
        mode=last.mode,
        window_start=last.window_start,
        window_end=last.window_end,
        records_processed=last.records_processed or 0,
        duration_seconds=last.duration_seconds,
        error_message=last.error_message,
        last_updated=last.updated_at,
    )


def history(executions: Sequence[SyncExecution]) -> HistoryResponse:
    """The executions, and how many of them stand how."""
    counts = Counter(execution.status for execution in executions)
    return HistoryResponse(
        executions=[ExecutionItem.model_validate(execution) for execution in executions],
        total_count=len(executions),
        success_count=counts["success"],
        error_count=counts["error"],
        running_count=counts["running"],
    )


def dashboard(executions: Sequence[SyncExecution], now: datetime) -> DashboardResponse:
    """Sums over the executions."""
    counts = Counter(execution.status for execution in executions)
    ended = counts["success"] + counts["error"]
    durations = [execution.duration_seconds for execution in executions if execution.duration_seconds is not None]
    since = now - timedelta(hours=24)
    return DashboardResponse(
        total_executions=len(executions),
        success_rate=f"{100 * counts['success'] / ended if ended else 0:.1f}%",
        avg_duration_seconds=f"{sum(durations) / len(durations) if durations else 0:.1f}",
        last_24h_executions=sum(execution.created_at >= since for execution in executions),
        current_status=executions[0].status if executions else "idle",
    )
