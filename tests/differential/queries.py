"""Random SELECTs over every operator that Trireme takes."""

import dataclasses

from expressions import NESTED, NUMBERS, ORDERED, SCALARS, Expressions
from tree import (
    Call, Column, Derived, Exploded, Item, Join, Literal, Order, Select, SetOperation, Subquery, Table, Values, Window,
)

FEATURES = (
    "casts", "lambdas", "lambda capture", "arrays", "mixed", "subqueries", "scalar subqueries", "subquery anywhere", "correlated",
    "tuple in", "aggregates", "grouping sets", "windows", "ignore nulls", "sets", "sets all", "order", "limit", "ctes", "derived", "values",
    "explode", "distinct", "outer joins", "semi joins", "using", "non-equality joins", "having", "filter",
)


@dataclasses.dataclass
class Relation:
    """What can be named in a scope."""

    alias: str
    columns: list
    # Columns that no two rows have alike; none: not known.
    unique: list = None


class Queries:
    """Draws statements over tables; features in `without` are left out."""

    def __init__(self, rng, tables, without=()):
        self.rng, self.tables, self.without = rng, tables, set(without)
        self.e = Expressions(rng, self.on)
        self.aliases = 0
        self.ctes = []

    def on(self, feature):
        return feature not in self.without

    def chance(self, odds, feature=None):
        return (feature is None or self.on(feature)) and self.rng.random() < odds

    def alias(self):
        self.aliases += 1
        return f"q{self.aliases}"

    # ---- Whole statements

    def statement(self):
        self.aliases, self.ctes = 0, []
        ctes = []
        if self.chance(0.15, "ctes"):
            for at in range(self.rng.randint(1, 2)):
                query, relation = self.query([], 1)
                ctes.append((f"w{at}", query))
                self.ctes.append((f"w{at}", relation))
        if self.chance(0.14, "sets"):
            query = self.set_operation([], 2)
        else:
            query = self.select([], 2)[0]
        query = dataclasses.replace(query, ctes=tuple(ctes))
        return self.finish(query)

    def finish(self, query):
        """ORDER BY and LIMIT of a whole statement."""
        order = ()
        if self.chance(0.4, "order"):
            order = self.order_of(query)
        limit = offset = None
        if order and self.chance(0.3, "limit"):
            limit = self.rng.randint(0, 8)
            offset = self.rng.randint(0, 4) if self.chance(0.35) else None
        return dataclasses.replace(query, order=order, limit=limit, offset=offset)

    def order_of(self, query):
        rng = self.rng
        plain = isinstance(query, Select) and not query.distinct and not query.group and query.grouping == "plain"
        plain = plain and not any(is_aggregate(item.value) for item in query.items)
        orders = []
        scope = getattr(self, "last_scope", []) if plain else []
        for item in rng.sample(query.items, rng.randint(1, len(query.items))):
            if getattr(item.value, "type", "") in NESTED:
                continue
            if scope and rng.random() < 0.25:
                key = self.e.value(rng.choice(ORDERED), scope, 1)
                if not isinstance(key, Literal):
                    orders.append(self.order_key(key))
            else:
                orders.append(self.order_key(Column("", item.name, item.value.type)))
        if plain and scope and rng.random() < 0.3:
            ids = [column for column in scope if column.name == "id" and column.relation]
            orders += [self.order_key(column) for column in ids]
        return tuple(orders)

    def order_key(self, key):
        nulls = self.rng.choice(("first", "last")) if self.chance(0.25) else None
        return Order(key, self.chance(0.4), nulls)

    # ---- Queries

    def query(self, outer, depth, kinds=None):
        """A query with columns of these types, and what it is as a relation."""
        if self.chance(0.12, "sets") and depth > 0:
            query, unique = self.set_operation(outer, depth - 1, kinds), None
        else:
            query, unique = self.select(outer, depth, kinds)
            ordered = all(item.value.type not in NESTED for item in query.items)
            if self.chance(0.06, "limit") and ordered and query.grouping == "plain":
                order = tuple(Order(Column("", item.name, item.value.type), self.chance(0.4)) for item in query.items)
                query = dataclasses.replace(query, order=order, limit=self.rng.randint(0, 9))
        columns = [Column("", item.name, item.value.type) for item in query.items]
        return query, Relation("", columns, unique)

    def set_operation(self, outer, depth, kinds=None):
        rng = self.rng
        kinds = kinds or [rng.choice(SCALARS) for _ in range(rng.randint(1, 3))]
        words = ["UNION", "INTERSECT", "EXCEPT", "UNION ALL", "UNION ALL"]
        if self.on("sets all"):
            words += ["INTERSECT ALL", "EXCEPT ALL"]
        left = self.select(outer, depth - 1, kinds)[0]
        if depth > 0 and rng.random() < 0.3:
            left = SetOperation(rng.choice(words), left, self.branch(outer, depth - 1, kinds))
        return SetOperation(rng.choice(words), left, self.branch(outer, depth - 1, kinds))

    def branch(self, outer, depth, kinds):
        """One side of a set operation: a SELECT, or constants, or nothing at all."""
        roll = self.rng.random()
        if roll < 0.15:
            items = tuple(Item(self.e.literal(kind), f"c{at}") for at, kind in enumerate(kinds))
            return Select(items)
        query = self.select(outer, depth, kinds)[0]
        if roll < 0.25:
            never = Literal(False, "boolean") if roll < 0.2 else Call("eq", (Literal(1, "int"), Literal(2, "int")), "boolean")
            query = dataclasses.replace(query, where=never)
        return query

    def select(self, outer, depth, kinds=None):
        """A SELECT and the names of its columns that no two rows share (None: not known)."""
        rng = self.rng
        if kinds is None and self.chance(0.02):
            self.last_scope = []
            return Select(tuple(Item(self.e.literal(rng.choice(SCALARS)), f"c{at}") for at in range(2))), None
        source, relations, merged = self.source(outer, depth)
        scope = merged + [column for relation in relations for column in relation.columns]
        where = self.where(scope, outer, depth) if self.chance(0.5) else None
        if kinds is None and self.chance(0.28, "aggregates") or kinds and self.chance(0.2, "aggregates"):
            query, unique = self.aggregate(source, scope, where, outer, depth, kinds)
            self.last_scope = []
            return query, unique
        kinds = kinds or [rng.choice(SCALARS if rng.random() < 0.85 else NESTED) for _ in range(rng.randint(1, 4))]
        windows = self.chance(0.22, "windows")
        items, taken = [], set()
        for kind in kinds:
            if windows and rng.random() < 0.6:
                value = self.window(kind, scope, relations)
            elif self.chance(0.06, "scalar subqueries") and depth > 0 and kind not in NESTED:
                value = self.scalar(kind, scope, depth)
            elif kind == "boolean" and self.chance(0.15, "subquery anywhere") and depth > 0:
                value = self.subquery(scope, depth)
            else:
                value = self.item(kind, scope)
            items.append(self.named(value, taken))
        distinct = self.chance(0.12, "distinct")
        unique = None
        if distinct:
            unique = [item.name for item in items]
        elif len(relations) == 1 and relations[0].unique:
            names = {item.value.name: item.name for item in items if isinstance(item.value, Column) and item.value.relation == relations[0].alias}
            if all(name in names for name in relations[0].unique):
                unique = [names[name] for name in relations[0].unique]
        if self.chance(0.05, "explode") and not distinct and not windows and kinds:
            for at, item in enumerate(items):
                if item.value.type in ("int", "string"):
                    array = self.e.value(f"array<{item.value.type}>", scope, 1)
                    name = "unnest" if rng.random() < 0.6 else "unnest outer"
                    items[at], unique = Item(Call(name, (array,), item.value.type), item.name), None
                    break
        self.last_scope = scope if not any(is_unnest(item.value) for item in items) else []
        self.last_scope = [] if distinct else self.last_scope
        return Select(tuple(items), source, where, distinct=distinct), unique

    def item(self, kind, scope):
        column = self.e.column(kind, scope)
        if column is not None and self.rng.random() < 0.5:
            return column
        return self.e.value(kind, scope, 2)

    def named(self, value, taken):
        name = value.name if isinstance(value, Column) and not value.inner and self.rng.random() < 0.4 else f"c{len(taken)}"
        if name in taken:
            name = f"v{len(taken)}"
        taken.add(name)
        return Item(value, name)

    def where(self, scope, outer, depth):
        condition = self.condition(scope, outer)
        if depth > 0 and self.chance(0.4, "subqueries"):
            subquery = self.subquery(scope, depth)
            roll = self.rng.random()
            if roll < 0.4:
                return subquery
            if roll < 0.6 or not self.on("subquery anywhere"):
                return Call("and", (condition, subquery), "boolean")
            if roll < 0.85:
                return Call("or", (condition, subquery), "boolean")
            if roll < 0.9:
                return Call("not", (subquery,), "boolean")
            if roll < 0.95:
                return Call(self.rng.choice(("is true", "is not true", "is null")), (subquery,), "boolean")
            return Call("or", (subquery, self.subquery(scope, depth)), "boolean")
        return condition

    def condition(self, scope, outer):
        """A condition; in a correlated subquery it mostly compares with what is outside."""
        condition = self.e.predicate(scope, 2)
        if not outer or not self.chance(0.7, "correlated"):
            return condition
        rng = self.rng
        for _ in range(8):
            far = rng.choice(outer)
            near = self.e.column(far.type, scope)
            if near is not None and far.type in SCALARS:
                name = rng.choice(("eq", "eq", "eq", "eq", "lt", "ge", "ne", "nseq"))
                link = Call(name, rng.choice(((near, far), (far, near))), "boolean")
                roll = rng.random()
                if roll < 0.45:
                    return link
                return Call("and" if roll < 0.85 else "or", (link, condition), "boolean")
        return condition

    def subquery(self, scope, depth):
        rng = self.rng
        roll = rng.random()
        if roll < 0.45:
            query, _ = self.query(scope, depth - 1)
            return Subquery(rng.choice(("exists", "not exists")), query)
        kind = rng.choice(("in", "not in"))
        kinds = [rng.choice(("int", "int", "string", "double", "date", "decimal(9,2)", "bigint"))]
        if self.chance(0.12, "tuple in"):
            kinds.append(rng.choice(("int", "string")))
        left = tuple(self.item(kind, scope) for kind in kinds)
        query, _ = self.query(scope, depth - 1, kinds)
        return Subquery(kind, query, left)

    def scalar(self, kind, scope, depth):
        """A subquery that gives one value."""
        source, relations, merged = self.source(scope, 0)
        inside = merged + [column for relation in relations for column in relation.columns]
        where = self.condition(inside, scope) if self.chance(0.8) else None
        value = self.aggregate_value(kind, inside)
        return Subquery("scalar", Select((Item(value, "v"),), source, where), type=kind)

    # ---- FROM

    def source(self, outer, depth):
        """What stands behind FROM, its relations, and columns that USING has merged."""
        rng = self.rng
        node, relation = self.relation(outer, depth)
        relations, merged = [relation], []
        joins = rng.choice((0, 0, 0, 1, 1, 1, 2)) if depth > 0 else rng.choice((0, 0, 0, 1))
        visible = [relation]
        for _ in range(joins):
            right, other = self.relation(outer, depth - 1)
            kinds = ["inner", "inner", "inner", "cross"]
            if self.on("outer joins"):
                kinds += ["left", "left", "right", "full"]
            if self.on("semi joins"):
                kinds += ["semi", "anti"]
            kind = rng.choice(kinds)
            if kind == "cross":
                node = Join("cross", node, right)
            else:
                names = self.shared(visible, other)
                if names and joins == 1 and kind not in ("semi", "anti") and self.chance(0.15, "using"):
                    node = Join(kind, node, right, using=tuple(column.name for column in names))
                    merged = [Column("", column.name, column.type) for column in names]
                else:
                    left_scope = [column for one in visible for column in one.columns]
                    node = Join(kind, node, right, self.join_condition(left_scope, other.columns, kind))
            relations.append(other)
            if kind not in ("semi", "anti"):
                visible.append(other)
        if self.chance(0.06, "explode"):
            scope = [column for one in visible for column in one.columns]
            kind = rng.choice(NESTED[:2])
            array = self.e.column(kind, scope) or self.e.value(kind, scope, 1)
            alias = self.alias()
            node = Exploded(node, array, alias, "item", self.chance(0.4))
            visible.append(Relation(alias, [Column(alias, "item", kind[6:-1])]))
        return node, visible, merged

    def shared(self, visible, other):
        if len(visible) != 1:
            return []
        names = {column.name: column.type for column in visible[0].columns}
        both = [column for column in other.columns if names.get(column.name) == column.type and column.type in SCALARS]
        if not both:
            return []
        return self.rng.sample(both, min(len(both), self.rng.choice((1, 1, 2))))

    def join_condition(self, left, right, kind):
        rng, e = self.rng, self.e
        pairs = [(a, b) for a in left for b in right if a.type == b.type and a.type in SCALARS]
        equal = None
        if pairs:
            a, b = rng.choice(pairs)
            equal = Call("nseq" if rng.random() < 0.12 else "eq", rng.choice(((a, b), (b, a))), "boolean")
        roll = rng.random()
        if equal is not None and (roll < 0.4 or not self.on("non-equality joins")):
            return equal
        if equal is not None and roll < 0.6:
            return Call("and", (equal, e.predicate(left + right, 1)), "boolean")
        if pairs and roll < 0.75:
            a, b = rng.choice(pairs)
            name = rng.choice(("lt", "le", "gt", "ge", "ne"))
            return Call(name, (a, b), "boolean")
        if pairs and roll < 0.8:
            a, b = rng.choice(pairs)
            return Call("between", (a, b, e.value(a.type, left + right, 1)), "boolean")
        if roll < 0.84:
            return rng.choice((Literal(True, "boolean"), Literal(False, "boolean"), Call("eq", (Literal(1, "int"), Literal(1, "int")), "boolean")))
        if roll < 0.88 and equal is not None:
            return Call("or", (equal, e.predicate(left + right, 1)), "boolean")
        if roll < 0.92:
            return e.predicate(rng.choice((left, right)), 1)
        return e.predicate(left + right, 2)

    def relation(self, outer, depth):
        rng, alias = self.rng, self.alias()
        if self.ctes and self.chance(0.5):
            name, relation = rng.choice(self.ctes)
            return Table(name, alias), renamed(relation, alias)
        if depth > 0 and self.chance(0.18, "derived"):
            query, relation = self.query([], depth - 1)
            return Derived(query, alias), renamed(relation, alias)
        if self.chance(0.03, "values"):
            kinds = [rng.choice(("int", "string", "date")) for _ in range(2)]
            rows = tuple(tuple(self.e.literal(kind, 0.15) for kind in kinds) for _ in range(rng.randint(1, 3)))
            names = ("k", "v")
            columns = [Column(alias, name, kind) for name, kind in zip(names, kinds)]
            return Values(rows, names, alias), Relation(alias, columns)
        table = rng.choice(self.tables)
        columns = [Column(alias, name, kind) for name, kind in table.columns]
        return Table(table.name, alias), Relation(alias, columns, ["id"])

    # ---- Aggregates

    def aggregate(self, source, scope, where, outer, depth, kinds=None):
        rng = self.rng
        flat = [column for column in scope if column.type in SCALARS]
        count = rng.choice((0, 1, 1, 1, 2, 2)) if kinds is None else rng.choice((0, 1, len(kinds)))
        grouping, sets = "plain", ()
        if count and self.chance(0.2, "grouping sets"):
            grouping = rng.choice(("with rollup", "with cube", "rollup", "cube", "sets"))
            count = max(count, 2)
        keys = []
        for at in range(count):
            kind = kinds[at] if kinds and at < len(kinds) else rng.choice(SCALARS)
            if grouping != "plain" or rng.random() < 0.75:
                found = [column for column in flat if kinds is None or column.type == kind]
                if found:
                    keys.append(rng.choice(found))
            else:
                keys.append(self.e.value(kind, scope, 1))
        keys = [key for at, key in enumerate(keys) if key not in keys[:at] and not isinstance(key, Literal)]
        if not keys:
            grouping = "plain"
        if grouping == "sets":
            every = tuple(range(len(keys)))
            sets = (every, *rng.sample([(), every[:1], every[-1:]], rng.randint(0, 2)))
        items, taken = [], set()
        for kind in kinds or [None] * rng.randint(1, 4):
            fitting = [key for key in keys if kind is None or key.type == kind]
            roll = rng.random()
            if fitting and roll < 0.5:
                value = rng.choice(fitting)
            elif grouping != "plain" and roll < 0.6 and kind in (None, "int"):
                value = Call("grouping", (rng.choice(keys),), "int")
            else:
                value = self.aggregate_value(kind or rng.choice(SCALARS), scope)
                if roll > 0.92 and kind is None and value.type == "int":
                    value = Call("add", (value, Literal(1, "int")), "int")
            items.append(self.named(value, taken))
        having = None
        if self.chance(0.2, "having"):
            value = self.aggregate_value(rng.choice(("int", "bigint", "double")), scope)
            having = Call(rng.choice(("gt", "le", "ne", "ge")), (value, self.e.literal(value.type)), "boolean")
            if depth > 0 and self.chance(0.1, "subqueries"):
                query, _ = self.query([], 0, [value.type])
                having = Subquery(rng.choice(("in", "not in")), query, (value,))
        unique = None
        if grouping == "plain":
            positions = {item.value: item.name for item in items}
            if all(key in positions for key in keys):
                unique = [positions[key] for key in keys]
        if not keys and not any(is_aggregate(item.value) for item in items):
            items[0] = Item(Call("count(*)", (), "bigint"), items[0].name)
        if not keys and kinds is None and rng.random() < 0.2:
            items.insert(0, Item(Literal(1, "int"), "one"))
        return Select(tuple(items), source, where, tuple(keys), grouping, sets, having), unique

    def aggregate_value(self, kind, scope):
        """An aggregate of a type."""
        rng, value = self.rng, lambda kind: self.item(kind, scope)
        choices = [lambda: Call(rng.choice(("min", "max")), (value(kind),), kind)]
        if kind in ("int", "bigint"):
            any_kind = rng.choice(SCALARS)
            choices += [
                lambda: Call("count(*)", (), kind),
                lambda: Call("count", (value(any_kind),), kind),
                lambda: Call("count distinct", (value(any_kind),), kind),
                lambda: Call("sum", (value("int"),), kind),
                lambda: Call("count_if", (self.e.predicate(scope, 1),), kind),
                lambda: Call("sum distinct", (value("int"),), kind),
                lambda: Call("count distinct 2", (value("int"), value("string")), kind),
                lambda: Call("collect_set", (value("int"),), kind),
            ]
            if self.on("filter"):
                choices += [
                    lambda: Call("count filter", (self.e.predicate(scope, 1),), kind),
                    lambda: Call("sum filter", (value("int"), self.e.predicate(scope, 1)), kind),
                ]
        if kind == "double":
            choices += [
                lambda: Call("sum", (value("double"),), kind),
                lambda: self.average(value, kind),
                lambda: Call("median", (value("int"),), kind),
            ]
        if kind == "decimal(9,2)":
            choices.append(lambda: Call("sum", (value(kind),), kind))
        if kind == "boolean":
            choices = [lambda: Call(rng.choice(("bool_and", "bool_or", "every")), (self.e.predicate(scope, 1),), kind)]
        if kind in NESTED:
            choices = [lambda: self.e.literal(kind)]
        if kind == "array<int>" or kind == "array<string>":
            choices.append(lambda: Call("collect_list", (value(kind[6:-1]),), kind))
        return rng.choice(choices)()

    def average(self, value, kind):
        """Of decimals it is a decimal with four digits more."""
        of = self.rng.choice(NUMBERS)
        return Call("avg decimal" if of.startswith("decimal") else "avg", (value(of),), kind)

    # ---- Windows

    def window(self, kind, scope, relations):
        rng = self.rng
        flat = [column for column in scope if column.type in SCALARS]
        partition = tuple(rng.sample(flat, min(len(flat), rng.choice((0, 1, 1, 2)))))
        keys = [self.order_key(column) for column in rng.sample(flat, min(len(flat), rng.choice((0, 1, 1, 2))))]
        known = all(relation.unique is not None for relation in relations)
        total = keys + [
            self.order_key(Column(relation.alias, name, "int")) for relation in relations for name in relation.unique or []
        ]
        over = lambda call, order, frame="", ignore=False: Window(call, partition, tuple(order), frame, kind, ignore)
        value = lambda of: self.item(of, scope)
        if kind == "boolean":
            return self.e.predicate(scope, 2)
        roll = rng.random()
        frame = self.frame()
        if known and total and roll < 0.35:
            ignore = self.chance(0.4, "ignore nulls")
            call = rng.choice((
                Call("lag", (value(kind),), kind, (str(rng.randint(1, 2)),)),
                Call("lead", (value(kind),), kind, (str(rng.randint(1, 2)),)),
                Call("first_value", (value(kind),), kind),
                Call("last_value", (value(kind),), kind),
                Call("nth_value", (value(kind),), kind, ("2",)),
                Call("lag default", (value(kind), self.e.literal(kind, 0)), kind, ("1",)),
            ))
            return over(call, total, "" if call.name.startswith(("lag", "lead")) else frame, ignore)
        if kind in ("int", "bigint"):
            if known and total and roll < 0.5:
                return over(rng.choice((Call("row_number", (), "int"), Call("ntile", (), "int", (str(rng.randint(1, 4)),)))), total)
            if keys and roll < 0.65:
                return over(Call(rng.choice(("rank", "dense_rank")), (), "int"), keys)
        if kind == "double" and keys and roll < 0.5:
            return over(Call(rng.choice(("percent_rank", "cume_dist")), (), "double"), keys)
        call = self.aggregate_value(kind, scope)
        if not isinstance(call, Call) or call.name in ("count distinct", "count distinct 2", "sum distinct", "collect_list", "collect_set", "median"):
            call = Call("min", (value(kind),), kind) if kind in SCALARS else self.e.literal(kind)
        if not isinstance(call, Call):
            return call
        if known and total and rng.random() < 0.5:
            return over(call, total, frame)
        return over(call, keys)

    def frame(self):
        rng = self.rng
        if rng.random() < 0.3:
            return ""
        starts = ("UNBOUNDED PRECEDING", "2 PRECEDING", "1 PRECEDING", "CURRENT ROW", "1 FOLLOWING")
        ends = ("1 PRECEDING", "CURRENT ROW", "1 FOLLOWING", "2 FOLLOWING", "UNBOUNDED FOLLOWING")
        start = rng.choice(starts)
        rank = {"UNBOUNDED PRECEDING": -9, "2 PRECEDING": -2, "1 PRECEDING": -1, "CURRENT ROW": 0, "1 FOLLOWING": 1, "2 FOLLOWING": 2, "UNBOUNDED FOLLOWING": 9}
        end = rng.choice([end for end in ends if rank[end] >= rank[start]])
        word = "ROWS"
        if rng.random() < 0.15 and "PRECEDING" not in start.replace("UNBOUNDED PRECEDING", "") and "1" not in start + end and "2" not in start + end:
            word = "RANGE"
        return f"{word} BETWEEN {start} AND {end}"


def renamed(relation, alias):
    return Relation(alias, [Column(alias, column.name, column.type) for column in relation.columns], relation.unique)


AGGREGATES = {
    "count(*)", "count", "sum", "min", "max", "avg", "avg decimal", "count distinct", "count distinct 2", "sum distinct", "count_if", "bool_and", "bool_or",
    "every", "count filter", "sum filter", "max filter", "collect_list", "collect_set", "median", "stddev", "grouping", "max_by",
}


def is_aggregate(node):
    if isinstance(node, Call):
        return node.name in AGGREGATES or any(is_aggregate(arg) for arg in node.args)
    return False


def is_unnest(node):
    return isinstance(node, Call) and node.name.startswith("unnest")
