"""Who is measured: peers with their packages, and the rows of the tables."""

import os
import re
import shutil
import sys
from collections import namedtuple
from pathlib import Path

import common

DELTA = ["duckdb==2.0.0", "polars==2.1.0", "deltalake==1.6.6", "pyarrow==26.0.1"]
DAFT = ["daft==0.7.26", "deltalake==1.6.6", "pyarrow==25.0.1", "pyiceberg==0.12.0"]  # its writer imports pyiceberg, and it wants an older pyarrow
SAIL = ["pysail==0.7.2", "pyspark-client==4.2.0", "pyarrow==26.0.1", "pandas==3.1.1"]
# Title, environment, its packages, layouts of the reviews that it reads well, whether it answers the questions.
Peer = namedtuple("Peer", "title environment packages layouts asks")
PEERS = {
    "duckdb": Peer("DuckDB + delta-rs", "deltalake", DELTA, ["array", "ndjson"], True),
    "deltalake": Peer("delta-rs alone", "deltalake", DELTA, ["ndjson"], True),
    "polars": Peer("Polars + delta-rs", "deltalake", DELTA, ["array"], True),  # its NDJSON takes five times as long
    "daft": Peer("Daft (anti-join + overwrite)", "daft", DAFT, ["ndjson"], False),
    "sail": Peer("Sail, typed", "sail", SAIL, ["ndjson"], True),
    "spark": Peer("Spark + Delta", "spark", None, ["array"], True),
}
# PySpark for the releases of Delta's jars.
PYSPARK = {"3.": "pyspark==3.5.7", "4.0": "pyspark==4.0.1"}
LAYOUTS = {"array": "array", "ndjson": "NDJSON"}

# A line of a table. `peer` is None for Trireme, `layout` where there are no reviews; `settings` are flags of peers.py.
Row = namedtuple("Row", "title layout peer settings", defaults=[None, None, ()])
TRIREME = Row("**Trireme**")
WITH_VECTORS, WITHOUT_VECTORS = Row("**Trireme**, with deletion vectors"), Row("**Trireme**, without")


def with_reviews(options):
    """A row for each layout of the reviews."""
    return ours(options) + [Row(f"{PEERS[name].title}, {LAYOUTS[layout]}", layout, name)
                            for name in options.peers for layout in PEERS[name].layouts if layout in options.layouts]


def ours(options):
    return [Row(f"**Trireme**, {LAYOUTS[layout]}", layout) for layout in options.layouts] if options.trireme else []


def without_reviews(options):
    rows = [TRIREME] if options.trireme else []
    for name in options.peers:
        rows.append(Row(PEERS[name].title, peer=name))
        if name == "deltalake":
            # Then files of the target are ruled out by the source's keys: better where keys are in ranges, worse where they are scattered.
            rows.append(Row("delta-rs alone, streamed_exec=False", peer=name, settings=("streamed=false",)))
    return rows


def asked(options):
    return [*[WITH_VECTORS, WITHOUT_VECTORS] * options.trireme, *(Row(PEERS[name].title, peer=name) for name in options.peers if PEERS[name].asks)]


def usable(names):
    """Those of the peers whose packages can be installed; the others are skipped with a printed reason."""
    for name in names:
        peer, reason = PEERS[name], None
        if name == "spark":
            packages, reason = spark_packages()
            peer = PEERS[name] = peer._replace(packages=packages)
        try:
            if not reason:
                common.python(peer.environment, peer.packages)
                yield name
        except Exception as error:
            reason = error
        if reason:
            print(f"{name} is skipped: {reason}", file=sys.stderr)


def spark_packages():
    """The packages of Spark, or why it can't be had."""
    if not shutil.which("java"):
        return None, "there is no JDK (java)"
    jars = [jar.name for jar in Path(os.environ.get("DELTA_JARS", "/nowhere")).glob("delta-spark_*.jar")]
    if not jars:
        return None, "there are no jars of Delta; name their folder in DELTA_JARS"
    version = re.search(r"_2\.1[23]-([\d.]+)\.jar", jars[0])
    for prefix, package in PYSPARK.items():
        if version and version[1].startswith(prefix):
            return [package, "setuptools==65.5.0"], None
    return None, f"no PySpark is known for {jars[0]}"
