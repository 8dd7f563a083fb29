"""The typed Python client and the `gigpo` command, over the REST API only.

from client import GigpoClient
with GigpoClient("http://127.0.0.1:8400") as gigpo:
    job = gigpo.submit({"model": {"scratch": {}}, ...})
    for event in gigpo.events(job.id):
        ...
"""

from client.api import Event, GigpoClient, Job
from client.errors import ApiRefused, BadInput, GigpoError, NoStack

__all__ = ["ApiRefused", "BadInput", "Event", "GigpoClient", "GigpoError", "Job", "NoStack"]
