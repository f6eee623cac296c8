"""Reads every Delta table under a storage root with two engines that are not Trireme, and compares what they see.

usage: readers.py LAKE

The engines are PyPI's deltalake (delta-rs) and pysail (Sail, whose reader of the Delta protocol is its own). For each table, the number
of rows and a checksum per column are printed as one JSON document. Exit code 1: the engines differ, and stderr says where.
Needs PyPI's duckdb, deltalake, pysail, pyspark-client and pyarrow.
"""

import json
import sys

import deltas
from pysail.spark import SparkConnectServer
from pyspark.sql import SparkSession


def main(lake):
    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    host, port = server.listening_address
    spark = SparkSession.builder.remote(f"sc://{host}:{port}").getOrCreate()
    spark.conf.set("spark.sql.session.timeZone", "UTC")

    found, differences = {}, []
    for name in deltas.names(lake):
        db = deltas.connect()
        deltas.load(db, "delta_rs", deltas.read(lake, name))
        deltas.load(db, "sail", spark.read.format("delta").load(deltas.path(lake, name)).toArrow())
        found[name], sail = deltas.checksums(db, "delta_rs"), deltas.checksums(db, "sail")
        if found[name] != sail:
            differences.append(f"{name}: delta-rs sees {found[name]}, Sail sees {sail}")
    spark.stop()
    server.stop()
    print(json.dumps(found, indent=2))
    for difference in differences:
        print(difference, file=sys.stderr)
    sys.exit(1 if differences else 0)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(__doc__, file=sys.stderr)
        sys.exit(64)
    main(sys.argv[1])
