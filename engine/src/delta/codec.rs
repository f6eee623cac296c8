//! [`DeltaWriteExec`] as bytes, for a physical extension codec.

use std::sync::Arc;

use datafusion::{
    error::{DataFusionError, Result},
    physical_plan::ExecutionPlan,
};

use super::write::DeltaWriteExec;
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
