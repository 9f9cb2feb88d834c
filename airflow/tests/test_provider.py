"""The installed package as Airflow sees it: connection type, link, assets, DAGs."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from airflow.providers_manager import ProvidersManager
from airflow.sdk import Asset
from conftest import FakeForebay

import airflow_provider_forebay
from airflow_provider_forebay.assets.cassandra import create_asset, sanitize_uri
from airflow_provider_forebay.hooks.forebay import ForebayHook, endpoint
from airflow_provider_forebay.links import ForebayRunLink


def test_the_entry_point_is_found_and_everything_it_names_exists() -> None:
    manager = ProvidersManager()
    assert manager.providers["airflow-provider-forebay"].version == airflow_provider_forebay.__version__
    assert manager.hooks["forebay"].hook_class_name.endswith("ForebayHook")
    assert manager.asset_uri_handlers["cassandra"] is sanitize_uri
    assert "cassandra" in manager.asset_factories
    assert f"{ForebayRunLink.__module__}.ForebayRunLink" in manager.extra_links_class_names


def test_the_provider_info_matches_airflow_s_schema() -> None:
    import jsonschema

    schema = json.loads((resources.files("airflow") / "provider_info.schema.json").read_text())
    jsonschema.validate(airflow_provider_forebay.get_provider_info(), schema)


def test_the_test_button_checks_who_responds_and_what_the_token_may_do(forebay: FakeForebay, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ForebayHook().test_connection() == (True, f"Forebay 0.1.0 at http://127.0.0.1:{forebay.port}, as operator")
    forebay.role = "viewer"
    ok, message = ForebayHook().test_connection()
    assert not ok and "may only read" in message
    monkeypatch.setenv("AIRFLOW_CONN_WRONG", f"forebay://:wrong@127.0.0.1:{forebay.port}")
    ok, message = ForebayHook("wrong").test_connection()
    assert not ok and "401 auth.token" in message and "[api] tokens" in message
    monkeypatch.setenv("AIRFLOW_CONN_NOBODY", "forebay://127.0.0.1:1")
    ok, message = ForebayHook("nobody").test_connection()
    assert not ok and "does not respond" in message


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"host": "forebay"}, "http://forebay:7070"),
        ({"host": "forebay", "schema": "https", "port": 443}, "https://forebay:443"),
        ({"host": "https://forebay/"}, "https://forebay:7070"),
        ({"host": "::1"}, "http://[::1]:7070"),
    ],
)
def test_a_connection_becomes_a_url(fields: dict, url: str) -> None:
    connection = {"conn_id": "c", "host": "", "schema": "", "port": None, "password": None, "extra_dejson": {}} | fields
    assert endpoint(SimpleNamespace(**connection)).url == url


@pytest.mark.parametrize("fields", [{"host": ""}, {"host": "forebay", "schema": "ftp"}])
def test_an_invalid_connection_is_refused(fields: dict) -> None:
    connection = {"conn_id": "c", "host": "", "schema": "", "port": None, "password": None, "extra_dejson": {}} | fields
    with pytest.raises(ValueError, match="'c'"):
        endpoint(SimpleNamespace(**connection))


def test_the_connection_form_has_its_own_field_names() -> None:
    behaviour = ForebayHook.get_ui_field_behaviour()
    assert behaviour["relabeling"]["password"] == "Token" and "login" in behaviour["hidden_fields"]


def test_the_same_table_is_the_same_asset() -> None:
    asset = create_asset(host="DB", keyspace="forebay", table="users")
    assert asset.uri == "cassandra://db:9042/forebay/users" == Asset("cassandra://db/forebay/users").uri
    for bad in ("cassandra:///forebay/users", "cassandra://db/forebay", "cassandra://db/a/b/c"):
        with pytest.raises(ValueError, match="keyspace/table"):
            sanitize_uri(urlsplit(bad))


def test_an_asset_has_the_name_that_openlineage_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.providers.common.compat.openlineage import facet

    from airflow_provider_forebay.assets.cassandra import convert_asset_to_openlineage

    monkeypatch.setattr(facet, "Dataset", SimpleNamespace)
    dataset = convert_asset_to_openlineage(create_asset(host="db", keyspace="forebay", table="users"), None)
    assert (dataset.namespace, dataset.name) == ("cassandra://db:9042", "forebay.users")


def test_the_link_is_the_url_that_the_task_pushed(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_provider_forebay import links

    pushed = {"run_url": "http://shown/v1/runs/run-1"}
    monkeypatch.setattr(links.XCom, "get_value", lambda key, ti_key: pushed.get(key))
    assert ForebayRunLink().get_link(None, ti_key=None) == "http://shown/v1/runs/run-1"
    pushed.clear()
    assert ForebayRunLink().get_link(None, ti_key=None) == ""


DAGS = [Path(__file__).parents[1] / "dags", Path(airflow_provider_forebay.__file__).parent / "example_dags"]


def test_every_dag_parses_without_an_error_and_without_a_server() -> None:
    try:
        from airflow.dag_processing.dagbag import DagBag  # 3.2 and later
    except ImportError:
        from airflow.models.dagbag import DagBag
    found = {}
    for folder in DAGS:
        bag = DagBag(folder)
        assert not bag.import_errors
        found |= bag.dags
    assert set(found) == {"real_time_pipeline", "example_forebay", "example_forebay_events", "example_forebay_http"}
    tasks = found["real_time_pipeline"].task_dict
    assert list(tasks) == ["fetch", "check_rows", "report"]
    assert tasks["check_rows"].upstream_task_ids == {"fetch"} and tasks["report"].upstream_task_ids == {"fetch", "check_rows"}
