"""Runs statements in DuckDB without its optimizer, over one record at a time.

Input: one line of JSON per statement, with its SQL, the columns, and the records as text.
Output: one line of JSON per statement, with an entry per record: its columns as text, null when it is
filtered out, or the error.
"""

import json
import sys

import duckdb

connection = duckdb.connect()
connection.execute("PRAGMA disable_optimizer")
connection.execute("SET threads = 1")
connection.execute("SET ieee_floating_point_ops = false")
connection.execute("SET TimeZone = 'UTC'")


def load(columns, record):
    """Creates the table `topic` with this record; numbers also as their digits."""
    cells = []
    for name, kind in columns:
        text = record[name]
        quoted = "NULL" if text is None else "'" + text.replace("'", "''") + "'"
        if kind == "TIMESTAMP" and text is not None:
            quoted = "'" + text.replace("T", " ").rstrip("Z") + "'"
        cells.append(f"CAST({quoted} AS {kind}) AS {name}")
        if kind == "DOUBLE":
            cells.append(f"CAST({quoted} AS VARCHAR) AS {name}_digits")
    connection.execute("CREATE OR REPLACE TEMP TABLE topic AS SELECT " + ", ".join(cells))


def shown(value):
    """Returns a cell as text: times in microseconds, floats in a form that parses as the same float."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    return str(value)


def answer(sql, times):
    """Returns what becomes of the record in the table."""
    try:
        result = connection.execute(f"SELECT {', '.join(times)} FROM ({sql})").fetchall()
    except duckdb.Error as error:
        return str(error).splitlines()[0]
    return [shown(value) for value in result[0]] if result else None


for line in sys.stdin:
    request = json.loads(line)
    answers = []
    times = None
    for record in request["records"]:
        load(request["columns"], record)
        if times is None:
            try:
                described = connection.execute(f"DESCRIBE {request['sql']}").fetchall()
            except duckdb.Error as error:
                answers = [str(error).splitlines()[0]] * len(request["records"])
                break
            times = [f"epoch_us({name})" if kind.startswith("TIMESTAMP") else name for name, kind, *_ in described]
        answers.append(answer(request["sql"], times))
    print(json.dumps(answers), flush=True)
