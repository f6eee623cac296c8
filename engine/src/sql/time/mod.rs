//! Dates and times as Spark reads and writes them.

pub(crate) mod calendar;
pub(crate) mod functions;
pub(crate) mod iso;
pub(crate) mod pattern;
pub(crate) mod pattern_read;
pub(crate) mod pattern_write;
pub(crate) mod zone;
