"""DuckDB as the oracle: three databases with the same rows in different orders, so that a statement whose answer hangs on the order in which
rows come is told from one that has one right answer."""

import dataclasses
import random

import duckdb
import pyarrow

import compare
import data
from tree import DUCK, Column, Select

# A product of products says nothing more than a small one, and fills the memory.
MOST_ROWS = 100_000


class Refused(Exception):
    """DuckDB does not take a statement."""


class Undetermined(Exception):
    """A statement has more than one right answer, or one that is too large to compare."""


@dataclasses.dataclass
class Answer:
    """Rows; where an order was asked for all of them, uncut, with `hidden` columns of keys at the end."""

    rows: list
    hidden: int
    limit: int
    offset: int
    ordered: bool

    def wrong(self, found):
        """What is wrong with other rows, in a few words, or None."""
        if self.limit is None and not self.offset:
            plain = [row[: len(row) - self.hidden] for row in self.rows]
            problem = compare.difference(plain, found)
            if problem:
                return problem
        if not self.ordered:
            return None
        problem = compare.order_difference(self.rows, self.hidden, found, self.limit, self.offset)
        return f"order: {problem}" if problem else None


class Oracle:
    def __init__(self, tables):
        self.databases = []
        for at in range(3):
            db = duckdb.connect(config={"threads": 1, "memory_limit": "1GB"})
            db.execute("SET TimeZone = 'UTC'")
            self.databases.append(db)
        self.load(tables)

    def load(self, tables):
        for at, db in enumerate(self.databases):
            for table in tables:
                data.register(db, table, random.Random(at) if at else None)

    def answer(self, query):
        # Spark does not take an OFFSET or LIMIT apart from the order; neither is drawn without one.
        ordered = bool(query.order)
        positions, hidden = [], []
        names = [item.name for item in query.items]
        for key in query.order:
            if isinstance(key.key, Column) and not key.key.relation and key.key.name in names:
                positions.append(names.index(key.key.name))
            else:
                positions.append(len(names) + len(hidden))
                hidden.append(key.key)
        if hidden and (not isinstance(query, Select) or query.distinct):
            raise Refused("an order by what is not selected")
        text = query.spell(DUCK, hidden, cut=not ordered) if isinstance(query, Select) else query.spell(DUCK, cut=not ordered)
        answers = [self.rows(db, text) for db in self.databases]
        if any(compare.difference(answers[0], other) for other in answers[1:]):
            raise Undetermined()
        rows = answers[0]
        if ordered:
            rows = [row[: len(names)] + tuple(row[at] for at in positions) for row in rows]
        return Answer(rows, len(positions) if ordered else 0, query.limit, query.offset, ordered)

    def rows(self, db, text):
        try:
            reader, batches, rows = db.execute(text).fetch_record_batch(10_000), [], 0
            for batch in reader:
                batches.append(batch)
                rows += len(batch)
                if rows > MOST_ROWS:
                    raise Undetermined()
            return compare.rows_of(pyarrow.Table.from_batches(batches, reader.schema))
        except duckdb.OutOfMemoryException:
            raise Undetermined() from None
        except (duckdb.Error, RuntimeError, UnicodeDecodeError, OverflowError, ValueError) as error:
            raise Refused(str(error)) from None

    def close(self):
        for db in self.databases:
            db.close()
