"""Random expressions of a type over the columns in scope."""

import datetime
import decimal

from operators import CASTS
from tree import Call, Case, Column, InList, Lambda, Literal

SCALARS = ("int", "bigint", "double", "decimal(9,2)", "string", "date", "timestamp", "boolean")
NUMBERS = ("int", "bigint", "double", "decimal(9,2)")
NESTED = ("array<int>", "array<string>", "struct<a:int,b:string>")
ORDERED = ("int", "bigint", "double", "decimal(9,2)", "string", "date", "timestamp")

WORDS = ("", "a", "b", "ab", "A", "ba", "abc", "ä", "12", "-7", "a%", "zz", "it's")
PATTERNS = ("a%", "%b", "%a%", "_", "a_", "%", "", "12", "z%z")
DAYS = [datetime.date(2024, 2, 26) + datetime.timedelta(days=at) for at in range(6)] + [datetime.date(1969, 12, 31)]
MOMENTS = [
    datetime.datetime(2024, 2, 28, 23, 59, 59),
    datetime.datetime(2024, 2, 29),
    datetime.datetime(2024, 2, 29, 12, 30),
    datetime.datetime(2024, 3, 1, 0, 0, 0, 500000),
    datetime.datetime(1969, 12, 31, 23, 59, 59, 999999),
]
DOUBLES = (0.0, -0.0, 0.25, 1.0, 1.5, 2.0, -0.75, 3.0, 100.5, float("nan"))
DECIMALS = ("0.00", "0.01", "1.00", "1.50", "-2.25", "3.00", "9.99", "1234567.89")

# What makes a type of which types.
PRODUCTIONS = {
    "int": [
        ("add", "int", "int"), ("sub", "int", "int"), ("mul", "int", "int"), ("mod", "int", "int"), ("abs", "int"), ("neg", "int"),
        ("length", "string"), ("year", "date"), ("month", "date"), ("day", "date"), ("dayofweek", "date"), ("datediff", "date", "date"),
        ("hour", "timestamp"), ("size", "array<int>"), ("size", "array<string>"), ("pmod", "int", "int"), ("array_max", "array<int>"),
        ("array_min", "array<int>"),
    ],
    "bigint": [("add", "bigint", "int"), ("sub", "bigint", "bigint"), ("intdiv", "int", "int"), ("abs", "bigint")],
    "double": [("add", "double", "double"), ("sub", "double", "int"), ("mul", "double", "double"), ("div", "int", "int"), ("div", "double", "double"), ("abs", "double")],
    "decimal(9,2)": [("add", "decimal(9,2)", "decimal(9,2)"), ("sub", "decimal(9,2)", "int"), ("mul", "decimal(9,2)", "int"), ("abs", "decimal(9,2)")],
    "string": [
        ("upper", "string"), ("lower", "string"), ("trim", "string"), ("concat", "string", "string"), ("pipes", "string", "string"),
        ("replace", "string", "string", "string"), ("reverse", "string"),
    ],
    "date": [("date_add", "date", "int"), ("date_sub", "date", "int")],
    "timestamp": [],
    "boolean": [],
    "array<int>": [("array", "int", "int"), ("sort_array", "array<int>")],
    "array<string>": [("array", "string", "string"), ("sort_array", "array<string>")],
    "struct<a:int,b:string>": [("named_struct", "int", "string")],
}
ANY = ("coalesce", "nvl", "nullif", "if", "case", "nvl2")


class Expressions:
    """Draws expressions; `scope` is a list of columns, `outer` one of columns of the statement around it."""

    def __init__(self, rng, on):
        self.rng, self.on = rng, on

    def literal(self, kind, null=0.08):
        rng = self.rng
        if rng.random() < null:
            return Literal(None, kind)
        if kind == "array<int>":
            value = [rng.choice((None, 0, 1, 2, 3)) for _ in range(rng.randrange(4))]
        elif kind == "array<string>":
            value = [rng.choice((None, "a", "b", "ab")) for _ in range(rng.randrange(4))]
        elif kind.startswith("struct"):
            value = {"a": rng.choice((None, 0, 1, 2)), "b": rng.choice((None, "a", "b"))}
        else:
            value = {
                "int": lambda: rng.choice((0, 1, 1, 2, 3, 5, 7, -1, 10, 100)),
                "bigint": lambda: rng.choice((0, 1, 2, 3, -4, 10, 1 << 33)),
                "double": lambda: rng.choice(DOUBLES),
                "decimal(9,2)": lambda: decimal.Decimal(rng.choice(DECIMALS)),
                "string": lambda: rng.choice(WORDS),
                "date": lambda: rng.choice(DAYS),
                "timestamp": lambda: rng.choice(MOMENTS),
                "boolean": lambda: rng.random() < 0.5,
            }[kind]()
        return Literal(tuple(value) if isinstance(value, list) else FrozenStruct(value) if isinstance(value, dict) else value, kind)

    def column(self, kind, scope):
        found = [column for column in scope if column.type == kind]
        if kind in ("int", "string") and self.rng.random() < 0.2:
            inner = "a" if kind == "int" else "b"
            structs = [column for column in scope if column.type.startswith("struct") and not column.inner]
            found += [Column(column.relation, column.name, kind, inner) for column in structs if column.relation]
        return self.rng.choice(found) if found else None

    def value(self, kind, scope, depth=2):
        """An expression of this type."""
        rng = self.rng
        roll = rng.random()
        column = self.column(kind, scope)
        if column is not None and (depth <= 0 or roll < 0.5):
            return column
        if depth <= 0 or roll < 0.58:
            return self.literal(kind)
        if kind == "boolean":
            return self.predicate(scope, depth - 1)
        if roll < 0.7:
            return self.any(kind, scope, depth)
        if roll < 0.78:
            starts = [(a, b) for a, b in CASTS if b == kind]
            if starts and self.on("casts"):
                start, _ = rng.choice(starts)
                return Call(f"cast {start} {kind}", (self.value(start, scope, depth - 1),), kind)
        if roll < 0.86 and kind.startswith("array") and self.on("lambdas"):
            return self.lambda_array(kind, scope, depth)
        if roll < 0.9 and kind in ("int", "string") and self.on("arrays"):
            array = self.value(f"array<{kind}>", scope, depth - 1)
            return Call("at", (array,), kind, (str(rng.randrange(3)),))
        if kind == "timestamp":
            return self.timestamp(scope, depth)
        if kind == "string" and roll < 0.93:
            return Call("substring", (self.value("string", scope, depth - 1),), kind, (str(rng.randint(1, 2)), str(rng.randint(0, 2))))
        if not PRODUCTIONS[kind]:
            return self.any(kind, scope, depth)
        name, *kinds = rng.choice(PRODUCTIONS[kind])
        return Call(name, tuple(self.value(of, scope, depth - 1) for of in kinds), kind)

    def timestamp(self, scope, depth):
        inner = self.value("timestamp", scope, depth - 1)
        name, extra = self.rng.choice((("add hours", "3"), ("add days", "2"), ("date_trunc", "MONTH"), ("date_trunc", "DAY"), ("date_trunc", "HOUR")))
        return Call(name, (inner,), "timestamp", (extra,))

    def any(self, kind, scope, depth):
        rng, make = self.rng, lambda: self.value(kind, scope, depth - 1)
        name = rng.choice(ANY)
        if kind in NESTED and name == "nullif":
            name = "coalesce"
        if name == "case":
            count = rng.randint(1, 2)
            branches = tuple((self.predicate(scope, depth - 1), make()) for _ in range(count))
            return Case(branches, make() if rng.random() < 0.7 else None, kind)
        if name == "if":
            return Call("if", (self.predicate(scope, depth - 1), make(), make()), kind)
        if name == "nvl2":
            return Call("nvl2", (self.value(rng.choice(SCALARS), scope, depth - 1), make(), make()), kind)
        if kind in NUMBERS and rng.random() < 0.2:
            name = rng.choice(("greatest", "least"))
        return Call(name, (make(), make()), kind)

    def lambda_array(self, kind, scope, depth):
        inner = kind[6:-1]
        variable = self.rng.choice(("e", "v"))
        inside = [Column("", variable, inner)] + (scope if self.rng.random() < 0.4 and self.on("lambda capture") else [])
        array = self.value(kind, scope, depth - 1)
        if self.rng.random() < 0.5:
            return Lambda("transform", array, variable, self.simple(inner, inside), kind)
        return Lambda("filter", array, variable, self.compare(inside, Column("", variable, inner)), kind)

    def simple(self, kind, scope):
        """A value made of a lambda's variable and another."""
        variable, other = scope[0], self.value(kind, scope[1:], 0)
        name = {"int": self.rng.choice(("add", "sub", "coalesce")), "string": self.rng.choice(("concat", "coalesce"))}[kind]
        return Call(name, (variable, other), kind)

    def compare(self, scope, left):
        """A comparison of a value with another of its type."""
        rng = self.rng
        name = rng.choice(("eq", "eq", "ne", "lt", "le", "gt", "ge", "is null", "is not null", "nseq", "distinct"))
        if name.startswith("is "):
            return Call(name, (left,), "boolean")
        return Call(name, (left, self.value(left.type, scope, 0)), "boolean")

    def predicate(self, scope, depth=2):
        """A condition."""
        rng, roll = self.rng, self.rng.random()
        if depth > 0 and roll < 0.28:
            return Call(rng.choice(("and", "or")), (self.predicate(scope, depth - 1), self.predicate(scope, depth - 1)), "boolean")
        if depth > 0 and roll < 0.36:
            return Call(rng.choice(("not", "not", "bang")), (self.predicate(scope, depth - 1),), "boolean")
        if roll < 0.4:
            column = self.column("boolean", scope)
            if column is not None:
                return column
        if depth > 0 and roll < 0.46:
            name = rng.choice(("is true", "is not true", "is false", "is not false", "is null"))
            return Call(name, (self.predicate(scope, depth - 1),), "boolean")
        if roll < 0.5:
            kind = rng.choice([kind for kind in SCALARS + NESTED[:2]])
            return Call(rng.choice(("is null", "is not null")), (self.value(kind, scope, depth - 1),), "boolean")
        if roll < 0.57:
            left = self.value("string", scope, depth - 1)
            right = Literal(rng.choice(PATTERNS), "string") if rng.random() < 0.8 else self.value("string", scope, 0)
            return Call(rng.choice(("like", "not like")), (left, right), "boolean")
        if roll < 0.64:
            kind = rng.choice(ORDERED)
            values = tuple(self.value(kind, scope, depth - 1) for _ in range(3))
            return Call(rng.choice(("between", "not between")), values, "boolean")
        if roll < 0.71:
            return self.in_list(scope, depth)
        if roll < 0.75 and self.on("lambdas"):
            kind = rng.choice(NESTED[:2])
            variable = Column("", rng.choice(("e", "v")), kind[6:-1])
            inside = [variable] + (scope if rng.random() < 0.3 and self.on("lambda capture") else [])
            array = self.value(kind, scope, depth - 1)
            return Lambda(rng.choice(("exists", "forall")), array, variable.name, self.compare(inside, variable), "boolean")
        if roll < 0.78 and self.on("arrays"):
            kind = rng.choice(("int", "string"))
            return Call("array_contains", (self.value(f"array<{kind}>", scope, depth - 1), self.value(kind, scope, 0)), "boolean")
        if roll < 0.8:
            return self.literal("boolean", null=0.3)
        kind = rng.choice([kind for kind in ORDERED if any(column.type == kind for column in scope)] or ORDERED)
        names = ("eq", "eq", "ne", "lt", "le", "gt", "ge", "ne2", "eq2", "nseq", "distinct", "not distinct")
        other = rng.choice(NUMBERS) if kind in NUMBERS and rng.random() < 0.25 and self.on("mixed") else kind
        return Call(rng.choice(names), (self.value(kind, scope, depth - 1), self.value(other, scope, depth - 1)), "boolean")

    def in_list(self, scope, depth):
        kind = self.rng.choice(("int", "string", "double", "date", "decimal(9,2)"))
        values = tuple(self.literal(kind, null=0.12) for _ in range(self.rng.randint(1, 4)))
        return InList(self.value(kind, scope, depth - 1), values, self.rng.random() < 0.4)


class FrozenStruct(dict):
    """A struct's value that can be a part of a frozen node."""

    def __hash__(self):
        return hash(tuple(sorted(self.items(), key=str)))
