"""
The collector: an app that is nothing but the doors, for events that may not wait for Postgres to come up.

In:  the parts behind the doors. Out: a FastAPI app; any number may write to one spool.
"""

from fastapi import FastAPI

from relevanced.daemon.web.app import PROBLEMS
from relevanced.daemon.web.doors import Doors, open_doors
from relevanced.daemon.web.problems import answer_problems


def create_collector(doors: Doors) -> FastAPI:
    """Build the app."""
    app = FastAPI(title="relevanced", summary="Takes in what people searched for and clicked.", responses=PROBLEMS)
    answer_problems(app)
    open_doors(app, doors)

    @app.get("/healthz", summary="The process lives")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    return app
