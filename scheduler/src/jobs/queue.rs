//! Queues before what jobs write: jobs of one table, or of one source, run one after the other, first come, first served.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{id::JobId, subject::Target};

/// One queue for every table and source that some job writes or waits for.
#[derive(Debug, Default)]
pub(crate) struct Queues(Mutex<HashMap<Target, watch::Sender<VecDeque<JobId>>>>);

/// A job's place in a queue; dropping it gives it up.
#[derive(Debug)]
pub(crate) struct Place {
    queues: Arc<Queues>,
    target: Target,
    job: JobId,
    line: watch::Receiver<VecDeque<JobId>>,
}

impl Queues {
    /// Takes the next free place before `target`.
    pub fn join(self: &Arc<Self>, target: Target, job: JobId) -> Place {
        let mut queues = self.0.lock();
        let queue = queues.entry(target.clone()).or_insert_with(|| watch::Sender::new(VecDeque::new()));
        queue.send_modify(|line| line.push_back(job.clone()));
        Place { queues: self.clone(), target, job, line: queue.subscribe() }
    }
}

impl Place {
    /// Waits until the place is the first, and tells `waits` which job is the first meanwhile.
    pub async fn first(&mut self, waits: impl Fn(&JobId)) {
        loop {
            let first = self.line.borrow_and_update().front().cloned();
            match first {
                Some(first) if first != self.job => waits(&first),
                _ => return,
            }
            if self.line.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut queues = self.queues.0.lock();
        let Some(queue) = queues.get(&self.target) else { return };
        queue.send_modify(|line| line.retain(|job| *job != self.job));
        if queue.borrow().is_empty() {
            queues.remove(&self.target);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> JobId {
        format!("20261122-201533-{n:03}").parse().unwrap()
    }

    #[tokio::test]
    async fn places_come_first_in_order_and_others_do_not_wait() {
        let queues = Arc::new(Queues::default());
        let target = |name: &str| Target::Table(format!("a.{name}").parse().unwrap());
        let mut places: Vec<Place> = (1..=3).map(|n| queues.join(target("one"), id(n))).collect();
        queues.join(target("two"), id(4)).first(|_| panic!("another table's queue")).await;

        places[0].first(|_| panic!("waits")).await;
        let mut third = places.pop().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let waiting = tokio::spawn({
            let seen = seen.clone();
            async move { third.first(|first| seen.lock().push(first.clone())).await }
        });
        while seen.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        drop(places.remove(1 - 1));
        while seen.lock().len() < 2 {
            tokio::task::yield_now().await;
        }
        drop(places);
        waiting.await.unwrap();
        assert_eq!(*seen.lock(), [id(1), id(2)]);
        assert!(queues.0.lock().is_empty(), "an empty queue is forgotten");
    }
}
