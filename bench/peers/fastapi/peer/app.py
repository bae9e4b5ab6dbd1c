"""The application: routes, authentication, the pool's life. Counting is in summary, queries are in database."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from sqlalchemy.ext.asyncio import AsyncSession

from . import database, summary
from .schemas import DashboardResponse, HistoryResponse, StatusResponse
from .settings import load

# The dashboard of the existing service sums up this many executions, the newest ones.
DASHBOARD_LIMIT = 100

settings = load()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Opens the pool of this worker process, and closes it."""
    engine, app.state.sessions = database.connect(settings)
    yield
    await engine.dispose()


async def session(request: Request) -> AsyncIterator[AsyncSession]:
    """A session for one request."""
    async with request.app.state.sessions() as opened:
        yield opened


async def administrator(given: Annotated[HTTPBasicCredentials, Depends(HTTPBasic())]) -> None:
    """Lets in who knows name and password; both are always compared, in constant time."""
    name = secrets.compare_digest(given.username.encode(), settings.username.encode())
    password = secrets.compare_digest(given.password.encode(), settings.password.encode())
    if not (name and password):
        raise HTTPException(401, "wrong name or password", {"WWW-Authenticate": "Basic"})


Session = Annotated[AsyncSession, Depends(session)]
router = APIRouter(prefix="/sync", dependencies=[Depends(administrator)])


@router.get("/status")
async def status(session: Session) -> StatusResponse:
    """How the newest execution stands."""
    return summary.status(await database.newest(session, 1))


@router.get("/history")
async def history(session: Session, limit: Annotated[int, Query(ge=1, le=200)] = 50) -> HistoryResponse:
    """The newest executions, newest first, and counts over them."""
    return summary.history(await database.newest(session, limit))


@router.get("/dashboard")
async def dashboard(session: Session) -> DashboardResponse:
    """Sums over the newest executions."""
    return summary.dashboard(await database.newest(session, DASHBOARD_LIMIT), datetime.now(UTC))


app = FastAPI(title="REST peer", lifespan=lifespan)
app.include_router(router)


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    """Alive; asks nobody."""
    return {"status": "ok"}
