"""Writes Delta tables with deletion vectors and column mapping, with an engine that is not Trireme, and says what is in them.

usage: foreign.py LAKE

Sail (PyPI's pysail) writes the tables below LAKE/tables/foreign: `deleted` (rows deleted twice, so vectors over vectors), `by_name` and
`by_id` (mapped columns, nested ones too, partitions and deletion vectors). The answers of QUERIES, as Sail gives them, are printed as one
JSON document: {table: [[query, [row, ...]], ...]}. Needs PyPI's pysail and pyspark-client.
"""

import json
import sys

from pysail.spark import SparkConnectServer
from pyspark.sql import SparkSession

# Large enough for several tasks.
LARGE = """SELECT id AS k, concat('v', CAST(id % 97 AS STRING)) AS v, CAST(id % 3 AS INT) AS p, md5(CAST(id AS STRING)) AS wide
    FROM range(0, 500000)"""
NESTED = """SELECT id AS k, named_struct('x', id * 2, 'y', array(named_struct('z', id + 1))) AS s,
    CASE WHEN id % 4 = 3 THEN NULL ELSE concat('a b/', CAST(id % 4 AS STRING)) END AS part FROM range(0, 60)"""
TABLES = {
    "deleted": (LARGE, {}, [], ["k % 5 = 3", "k BETWEEN 1000 AND 90000"]),
    "by_name": (NESTED, {"delta.columnMapping.mode": "name"}, ["part"], ["k % 7 = 2"]),
    "by_id": (NESTED, {"delta.columnMapping.mode": "id"}, ["part"], ["k BETWEEN 20 AND 29", "k = 59"]),
}
QUERIES = {
    "deleted": [
        "SELECT count(*) AS n, sum(k) AS s, count(DISTINCT v) AS d, max(wide) AS w FROM {}",
        "SELECT p, count(*) AS n, min(k) AS low, max(k) AS high FROM {} WHERE k > 500 GROUP BY p ORDER BY p",
        "SELECT count(*) AS n FROM {} WHERE k BETWEEN 900 AND 90100 AND v = 'v7'",
    ],
    "nested": [
        "SELECT k, s.x AS x, s.y AS y, part FROM {} ORDER BY k",
        "SELECT k FROM {} WHERE part = 'a b/1' AND k > 10 ORDER BY k",
        "SELECT count(*) AS n FROM {} WHERE part IS NULL",
    ],
}


def main(lake):
    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    host, port = server.listening_address
    spark = SparkSession.builder.remote(f"sc://{host}:{port}").getOrCreate()
    answers = {}
    for name, (rows, options, partitions, deletes) in TABLES.items():
        path = f"{lake}/tables/foreign/{name}"
        writer = spark.sql(rows).write.format("delta").option("delta.enableDeletionVectors", "true")
        for key, value in options.items():
            writer = writer.option(key, value)
        if partitions:
            writer = writer.partitionBy(*partitions)
        writer.save(path)
        for predicate in deletes:
            spark.sql(f"DELETE FROM delta.`{path}` WHERE {predicate}").collect()
        answers[name] = []
        for query in QUERIES.get(name, QUERIES["nested"]):
            found = spark.sql(query.format(f"delta.`{path}`")).collect()
            answers[name].append([query.format(f"foreign.{name}"), [row.asDict(recursive=True) for row in found]])
    spark.stop()
    server.stop()
    print(json.dumps(answers))


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(__doc__, file=sys.stderr)
        sys.exit(64)
    main(sys.argv[1])
