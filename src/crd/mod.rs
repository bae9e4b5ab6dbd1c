//! What users see in Kubernetes: the SyncExecution, its rules and its words. No behaviour, no client.

pub mod condition;
pub mod v1alpha1;

pub use condition::{ConditionType, Reason};
pub use v1alpha1::{SyncExecution, SyncExecutionSpec, SyncExecutionStatus, SyncWindow};
