//! A scalar function made of three plain functions: what it takes, what it gives, how it computes.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use arrow::{
    array::{Array, ArrayRef},
    datatypes::{DataType, Field, FieldRef},
};
use datafusion::{
    common::{Result, ScalarValue, internal_err},
    config::ConfigOptions,
    logical_expr::{
        ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
        Volatility,
        simplify::{ExprSimplifyResult, SimplifyContext},
    },
};

use crate::error::{Code, Error};

/// Argument types to the types that the computation wants.
pub(crate) type Accept = fn(&[DataType]) -> Result<Vec<DataType>>;
/// Argument fields, and the arguments that are literals, to the result's type.
pub(crate) type Give = fn(&[FieldRef], &[Option<&ScalarValue>]) -> Result<DataType>;
/// Arguments as arrays of one length to the result.
pub(crate) type Compute = fn(&Arguments) -> Result<ArrayRef>;

/// What a computation gets.
pub(crate) struct Arguments {
    /// One array per argument, all of the batch's length.
    pub(crate) arrays: Vec<ArrayRef>,
    /// The type that the result must have.
    pub(crate) result: DataType,
    /// Session settings.
    pub(crate) config: Arc<ConfigOptions>,
}

/// See the module's documentation. Kernels are told apart by their names.
#[derive(Debug)]
pub(crate) struct Kernel {
    name: &'static str,
    accept: Accept,
    give: Give,
    compute: Compute,
    signature: Signature,
}

impl Kernel {
    /// A function whose result depends on its arguments and the session's settings only.
    pub(crate) fn function(name: &'static str, accept: Accept, give: Give, compute: Compute) -> Arc<ScalarUDF> {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(Kernel { name, accept, give, compute, signature }))
    }
}

impl PartialEq for Kernel {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Kernel {}

impl Hash for Kernel {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Kernel {
    fn name(&self) -> &str {
        self.name
    }

    /// A cast is shown as what it is; its second argument only carries the type.
    fn display_name(&self, args: &[Expr]) -> Result<String> {
        self.schema_name(args)
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        if self.name == super::cast::NAME
            && let [value, Expr::Literal(target, _)] = args
        {
            return Ok(format!("CAST({} AS {})", value.schema_name(), super::types::type_name(&target.data_type())));
        }
        if self.name == super::cast::STRICT
            && let [value, Expr::Literal(target, _)] = args
        {
            let to = super::types::type_name(&target.data_type());
            return Ok(format!("strict_cast({} AS {to})", value.schema_name()));
        }
        let args: Vec<_> = args.iter().map(|arg| arg.schema_name().to_string()).collect();
        Ok(format!("{}({})", self.name, args.join(", ")))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        (self.accept)(arg_types)
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        internal_err!("return_field_from_args is called instead")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name, (self.give)(args.arg_fields, args.scalar_arguments)?, true)))
    }

    /// A cast that means the same to Arrow becomes one: the optimizer knows more about it.
    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        if self.name == super::cast::NAME
            && let [value, Expr::Literal(target, _)] = args.as_slice()
        {
            let (from, to) = (value.get_type(info.schema())?, target.data_type());
            if !super::cast::rule::differs(&from, &to) {
                let cast = if from == to { value.clone() } else { datafusion::logical_expr::cast(value.clone(), to) };
                return Ok(ExprSimplifyResult::Simplified(cast));
            }
        }
        Ok(ExprSimplifyResult::Original(args))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let all_scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if all_scalar { 1 } else { args.number_rows };
        let arrays = args.args.iter().map(|arg| arg.to_array_of_size(rows)).collect::<Result<Vec<_>>>()?;
        let arguments =
            Arguments { arrays, result: args.return_field.data_type().clone(), config: args.config_options };
        let result = (self.compute)(&arguments)?;
        if all_scalar && result.len() == 1 {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?));
        }
        Ok(ColumnarValue::Array(result))
    }
}

/// An error about a call, as DataFusion's planner wants it.
pub(crate) fn wrong_call(message: impl Into<String>) -> datafusion::error::DataFusionError {
    Error::new(Code::InvalidSql, message).into()
}

/// How much a function that makes much of little may still give for one batch of rows.
pub(crate) struct Room {
    name: &'static str,
    bytes: u64,
}

impl Room {
    /// In bytes; a plan that asks for more would take its process down.
    const BYTES: u64 = 256 << 20;

    /// For one batch.
    pub(crate) fn of(name: &'static str) -> Self {
        Self { name, bytes: Self::BYTES }
    }

    /// Takes so many times so many bytes, or is an error.
    pub(crate) fn take(&mut self, times: u64, bytes: u64) -> Result<()> {
        let needed = times.checked_mul(bytes).and_then(|needed| self.bytes.checked_sub(needed));
        self.bytes = needed.ok_or_else(|| {
            let most = Self::BYTES >> 20;
            Error::new(
                Code::InvalidSql,
                format!("`{}` would give more than {most} MiB for one batch of rows", self.name),
            )
            .hint("ask for shorter values, or for fewer elements")
        })?;
        Ok(())
    }
}
