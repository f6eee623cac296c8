#!/usr/bin/env python3
"""TPC-H's 22 and TPC-DS's 99 queries on one task and on four, against DuckDB: values and order.

    tests/differential/tpc.py tpch|tpcds [--scale 0.01] [--bin target/debug] [--only 1,2] [--timeout 120]

Data, queries and right answers come from DuckDB's extensions, which PyPI's duckdb-extension-tpch and duckdb-extension-tpcds bring along; the
queries are spelled for Spark by a few replacements. Order is compared by the keys of the last ORDER BY that are columns of the answer."""

import argparse
import glob
import json
import math
import os
import re
import shutil
import sys
import tempfile
import time
import uuid

import duckdb
import pyarrow.compute as pc
import pyarrow.parquet as pq

import data
from cluster import Cluster, Failure

HERE = os.path.dirname(os.path.abspath(__file__))
SUITES = {"tpch": "dbgen", "tpcds": "dsdgen"}


def database(suite, scale):
    """DuckDB with the suite's tables, and with Spark's order of nulls."""
    module = __import__(f"duckdb_extension_{suite}")
    [extension] = glob.glob(os.path.join(os.path.dirname(module.__file__), "extensions", f"v{duckdb.__version__}", "*.duckdb_extension"))
    db = duckdb.connect(config={"allow_unsigned_extensions": True})
    db.execute(f"LOAD '{extension}'")
    db.execute(f"CALL {SUITES[suite]}(sf={scale})")
    db.execute("SET default_null_order = 'nulls_first_on_asc_last_on_desc'")
    return db


def write(lake, name, rows, files):
    """A Delta table of so many files."""
    folder = os.path.join(lake, "tables", *name.split("."))
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(os.path.join(folder, "_delta_log"))
    kinds = [kind_of(field.type) for field in rows.schema]
    fields = [{"name": field.name, "type": data.DELTA.get(kind, kind), "nullable": True, "metadata": {}} for field, kind in zip(rows.schema, kinds)]
    metadata = {
        "id": str(uuid.uuid4()), "format": {"provider": "parquet", "options": {}}, "schemaString": json.dumps({"type": "struct", "fields": fields}),
        "partitionColumns": [], "configuration": {}, "createdTime": 0,
    }
    actions = [{"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}, {"metaData": metadata}]
    step = max(1, -(-rows.num_rows // files))
    for start in range(0, rows.num_rows, step):
        part, path = rows.slice(start, step), f"part-{uuid.uuid4()}.parquet"
        pq.write_table(part, os.path.join(folder, path), row_group_size=step if files == 1 else max(1, step // 2))
        stats = {"numRecords": part.num_rows, "minValues": {}, "maxValues": {}, "nullCount": {}}
        for field, kind in zip(part.schema, kinds):
            column, bounds = part.column(field.name), pc.min_max(part.column(field.name)).as_py()
            stats["nullCount"][field.name] = column.null_count
            if bounds["min"] is not None:
                stats["minValues"][field.name] = data.json_value(bounds["min"], kind)
                stats["maxValues"][field.name] = data.json_value(bounds["max"], kind)
        size = os.path.getsize(os.path.join(folder, path))
        actions.append({"add": {"path": path, "partitionValues": {}, "size": size, "modificationTime": 0, "dataChange": True, "stats": json.dumps(stats)}})
    with open(os.path.join(folder, "_delta_log", f"{0:020}.json"), "w") as log:
        log.write("".join(json.dumps(action) + "\n" for action in actions))


def kind_of(of):
    text = str(of)
    if text.startswith("decimal128("):
        return f"decimal({of.precision},{of.scale})"
    return {"int32": "int", "int64": "bigint", "double": "double", "string": "string", "date32[day]": "date"}[text]


def spark(sql, tables, schema):
    """A query as Spark spells it: back-ticks, and tables by their schema where they stand in a FROM."""
    sql = re.sub(r'"([^"]*)"', r"`\1`", sql.strip().rstrip(";"))
    out, stack, in_from, expected = [], [], False, False
    for word in re.findall(r"'[^']*'|`[^`]*`|--[^\n]*|[A-Za-z_0-9.]+|\s+|.", sql):
        lower = word.lower()
        if word == "(":
            stack.append(in_from)
            in_from, expected = False, expected and in_from
        elif word == ")":
            in_from, expected = stack.pop() if stack else False, False
        elif lower in ("from", "join"):
            in_from, expected = True, True
        elif lower in ("where", "group", "order", "having", "limit", "select", "union", "intersect", "except"):
            in_from, expected = False, False
        elif word == ",":
            expected = in_from
        elif expected and not word.isspace() and not word.startswith("--"):
            word, expected = f"{schema}.{word}" if lower in tables else word, False
        out.append(word)
    return "".join(out)


def order_keys(sql, names):
    """The columns of the answer by which the last ORDER BY sorts, as far as they are such."""
    found = list(re.finditer(r"(?is)\border\s+by\b", sql))
    if not found or sql.count("(", found[-1].end()) < sql.count(")", found[-1].end()):
        return []
    keys, depth, word = [], 0, ""
    for letter in sql[found[-1].end() :] + ",":
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            keys.append(word)
            word = ""
        else:
            word += letter
    columns = []
    for key in keys:
        name = re.sub(r"(?is)\s+(limit\b.*|asc\b.*|desc\b.*|nulls\b.*)$", "", key.strip()).strip().rstrip(";").strip('"`').split(".")[-1].lower()
        if name.isdigit():
            columns.append(int(name) - 1)
        elif name in names:
            columns.append(names.index(name))
        else:
            break
    return columns


def same(left, right):
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return left == right or abs(left - right) <= max(2e-5, 1e-6 * max(abs(left), abs(right)))
    return left == right


def plain(value):
    if value is None or isinstance(value, (str, bool)):
        return value
    try:
        number = float(value)
        return None if math.isnan(number) else number
    except (TypeError, ValueError):
        return str(value)


def rows_of(table):
    return [tuple(map(plain, row)) for row in zip(*(column.to_pylist() for column in table.columns))]


def difference(expected, found, keys, cut):
    """In a few words, or None. Where LIMIT cuts ties, rows with the last keys may be others."""
    if len(expected) != len(found):
        return f"{len(found)} rows for {len(expected)}"
    of = lambda row: [row[key] for key in keys]
    for at, (left, right) in enumerate(zip(expected, found)):
        if not all(map(same, of(left), of(right))):
            return f"order: row {at + 1} is {right}, not {left}"
    if cut and keys and expected:
        last = of(expected[-1])
        expected = [row for row in expected if not all(map(same, of(row), last))]
        found = [row for row in found if not all(map(same, of(row), last))]
    by = lambda row: tuple((value is not None, f"{value:.3f}" if isinstance(value, float) else str(value)) for value in row)
    for left, right in zip(sorted(expected, key=by), sorted(found, key=by)):
        if not all(map(same, left, right)):
            return f"{right} for {left}"
    return None


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("suite", choices=SUITES)
    parse.add_argument("--scale", default="0.01")
    parse.add_argument("--bin", default=os.environ.get("TRIREME_BIN_DIR", os.path.join(HERE, "../../target/debug")))
    parse.add_argument("--only", default="")
    parse.add_argument("--timeout", type=float, default=120)
    arguments = parse.parse_args()
    folder = tempfile.mkdtemp(prefix="trireme-tpc-")
    db = database(arguments.suite, arguments.scale)
    tables = [name for (name,) in db.sql("SELECT table_name FROM duckdb_tables()").fetchall()]
    clusters = [
        Cluster("one", arguments.bin, folder, 1, 1, ["--target-partitions", "1"]),
        Cluster("four", arguments.bin, folder, 2, 2, ["--target-partitions", "4", "--task-bytes", "64KiB"]),
    ]
    for cluster in clusters:
        for table in tables:
            rows = db.sql(f"SELECT * FROM {table}").to_arrow_table()
            write(cluster.lake, f"{arguments.suite}.{table}", rows, 1 if cluster.name == "one" or rows.num_rows < 1000 else 4)
    failed, started = 0, time.time()
    only = {int(number) for number in arguments.only.split(",") if number}
    queries = db.sql(f"SELECT query_nr, query FROM {arguments.suite}_queries()").fetchall()
    for number, sql in queries:
        if only and number not in only:
            continue
        answer = db.sql(sql.strip().rstrip(";")).to_arrow_table()
        keys, expected = order_keys(sql, [name.lower() for name in answer.column_names]), rows_of(answer)
        for cluster in clusters:
            begun = time.time()
            try:
                problem = difference(expected, rows_of(cluster.ask(spark(sql, tables, arguments.suite), arguments.timeout)), keys, "limit" in sql.lower())
            except Failure as failure:
                problem = str(failure)
                if failure.code in ("hang", "crash"):
                    cluster.restart()
            failed += problem is not None
            print(f"{arguments.suite} {number} on {cluster.name}: {problem or 'right'} ({len(expected)} rows, {time.time() - begun:.1f} s)", flush=True)
    for cluster in clusters:
        cluster.stop()
    shutil.rmtree(folder, ignore_errors=True)
    print(f"{len(only) or len(queries)} queries on two clusters, {failed} wrong, {time.time() - started:.0f} s")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
