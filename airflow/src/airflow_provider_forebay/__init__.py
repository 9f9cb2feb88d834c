"""Apache Airflow provider for Forebay: HTTP API to Kafka to Cassandra, effectively once."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def get_provider_info() -> dict[str, Any]:
    """Return the provider info; the entry point `apache_airflow_provider` names this function."""
    integration = {"integration-name": "Forebay"}
    return {
        "package-name": "airflow-provider-forebay",
        "name": "Forebay",
        "description": "Runs of Forebay pipelines: HTTP API to Kafka to Cassandra, effectively once.",
        "versions": [__version__],
        "integrations": [{**integration, "tags": ["service"]}],
        "connection-types": [
            {"connection-type": "forebay", "hook-class-name": f"{__name__}.hooks.forebay.ForebayHook", "hook-name": "Forebay"}
        ],
        "hooks": [{**integration, "python-modules": [f"{__name__}.hooks.forebay"]}],
        "operators": [{**integration, "python-modules": [f"{__name__}.operators.forebay"]}],
        "sensors": [{**integration, "python-modules": [f"{__name__}.sensors.forebay"]}],
        "triggers": [{**integration, "python-modules": [f"{__name__}.triggers.forebay", f"{__name__}.triggers.events"]}],
        "extra-links": [f"{__name__}.links.ForebayRunLink"],
        "asset-uris": [
            {
                "schemes": ["cassandra"],
                "handler": f"{__name__}.assets.cassandra.sanitize_uri",
                "factory": f"{__name__}.assets.cassandra.create_asset",
                "to_openlineage_converter": f"{__name__}.assets.cassandra.convert_asset_to_openlineage",
            }
        ],
    }
