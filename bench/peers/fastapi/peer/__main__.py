"""The command: python -m peer. Starts uvicorn with as many worker processes as asked for."""

import uvicorn

from .settings import load

settings = load()
uvicorn.run(
    "peer.app:app",
    host=settings.host,
    port=settings.port,
    workers=settings.workers,
    loop="uvloop",
    http="httptools",
    access_log=False,
    log_level="warning",
)
