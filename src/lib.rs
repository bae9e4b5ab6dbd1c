//! sync-operator: one record in the middle (Postgres), three doors to it (Kubernetes, RabbitMQ, HTTP).
//!
//! - [`crd`] what users see in Kubernetes; [`domain`] what the words mean. Neither does IO.
//! - [`store`] the Postgres door, [`broker`] the RabbitMQ door, [`controller`] the Kubernetes door, [`http`] the HTTP door.
//! - [`relay`] turns recorded executions into messages; [`retention`] deletes old ones; [`leader`] says which replica may have
//!   effects.
//! - [`cli`] flags and subcommands; [`source`] settings that may change; [`kubernetes`], [`tls`], [`telemetry`], [`metrics`],
//!   [`health`], [`shutdown`], [`backoff`], [`clock`], [`crash`] serve all.

pub mod backoff;
pub mod broker;
pub mod cli;
pub mod clock;
pub mod controller;
pub mod crash;
pub mod crd;
pub mod domain;
pub mod health;
pub mod http;
pub mod kubernetes;
pub mod leader;
pub mod metrics;
pub mod relay;
pub mod retention;
pub mod shutdown;
pub mod source;
pub mod store;
pub mod telemetry;
pub mod tls;
