"""Operators and functions: how Spark spells them and how DuckDB says the same.

What the engines mean differently is translated here, never left to the generator: Spark's `/` and `%` by zero are NULL, `size(NULL)` is -1,
arrays count from 0, casts of fractions cut off. What can't be translated is not in the table."""

import datetime
import decimal
import math
from dataclasses import dataclass

SPARK, DUCK = "spark", "duck"

# How tightly things bind in Spark; an argument that binds less needs brackets.
OR, AND, NOT, COMPARE, ADD, MULTIPLY, ATOM = 1, 2, 3, 4, 6, 7, 9


@dataclass(frozen=True)
class Operator:
    spark: str
    duck: str
    level: int = ATOM
    # `a - b - c` needs no brackets.
    chains: bool = False


TABLE = {}


def define(name, spark, duck=None, level=ATOM, chains=False):
    TABLE[name] = Operator(spark, spark if duck is None else duck, level, chains)


define("or", "{0} OR {1}", level=OR, chains=True)
define("and", "{0} AND {1}", level=AND, chains=True)
define("not", "NOT {0}", level=NOT)
define("bang", "!{0}", "NOT {0}", NOT)
for _name, _word in {"eq": "=", "ne": "<>", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}.items():
    define(_name, f"{{0}} {_word} {{1}}", level=COMPARE)
define("ne2", "{0} != {1}", level=COMPARE)
define("eq2", "{0} == {1}", "{0} = {1}", COMPARE)
define("nseq", "{0} <=> {1}", "{0} IS NOT DISTINCT FROM {1}", COMPARE)
define("distinct", "{0} IS DISTINCT FROM {1}", level=COMPARE)
define("not distinct", "{0} IS NOT DISTINCT FROM {1}", level=COMPARE)
define("is null", "{0} IS NULL", level=COMPARE)
define("is not null", "{0} IS NOT NULL", level=COMPARE)
for _word in ("TRUE", "FALSE"):
    define(f"is {_word.lower()}", f"{{0}} IS {_word}", f"({{0}}) IS NOT DISTINCT FROM {_word}", COMPARE)
    define(f"is not {_word.lower()}", f"{{0}} IS NOT {_word}", f"({{0}}) IS DISTINCT FROM {_word}", COMPARE)
define("between", "{0} BETWEEN {1} AND {2}", level=COMPARE)
define("not between", "{0} NOT BETWEEN {1} AND {2}", level=COMPARE)
define("like", "{0} LIKE {1}", level=COMPARE)
define("not like", "{0} NOT LIKE {1}", level=COMPARE)
define("isnan", "isnan({0})", "coalesce(isnan({0}), FALSE)")

define("add", "{0} + {1}", level=ADD, chains=True)
define("sub", "{0} - {1}", level=ADD, chains=True)
define("mul", "{0} * {1}", level=MULTIPLY, chains=True)
define("div", "{0} / {1}", "CASE WHEN {1} = 0 THEN NULL ELSE CAST({0} AS DOUBLE) / CAST({1} AS DOUBLE) END", MULTIPLY)
define("intdiv", "{0} DIV {1}", "CASE WHEN {1} = 0 THEN NULL ELSE CAST({0} AS BIGINT) // CAST({1} AS BIGINT) END", MULTIPLY)
define("mod", "{0} % {1}", "CASE WHEN {1} = 0 THEN NULL ELSE {0} % {1} END", MULTIPLY)
define("neg", "-({0})")
define("abs", "abs({0})")
define("sign", "sign({0})")
define("greatest", "greatest({rest})")
define("least", "least({rest})")
define("pmod", "pmod({0}, {1})", "CASE WHEN {1} = 0 THEN NULL ELSE (({0} % {1}) + {1}) % {1} END")

define("coalesce", "coalesce({rest})")
define("nvl", "nvl({0}, {1})", "coalesce({0}, {1})")
define("nullif", "nullif({0}, {1})")
define("if", "if({0}, {1}, {2})", "CASE WHEN {0} THEN {1} ELSE {2} END")
define("nvl2", "nvl2({0}, {1}, {2})", "CASE WHEN ({0}) IS NOT NULL THEN {1} ELSE {2} END")

define("upper", "upper({0})")
define("lower", "lower({0})")
define("length", "length({0})")
define("trim", "trim({0})")
define("concat", "concat({0}, {1})", "({0}) || ({1})")
define("pipes", "{0} || {1}", level=ADD, chains=True)
define("substring", "substring({0}, {x0}, {x1})")
define("replace", "replace({0}, {1}, {2})")
define("startswith", "startswith({0}, {1})", "starts_with({0}, {1})")
define("reverse", "reverse({0})")

define("year", "year({0})")
define("month", "month({0})")
define("day", "day({0})")
define("hour", "hour({0})")
define("dayofweek", "dayofweek({0})", "(dayofweek({0}) + 1)")
define("date_add", "date_add({0}, {1})", "CAST(({0}) + CAST({1} AS INTEGER) AS DATE)")
define("date_sub", "date_sub({0}, {1})", "CAST(({0}) - CAST({1} AS INTEGER) AS DATE)")
define("datediff", "datediff({0}, {1})", "date_diff('day', {1}, {0})")
define("add hours", "{0} + INTERVAL {x0} HOURS", "{0} + INTERVAL {x0} HOUR", ADD)
define("add days", "{0} - INTERVAL {x0} DAYS", "{0} - INTERVAL {x0} DAY", ADD)
define("date_trunc", "date_trunc('{x0}', {0})")

define("array", "array({rest})", "[{rest}]")
define("size", "size({0})", "coalesce(len({0}), -1)")
define("at", "{0}[{x0}]", "({0})[{x0} + 1]")
define("sort_array", "sort_array({0})", "list_sort({0}, 'ASC', 'NULLS FIRST')")
define("array_max", "array_max({0})", "list_max({0})")
define("array_min", "array_min({0})", "list_min({0})")
define(
    "array_contains",
    "array_contains({0}, {1})",
    "CASE WHEN ({0}) IS NULL OR ({1}) IS NULL THEN NULL WHEN list_contains({0}, {1}) THEN TRUE "
    "WHEN len(list_filter({0}, lambda q: q IS NULL)) > 0 THEN NULL ELSE FALSE END",
)
define("named_struct", "named_struct('a', {0}, 'b', {1})", "struct_pack(a := {0}, b := {1})")
define("unnest", "explode({0})", "unnest({0})")
define("unnest outer", "explode_outer({0})", "unnest(CASE WHEN len({0}) > 0 THEN {0} ELSE [NULL] END)")

# Casts by what they start from and end at.
for _from, _to, _duck in (
    ("int", "bigint", "CAST({0} AS BIGINT)"),
    ("int", "double", "CAST({0} AS DOUBLE)"),
    ("bigint", "double", "CAST({0} AS DOUBLE)"),
    ("int", "decimal(12,2)", "CAST({0} AS DECIMAL(12,2))"),
    ("decimal(9,2)", "double", "CAST({0} AS DOUBLE)"),
    ("decimal(9,2)", "int", "CAST(trunc(CAST({0} AS DOUBLE)) AS INTEGER)"),
    ("double", "int", "CASE WHEN isnan({0}) THEN 0 ELSE CAST(trunc({0}) AS INTEGER) END"),
    ("int", "string", "CAST({0} AS VARCHAR)"),
    ("bigint", "string", "CAST({0} AS VARCHAR)"),
    ("string", "int", "TRY_CAST({0} AS INTEGER)"),
    ("boolean", "int", "CAST({0} AS INTEGER)"),
    ("int", "boolean", "CAST({0} AS BOOLEAN)"),
    ("boolean", "string", "CAST({0} AS VARCHAR)"),
    ("date", "string", "CAST({0} AS VARCHAR)"),
    ("date", "timestamp", "CAST({0} AS TIMESTAMP)"),
    ("timestamp", "date", "CAST({0} AS DATE)"),
    ("decimal(9,2)", "string", "CAST({0} AS VARCHAR)"),
):
    define(f"cast {_from} {_to}", f"CAST({{0}} AS {_to.upper()})", _duck)
CASTS = [tuple(name.split(" ")[1:]) for name in TABLE if name.startswith("cast ")]

define("count(*)", "count(*)")
for _name in ("count", "sum", "min", "max", "avg"):
    define(_name, f"{_name}({{0}})")
define("avg decimal", "avg({0})", "round(avg({0}), 6)")
define("sum double", "sum({0})")
define("count distinct", "count(DISTINCT {0})")
define("count distinct 2", "count(DISTINCT {0}, {1})", "count(DISTINCT CASE WHEN ({0}) IS NULL OR ({1}) IS NULL THEN NULL ELSE ({0}, {1}) END)")
define("sum distinct", "sum(DISTINCT {0})")
define("count_if", "count_if({0})", "count(*) FILTER (WHERE {0})")
define("bool_and", "bool_and({0})")
define("bool_or", "bool_or({0})")
define("every", "every({0})", "bool_and({0})")
define("count filter", "count(*) FILTER (WHERE {0})")
define("sum filter", "sum({0}) FILTER (WHERE {1})")
define("max filter", "max({0}) FILTER (WHERE {1})")
define("collect_list", "sort_array(collect_list({0}))", "coalesce(list_sort(list({0}) FILTER (WHERE ({0}) IS NOT NULL)), [])")
define("collect_set", "size(collect_set({0}))", "count(DISTINCT {0})")
define("median", "median({0})")
define("stddev", "stddev({0})", "CASE WHEN count(*) FILTER (WHERE isnan(CAST({0} AS DOUBLE))) > 0 THEN 'nan'::DOUBLE ELSE stddev({0}) FILTER (WHERE NOT isnan(CAST({0} AS DOUBLE))) END")
define("grouping", "grouping({0})")
define("max_by", "max_by({0}, {1})")

for _name in ("row_number", "rank", "dense_rank", "percent_rank", "cume_dist"):
    define(_name, f"{_name}()")
define("ntile", "ntile({x0})")
define("lag", "lag({0}, {x0})")
define("lead", "lead({0}, {x0})")
define("lag default", "lag({0}, {x0}, {1})")
define("first_value", "first_value({0})")
define("last_value", "last_value({0})")
define("nth_value", "nth_value({0}, {x0})")


def literal(value, kind, engine):
    """A literal, or NULL of a type."""
    if kind.startswith("array<"):
        if value is None:
            return f"CAST(NULL AS {type_name(kind, engine)})"
        inner = kind[6:-1]
        items = ", ".join(literal(item, inner, engine) if item is not None else "NULL" for item in value)
        if not value:
            return f"CAST(array() AS {type_name(kind, engine)})" if engine == SPARK else f"CAST([] AS {type_name(kind, engine)})"
        text = f"array({items})" if engine == SPARK else f"[{items}]"
        return f"CAST({text} AS {type_name(kind, engine)})"
    if kind.startswith("struct<"):
        if value is None:
            return f"CAST(NULL AS {type_name(kind, engine)})"
        a, b = literal(value["a"], "int", engine), literal(value["b"], "string", engine)
        return f"named_struct('a', {a}, 'b', {b})" if engine == SPARK else f"struct_pack(a := {a}, b := {b})"
    if value is None:
        return f"CAST(NULL AS {type_name(kind, engine)})"
    if kind == "boolean":
        return "TRUE" if value else "FALSE"
    if kind == "string":
        return "'" + value.replace("'", "''" if engine == DUCK else "\\'") + "'"
    if kind == "date":
        return f"DATE'{value.isoformat()}'"
    if kind == "timestamp":
        return f"TIMESTAMP'{value.isoformat(sep=' ')}'"
    if kind == "double":
        if math.isnan(value) or math.isinf(value):
            name = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
            return f"CAST('{name}' AS DOUBLE)"
        if value == 0 and math.copysign(1, value) < 0:
            return "CAST('-0.0' AS DOUBLE)"
        return f"CAST({value!r} AS DOUBLE)"
    if kind.startswith("decimal"):
        return f"CAST({decimal.Decimal(value)} AS {type_name(kind, engine)})"
    if kind == "bigint":
        return f"{value}L" if engine == SPARK else f"CAST({value} AS BIGINT)"
    return str(value)


def type_name(kind, engine):
    if engine == SPARK:
        return kind.upper() if not kind.startswith(("array", "struct")) else kind
    if kind.startswith("array<"):
        return type_name(kind[6:-1], engine) + "[]"
    if kind.startswith("struct<"):
        return "STRUCT(a INTEGER, b VARCHAR)"
    return {"int": "INTEGER", "string": "VARCHAR"}.get(kind, kind.upper())


__all__ = ["DUCK", "SPARK", "TABLE", "CASTS", "literal", "type_name", "datetime"]
