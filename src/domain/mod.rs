//! What the words mean: mode, window, status, phase, message, report. No IO, no clock, no Kubernetes.

pub mod execution;
pub mod message;
pub mod phase;
pub mod report;
pub mod window;

pub use execution::{Execution, Mode, Status};
pub use phase::Phase;
pub use report::Report;
pub use window::Window;
