//! Rows in, rows out.
