//! trireme-scheduler
