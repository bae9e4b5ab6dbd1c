//! Integration tests on the real parts: etcd, kube-apiserver, PostgreSQL and RabbitMQ as `hack/stack` starts them, and the
//! program's own binary. Each test has a namespace, a database and a vhost of its own, so all can run side by side.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod common;

mod admission;
mod adoption;
mod architecture;
mod backlog;
mod broker;
mod chart;
mod chart_values;
mod cli;
mod counters;
mod crash_sweep;
mod crashes;
mod ensure;
mod faults_broker;
mod faults_everything;
mod faults_kubernetes;
mod faults_kubernetes_answers;
mod faults_leaders;
mod faults_objects;
mod faults_postgres;
mod faults_workers;
mod force;
mod gitops;
mod history;
mod install;
mod libraries;
mod libraries_sqlx_kube;
mod lost_record;
mod model;
mod objects;
mod outages;
mod path;
mod plugin_cluster;
mod plugin_follow;
mod plugin_force;
mod plugin_report;
mod plugin_shell;
mod plugin_views;
mod pool;
mod record;
mod reports;
mod rest;
mod rest_edges;
mod restore;
mod retention;
mod rights;
mod rotation;
mod scale;
mod tls;
mod upgrade;
mod watched;
mod worker_runs;
