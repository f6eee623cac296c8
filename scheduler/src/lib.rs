//! trireme-scheduler

pub mod cluster;
