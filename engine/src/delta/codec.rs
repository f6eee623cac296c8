//! [`DeltaWriteExec`] and scans by [`DeltaSource`] as bytes, for a physical extension codec.
//!
//! A scan travels as DataFusion's own message of a Parquet scan, beside what that message has no field for.

use std::{any::Any, sync::Arc};

use datafusion::{
    datasource::{
        physical_plan::{FileGroup, FileScanConfig, FileScanConfigBuilder},
        source::DataSourceExec,
    },
    error::{DataFusionError, Result},
    execution::TaskContext,
    physical_plan::ExecutionPlan,
};
use datafusion_proto::{
    physical_plan::{PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalProtoConverterExtension},
    protobuf::PhysicalPlanNode,
};
use prost::Message;
use serde::{Serialize, de::DeserializeOwned};

use super::{deletion_vector::DeletionVector, layout::Layout, source::DeltaSource, write::DeltaWriteExec};
use crate::error::{Code, Error};

/// Writes the node's bytes and returns true, when it is ours; its input travels beside it.
pub fn try_encode(node: &Arc<dyn ExecutionPlan>, buffer: &mut Vec<u8>) -> Result<bool> {
    let Some(write) = node.downcast_ref::<DeltaWriteExec>() else { return Ok(false) };
    serde_json::to_writer(buffer, write.spec()).map_err(|error| DataFusionError::External(Box::new(error)))?;
    Ok(true)
}

/// The node of these bytes over its input.
pub fn try_decode(bytes: &[u8], inputs: &[Arc<dyn ExecutionPlan>]) -> Result<Arc<dyn ExecutionPlan>> {
    let spec = serde_json::from_slice(bytes)
        .map_err(|error| Error::new(Code::Internal, format!("a DeltaWriteExec does not decode: {error}")))?;
    let [input] = inputs else {
        return Err(Error::new(Code::Internal, format!("DeltaWriteExec has one input, not {}", inputs.len())).into());
    };
    Ok(Arc::new(DeltaWriteExec::try_new(input.clone(), Arc::new(spec))?))
}

/// A scan by [`DeltaSource`].
#[derive(Clone, PartialEq, Message)]
struct ScanNode {
    /// The same scan by the Parquet source below it.
    #[prost(message, optional, tag = "1")]
    parquet: Option<PhysicalPlanNode>,
    /// [`Layout`] as JSON; empty for none.
    #[prost(string, tag = "2")]
    layout: String,
    /// Deletion vectors of the files that have one.
    #[prost(message, repeated, tag = "3")]
    vectors: Vec<FileVector>,
}

#[derive(Clone, PartialEq, Message)]
struct FileVector {
    /// Position of the file, counted over all file groups.
    #[prost(uint64, tag = "1")]
    file: u64,
    /// [`DeletionVector`] as JSON.
    #[prost(string, tag = "2")]
    vector: String,
}

/// The bytes of a scan by [`DeltaSource`]; `None` for any other node.
pub fn try_encode_scan(
    node: &Arc<dyn ExecutionPlan>,
    codec: &dyn PhysicalExtensionCodec,
    converter: &dyn PhysicalProtoConverterExtension,
) -> Option<Result<Vec<u8>>> {
    let exec = node.downcast_ref::<DataSourceExec>()?;
    let (config, source) = of_config(exec.data_source().as_ref())?;
    Some(encode_scan(config, source, codec, converter))
}

fn of_config(config: &dyn Any) -> Option<(&FileScanConfig, &DeltaSource)> {
    let config = config.downcast_ref::<FileScanConfig>()?;
    Some((config, config.file_source().downcast_ref::<DeltaSource>()?))
}

fn encode_scan(
    config: &FileScanConfig,
    source: &DeltaSource,
    codec: &dyn PhysicalExtensionCodec,
    converter: &dyn PhysicalProtoConverterExtension,
) -> Result<Vec<u8>> {
    let mut vectors = Vec::new();
    for (position, file) in config.file_groups.iter().flat_map(FileGroup::iter).enumerate() {
        if let Some(vector) = file.extensions.get::<DeletionVector>() {
            vectors.push(FileVector { file: position as u64, vector: to_json(vector)? });
        }
    }
    let stock = FileScanConfigBuilder::from(config.clone()).with_source(source.parquet().clone()).build();
    let stock: Arc<dyn ExecutionPlan> = DataSourceExec::from_data_source(stock);
    let node = ScanNode {
        parquet: Some(converter.execution_plan_to_proto(&stock, codec)?),
        layout: source.layout().map(|layout| to_json(layout.as_ref())).transpose()?.unwrap_or_default(),
        vectors,
    };
    Ok(node.encode_to_vec())
}

/// The scan that [`try_encode_scan`] made bytes of.
pub fn try_decode_scan(
    bytes: &[u8],
    context: &TaskContext,
    codec: &dyn PhysicalExtensionCodec,
    converter: &dyn PhysicalProtoConverterExtension,
) -> Result<Arc<dyn ExecutionPlan>> {
    let node = ScanNode::decode(bytes).map_err(|error| broken(&error.to_string()))?;
    let parquet = node.parquet.ok_or_else(|| broken("it has no Parquet scan"))?;
    let plan = converter.proto_to_execution_plan(&parquet, &PhysicalPlanDecodeContext::new(context, codec))?;
    let config = plan.downcast_ref::<DataSourceExec>().and_then(|exec| {
        let config: &dyn Any = exec.data_source().as_ref();
        config.downcast_ref::<FileScanConfig>()
    });
    let config = config.ok_or_else(|| broken("it is not over files"))?;
    let layout: Option<Layout> = if node.layout.is_empty() { None } else { Some(from_json(&node.layout)?) };
    let mut vectors = node.vectors.into_iter().peekable();
    let mut groups = Vec::with_capacity(config.file_groups.len());
    let mut position = 0;
    for group in &config.file_groups {
        let mut files = Vec::with_capacity(group.len());
        for file in group.iter() {
            let vector = vectors.next_if(|vector| vector.file == position);
            files.push(match vector {
                Some(vector) => file.clone().with_extension(from_json::<DeletionVector>(&vector.vector)?),
                None => file.clone(),
            });
            position += 1;
        }
        groups.push(FileGroup::new(files));
    }
    // Rows that a vector removes must never come back because it was lost on the way.
    if vectors.next().is_some() {
        return Err(broken("a deletion vector belongs to none of its files"));
    }
    let source = DeltaSource::new(config.file_source().clone(), layout.map(Arc::new));
    let config =
        FileScanConfigBuilder::from(config.clone()).with_source(Arc::new(source)).with_file_groups(groups).build();
    Ok(DataSourceExec::from_data_source(config))
}

fn broken(what: &str) -> DataFusionError {
    Error::new(Code::Internal, format!("a Delta scan does not decode: {what}"))
        .hint("scheduler and executors must be of one release")
        .into()
}

fn to_json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| DataFusionError::External(Box::new(error)))
}

fn from_json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| broken(&error.to_string()))
}
