"""
Opens a DAG run in Airflow's pages with Chromium, and takes the picture of docs/AIRFLOW.md.

    airflow-picture.py AIRFLOW_URL DAG DAG_RUN PICTURE

Fails if the page does not show success, or if the extra link of the task `fetch` does not open its run
in Forebay.
"""

from __future__ import annotations

import json
import shutil
import sys
from urllib.parse import quote

from playwright.sync_api import expect, sync_playwright

url, dag, run, picture = sys.argv[1:]
chromium = shutil.which("chromium") or shutil.which("chromium-browser") or sys.exit("no Chromium: apt-get install chromium")
flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]

with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=flags)
    context = browser.new_context(viewport={"width": 1280, "height": 720}, color_scheme="light")
    page = context.new_page()
    expect.set_options(timeout=60_000)

    page.goto(url)  # the first visit logs in and drops its target
    expect(page.get_by_text("Dag Runs").or_(page.get_by_text("Dags")).first).to_be_visible()
    page.goto(f"{url}/dags/{dag}/runs/{quote(run)}")
    for task in ("fetch", "check_rows", "report"):
        expect(page.get_by_text(task, exact=True).first).to_be_visible()
    expect(page.get_by_text("Success").first).to_be_visible()
    page.wait_for_timeout(2_000)  # animations end
    page.screenshot(path=picture)

    page.goto(f"{url}/dags/{dag}/runs/{quote(run)}/tasks/fetch/details")
    link = page.get_by_text("Forebay run").first
    expect(link).to_be_visible()
    with context.expect_page() as opened:
        link.click()
    opened.value.wait_for_load_state()
    shown = json.loads(opened.value.locator("body").inner_text())
    if shown["state"] != "succeeded" or not shown["key"].startswith(f"{dag}/{run}/"):
        sys.exit(f"the link opens {shown}")
    print(f"{run}: success, and its link opens run {shown['id']}")
    browser.close()
