//! The functions of SQL: `trireme sql --functions`.

use serde::Serialize;
use trireme_proto::{SqlFunction, sql_functions};

use crate::{
    arguments::OutputFormat,
    error::Result,
    grid::{Align, Grid},
    output::Output,
};

#[derive(Serialize)]
struct FunctionView {
    area: &'static str,
    name: &'static str,
    arguments: &'static str,
    example: &'static str,
    difference: &'static str,
}

/// Writes the list: a table by area, or an object a line.
pub fn list(output: &mut Output, format: OutputFormat) -> Result<()> {
    if let OutputFormat::Json = format {
        return sql_functions().try_for_each(|function| {
            let SqlFunction { area, name, arguments, example, difference } = function;
            output.json(&FunctionView { area, name, arguments, example, difference })
        });
    }
    let mut areas: Vec<(&str, Vec<SqlFunction>)> = Vec::new();
    for function in sql_functions() {
        match areas.last_mut() {
            Some((area, functions)) if *area == function.area => functions.push(function),
            _ => areas.push((function.area, vec![function])),
        }
    }
    for (i, (area, functions)) in areas.into_iter().enumerate() {
        if i > 0 {
            output.line("")?;
        }
        let columns = [("example", Align::Left), ("difference from Spark", Align::Left)];
        let mut grid = Grid::new(&[(area, Align::Left), columns[0], columns[1]]);
        for function in functions {
            grid.row([&format!("{}({})", function.name, function.arguments), function.example, function.difference]);
        }
        output.line(grid.text())?;
    }
    Ok(())
}
