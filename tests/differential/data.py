"""Random tables: their rows, and the same rows as Delta tables of several shapes and as DuckDB tables.

The Delta tables are written here by hand (Parquet by pyarrow, the log as the protocol says), so that files, row groups, statistics,
partitions and deletion vectors are exactly what is drawn, whatever a library would make of it."""

import base64
import dataclasses
import datetime
import decimal
import json
import os
import shutil
import struct
import uuid

import pyarrow as pa
import pyarrow.parquet as pq

from expressions import DAYS, DECIMALS, DOUBLES, MOMENTS, WORDS

# Columns that a table may have besides `id`.
COLUMNS = (
    ("k", "int"), ("n", "int"), ("b", "bigint"), ("x", "double"), ("y", "double"), ("m", "decimal(9,2)"), ("s", "string"), ("w", "string"),
    ("d", "date"), ("u", "timestamp"), ("f", "boolean"), ("a", "array<int>"), ("g", "array<string>"), ("r", "struct<a:int,b:string>"),
)
DELTA = {"int": "integer", "bigint": "long", "double": "double", "string": "string", "date": "date", "timestamp": "timestamp", "boolean": "boolean"}
ARROW = {
    "int": pa.int32(), "bigint": pa.int64(), "double": pa.float64(), "decimal(9,2)": pa.decimal128(9, 2), "string": pa.string(),
    "date": pa.date32(), "timestamp": pa.timestamp("us", "UTC"), "boolean": pa.bool_(), "array<int>": pa.list_(pa.int32()),
    "array<string>": pa.list_(pa.string()), "struct<a:int,b:string>": pa.struct([("a", pa.int32()), ("b", pa.string())]),
}
EPOCH = datetime.datetime(1970, 1, 1)


@dataclasses.dataclass
class Table:
    """Rows by name and type; `layout` says how the files of the many-file form are made."""

    name: str
    columns: list
    rows: list
    layout: "Layout"


@dataclasses.dataclass
class Layout:
    files: int
    group_rows: int
    statistics: bool
    sorted_by: int
    # Rows that a deletion vector hides, per file.
    hidden: int
    partition: str
    seed: int


def draw_tables(rng, prefix="d"):
    count = rng.randint(2, 4)
    return [draw_table(rng, f"{prefix}.t{at}") for at in range(count)]


def draw_table(rng, name):
    chosen = sorted(rng.sample(range(len(COLUMNS)), rng.randint(3, 9)))
    columns = [("id", "int")] + [COLUMNS[at] for at in chosen]
    rows = rng.choice((0, 1, 3, 8, 12, 12, 12, 20, 20, 30, 30, 48, 48, 90))
    makers = [identities(rng, rows)] + [values(rng, kind) for _, kind in columns[1:]]
    data = [tuple(maker() for maker in makers) for _ in range(rows)]
    flat = [name for name, kind in columns[1:] if kind in ("int", "string", "date", "boolean")]
    layout = Layout(
        files=rng.choice((1, 2, 3, 4, 6)),
        group_rows=rng.choice((2, 3, 5, 1000)),
        statistics=rng.random() < 0.8,
        sorted_by=rng.randrange(len(columns)),
        hidden=rng.choice((0, 0, 1, 3)),
        partition=rng.choice(flat) if flat and rng.random() < 0.15 else "",
        seed=rng.randrange(1 << 30),
    )
    if layout.partition:
        # Delta's protocol knows no empty text as a partition's value: it is null.
        at = [name for name, _ in columns].index(layout.partition)
        data = [(*row[:at], None if row[at] == "" else row[at], *row[at + 1 :]) for row in data]
    return Table(name, columns, data, layout)


def identities(rng, rows):
    ids = iter(rng.sample(range(-2, rows * 2 + 1), rows))
    return lambda: next(ids)


def values(rng, kind):
    """A maker of a column's values: with or without nulls, skewed or not, from few values or many."""
    nulls = rng.choice((0, 0.1, 0.3, 0.3, 0.97))
    skew = rng.choice((0, 0, 0.5, 0.8))
    pool = {
        "int": [0, 1, 2, 3, 4, 5, 7, 10, -1],
        "bigint": [0, 1, 2, 3, -4, 10, 1 << 33, (1 << 33) + 1],
        "double": list(DOUBLES) + ([float("inf"), float("-inf")] if rng.random() < 0.1 else []),
        "decimal(9,2)": [decimal.Decimal(text) for text in DECIMALS],
        "string": list(WORDS),
        "date": DAYS,
        "timestamp": MOMENTS,
        "boolean": [True, False],
    }.get(kind)
    if pool is not None:
        pool = rng.sample(pool, rng.randint(1, len(pool)))
        if kind == "double" and rng.random() < 0.4:
            pool = [value for value in pool if value == value] or [1.0]

        def scalar():
            if rng.random() < nulls:
                return None
            return pool[0] if rng.random() < skew else rng.choice(pool)

        return scalar
    if kind.startswith("array"):
        inner = values(rng, kind[6:-1])
        return lambda: None if rng.random() < nulls else [inner() for _ in range(rng.choice((0, 1, 2, 3)))]
    a, b = values(rng, "int"), values(rng, "string")
    return lambda: None if rng.random() < nulls else {"a": a(), "b": b()}


def arrow(columns, rows, zone=True):
    """Rows as an Arrow table; timestamps with a zone, as Delta has them, or without."""
    fields, arrays = [], []
    for at, (name, kind) in enumerate(columns):
        of = ARROW[kind] if zone or kind != "timestamp" else pa.timestamp("us")
        fields.append(pa.field(name, of))
        cells = [row[at] for row in rows]
        if kind == "timestamp":
            cells = [None if cell is None else int((cell - EPOCH) / datetime.timedelta(microseconds=1)) for cell in cells]
            arrays.append(pa.array(cells, pa.int64()).cast(of))
        else:
            arrays.append(pa.array(cells, of))
    return pa.table(arrays, schema=pa.schema(fields))


# ---- Delta


def write_single(table, lake):
    """One file, one row group, all statistics."""
    write(lake, table.name, table.columns, [table.rows] if table.rows else [], Layout(1, 1 << 20, True, 0, 0, "", 0))


def write_many(table, lake):
    """Files, row groups, statistics, partitions and deletion vectors as its layout has them."""
    import random

    layout, rng = table.layout, random.Random(table.layout.seed)
    rows = sorted(table.rows, key=lambda row: sort_key(row[layout.sorted_by])) if rng.random() < 0.7 else list(table.rows)
    if layout.partition:
        at = [name for name, _ in table.columns].index(layout.partition)
        parts = {}
        for row in rows:
            parts.setdefault(row[at], []).append(row)
        files = list(parts.values())
    else:
        size = max(1, -(-len(rows) // layout.files))
        files = [rows[start : start + size] for start in range(0, len(rows), size)]
        if rng.random() < 0.3 and files:
            files.insert(rng.randrange(len(files) + 1), [])
    write(lake, table.name, table.columns, files, layout, rng)


def sort_key(value):
    if value is None:
        return (0, "")
    if isinstance(value, float) and value != value:
        return (2, "")
    return (1, value) if not isinstance(value, (list, dict)) else (1, str(value))


def write(lake, name, columns, files, layout, rng=None):
    folder = os.path.join(lake, "tables", *name.split("."))
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(os.path.join(folder, "_delta_log"))
    hides = layout.hidden > 0 and rng is not None and not layout.partition
    protocol = {"minReaderVersion": 1, "minWriterVersion": 2}
    if hides:
        protocol = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]}
    metadata = {
        "id": str(uuid.uuid4()), "format": {"provider": "parquet", "options": {}}, "schemaString": json.dumps(schema(columns)),
        "partitionColumns": [layout.partition] if layout.partition else [],
        "configuration": {"delta.enableDeletionVectors": "true"} if hides else {}, "createdTime": 0,
    }
    actions = [{"protocol": protocol}, {"metaData": metadata}]
    for rows in files:
        actions.append({"add": add(folder, columns, rows, layout, rng if hides else None)})
    with open(os.path.join(folder, "_delta_log", f"{0:020}.json"), "w") as log:
        log.write("".join(json.dumps(action) + "\n" for action in actions))


def schema(columns):
    def of(kind):
        if kind.startswith("array"):
            return {"type": "array", "elementType": of(kind[6:-1]), "containsNull": True}
        if kind.startswith("struct"):
            return {"type": "struct", "fields": [field("a", "int"), field("b", "string")]}
        return DELTA.get(kind, kind)

    def field(name, kind):
        return {"name": name, "type": of(kind), "nullable": name != "id", "metadata": {}}

    return {"type": "struct", "fields": [field(name, kind) for name, kind in columns]}


def add(folder, columns, rows, layout, rng):
    """Writes a file and gives its action."""
    stored, hidden = list(rows), []
    if rng is not None and rows:
        for _ in range(layout.hidden):
            # A row that another of the file could have been, under an id that the table may have elsewhere.
            at = rng.randrange(len(stored) + 1)
            ghost = tuple(rng.choice(rows)[column] for column in range(len(columns)))
            stored.insert(at, ghost)
            hidden = [place + 1 if place >= at else place for place in hidden] + [at]
    kept = [(name, kind) for name, kind in columns if name != layout.partition]
    cut = [tuple(cell for (name, _), cell in zip(columns, row) if name != layout.partition) for row in stored]
    path = f"part-{uuid.uuid4()}.parquet"
    data = arrow(kept, cut)
    pq.write_table(data, os.path.join(folder, path), row_group_size=layout.group_rows, write_statistics=layout.statistics, write_page_index=layout.statistics)
    action = {
        "path": path, "partitionValues": {}, "size": os.path.getsize(os.path.join(folder, path)), "modificationTime": 0, "dataChange": True,
    }
    if layout.partition:
        at = [name for name, _ in columns].index(layout.partition)
        action["partitionValues"] = {layout.partition: partition_value(rows[0][at])}
    if layout.statistics or hidden:
        action["stats"] = json.dumps(statistics(kept, cut, layout.statistics, tight=not hidden))
    if hidden:
        data = bitmap(sorted(hidden))
        action["deletionVector"] = {"storageType": "i", "pathOrInlineDv": z85(data), "sizeInBytes": len(data), "cardinality": len(hidden)}
    return action


def partition_value(value):
    if value is None:
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


def statistics(columns, rows, bounds, tight):
    found = {"numRecords": len(rows), "minValues": {}, "maxValues": {}, "nullCount": {}}
    if not tight:
        found["tightBounds"] = False
    for at, (name, kind) in enumerate(columns if bounds else []):
        cells = [row[at] for row in rows]
        if kind.startswith("array"):
            continue
        found["nullCount"][name] = sum(cell is None for cell in cells)
        if kind.startswith("struct"):
            found["nullCount"][name] = {inner: sum(cell is None or cell[inner] is None for cell in cells) for inner in ("a", "b")}
            continue
        # As Parquet's own statistics, and those of every writer that takes them from there, leave NaN out.
        known = [cell for cell in cells if cell is not None and cell == cell]
        if known and kind != "boolean":
            found["minValues"][name], found["maxValues"][name] = json_value(min(known), kind), json_value(max(known), kind)
    return found


def json_value(value, kind):
    if kind == "timestamp":
        return value.isoformat(timespec="milliseconds") + "Z" if value.microsecond % 1000 == 0 else value.isoformat(timespec="microseconds") + "Z"
    if kind == "date":
        return value.isoformat()
    if kind.startswith("decimal"):
        return float(value)
    return None if isinstance(value, float) and value in (float("inf"), float("-inf")) else value


def bitmap(rows):
    """A Roaring bitmap array of one bitmap with one array container, as Delta's protocol writes it."""
    container = b"".join(struct.pack("<H", row) for row in rows)
    body = struct.pack("<II", 12346, 1) + struct.pack("<HH", 0, len(rows) - 1) + struct.pack("<I", 16) + container
    return struct.pack("<IQI", 1681511377, 1, 0) + body


def z85(data):
    """Z85 of ZeroMQ: base85 with another alphabet, over whole groups of four bytes."""
    theirs = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
    ours = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
    padded = data + b"\0" * (-len(data) % 4)
    return base64.b85encode(padded).decode().translate(str.maketrans(theirs, ours))


# ---- DuckDB


def register(db, table, order=None):
    """The rows as a DuckDB table, in an order of their own where one is given."""
    rows = list(table.rows)
    if order is not None:
        order.shuffle(rows)
    name = table.name.replace(".", "__")
    db.register("incoming", arrow(table.columns, rows, zone=False))
    db.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM incoming")
    db.unregister("incoming")
