"""Writes to a Delta table of Trireme's, with an engine that is not Trireme, until it is told to stop.

usage: foreign_writer.py TABLE STOP PAUSE

Sail (PyPI's pysail) appends one row `(n, 'foreign')` in each commit, n = 1, 2, ..., and after every second one deletes the row with k = -n
(a deletion vector, where the table has them); PAUSE seconds lie in between. It ends once the file STOP exists, and prints
{"appended": n, "deleted": how many}. Needs PyPI's pysail and pyspark-client.
"""

import json
import os
import sys
import time

from pysail.spark import SparkConnectServer
from pyspark.sql import SparkSession


def persistently(write):
    """A commit that another writer's made void is made again."""
    for _ in range(20):
        try:
            return write()
        except Exception as error:  # noqa: BLE001: Sail has no type for it
            last = error
            time.sleep(0.05)
    raise last


def main(table, stop, pause):
    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    host, port = server.listening_address
    spark = SparkSession.builder.remote(f"sc://{host}:{port}").getOrCreate()
    appended = deleted = 0
    while not os.path.exists(stop):
        appended += 1
        row = f"SELECT CAST({appended} AS BIGINT) AS k, 'foreign' AS v"
        persistently(lambda: spark.sql(row).write.format("delta").mode("append").save(table))
        if appended % 2 == 0:
            persistently(lambda: spark.sql(f"DELETE FROM delta.`{table}` WHERE k = -{appended}").collect())
            deleted += 1
        time.sleep(pause)
    spark.stop()
    server.stop()
    print(json.dumps({"appended": appended, "deleted": deleted}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
