//! Scans and tasks survive being bytes and being sliced as Ballista's scheduler does.

use datafusion::{
    datasource::{physical_plan::FileScanConfigBuilder, source::DataSourceExec},
    execution::TaskContext,
    physical_plan::displayable,
};
use datafusion_proto::{physical_plan::AsExecutionPlan, protobuf::PhysicalPlanNode};
use prost::Message;

use super::*;
use crate::{plan::TriremeCodec, raw::source::of_config};

fn through_bytes(plan: Arc<dyn ExecutionPlan>, context: &TaskContext) -> Arc<dyn ExecutionPlan> {
    let node = PhysicalPlanNode::try_from_physical_plan(plan, &TriremeCodec::default()).unwrap();
    let node = PhysicalPlanNode::decode(node.encode_to_vec().as_slice()).unwrap();
    node.try_into_physical_plan(context, &TriremeCodec::default()).unwrap()
}

pub fn leaves(plan: &Arc<dyn ExecutionPlan>) -> Vec<Arc<DataSourceExec>> {
    match plan.downcast_ref::<DataSourceExec>() {
        Some(leaf) => vec![Arc::new(leaf.clone())],
        None => plan.children().into_iter().flat_map(leaves).collect(),
    }
}

/// The leaf with only these of its file groups, as `restrict_plan_to_partitions` makes it.
fn slice(leaf: &DataSourceExec, partitions: &[usize]) -> Arc<dyn ExecutionPlan> {
    let (config, _) = of_config(leaf.data_source().as_ref()).unwrap();
    let groups = partitions.iter().map(|partition| config.file_groups[*partition].clone()).collect();
    DataSourceExec::from_data_source(FileScanConfigBuilder::from(config.clone()).with_file_groups(groups).build())
}

fn delivery(records: usize) -> String {
    let record =
        |n| format!("{{\"id\": {n}, \"o\": {{\"s\": \"S{n}\"}}, \"l\": [{{\"v\": \"V{n}\"}}, {{\"v\": null}}]}}");
    format!("[{}]", (0..records).map(record).collect::<Vec<_>>().join(",\n"))
}

#[tokio::test]
async fn a_scan_with_expressions_and_lambdas_survives_bytes_and_slices() {
    let world = World::new(4);
    let manifest = world.deliver("x.json", delivery(500).as_bytes(), 700).await;
    world.register(&manifest, None).await.unwrap();
    let sql = "SELECT id * 2 AS twice, lower(o['s']) AS s, array_transform(l, e -> lower(e['v'])) AS vs FROM raw";
    let plan = world.plan(sql).await.unwrap();
    // The optimizer pushes all of it into the scan.
    let all = leaves(&plan);
    let shown = displayable(plan.as_ref()).indent(false).to_string();
    assert_eq!(all.len(), 1, "{shown}");
    let context = world.session.task_ctx();
    let expected = as_text(&collect(plan.clone(), context.clone()).await.unwrap());
    assert_eq!(expected.lines().count(), 500);
    assert!(expected.contains("998|s499|[v499, ]"), "{expected}");

    let decoded = through_bytes(plan, &context);
    assert_eq!(displayable(decoded.as_ref()).indent(false).to_string(), shown);
    assert_eq!(sorted(&as_text(&collect(decoded, context.clone()).await.unwrap())), sorted(&expected));

    let leaf: Arc<dyn ExecutionPlan> = all[0].clone();
    let (whole, partitions) = (as_text(&collect(leaf.clone(), context.clone()).await.unwrap()), 4);
    let mut union = Vec::new();
    for slices in [vec![0], vec![1, 2], vec![3]] {
        let sliced = through_bytes(slice(&all[0], &slices), &context);
        // As an executor runs it: each partition by itself.
        for partition in 0..slices.len() {
            let stream = sliced.execute(partition, context.clone()).unwrap();
            union.extend(datafusion::physical_plan::common::collect(stream).await.unwrap());
        }
    }
    assert_eq!(leaf.output_partitioning_count(), partitions);
    assert_eq!(sorted(&as_text(&union)), sorted(&whole));
}

trait PartitionCount {
    fn output_partitioning_count(&self) -> usize;
}

impl PartitionCount for Arc<dyn ExecutionPlan> {
    fn output_partitioning_count(&self) -> usize {
        use datafusion::physical_plan::ExecutionPlanProperties;
        self.output_partitioning().partition_count()
    }
}

#[tokio::test]
async fn a_csv_scan_survives_bytes() {
    let world = World::new(3);
    let text: String =
        std::iter::once("a,b\n".to_string()).chain((0..100).map(|n| format!("{n},\"x\n{n}\"\n"))).collect();
    world.register(&world.deliver("x.csv", text.as_bytes(), 50).await, None).await.unwrap();
    let plan = world.plan("SELECT b, CAST(a AS INT) + 1 AS a FROM raw").await.unwrap();
    let context = world.session.task_ctx();
    let expected = as_text(&collect(plan.clone(), context.clone()).await.unwrap());
    let decoded = as_text(&collect(through_bytes(plan, &context), context.clone()).await.unwrap());
    assert_eq!(sorted(&decoded), sorted(&expected));
    assert_eq!(as_text(&world.rows("SELECT count(*), sum(CAST(a AS INT)) FROM raw").await.unwrap()), "100|4950");
}

#[tokio::test]
async fn tasks_survive_bytes_and_run() {
    let world = World::new(2);
    let path = world.folder.path().join("y.json");
    std::fs::write(&path, delivery(50)).unwrap();
    let request = world.request(Url::from_file_path(&path).unwrap().as_str(), 300);
    let context = world.session.task_ctx();
    let plan = through_bytes(download_plan(&[vec![request.clone()]]).unwrap(), &context);
    let outcomes = download_outcomes(&collect(plan, context.clone()).await.unwrap()).unwrap();
    let [(0, FetchOutcome::Fetched(fetched))] = outcomes.as_slice() else { panic!("{outcomes:?}") };
    let manifest =
        Manifest::new(source(), request.version, fetched.origin.clone(), fetched.format, fetched.parts.clone());
    world.zone.publish(&manifest).await.unwrap();

    let plan = infer_plan(&world.zone, &manifest, 4, false).unwrap();
    assert_eq!(plan.output_partitioning_count(), 4);
    let decoded = through_bytes(plan.clone(), &context);
    let inferred = inferred_schema(&collect(decoded, context.clone()).await.unwrap()).unwrap();
    let one = infer_plan(&world.zone, &manifest, 1, false).unwrap();
    assert_eq!(inferred, inferred_schema(&collect(one, context).await.unwrap()).unwrap());
    assert_eq!(inferred.arrow().unwrap().fields().len(), 3);
}
