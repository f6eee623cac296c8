//! trireme-executor
