"""Is this process alive, is it ready, and what has it counted? Three pages for probes and scrapers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from fulcrum.errors import Misconfigured
from fulcrum.settings import Settings

Checks = Callable[[], Mapping[str, bool]]


def add_health_routes(app: web.Application, checks: Checks) -> None:
    """Serve on ``app``: ``/healthz`` (200 while the loop lives), ``/readyz``, ``/metrics``.

    ``/readyz`` answers 200 when every check holds and 503 otherwise, with the checks as JSON, so a probe
    that fails says why. ``checks`` is called at each request and must not block.
    """

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(_: web.Request) -> web.Response:
        found = dict(checks())
        ready = all(found.values())
        return web.json_response({"ready": ready, "checks": found}, status=200 if ready else 503)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)


class HealthServer:
    """The three pages on a port of their own, for a role that serves nothing else but ``routes``.

    It listens on ``settings.http_host``, on the port that ``settings`` or the role's default give.
    """

    def __init__(
        self, settings: Settings, default_port: int, checks: Checks, routes: Iterable[web.RouteDef] = ()
    ) -> None:
        self._host = settings.http_host
        self._port = settings.port(default_port)
        self._app = web.Application()
        add_health_routes(self._app, checks)
        self._app.add_routes(routes)
        self._runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    async def start(self) -> None:
        """Listen; Misconfigured when the port is taken."""
        self._runner = web.AppRunner(self._app, access_log=None)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            await self.stop()
            raise Misconfigured(
                f"http_port {self._port} on {self._host} cannot be listened on ({error.strerror}); "
                "set FULCRUM_HTTP_PORT to a free port"
            ) from error

    async def stop(self) -> None:
        """Close the port. Idempotent."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
