//! Spark's documented examples (<https://spark.apache.org/docs/3.5.1/api/sql/>) and edge cases, run over the wire.

mod arrays;
mod functions;
mod groups;
mod operators;
mod relations;
mod subqueries;
mod syntax;
mod text;
mod times;
mod types;
