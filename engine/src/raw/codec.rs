//! Raw scans as bytes, for the engine's `PhysicalExtensionCodec`.
//!
//! The shared part of a scan is DataFusion's own message; expressions go through the session's codec, so that functions and lambdas survive.

use std::{any::Any, collections::BTreeMap, sync::Arc};

use arrow::datatypes::Schema;
use datafusion::{
    common::{DataFusionError, Result as DataFusionResult},
    datasource::{
        physical_plan::{FileScanConfig, FileScanConfigBuilder},
        source::DataSourceExec,
    },
    execution::{FunctionRegistry, TaskContext},
    logical_expr::{AggregateUDF, ScalarUDF, WindowUDF, physical_planning_context::ScalarSubqueryResults},
    physical_expr::PhysicalExpr,
    physical_plan::{
        ExecutionPlan,
        proto::{ExecutionPlanDecode, ExecutionPlanDecodeCtx, ExecutionPlanEncode, ExecutionPlanEncodeCtx},
    },
};
use datafusion_proto::{
    physical_plan::{PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalProtoConverterExtension},
    protobuf::{FileScanExecConf, PhysicalExprNode, PhysicalPlanNode},
};
use prost::Message;

use super::source::{RawSource, RawText, Tells, of_config};
use crate::error::{Code, Error};

/// A scan by [`RawSource`].
#[derive(Clone, PartialEq, Message)]
struct RawScan {
    #[prost(message, optional, tag = "1")]
    config: Option<FileScanExecConf>,
    /// [`RawText`] as JSON.
    #[prost(string, tag = "2")]
    text: String,
    /// [`Tells`] as JSON.
    #[prost(string, tag = "3")]
    tells: String,
    /// How texts are stored, as JSON; empty where all are just their files.
    #[prost(string, tag = "20")]
    stored: String,
}

/// The bytes of a raw scan; `None` for any other node.
pub fn try_encode(
    node: &Arc<dyn ExecutionPlan>,
    codec: &dyn PhysicalExtensionCodec,
    converter: &dyn PhysicalProtoConverterExtension,
) -> Option<DataFusionResult<Vec<u8>>> {
    let exec = node.downcast_ref::<DataSourceExec>()?;
    let data_source: &dyn Any = exec.data_source().as_ref();
    let (config, source) = of_config(data_source)?;
    let encoder = Encoder { codec, converter };
    let scan = config.try_to_proto(&ExecutionPlanEncodeCtx::new(&encoder)).and_then(|config| {
        let json = |error| DataFusionError::External(Box::new(error));
        let text = serde_json::to_string(source.text()).map_err(json)?;
        let tells = serde_json::to_string(&source.tells()).map_err(json)?;
        let stored = source.stored();
        let stored = if stored.is_empty() { String::new() } else { serde_json::to_string(stored).map_err(json)? };
        Ok(RawScan { config: Some(config), text, tells, stored })
    });
    Some(scan.map(|scan| scan.encode_to_vec()))
}

/// The node that [`try_encode`] made bytes of.
pub fn try_decode(
    bytes: &[u8],
    context: &TaskContext,
    codec: &dyn PhysicalExtensionCodec,
    converter: &dyn PhysicalProtoConverterExtension,
) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let broken = |what: &str| -> DataFusionError {
        Error::new(Code::Internal, format!("not a raw scan: {what}"))
            .hint("scheduler and executors must be of one release")
            .into()
    };
    let RawScan { config, text, tells, stored } = RawScan::decode(bytes).map_err(|error| broken(&error.to_string()))?;
    let config = config.ok_or_else(|| broken("it has no files"))?;
    let text: RawText = serde_json::from_str(&text).map_err(|error| broken(&error.to_string()))?;
    let tells: Tells = serde_json::from_str(&tells).map_err(|error| broken(&error.to_string()))?;
    let stored = match stored.as_str() {
        "" => BTreeMap::new(),
        stored => serde_json::from_str(stored).map_err(|error| broken(&error.to_string()))?,
    };
    let table_schema = FileScanConfig::parse_table_schema_from_proto(&config)?;
    let source = Arc::new(RawSource::new(text, table_schema).with_stored(stored).telling(tells));
    let decoder = Decoder { context: PhysicalPlanDecodeContext::new(context, codec), converter };
    let config = FileScanConfig::try_from_proto(&config, &ExecutionPlanDecodeCtx::new(&decoder), source)?;
    // The message has no field for it; a scan of raw text always keeps its order.
    let config = FileScanConfigBuilder::from(config).with_preserve_order(true).build();
    Ok(DataSourceExec::from_data_source(config))
}

/// What DataFusion's message of a scan needs to encode expressions.
struct Encoder<'a> {
    codec: &'a dyn PhysicalExtensionCodec,
    converter: &'a dyn PhysicalProtoConverterExtension,
}

fn some_bytes(bytes: Vec<u8>) -> Option<Vec<u8>> {
    (!bytes.is_empty()).then_some(bytes)
}

impl ExecutionPlanEncode for Encoder<'_> {
    fn encode_plan(&self, plan: &Arc<dyn ExecutionPlan>) -> DataFusionResult<PhysicalPlanNode> {
        self.converter.execution_plan_to_proto(plan, self.codec)
    }

    fn encode_expr(&self, expr: &Arc<dyn PhysicalExpr>) -> DataFusionResult<PhysicalExprNode> {
        self.converter.physical_expr_to_proto(expr, self.codec)
    }

    fn encode_udf(&self, udf: &ScalarUDF) -> DataFusionResult<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        self.codec.try_encode_udf(udf, &mut bytes).map(|()| some_bytes(bytes))
    }

    fn encode_udaf(&self, udaf: &AggregateUDF) -> DataFusionResult<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        self.codec.try_encode_udaf(udaf, &mut bytes).map(|()| some_bytes(bytes))
    }

    fn encode_udwf(&self, udwf: &WindowUDF) -> DataFusionResult<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        self.codec.try_encode_udwf(udwf, &mut bytes).map(|()| some_bytes(bytes))
    }
}

/// What DataFusion's message of a scan needs to decode expressions.
struct Decoder<'a> {
    context: PhysicalPlanDecodeContext<'a>,
    converter: &'a dyn PhysicalProtoConverterExtension,
}

impl ExecutionPlanDecode for Decoder<'_> {
    fn decode_plan(&self, node: &PhysicalPlanNode) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        self.converter.proto_to_execution_plan(node, &self.context)
    }

    fn decode_plan_with_scalar_subquery_results(
        &self,
        node: &PhysicalPlanNode,
        results: ScalarSubqueryResults,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        self.converter.proto_to_execution_plan(node, &self.context.with_scalar_subquery_results(results))
    }

    fn decode_expr(&self, node: &PhysicalExprNode, schema: &Schema) -> DataFusionResult<Arc<dyn PhysicalExpr>> {
        self.converter.proto_to_physical_expr(node, schema, &self.context)
    }

    fn task_ctx(&self) -> &TaskContext {
        self.context.task_ctx()
    }

    fn decode_udf(&self, name: &str, payload: Option<&[u8]>) -> DataFusionResult<Arc<ScalarUDF>> {
        match payload {
            Some(bytes) => self.context.codec().try_decode_udf(name, bytes),
            None => self.task_ctx().udf(name).or_else(|_| self.context.codec().try_decode_udf(name, &[])),
        }
    }

    fn decode_udaf(&self, name: &str, payload: Option<&[u8]>) -> DataFusionResult<Arc<AggregateUDF>> {
        match payload {
            Some(bytes) => self.context.codec().try_decode_udaf(name, bytes),
            None => self.task_ctx().udaf(name).or_else(|_| self.context.codec().try_decode_udaf(name, &[])),
        }
    }

    fn decode_udwf(&self, name: &str, payload: Option<&[u8]>) -> DataFusionResult<Arc<WindowUDF>> {
        match payload {
            Some(bytes) => self.context.codec().try_decode_udwf(name, bytes),
            None => self.task_ctx().udwf(name).or_else(|_| self.context.codec().try_decode_udwf(name, &[])),
        }
    }
}
