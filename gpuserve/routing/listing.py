"""What clients are told about the models: the bodies of `/v1/models` and `/readyz`."""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Any

from gpuserve.routing.choose import dark_routes, has_auto
from gpuserve.routing.table import RoutingTable, Upstream


def model_cards(table: RoutingTable, *, created: int) -> list[dict[str, Any]]:
    """Return one card per public name: models, their aliases, and `auto`.

    `created` is seconds since 1970, which OpenAI's clients insist on. An alias names its model
    in `root`.
    """
    return list(_cards(table, created))


def readiness(table: RoutingTable, dark: AbstractSet[str]) -> tuple[int, dict[str, Any]]:
    """Return the status, 200 or 503, and the body of `/readyz`."""
    unready = dark_routes(table, dark)
    if unready:
        return 503, {"ready": False, "dark": unready}
    return 200, {"ready": True, "dark": {}}


def _cards(table: RoutingTable, created: int) -> Iterator[dict[str, Any]]:
    for upstream in table.upstreams:
        for name in upstream.names:
            root = upstream.names[0] if upstream.managed else name
            yield _card(name, created, root=root, upstream=upstream)
    if has_auto(table):
        yield _card(table.routing.auto, created, root=table.routing.auto, upstream=None)


def _card(name: str, created: int, *, root: str, upstream: Upstream | None) -> dict[str, Any]:
    card: dict[str, Any] = {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "gpuserve" if upstream is None or upstream.managed else upstream.name,
        "root": root,
        "max_model_len": upstream.capabilities.max_model_len if upstream else None,
    }
    if upstream is not None:
        card["state"] = upstream.state
        if upstream.reason and not upstream.routable:
            card["reason"] = upstream.reason
    return card
