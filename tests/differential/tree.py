"""Statements as trees, spelled for two engines, and simplified by a minimiser.

Every node is a frozen dataclass. `spell(node, SPARK)` has as few brackets as Spark's precedence allows, so that precedence is tested too;
`spell(node, DUCK)` has all of them, and says explicitly what the engines mean differently (order of nulls, division, sizes of arrays)."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Optional

import operators
from operators import DUCK, SPARK

__all__ = ["DUCK", "SPARK"]


@dataclass(frozen=True)
class Column:
    """A column of a relation in scope; `inner` is a field of a struct."""

    relation: str
    name: str
    type: str
    inner: str = ""

    def spell(self, engine):
        path = [part for part in (self.relation, self.name, self.inner) if part]
        return ".".join(path), operators.ATOM


@dataclass(frozen=True)
class Literal:
    value: Any
    type: str

    def spell(self, engine):
        return operators.literal(self.value, self.type, engine), operators.ATOM


@dataclass(frozen=True)
class Call:
    """An operator or function by its name in `operators.TABLE`."""

    name: str
    args: tuple
    type: str
    extra: tuple = ()

    def spell(self, engine):
        operator = operators.TABLE[self.name]
        template = operator.spark if engine == SPARK else operator.duck
        level = operator.level if engine == SPARK else operators.ATOM
        texts = [place(arg, engine, operator, at) for at, arg in enumerate(self.args)]
        text = template.format(*texts, **{f"x{at}": text for at, text in enumerate(self.extra)}, rest=", ".join(texts))
        if engine == DUCK and operator.level != operators.ATOM:
            text = f"({text})"
        return text, level


def place(arg, engine, operator, at):
    """An argument's text, in brackets where it binds less than its place asks for."""
    text, level = arg.spell(engine)
    if engine == DUCK or operator.level == operators.ATOM:
        return text
    least = operator.level if at == 0 and operator.chains else operator.level + 1
    return text if level >= least else f"({text})"


@dataclass(frozen=True)
class Case:
    """CASE WHEN … THEN … ELSE … END; `branches` are pairs."""

    branches: tuple
    otherwise: Any
    type: str

    def spell(self, engine):
        branches = " ".join(f"WHEN {bare(a, engine)} THEN {bare(b, engine)}" for a, b in self.branches)
        end = f" ELSE {bare(self.otherwise, engine)}" if self.otherwise is not None else ""
        return f"CASE {branches}{end} END", operators.ATOM


@dataclass(frozen=True)
class InList:
    """`value [NOT] IN (literals)`."""

    value: Any
    literals: tuple
    negated: bool = False
    type: str = "boolean"

    def spell(self, engine):
        value = place(self.value, engine, operators.TABLE["eq"], 1)
        items = ", ".join(bare(item, engine) for item in self.literals)
        text = f"{value} {'NOT ' if self.negated else ''}IN ({items})"
        return (text, operators.COMPARE) if engine == SPARK else (f"({text})", operators.ATOM)


@dataclass(frozen=True)
class Lambda:
    """A function with a lambda: `transform`, `filter`, `exists`, `forall`."""

    name: str
    array: Any
    variable: str
    body: Any
    type: str

    def spell(self, engine):
        array, body = bare(self.array, engine), bare(self.body, engine)
        if engine == SPARK:
            return f"{self.name}({array}, {self.variable} -> {body})", operators.ATOM
        keep = lambda test: f"len(list_filter({array}, lambda {self.variable}: {test}))"
        if self.name == "transform":
            return f"list_transform({array}, lambda {self.variable}: {body})", operators.ATOM
        if self.name == "filter":
            return f"list_filter({array}, lambda {self.variable}: {body})", operators.ATOM
        found, other = ("TRUE", "FALSE") if self.name == "exists" else ("FALSE", "TRUE")
        test = body if self.name == "exists" else f"NOT ({body})"
        unknown = keep(f"({body}) IS NULL")
        text = f"CASE WHEN ({array}) IS NULL THEN NULL WHEN {keep(test)} > 0 THEN {found} WHEN {unknown} > 0 THEN NULL ELSE {other} END"
        return f"({text})", operators.ATOM


@dataclass(frozen=True)
class Order:
    """One key of an ORDER BY."""

    key: Any
    descending: bool = False
    # `first`, `last` or None: the engine's default (first ascending, last descending in Spark).
    nulls: Optional[str] = None

    def spell(self, engine):
        nulls = self.nulls
        if engine == DUCK and nulls is None:
            nulls = "last" if self.descending else "first"
        end = f" NULLS {nulls.upper()}" if nulls else ""
        return f"{bare(self.key, engine)}{' DESC' if self.descending else ''}{end}", operators.ATOM


@dataclass(frozen=True)
class Window:
    """A window function over an aggregate or a ranking function."""

    function: Any
    partition: tuple
    order: tuple
    frame: str
    type: str
    ignore_nulls: bool = False

    def spell(self, engine):
        function = bare(self.function, engine)
        if self.ignore_nulls:
            function = f"{function} IGNORE NULLS" if engine == SPARK else f"{function[:-1]} IGNORE NULLS)"
        inside = []
        if self.partition:
            inside.append("PARTITION BY " + ", ".join(bare(key, engine) for key in self.partition))
        if self.order:
            inside.append("ORDER BY " + ", ".join(bare(key, engine) for key in self.order))
        if self.frame and self.order:
            inside.append(self.frame)
        return f"{function} OVER ({' '.join(inside)})", operators.ATOM


@dataclass(frozen=True)
class Subquery:
    """A query as an expression: `scalar`, `exists`, `not exists`, `in`, `not in`; `left` are the values before IN."""

    kind: str
    query: Any
    left: tuple = ()
    type: str = "boolean"

    def spell(self, engine):
        query = self.query.spell(engine)
        if self.kind == "scalar":
            return f"({query})", operators.ATOM
        if not self.left:
            negated = self.kind.startswith("not")
            if engine == DUCK:
                # To DuckDB 1.5 `(NOT EXISTS (…)) IS NULL` is true.
                found, other = ("FALSE", "TRUE") if negated else ("TRUE", "FALSE")
                return f"(CASE WHEN EXISTS ({query}) THEN {found} ELSE {other} END)", operators.ATOM
            return f"{self.kind.upper()} ({query})", operators.NOT if negated else operators.ATOM
        if len(self.left) > 1 and engine == DUCK:
            return self.spell_tuple(query), operators.ATOM
        left = [place(value, engine, operators.TABLE["eq"], 1) for value in self.left]
        values = left[0] if len(left) == 1 else f"({', '.join(left)})"
        text = f"{values} {self.kind.upper()} ({query})"
        return (text, operators.COMPARE) if engine == SPARK else (f"({text})", operators.ATOM)

    def spell_tuple(self, query):
        """DuckDB compares tuples as structs, for which a null equals a null."""
        names = [f"v{at}" for at in range(len(self.left))]
        same = " AND ".join(f"({bare(value, DUCK)} = tup.{name})" for value, name in zip(self.left, names))
        exists = lambda test: f"EXISTS (SELECT 1 FROM ({query}) AS tup({', '.join(names)}) WHERE {test})"
        found, other = ("FALSE", "TRUE") if self.kind == "not in" else ("TRUE", "FALSE")
        return f"(CASE WHEN {exists(same)} THEN {found} WHEN {exists(f'({same}) IS NULL')} THEN NULL ELSE {other} END)"


@dataclass(frozen=True)
class Table:
    name: str
    alias: str

    def spell(self, engine):
        name = self.name if engine == SPARK else self.name.replace(".", "__")
        return f"{name} {self.alias}" if self.alias else name


@dataclass(frozen=True)
class Derived:
    """A query in FROM."""

    query: Any
    alias: str

    def spell(self, engine):
        return f"({self.query.spell(engine)}) {self.alias}"


@dataclass(frozen=True)
class Values:
    """Rows of literals in FROM."""

    rows: tuple
    names: tuple
    alias: str

    def spell(self, engine):
        rows = ", ".join(f"({', '.join(bare(value, engine) for value in row)})" for row in self.rows)
        values = f"VALUES {rows}" if engine == SPARK else f"(VALUES {rows})"
        return f"{values} AS {self.alias}({', '.join(self.names)})"


@dataclass(frozen=True)
class Exploded:
    """`source LATERAL VIEW [OUTER] explode(array) alias AS name`."""

    source: Any
    array: Any
    alias: str
    name: str
    outer: bool = False

    def spell(self, engine):
        source, array = self.source.spell(engine), bare(self.array, engine)
        if engine == SPARK:
            outer = "OUTER " if self.outer else ""
            return f"{source} LATERAL VIEW {outer}explode({array}) {self.alias} AS {self.name}"
        join = "LEFT JOIN LATERAL" if self.outer else "JOIN LATERAL"
        return f"{source} {join} (SELECT unnest({array}) AS {self.name}) {self.alias} ON TRUE"


@dataclass(frozen=True)
class Join:
    """`kind` is `inner`, `left`, `right`, `full`, `cross`, `semi` or `anti`; `using` are names."""

    kind: str
    left: Any
    right: Any
    on: Any = None
    using: tuple = ()

    def spell(self, engine):
        words = {"inner": "JOIN", "cross": "CROSS JOIN", "full": "FULL OUTER JOIN", "semi": "LEFT SEMI JOIN", "anti": "LEFT ANTI JOIN"}
        word = words.get(self.kind, f"{self.kind.upper()} JOIN")
        if engine == DUCK:
            word = word.replace("LEFT SEMI", "SEMI").replace("LEFT ANTI", "ANTI")
        right = self.right.spell(engine)
        if isinstance(self.right, (Join, Exploded)):
            right = f"({right})"
        left = self.left.spell(engine)
        if isinstance(self.left, Exploded) and engine == DUCK:
            left = f"({left})"
        if self.using:
            return f"{left} {word} {right} USING ({', '.join(self.using)})"
        if self.on is None:
            return f"{left} {word} {right}"
        return f"{left} {word} {right} ON {bare(self.on, engine)}"


@dataclass(frozen=True)
class Item:
    """An expression of a SELECT, by name."""

    value: Any
    name: str

    def spell(self, engine):
        return f"{bare(self.value, engine)} AS {self.name}"


@dataclass(frozen=True)
class Select:
    items: tuple
    source: Any = None
    where: Any = None
    # Keys, and `plain`, `with rollup`, `with cube`, `rollup`, `cube` or `sets`; sets are tuples of positions of keys.
    group: tuple = ()
    grouping: str = "plain"
    sets: tuple = ()
    having: Any = None
    distinct: bool = False
    order: tuple = ()
    limit: Optional[int] = None
    offset: Optional[int] = None
    # Pairs of name and query.
    ctes: tuple = ()

    def spell(self, engine, hidden=(), cut=True):
        """`hidden` are more expressions to select; without `cut`, LIMIT and OFFSET are left out."""
        items = [item.spell(engine) for item in self.items]
        items += [f"{bare(key, engine)} AS hidden{at}" for at, key in enumerate(hidden)]
        parts = [f"SELECT {'DISTINCT ' if self.distinct else ''}{', '.join(items)}"]
        if self.source is not None:
            parts.append(f"FROM {self.source.spell(engine)}")
        if self.where is not None:
            parts.append(f"WHERE {bare(self.where, engine)}")
        if self.group or self.grouping != "plain":
            parts.append(self.spell_group(engine))
        having = [] if self.having is None else [bare(self.having, engine)]
        if engine == DUCK and self.grouping != "plain":
            # Spark gives no grand total of no rows.
            having.append("count(*) > 0")
        if having:
            parts.append("HAVING " + " AND ".join(f"({test})" if len(having) > 1 else test for test in having))
        return spell_ctes(self.ctes, engine) + " ".join(parts) + spell_end(self, engine, cut)

    def spell_group(self, engine):
        keys = [bare(key, engine) for key in self.group]
        names = ", ".join(keys)
        if self.grouping in ("with rollup", "with cube"):
            word = self.grouping.split()[1].upper()
            return f"GROUP BY {names} WITH {word}" if engine == SPARK else f"GROUP BY {word}({names})"
        if self.grouping in ("rollup", "cube"):
            return f"GROUP BY {self.grouping.upper()}({names})"
        if self.grouping == "sets":
            sets = ", ".join(f"({', '.join(keys[at] for at in one if at < len(keys))})" for one in self.sets)
            return f"GROUP BY GROUPING SETS ({sets})"
        return f"GROUP BY {names}"


@dataclass(frozen=True)
class SetOperation:
    """`word` is `UNION`, `UNION ALL`, `INTERSECT`, …"""

    word: str
    left: Any
    right: Any
    order: tuple = ()
    limit: Optional[int] = None
    offset: Optional[int] = None
    ctes: tuple = ()

    @property
    def items(self):
        return self.left.items

    def spell(self, engine, hidden=(), cut=True):
        sides = []
        for side in (self.left, self.right):
            text = side.spell(engine)
            bare_side = isinstance(side, Select) and not (side.order or side.limit is not None or side.ctes)
            sides.append(text if bare_side else f"({text})")
        return f"{spell_ctes(self.ctes, engine)}{sides[0]} {self.word} {sides[1]}{spell_end(self, engine, cut)}"


def spell_ctes(ctes, engine):
    if not ctes:
        return ""
    return "WITH " + ", ".join(f"{name} AS ({query.spell(engine)})" for name, query in ctes) + " "


def spell_end(query, engine, cut):
    text = ""
    if query.order:
        text += " ORDER BY " + ", ".join(bare(key, engine) for key in query.order)
    if cut and query.limit is not None:
        text += f" LIMIT {query.limit}"
    if cut and query.offset is not None:
        text += f" OFFSET {query.offset}"
    return text


def bare(node, engine):
    """A node's text without brackets around it."""
    text = node.spell(engine)
    return text if isinstance(text, str) else text[0]


def walk(node):
    """A node and all below it."""
    yield node
    if dataclasses.is_dataclass(node):
        for field in dataclasses.fields(node):
            yield from walk_value(getattr(node, field.name))


def walk_value(value):
    if dataclasses.is_dataclass(value):
        yield from walk(value)
    elif isinstance(value, tuple):
        for item in value:
            yield from walk_value(item)


def size(node):
    return sum(1 for _ in walk(node))
