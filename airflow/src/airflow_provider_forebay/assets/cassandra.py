"""Assets for Cassandra tables, `cassandra://host:port/keyspace/table`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from airflow.sdk import Asset

if TYPE_CHECKING:
    from airflow.providers.common.compat.openlineage.facet import Dataset

DEFAULT_PORT = 9042
FORM = "cassandra://host:port/keyspace/table"


def create_asset(
    *, host: str, keyspace: str, table: str, port: int = DEFAULT_PORT, extra: dict[str, Any] | None = None, **more: Any
) -> Asset:
    """
    Create the asset of a table. `more` is passed to `Asset`, for example `name` or `watchers`.
    """
    return Asset(uri=f"cassandra://{host}:{port}/{keyspace}/{table}", extra=extra, **more)


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Normalise a URI, so that one table is one asset: host in lower case, port always present."""
    keyspace, *table = uri.path.strip("/").split("/")
    if not uri.hostname or not keyspace or len(table) != 1 or not table[0]:
        raise ValueError(f"{uri.geturl()!r} is not the URI of a Cassandra table; write {FORM}")
    host = f"[{uri.hostname}]" if ":" in uri.hostname else uri.hostname
    return uri._replace(netloc=f"{host}:{uri.port or DEFAULT_PORT}", path=f"/{keyspace}/{table[0]}")


def convert_asset_to_openlineage(asset: Asset, lineage_context: Any) -> Dataset:
    """Return the OpenLineage dataset: namespace `cassandra://host:port`, name `keyspace.table`."""
    from airflow.providers.common.compat.openlineage.facet import Dataset

    uri = urlsplit(asset.uri)
    return Dataset(namespace=f"cassandra://{uri.netloc}", name=uri.path.strip("/").replace("/", "."))
