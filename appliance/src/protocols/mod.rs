//! The protocols that agents speak. The only place that knows both wire formats and policy.

pub(crate) mod postgres;
