//! Ballista, embedded: executors register here, and physical plans run on them exactly once.
//!
//! Ballista is not trusted with correctness when an executor dies: see [`Cluster::run`].

mod attempt;
mod progress;
mod slots;

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use arrow::array::RecordBatch;
use ballista_core::{
    config::TaskSchedulingPolicy,
    error::BallistaError,
    extension::SessionConfigExt,
    serde::{BallistaLogicalExtensionCodec, protobuf::scheduler_grpc_server::SchedulerGrpcServer},
};
use ballista_scheduler::{
    cluster::{BallistaCluster, JobState, memory::InMemoryJobState},
    config::{SchedulerConfig, TaskDistributionPolicy},
    scheduler_process::create_scheduler,
    scheduler_server::SchedulerServer,
};
use datafusion::{
    arrow::datatypes::Schema,
    physical_plan::{ExecutionPlan, empty::EmptyExec},
    prelude::{SessionConfig, SessionContext},
};
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;
use trireme_engine::{
    Code, Error, Result,
    plan::{TriremeCodec, check_travels, distributable},
};
use trireme_proto::v1;

use slots::CountedSlots;

/// Largest gRPC message between scheduler and executors, bytes. An oversize task launch is taken for executor loss (upstream issue 2290), so
/// this is generous.
pub const MAX_MESSAGE_SIZE: usize = 256 * 1024 * 1024;

/// What Ballista says of a job with a task that it can't write, or an executor can't read.
const REJECTED: &str = "task could not be prepared or was rejected by executor";

/// How the cluster reacts to executors.
#[derive(Debug, Clone)]
pub struct ClusterSettings {
    /// Name under which executors reach this scheduler.
    pub external_host: String,
    /// An executor that was silent for so long is lost.
    pub executor_timeout: Duration,
    /// How often lost work is run again before the job fails.
    pub retries: u32,
    /// How long a plan may wait for a first executor.
    pub executor_wait: Duration,
}

/// Executors and the scheduler that feeds them.
#[derive(Clone)]
pub struct Cluster {
    server: SchedulerServer<LogicalPlanNode, PhysicalPlanNode>,
    jobs: Arc<dyn JobState>,
    slots: Arc<CountedSlots>,
    settings: ClusterSettings,
}

/// What a plan gave, and what it took.
#[derive(Debug)]
pub struct Ran {
    /// Its rows.
    pub batches: Vec<RecordBatch>,
    /// Times that work was discarded and run again.
    pub retries: u32,
}

/// Told of a plan's stages while it runs: all stages of the attempt that is under way.
pub trait Progress: Send + Sync {
    /// `stages` replaces what was told before of the same attempt.
    fn stages(&self, attempt: u32, stages: Vec<v1::Stage>);
    /// Whether none of its tasks runs because all slots are taken.
    fn waits(&self, for_slot: bool);
    /// The attempt was thrown away, for this reason.
    fn discarded(&self, attempt: u32, why: &Error);
}

impl Cluster {
    /// Starts the scheduler that executors register with, on this listener, until `shutdown`.
    pub async fn start(listener: TcpListener, settings: ClusterSettings, shutdown: CancellationToken) -> Result<Self> {
        let address = listener.local_addr().map_err(|error| Error::new(Code::Internal, error.to_string()))?;
        let config = Arc::new(scheduler_config(&settings, address));
        let session_builder: ballista_scheduler::scheduler_server::SessionBuilder =
            Arc::new(ballista_core::utils::default_session_builder);
        let config_producer: ballista_core::ConfigProducer = Arc::new(SessionConfig::new_with_ballista);
        let slots = Arc::new(CountedSlots::new());
        let jobs: Arc<dyn JobState> =
            Arc::new(InMemoryJobState::new(config.scheduler_id.clone(), session_builder, config_producer));
        let server =
            create_scheduler(BallistaCluster::new(slots.clone(), jobs.clone()), config).await.map_err(failed)?;
        let cluster = Self { server, jobs, slots, settings };
        cluster.serve(listener, shutdown.clone());
        tokio::spawn(cluster.clone().give_back_leaked_slots(shutdown));
        Ok(cluster)
    }

    /// Number of registered executors, as it changes.
    pub fn executors(&self) -> watch::Receiver<usize> {
        self.slots.executors()
    }

    /// Slots of all executors together: how many tasks run side by side.
    pub fn vcores(&self) -> usize {
        self.slots.vcores()
    }

    /// Runs a plan on the executors and gives its rows, each exactly once.
    ///
    /// An attempt in which an executor is lost, a stage is run again, a result can't be fetched or does not add up is thrown away and the
    /// plan is submitted anew: that is safe because plans only write files that nothing refers to, and cheap because it is rare. What an error
    /// of ours says ([`Error::find_in`]) is final, all else that does not look passing is too.
    pub async fn run(
        &self,
        name: &str,
        session: Arc<SessionContext>,
        plan: Arc<dyn ExecutionPlan>,
        progress: &dyn Progress,
        cancel: &CancellationToken,
    ) -> Result<Ran> {
        let mut attempt = 1;
        loop {
            self.wait_for_executors(cancel).await?;
            match self.attempt(name, session.clone(), plan.clone(), attempt, progress, cancel).await {
                Ok(batches) => return Ok(Ran { batches, retries: attempt - 1 }),
                Err(error) if error.code == Code::WorkLost && attempt <= self.settings.retries => {
                    // A plan that an executor can't read is rejected by all of them.
                    if error.message.contains(REJECTED) {
                        let state = session.state();
                        check_travels(&state, &distributable(plan.clone(), state.config_options())?)?;
                    }
                    tracing::warn!(name, attempt, %error, "discarded, running again");
                    progress.discarded(attempt, &error);
                    tokio::select! {
                        () = tokio::time::sleep(Duration::from_millis(200) * attempt) => {}
                        () = cancel.cancelled() => return Err(cancelled()),
                    }
                    attempt += 1;
                }
                Err(error) if error.code == Code::WorkLost => {
                    let message = format!("{name} lost its work {attempt} times; last: {}", error.message);
                    return Err(Error::new(Code::WorkLost, message)
                        .hint("look at the executors' logs: they die or can't reach each other; run the job again when they are well"));
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn wait_for_executors(&self, cancel: &CancellationToken) -> Result<()> {
        let mut executors = self.executors();
        let there = executors.wait_for(|count| *count > 0);
        tokio::select! {
            there = there => there.map(|_| ()).map_err(|error| Error::new(Code::Internal, error.to_string())),
            () = cancel.cancelled() => Err(cancelled()),
            () = tokio::time::sleep(self.settings.executor_wait) => Err(Error::new(
                Code::NoExecutors,
                format!("no executor registered within {} s", self.settings.executor_wait.as_secs()),
            )
            .hint("start a trireme-executor with --scheduler pointing at this scheduler's Ballista port")),
        }
    }

    fn serve(&self, listener: TcpListener, shutdown: CancellationToken) {
        let service = SchedulerGrpcServer::new(self.server.clone())
            .max_encoding_message_size(MAX_MESSAGE_SIZE)
            .max_decoding_message_size(MAX_MESSAGE_SIZE);
        let mut routes = tonic::service::RoutesBuilder::default();
        routes.add_service(service);
        let router = routes.routes().into_axum_router().into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move {
            let served = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await;
            if let Err(error) = served {
                tracing::error!(%error, "the executors' listener failed");
            }
        });
    }

    /// Gives back slots that stayed leaked over several looks: tasks that end between two looks leak for a moment without harm.
    async fn give_back_leaked_slots(self, shutdown: CancellationToken) {
        const LOOKS: usize = 5;
        const PAUSE: Duration = Duration::from_millis(400);
        let mut looks: Vec<HashMap<String, u32>> = Vec::new();
        while !shutdown.is_cancelled() {
            tokio::time::sleep(PAUSE).await;
            looks.push(self.slots.leaked(&self.server.state.task_manager.get_running_job_cache()).await);
            if looks.len() < LOOKS {
                continue;
            }
            let steady: Vec<(String, u32)> = looks[0]
                .keys()
                .filter_map(|id| {
                    let least = looks.iter().map(|look| look.get(id).copied().unwrap_or(0)).min()?;
                    (least > 0).then(|| (id.clone(), least))
                })
                .collect();
            looks.clear();
            if steady.is_empty() {
                continue;
            }
            tracing::warn!(?steady, "giving leaked slots back");
            if let Err(error) = self.server.state.executor_manager.unbind_tasks(steady).await {
                tracing::warn!(%error, "can't give leaked slots back");
                continue;
            }
            // Ballista hands out slots only on events; a submission is the one event that can be made from outside.
            let nothing = Arc::new(EmptyExec::new(Arc::new(Schema::empty())));
            let session = Arc::new(SessionContext::new_with_config(SessionConfig::new_with_ballista()));
            if let Err(error) = self.server.submit_physical_plan("revive", session, nothing, None).await {
                tracing::warn!(%error, "can't revive offers");
            }
        }
    }
}

fn scheduler_config(settings: &ClusterSettings, address: SocketAddr) -> SchedulerConfig {
    let message_size = MAX_MESSAGE_SIZE as u32;
    let timeout = settings.executor_timeout.as_secs().max(2);
    SchedulerConfig {
        external_host: settings.external_host.clone(),
        bind_host: address.ip().to_string(),
        bind_port: address.port(),
        scheduling_policy: TaskSchedulingPolicy::PushStaged,
        task_distribution: TaskDistributionPolicy::RoundRobin,
        executor_timeout_seconds: timeout,
        expire_dead_executor_interval_seconds: 1,
        no_executors_grace_period_seconds: timeout,
        executor_termination_grace_period: 0,
        // A stage that was rolled back once may have wrong rows: fail instead, we run the plan again.
        stage_max_failures: 1,
        task_max_failures: 3,
        finished_job_data_clean_up_interval_seconds: 60,
        finished_job_state_clean_up_interval_seconds: 300,
        grpc_server_max_decoding_message_size: message_size,
        grpc_server_max_encoding_message_size: message_size,
        grpc_client_max_message_size: message_size,
        override_logical_codec: Some(Arc::new(BallistaLogicalExtensionCodec::default())),
        override_physical_codec: Some(Arc::new(TriremeCodec::default())),
        ..SchedulerConfig::default()
    }
}

fn failed(error: BallistaError) -> Error {
    let text = error.to_string();
    Error::find_in(&text).unwrap_or_else(|| Error::new(Code::Internal, text))
}

fn cancelled() -> Error {
    Error::new(Code::Cancelled, "cancelled")
}
