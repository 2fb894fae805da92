"""Servers that gpuserve routes to but does not run: whether anybody listens there."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from urllib.parse import urlsplit

from gpuserve.profile.spec import UpstreamSpec

LOOK_S = 5.0
CONNECT_S = 3.0


async def unreachable(upstreams: Iterable[UpstreamSpec]) -> dict[str, str]:
    """Return why a connection cannot be made, by upstream; {} if all can.

    Only a connection is made: which request a server of another make answers is its own matter.
    """
    specs = tuple(upstreams)
    reasons = await asyncio.gather(*(_why(spec.url) for spec in specs))
    return {s.name: why for s, why in zip(specs, reasons, strict=True) if why is not None}


async def _why(url: str) -> str | None:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(parts.hostname, port)
    except TimeoutError:
        return f"{url} does not accept connections within {CONNECT_S:g} s"
    except OSError as error:
        return f"cannot connect to {url}: {error.strerror or error}"
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return None
