"""The command: python -m peer. Runs kopf on uvloop until SIGTERM."""

import logging

import kopf
import uvloop

from . import handlers as handlers
from .settings import load

settings = load()
logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
# kopf tells of each object several times at INFO.
logging.getLogger("kopf").setLevel(logging.WARNING)

kopf.run(
    loop=uvloop.new_event_loop(),
    clusterwide=not settings.namespace,
    namespaces=[settings.namespace] if settings.namespace else [],
    standalone=not settings.peering,
    peering_name=settings.peering or None,
    memo=kopf.Memo(settings=settings),
)
