"""One step of one peer, run by run.py in the peer's own interpreter: peers.py PEER STEP LAKE [FILE] [KEY=VALUE…]

Steps are load-TABLE and merge-TABLE (streams or reviews, from FILE), `questions`, and `nothing`. Prints one JSON document: wall and CPU seconds of
the step (all threads and children), of the start before it (imports and session), and the peak memory of all processes in bytes.
"""

import json
import os
import re
import sys
import time
from pathlib import Path

from common import REPOSITORY, REVIEWS, REVIEWS_SCHEMA, STREAMS, cpu_seconds, peak_bytes, total, tree

TABLES = {"streams": "stream/streams", "reviews": "vendor/reviews", "movies": "stream/movies", "books": "vendor/books", "authors": "vendor/authors"}
ASKED = ["streams", "movies", "books", "authors"]
KEYS = {"streams": "start_at", "reviews": "created_at"}


def is_array(file):
    """Whether a JSON file is one array, and not an object a line."""
    with open(file, "rb") as start:
        return start.read(1) == b"["


def location(lake, name):
    return f"{lake}/tables/{TABLES[name]}"


def questions(replacements=()):
    """(table of the answer, SQL over plain table names), with (pattern, replacement) applied for a dialect."""
    for file in sorted((REPOSITORY / "examples/books-and-movies/questions").glob("*.sql")):
        sql = re.sub(r"\b(stream|vendor)\.(?=[a-z]+ )|\b(stream|vendor)\.(?=[a-z]+$)", "", file.read_text(), flags=re.M)
        for pattern, replacement in replacements:
            sql = re.sub(pattern, replacement, sql)
        yield file.stem[2:].replace("-", "_"), sql


class DeltaWriter:
    """delta-rs, which most peers write with."""

    # Whether the source is streamed; if not, files of the target are ruled out by the source's keys.
    streamed = True

    def create(self, rows, path):
        from deltalake import write_deltalake
        write_deltalake(path, rows, mode="overwrite")

    def merge(self, rows, path, key):
        from deltalake import DeltaTable
        merger = DeltaTable(path).merge(rows, f"t.{key} = s.{key}", source_alias="s", target_alias="t", streamed_exec=self.streamed)
        merger.when_matched_update_all().when_not_matched_insert_all().execute()


class DuckDb(DeltaWriter):
    def __init__(self):
        import deltalake  # noqa: F401
        import duckdb
        self.db = duckdb.connect()
        self.db.execute("SET preserve_insertion_order = false; SET TimeZone = 'UTC'")

    def select(self, name, file):
        """A SELECT of a table's columns from a raw file."""
        def stamp(column):
            return f"strptime({column}, '%Y-%m-%dT%H:%M:%S.%g%z')"
        csv = f"read_csv('{file}', header = true, all_varchar = true)"

        def dump(columns):
            return f"read_json('{file}', format = '{'array' if is_array(file) else 'newline_delimited'}', columns = {columns})"
        # Values that are no dates are null, as in the example's tables.
        selects = {
            "streams": f"{stamp('start_at')} AS start_at, {stamp('end_at')} AS end_at, lower(movie_title) AS movie_title, user_email,"
                       f" TRY_CAST(size_mb AS double) AS size_mb FROM {csv}",
            "movies": f"lower(title) AS title, TRY_CAST(duration_mins AS int) AS duration_mins, lower(original_language) AS original_language,"
                      f" TRY_CAST(size_mb AS double) AS size_mb FROM {csv}",
            "reviews": "lower(content.text) AS text, CAST(rating.rate AS int) AS rate_value,"
                       " list_transform(books, lambda x: lower(x.metadata.title)) AS book_titles,"
                       f" list_transform(movies, lambda x: lower(x.title)) AS movie_titles, {stamp('created')} AS created_at FROM "
                       + dump("{content: 'STRUCT(text VARCHAR)', rating: 'STRUCT(rate BIGINT)',"
                              " books: 'STRUCT(metadata STRUCT(title VARCHAR))[]', movies: 'STRUCT(title VARCHAR)[]', created: 'VARCHAR'}"),
            "books": "lower(name) AS name, lower(author) AS author, lower(publisher) AS publisher, CAST(pages AS int) AS pages FROM "
                     + dump("{name: 'VARCHAR', author: 'VARCHAR', publisher: 'VARCHAR', pages: 'BIGINT'}"),
            "authors": "lower(metadata.name) AS name, TRY_CAST(metadata.birth_date AS timestamptz) AS birth_date,"
                       " TRY_CAST(metadata.died_at AS timestamptz) AS died_at,"
                       " list_transform(nationalities, lambda x: lower(x.label)) AS nationality_labels FROM "
                       + dump("{metadata: 'STRUCT(name VARCHAR, birth_date VARCHAR, died_at VARCHAR)', nationalities: 'STRUCT(label VARCHAR)[]'}")
                       + " WHERE metadata.name IS NOT NULL",
        }
        return f"SELECT {selects[name]}"

    def read(self, name, file):
        return self.db.sql(self.select(name, file)).to_arrow_reader(65536)

    def ask(self, lake, out):
        from deltalake import DeltaTable
        for name in ASKED:
            self.db.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet({DeltaTable(location(lake, name)).file_uris()})")
        dialect = [(r"to_timestamp\('([^']*)\+0100'\)", r"timestamptz '\1+01:00'"), (r"unix_millis\(", "epoch_ms("),
                   (r"CAST\(s.end_at - s.start_at AS int\) >= m.duration_mins \* 30",
                    "epoch_ms(s.end_at) - epoch_ms(s.start_at) >= m.duration_mins * 30000")]
        for answer, sql in questions(dialect):
            self.create(self.db.sql(sql).to_arrow_reader(65536), f"{out}/{answer}")


class DeltaRs(DeltaWriter):
    """delta-rs with nothing but pyarrow's readers."""

    def __init__(self):
        import deltalake  # noqa: F401
        import pyarrow.csv
        import pyarrow.dataset
        import pyarrow.json  # noqa: F401

    def read(self, name, file):
        import pyarrow as pa
        import pyarrow.compute as pc
        instant, text = pa.timestamp("us", "UTC"), pa.string()
        if name == "streams":
            from pyarrow import csv, dataset
            types = {"start_at": instant, "end_at": instant, "movie_title": text, "user_email": text, "size_mb": pa.float64()}
            files = dataset.dataset(file, format=dataset.CsvFileFormat(convert_options=csv.ConvertOptions(column_types=types)))
            columns = {column: dataset.field(column) for column in types}
            columns["movie_title"] = pc.utf8_lower(columns["movie_title"])
            return files.scanner(columns=columns).to_reader()
        from pyarrow import json as reader
        title = pa.struct([("title", text)])
        schema = pa.schema([("content", pa.struct([("text", text)])), ("rating", pa.struct([("rate", pa.int64())])),
                            ("books", pa.list_(pa.struct([("metadata", title)]))), ("movies", pa.list_(title)), ("created", instant)])
        rows = reader.read_json(file, parse_options=reader.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"))

        def lowered(lists, *path):
            titles = pc.utf8_lower(pc.struct_field(lists.values, list(path)))
            return pa.ListArray.from_arrays(lists.offsets, titles, mask=lists.is_null() if lists.null_count else None)

        def made(batch):
            columns = {"text": pc.utf8_lower(pc.struct_field(batch["content"], "text")),
                       "rate_value": pc.struct_field(batch["rating"], "rate").cast(pa.int32()),
                       "book_titles": lowered(batch["books"], "metadata", "title"), "movie_titles": lowered(batch["movies"], "title"),
                       "created_at": batch["created"]}
            return pa.RecordBatch.from_pydict(columns)
        batches = map(made, rows.to_batches())
        first = next(batches)
        return pa.RecordBatchReader.from_batches(first.schema, (batch for some in ([first], batches) for batch in some))

    def ask(self, lake, out):
        from deltalake import DeltaTable, QueryBuilder
        engine = QueryBuilder()
        for name in ASKED:
            engine = engine.register(name, DeltaTable(location(lake, name)))
        dialect = [(r"\+0100'", "+01:00'"),
                   (r"unix_millis\((\w+)\)", r"(CAST(\1 AS bigint) / 1000)"), ("INTERVAL 7 days", "INTERVAL '7 days'"),
                   (r"CAST\(s.end_at - s.start_at AS int\) >= m.duration_mins \* 30",
                    "CAST(s.end_at AS bigint) - CAST(s.start_at AS bigint) >= CAST(m.duration_mins AS bigint) * 30000000")]
        for answer, sql in questions(dialect):
            self.create(engine.execute(sql), f"{out}/{answer}")


class Polars(DeltaWriter):
    def __init__(self):
        import deltalake  # noqa: F401
        import polars
        self.pl = polars

    def read(self, name, file):
        pl, text = self.pl, self.pl.String

        def stamp(column, name):
            return pl.col(column).str.to_datetime("%Y-%m-%dT%H:%M:%S%.3f%z", time_zone="UTC", time_unit="us").alias(name)

        def lowered(column, *path):
            field = pl.element()
            for part in path:
                field = field.struct.field(part)
            return pl.col(column).list.eval(field.str.to_lowercase())
        if name == "streams":
            return pl.scan_csv(file, infer_schema=False).select(
                stamp("start_at", "start_at"), stamp("end_at", "end_at"), pl.col("movie_title").str.to_lowercase(), "user_email",
                pl.col("size_mb").cast(pl.Float64, strict=False))
        title = pl.Struct({"title": text})
        schema = {"content": pl.Struct({"text": text}), "rating": pl.Struct({"rate": pl.Int64}), "books": pl.List(pl.Struct({"metadata": title})),
                  "movies": pl.List(title), "created": text}
        rows = pl.read_json(file, schema=schema).lazy() if is_array(file) else pl.scan_ndjson(file, schema=schema)
        return rows.select(
            pl.col("content").struct.field("text").str.to_lowercase(),
            pl.col("rating").struct.field("rate").cast(pl.Int32).alias("rate_value"), lowered("books", "metadata", "title").alias("book_titles"),
            lowered("movies", "title").alias("movie_titles"), stamp("created", "created_at"))

    def create(self, rows, path):
        rows.sink_delta(path, mode="overwrite")

    def merge(self, rows, path, key):
        options = {"predicate": f"t.{key} = s.{key}", "source_alias": "s", "target_alias": "t", "streamed_exec": self.streamed}
        merger = rows.sink_delta(path, mode="merge", delta_merge_options=options)
        merger.when_matched_update_all().when_not_matched_insert_all().execute()

    def ask(self, lake, out):
        from datetime import datetime, timedelta
        pl, col = self.pl, self.pl.col
        streams, movies, books, authors = (pl.scan_delta(location(lake, name)) for name in ASKED)

        def at(text):
            return pl.lit(datetime.strptime(text + "+0100", "%Y-%m-%dT%H:%M:%S%z")).dt.convert_time_zone("UTC").cast(pl.Datetime("us", "UTC"))
        start, end = at("2021-12-01T00:00:00"), at("2022-01-01T00:00:00")
        titles = pl.concat([streams.select(pl.lit("streamed").alias("scope"), col("movie_title").alias("title")),
                            movies.select(pl.lit("catalogue").alias("scope"), "title")]).unique()
        of_books = titles.join(books.select("name", found=True), left_on="title", right_on="name", how="left").group_by("scope").agg(
            pl.len().alias("movies"), col("found").count().alias("based_on_books"))
        outage = streams.filter(col("movie_title") == "unforgiven", col("start_at") < at("2021-12-25T12:00:00"),
                                col("end_at") > at("2021-12-25T07:00:00"))
        singaporean = (streams.filter(col("start_at") >= start, col("start_at") < end)
                       .join(books, left_on="movie_title", right_on="name").join(authors, left_on="author", right_on="name")
                       .filter(col("nationality_labels").list.contains("singaporeans")))
        length = col("end_at").dt.timestamp("ms") - col("start_at").dt.timestamp("ms")
        watched = (streams.filter(col("start_at") >= end - timedelta(days=7), col("start_at") < end)
                   .join(movies, left_on="movie_title", right_on="title").filter(length >= col("duration_mins").cast(pl.Int64) * 30_000))
        answers = {
            "movies_based_on_books": of_books.with_columns((col("based_on_books") * 100.0 / col("movies")).round(2).alias("percentage"))
                                             .sort("scope", descending=True),
            "unforgiven_outage": outage.select(col("user_email").n_unique().alias("affected_users"), pl.len().alias("affected_sessions")),
            "singaporean_authors_movies": singaporean.select(col("movie_title").n_unique().alias("streamed_movies")),
            "average_streaming_duration": streams.select(pl.len().alias("sessions"), (length.mean() / 60_000).round(6).alias("average_minutes")),
            "median_streaming_size": streams.select((col("size_mb").median() / 1000).round(6).alias("median_gb")),
            "half_watched_last_week": watched.select(col("user_email").n_unique().alias("users")),
        }
        for answer, rows in answers.items():
            # Delta has no unsigned integers.
            counts = pl.selectors.unsigned_integer().cast(pl.Int64)
            rows.with_columns(counts).collect(engine="streaming").write_delta(f"{out}/{answer}", mode="overwrite")


class Daft(DeltaWriter):
    """No merge of its own: what is not replaced and what is new overwrite the table."""

    def __init__(self):
        import daft
        import daft.io.delta_lake.delta_lake_write
        import daft.io.iceberg.iceberg_write  # noqa: F401
        import deltalake  # noqa: F401
        daft.set_runner_native()
        os.environ["DAFT_PROGRESS_BAR"] = "0"

    def read(self, name, file):
        import daft
        from daft import DataType as T
        from daft import col, element
        from daft.functions import list_map, lower, to_datetime
        instant = T.timestamp("us", "UTC")

        def stamp(column):
            return to_datetime(col(column), "%Y-%m-%dT%H:%M:%S%.3f%z", "UTC").cast(instant)
        if name == "streams":
            names = ["movie_title", "user_email", "size_mb", "start_at", "end_at"]
            rows = daft.read_csv(file, schema=dict.fromkeys(names, T.string()), infer_schema=False)
            return rows.select(stamp("start_at").alias("start_at"), stamp("end_at").alias("end_at"), lower(col("movie_title")).alias("movie_title"),
                               col("user_email"), col("size_mb").cast(T.float64()))
        title = T.struct({"title": T.string()})
        schema = {"content": T.struct({"text": T.string()}), "rating": T.struct({"rate": T.int64()}), "books": T.list(T.struct({"metadata": title})),
                  "movies": T.list(title), "created": T.string()}
        rows = daft.read_json(file, schema=schema, infer_schema=False)
        return rows.select(
            lower(col("content").get("text")).alias("text"), col("rating").get("rate").cast(T.int32()).alias("rate_value"),
            list_map(col("books"), lower(element().get("metadata").get("title"))).alias("book_titles"),
            list_map(col("movies"), lower(element().get("title"))).alias("movie_titles"), stamp("created").alias("created_at"))

    def create(self, rows, path):
        rows.write_deltalake(path, mode="overwrite")

    def merge(self, rows, path, key):
        import daft
        kept = daft.read_deltalake(path).join(rows.select(key), on=key, how="anti")
        names = kept.column_names
        kept.concat(rows.select(*names)).write_deltalake(path, mode="overwrite")


class Sail:
    """Spark SQL; also the part of Spark that is not its session."""

    def __init__(self):
        from pysail.spark import SparkConnectServer
        from pyspark.sql import SparkSession
        self.server = SparkConnectServer("127.0.0.1", 0)
        self.server.start(background=True)
        _, port = self.server.listening_address
        self.begin(SparkSession.builder.remote(f"sc://127.0.0.1:{port}").getOrCreate())

    def begin(self, spark):
        self.spark = spark
        spark.conf.set("spark.sql.session.timeZone", "UTC")
        spark.sql("SELECT 1").collect()

    def read(self, name, file):
        reader = self.spark.read
        if name == "streams":
            names = ["movie_title", "user_email", "size_mb", "start_at", "end_at"]
            reader = reader.schema(", ".join(f"{name} string" for name in names)).option("header", True).option("escape", '"')
            return reader.csv(file).selectExpr(*STREAMS)
        return reader.schema(REVIEWS_SCHEMA).option("multiLine", is_array(file)).json(file).selectExpr(*REVIEWS)

    def create(self, rows, path):
        rows.write.format("delta").mode("overwrite").save(path)

    def merge(self, rows, path, key):
        rows.createOrReplaceTempView("delivered")
        self.spark.sql(f"MERGE INTO delta.`{path}` t USING delivered s ON t.{key} = s.{key}"
                       " WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *").collect()

    def ask(self, lake, out):
        for name in ASKED:
            self.spark.read.format("delta").load(location(lake, name)).createOrReplaceTempView(name)
        for answer, sql in questions():
            self.create(self.spark.sql(sql), f"{out}/{answer}")


class Spark(Sail):
    """Spark in local mode with Delta's jars, from the folder DELTA_JARS."""

    def __init__(self):
        from pyspark.sql import SparkSession
        jars = ",".join(map(str, sorted(Path(os.environ["DELTA_JARS"]).glob("*.jar"))))
        self.begin(SparkSession.builder.master("local[*]").config("spark.jars", jars).config("spark.driver.memory", "8g")
                   .config("spark.ui.enabled", "false").config("spark.sql.shuffle.partitions", str(os.cpu_count()))
                   .config("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
                   .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
                   .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog").getOrCreate())


PEERS = {"duckdb": DuckDb, "deltalake": DeltaRs, "polars": Polars, "daft": Daft, "sail": Sail, "spark": Spark}


def main(peer, step, lake, file=None, *settings):
    def spent():
        return time.monotonic(), cpu_seconds(tree(os.getpid()))
    begun = time.monotonic()
    peer = PEERS[peer]()
    for setting in settings:
        name, value = setting.split("=")
        setattr(peer, name, value == "true")
    start, start_cpu = spent()
    work, _, name = step.partition("-")
    if work == "load":
        peer.create(peer.read(name, file), location(lake, name))
    elif work == "merge":
        peer.merge(peer.read(name, file), location(lake, name), KEYS[name])
    elif work == "questions":
        peer.ask(lake, f"{lake}/tables/analytics")
    end, end_cpu = spent()
    report = {"wall": end - start, "cpu": end_cpu - start_cpu, "start_wall": start - begun, "start_cpu": start_cpu,
              "peak": total(tree(os.getpid()), peak_bytes)}
    print(json.dumps(report), flush=True)
    # Sessions are not taken down: what they do then is no part of the work.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
