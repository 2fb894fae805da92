"""The controller's own HTTP API on control.sock, for the commands. Same user only (0700)."""

import asyncio
import os
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from gpuserve import __version__, jsonvalues
from gpuserve.controller.run import Controller
from gpuserve.controller.status import model_status, upstream_status
from gpuserve.lifecycle.audit import Why
from gpuserve.lifecycle.states import (
    Draining,
    DrainRequested,
    Event,
    Ready,
    RestartRequested,
    StartRequested,
    StopRequested,
)

SETTLE_LOOK_S = 0.01
# Whoever asks for a restart waits for an answer; a driver that hangs gives none.
DRIVER_S = 3.0
VERBS: dict[str, Callable[[], Event]] = {
    "start": StartRequested,
    "stop": StopRequested,
    "restart": RestartRequested,
    "drain": DrainRequested,
}


def application(controller: Controller) -> web.Application:
    """Return the application: GET /status, POST /models/NAME/VERB, /down, /reload, /routers."""
    app = web.Application()
    app.add_routes(
        [
            web.get("/status", _status(controller)),
            web.post("/models/{name}/{verb}", _command(controller)),
            web.post("/down", _down(controller)),
            web.post("/reload", _reload(controller)),
            web.post("/routers", _routers(controller)),
        ]
    )
    return app


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def status_of(controller: Controller) -> dict[str, Any]:
    """Return the whole of `status --json`."""
    profile = controller.plan.profile
    return {
        "instance": str(controller.run_dir.path),
        "version": __version__,
        "profile": profile.path,
        "keeper_pid": controller.keeper_pid,
        "controller_pid": os.getpid(),
        "stopping": controller.stopping,
        "reload": _reload_status(controller),
        "state_dir": controller.instance.state_dir,
        "faults": controller.faults,
        "router": {"url": controller.instance.url, "workers": profile.server.workers},
        "models": [
            model_status(replica, controller.memory.of(name))
            for name, replica in controller.replicas.items()
        ],
        "upstreams": [
            upstream_status(upstream, controller.unreachable.get(upstream.name))
            for upstream in profile.upstreams
        ],
    }


def _status(controller: Controller) -> Handler:
    async def handler(_request: web.Request) -> web.StreamResponse:
        return web.json_response(status_of(controller))

    return handler


def _command(controller: Controller) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        name, verb = request.match_info["name"], request.match_info["verb"]
        spec = controller.plan.profile.model(name)
        if spec is None or spec.name not in controller.replicas:
            return _refusal(404, f'no model "{name}"', models=list(controller.replicas))
        if verb not in VERBS:
            return _refusal(404, f'no command "{verb}"', commands=list(VERBS))
        if controller.stopping:
            return _refusal(409, "gpuserve is stopping")
        replica = controller.replicas[spec.name]
        if verb == "drain" and not isinstance(replica.state, Ready | Draining):
            return _refusal(409, f"{spec.name} is {replica.state.name}: there is nothing to drain")
        if verb == "restart" and replica.state.alive and replica.launch.gpus:
            await controller.cards.read(within_s=DRIVER_S)
            if controller.cards.fault:
                return _refusal(409, f"{spec.name} goes on: {controller.cards.fault}")
        before = {"epoch": replica.epoch, "starts": controller.memory.of(spec.name).starts}
        replica.tell(VERBS[verb](), why=_asked_by(request, verb))
        while replica.busy:  # so that whoever looks next sees what was asked for
            await asyncio.sleep(SETTLE_LOOK_S)
        return web.json_response({"name": spec.name, "before": before})

    return handler


def _down(controller: Controller) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        hurry = request.query.get("now") == "1"
        asyncio.get_running_loop().call_soon(controller.begin_shut_down, hurry)
        return web.json_response({"keeper_pid": controller.keeper_pid})

    return handler


def _asked_by(request: web.Request, verb: str) -> Why:
    """Who asked, as the kernel says: unix(7), SO_PEERCRED."""
    figures: dict[str, int] = {}
    connection = request.transport.get_extra_info("socket") if request.transport else None
    if connection is not None:
        size = struct.calcsize("3i")
        packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        figures["pid"], figures["uid"], _ = struct.unpack("3i", packed)
    return Why(text=f"the operator asked for it ({verb})", cause="operator", figures=figures)


def _reload(controller: Controller) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        reloader = controller.reloader
        if controller.stopping:
            return _refusal(409, "gpuserve is stopping")
        if reloader.busy:
            return _refusal(409, "a reload is under way; `gpuserve status` shows it")
        reloader.busy = True
        accepted = False
        try:
            profile = Path(asked.get("profile") or controller.plan.profile.path)
            proposal = await reloader.check(profile)
            gone = request.transport is None or request.transport.is_closing()
            accepted = proposal.plan is not None and not asked.get("dry_run") and not gone
            number = None
            if accepted:
                number = reloader.begin(proposal).number
                controller.reload(proposal)
            elif not asked.get("dry_run"):
                reloader.refuse(proposal)
        finally:
            reloader.busy = accepted
        return web.json_response(
            {
                "accepted": accepted,
                "number": number,
                "exit_status": proposal.exit_status,
                "profile": proposal.profile,
                "problems": jsonvalues.plain(proposal.problems),
                "diff": jsonvalues.plain(proposal.diff),
            }
        )

    return handler


def _routers(controller: Controller) -> Handler:
    async def handler(_request: web.Request) -> web.StreamResponse:
        if controller.stopping:
            return _refusal(409, "gpuserve is stopping")
        if not controller.replace_routers():
            return _refusal(409, "the routers are being replaced already")
        return web.json_response({"workers": controller.plan.profile.server.workers})

    return handler


def _reload_status(controller: Controller) -> dict[str, Any] | None:
    progress = controller.reloader.progress
    if progress is None:
        return None
    return {
        "number": progress.number,
        "profile": progress.profile,
        "state": progress.state,
        "since_s": round(time.monotonic() - progress.since_s, 3),
        "models": progress.models,
    }


def _refusal(status: int, message: str, **more: object) -> web.Response:
    return web.json_response({"error": message, **more}, status=status)
