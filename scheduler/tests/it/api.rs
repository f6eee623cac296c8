//! What all services have in common: tokens, health, reflection, errors; and SQL's stream of rows.

use arrow::{array::Int64Array, ipc::reader::StreamReader};
use futures::{StreamExt, TryStreamExt};
use tempfile::tempdir;
use tonic::{Code as GrpcCode, Request, Status, metadata::MetadataValue};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use trireme_engine::{Code, Error};
use trireme_proto::v1::{
    DescribeTableRequest, ListJobsRequest, ListSourcesRequest, ListTablesRequest, ListVersionsRequest, SqlRequest,
    TableHistoryRequest, catalog_client::CatalogClient, query_client::QueryClient, raw_client::RawClient,
};

use crate::world::{BATCH, Fake, World, options};

async fn health(world: &World, service: &str) -> Result<ServingStatus, Status> {
    let request = HealthCheckRequest { service: service.into() };
    Ok(HealthClient::new(world.channel.clone()).check(request).await?.into_inner().status())
}

#[tokio::test]
async fn everything_but_health_wants_the_token() {
    let folder = tempdir().unwrap();
    let token = "a-secret".parse().unwrap();
    let world = World::start_with(folder.path(), Fake::new([]), options(), Some(token)).await;
    assert_eq!(health(&world, "").await.unwrap(), ServingStatus::Serving);

    let with = |authorization: Option<&str>| {
        let mut request = Request::new(ListJobsRequest::default());
        if let Some(value) = authorization {
            request.metadata_mut().insert("authorization", value.parse::<MetadataValue<_>>().unwrap());
        }
        request
    };
    for wrong in [None, Some("Bearer wrong"), Some("Bearer "), Some("Bearer"), Some("Basic a-secret"), Some("a-secret")]
    {
        let status = world.jobs().list(with(wrong)).await.unwrap_err();
        assert_eq!(status.code(), GrpcCode::Unauthenticated, "{wrong:?}");
        assert_eq!(Error::find_in(status.message()).unwrap().code, Code::Unauthenticated);
        assert!(!status.message().contains("a-secret"));
    }
    for right in ["Bearer a-secret", "bearer a-secret"] {
        world.jobs().list(with(Some(right))).await.unwrap();
    }
    let channel = || world.channel.clone();
    let statuses = [
        CatalogClient::new(channel()).list_tables(ListTablesRequest {}).await.unwrap_err(),
        RawClient::new(channel()).list_sources(ListSourcesRequest {}).await.unwrap_err(),
        QueryClient::new(channel()).sql(SqlRequest::default()).await.unwrap_err(),
        services(&world).await.unwrap_err(),
    ];
    assert!(statuses.iter().all(|status| status.code() == GrpcCode::Unauthenticated), "{statuses:?}");
}

#[tokio::test]
async fn health_says_whether_there_are_enough_executors() {
    let folder = tempdir().unwrap();
    let world = World::start(folder.path(), Fake::new([])).await;
    for service in ["", "trireme.v1.Jobs", "trireme.v1.Catalog", "trireme.v1.Raw", "trireme.v1.Query"] {
        assert_eq!(health(&world, service).await.unwrap(), ServingStatus::Serving, "{service}");
    }
    assert_eq!(health(&world, "trireme.v2.Jobs").await.unwrap_err().code(), GrpcCode::NotFound);

    let request = HealthCheckRequest { service: "trireme.executors".into() };
    let mut changes = HealthClient::new(world.channel.clone()).watch(request).await.unwrap().into_inner();
    let mut next = async || changes.message().await.unwrap().unwrap().status();
    assert_eq!(next().await, ServingStatus::NotServing);
    world.executors.send_replace(2);
    assert_eq!(next().await, ServingStatus::Serving);
    world.executors.send_replace(1);
    assert_eq!(next().await, ServingStatus::NotServing);
}

async fn services(world: &World) -> Result<Vec<String>, Status> {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(world.channel.clone());
    let mut answers = client.server_reflection_info(futures::stream::iter([request])).await?.into_inner();
    match answers.message().await?.and_then(|answer| answer.message_response) {
        Some(MessageResponse::ListServicesResponse(list)) => Ok(list.service.into_iter().map(|s| s.name).collect()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn reflection_lists_the_services() {
    let folder = tempdir().unwrap();
    let world = World::start(folder.path(), Fake::new([])).await;
    let services = services(&world).await.unwrap();
    for name in ["trireme.v1.Jobs", "trireme.v1.Catalog", "trireme.v1.Raw", "trireme.v1.Query", "grpc.health.v1.Health"]
    {
        assert!(services.iter().any(|service| service == name), "{name} is not in {services:?}");
    }
}

#[tokio::test]
async fn catalog_and_raw_answer_and_say_what_is_not_there() {
    let folder = tempdir().unwrap();
    let world = World::start(folder.path(), Fake::new([])).await;
    let mut catalog = CatalogClient::new(world.channel.clone());
    assert_eq!(catalog.list_tables(ListTablesRequest {}).await.unwrap().into_inner().tables[0].name, "a.b");
    let history = async |limit| {
        let request = TableHistoryRequest { name: "a.b".into(), limit };
        CatalogClient::new(world.channel.clone()).table_history(request).await.unwrap().into_inner().commits.len()
    };
    assert_eq!((history(0).await, history(7).await), (50, 7));
    let status = catalog.describe_table(DescribeTableRequest { name: "a.b".into() }).await.unwrap_err();
    let error = Error::find_in(status.message()).unwrap();
    assert_eq!((status.code(), error.code), (GrpcCode::NotFound, Code::TableNotFound));
    let status = catalog.describe_table(DescribeTableRequest { name: "../x".into() }).await.unwrap_err();
    assert_eq!(status.code(), GrpcCode::InvalidArgument);

    let mut raw = RawClient::new(world.channel.clone());
    assert_eq!(raw.list_sources(ListSourcesRequest {}).await.unwrap().into_inner().sources[0].name, "a.b");
    // 40,000 bytes of message would not fit into a header.
    let status = raw.list_versions(ListVersionsRequest { source: "a.b".into() }).await.unwrap_err();
    let error = Error::find_in(status.message()).unwrap();
    assert_eq!((status.code(), error.code), (GrpcCode::NotFound, Code::SourceNotFound));
    assert!(error.message.starts_with("no source `a.b`: éé") && error.message.ends_with("é…"));
}

/// The numbers of an answer, and the size of its largest message.
async fn numbers(world: &World, sql: &str) -> Result<(Vec<i64>, usize), Status> {
    let mut client = QueryClient::new(world.channel.clone());
    let messages = client.sql(SqlRequest { sql: sql.into() }).await?.into_inner();
    let messages: Vec<Vec<u8>> = messages.map_ok(|message| message.ipc).try_collect().await?;
    let largest = messages.iter().map(Vec::len).max().unwrap_or_default();
    let reader = StreamReader::try_new(std::io::Cursor::new(messages.concat()), None).unwrap();
    assert_eq!(reader.schema().field(0).name(), "n");
    let mut numbers = Vec::new();
    for batch in reader {
        let batch = batch.unwrap();
        numbers.extend(batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap().values());
    }
    Ok((numbers, largest))
}

#[tokio::test]
async fn sql_answers_as_one_arrow_stream_in_small_messages() {
    let folder = tempdir().unwrap();
    let world = World::start(folder.path(), Fake::new([])).await;
    let (rows, largest) = numbers(&world, "3 batches").await.unwrap();
    assert_eq!(rows, (0..3 * i64::try_from(BATCH).unwrap()).collect::<Vec<_>>());
    assert_eq!(largest, 1 << 20, "a batch of 2.4 MB is cut");
    assert!(numbers(&world, "0 batches").await.unwrap().0.is_empty());

    let wrong = numbers(&world, "DROP TABLE a.b").await.unwrap_err();
    assert_eq!(wrong.code(), GrpcCode::InvalidArgument);
    let broken = numbers(&world, "1 batches then break").await.unwrap_err();
    assert_eq!(Error::find_in(broken.message()).unwrap(), Error::new(Code::BadValue, "row 9 is bad"));
}

#[tokio::test]
async fn only_so_many_queries_run_at_one_time() {
    let folder = tempdir().unwrap();
    let world = World::start(folder.path(), Fake::new([])).await;
    let hang = async || {
        // Little enough that streams nobody reads do not fill the connection's window.
        let request = SqlRequest { sql: "1 rows then hang".into() };
        let mut rows = QueryClient::new(world.channel.clone()).sql(request).await?.into_inner();
        rows.next().await.unwrap().map(|_| rows)
    };
    let mut open = Vec::new();
    for _ in 0..32 {
        open.push(hang().await.unwrap());
    }
    assert_eq!(hang().await.unwrap_err().code(), GrpcCode::ResourceExhausted);
    open.pop();
    // The server learns of it a little later.
    while hang().await.is_err() {
        tokio::task::yield_now().await;
    }
}
