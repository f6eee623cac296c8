//! Carries our plan nodes to executors.

use std::sync::Arc;

use ballista_core::serde::BallistaPhysicalExtensionCodec;
use datafusion::{
    common::internal_err,
    error::{DataFusionError, Result},
    execution::TaskContext,
    physical_plan::ExecutionPlan,
};
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};

use super::{KeepExec, StampExec, TaskExec};
use crate::{
    delta::{self, z_order::ZOrderExec},
    raw,
};

/// First byte of an encoded node: whose it is.
const BALLISTA: u8 = 0;
const STAMP: u8 = 1;
const RAW: u8 = 2;
const DELTA: u8 = 3;
const DELTA_SCAN: u8 = 4;
const TASK: u8 = 5;
const Z_ORDER: u8 = 6;
const KEEP: u8 = 7;

/// Knows the engine's nodes, and leaves all others to Ballista's own codec, behind a prefix byte.
#[derive(Debug, Default)]
pub struct TriremeCodec {
    ballista: BallistaPhysicalExtensionCodec,
}

impl PhysicalExtensionCodec for TriremeCodec {
    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        ctx: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match buf.split_first() {
            Some((&BALLISTA, rest)) => self.ballista.try_decode(rest, inputs, ctx, converter),
            Some((&STAMP, _)) => match inputs {
                [input] => Ok(Arc::new(StampExec::new(input.clone()))),
                _ => internal_err!("StampExec has one child, not {}", inputs.len()),
            },
            Some((&KEEP, _)) => match inputs {
                [input] => Ok(Arc::new(KeepExec::new(input.clone()))),
                _ => internal_err!("KeepExec has one child, not {}", inputs.len()),
            },
            Some((&RAW, rest)) => raw::codec::try_decode(rest, ctx, self, converter),
            Some((&DELTA, rest)) => delta::codec::try_decode(rest, inputs),
            Some((&DELTA_SCAN, rest)) => delta::codec::try_decode_scan(rest, ctx, self, converter),
            Some((&TASK, rest)) => match (inputs, serde_json::from_slice(rest)) {
                ([input], Ok(task)) => Ok(Arc::new(TaskExec::try_new(task, input.clone())?)),
                (inputs, task) => internal_err!("TaskExec has one child, not {}, and a task: {task:?}", inputs.len()),
            },
            Some((&Z_ORDER, rest)) => match (inputs, serde_json::from_slice(rest)) {
                ([input], Ok(order)) => Ok(Arc::new(ZOrderExec::try_new(input.clone(), Arc::new(order))?)),
                (inputs, order) => internal_err!("ZOrderExec has one child, not {}: {order:?}", inputs.len()),
            },
            Some((prefix, _)) => internal_err!("unknown plan node {prefix}: scheduler and executor differ in version"),
            None => Err(DataFusionError::Internal("empty plan node".to_string())),
        }
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        if node.is::<StampExec>() {
            buf.push(STAMP);
            return Ok(());
        }
        if node.is::<KeepExec>() {
            buf.push(KEEP);
            return Ok(());
        }
        if let Some(exec) = node.downcast_ref::<TaskExec>() {
            buf.push(TASK);
            return serde_json::to_writer(buf, &exec.task())
                .map_err(|error| DataFusionError::External(Box::new(error)));
        }
        if let Some(exec) = node.downcast_ref::<ZOrderExec>() {
            buf.push(Z_ORDER);
            return serde_json::to_writer(buf, exec.order())
                .map_err(|error| DataFusionError::External(Box::new(error)));
        }
        if let Some(bytes) = raw::codec::try_encode(&node, self, converter) {
            buf.push(RAW);
            buf.extend(bytes?);
            return Ok(());
        }
        if let Some(bytes) = delta::codec::try_encode_scan(&node, self, converter) {
            buf.push(DELTA_SCAN);
            buf.extend(bytes?);
            return Ok(());
        }
        let mut bytes = Vec::new();
        if delta::codec::try_encode(&node, &mut bytes)? {
            buf.push(DELTA);
            buf.extend(bytes);
            return Ok(());
        }
        buf.push(BALLISTA);
        self.ballista.try_encode(node, buf, converter)
    }
}
