//! gRPC health: `""` is the process, `trireme.v1.*` are the services, `trireme.executors` says whether there are enough of them.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic_health::{
    ServingStatus,
    pb::health_server::{Health, HealthServer},
    server::health_reporter,
};

use super::{CatalogServer, JobsServer, QueryServer, RawServer, catalog, jobs, query, raw};

const EXECUTORS: &str = "trireme.executors";

/// The health service. It answers NOT_SERVING for everything once `shutdown` is cancelled.
pub async fn service(
    mut executors: watch::Receiver<usize>,
    enough: usize,
    shutdown: CancellationToken,
) -> HealthServer<impl Health> {
    let (reporter, server) = health_reporter();
    let names = [
        "",
        JobsServer::<jobs::Service>::NAME,
        CatalogServer::<catalog::Service>::NAME,
        RawServer::<raw::Service>::NAME,
        QueryServer::<query::Service>::NAME,
    ];
    for name in names {
        reporter.set_service_status(name, ServingStatus::Serving).await;
    }
    let of = move |live: usize| if live >= enough { ServingStatus::Serving } else { ServingStatus::NotServing };
    let now = of(*executors.borrow_and_update());
    reporter.set_service_status(EXECUTORS, now).await;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                changed = executors.changed() => match changed {
                    Ok(()) => {
                        let now = of(*executors.borrow_and_update());
                        reporter.set_service_status(EXECUTORS, now).await;
                    }
                    // Nobody counts any more, so nothing is known of them.
                    Err(_) => break,
                },
            }
        }
        reporter.set_service_status(EXECUTORS, ServingStatus::NotServing).await;
        shutdown.cancelled().await;
        for name in names {
            reporter.set_service_status(name, ServingStatus::NotServing).await;
        }
    });
    server
}
