//! How results are printed: as a table like kubectl's, or as JSON, YAML or names for programs.

use std::io::Write;

use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use kube::ResourceExt;
use serde::Serialize;
use serde_json::json;
use sync_operator::{crd::SyncExecution, domain::window::rfc3339};

use crate::{age::age, failure::Failure, table};

/// Prefix of a name that says of what kind it is.
pub const KIND: &str = "syncexecution.sync.pncp.io";

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// The table with more columns.
    Wide,
    /// Names only.
    Name,
}

/// Flags of every command that prints objects.
#[derive(Args, Clone, Copy, Debug)]
pub struct OutputArgs {
    /// How to print; a table if not given.
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<Format>,
    /// Print tables without their first line.
    #[arg(long)]
    pub no_headers: bool,
}

/// Prints text and a newline on standard output.
///
/// # Errors
/// That it cannot be written.
pub fn print(text: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{text}").map_err(Failure::from)
}

/// A document as JSON or YAML.
///
/// # Errors
/// That it cannot be written.
pub fn document(value: &impl Serialize, format: Format) -> Result<String, Failure> {
    let cannot = |error: &dyn std::fmt::Display| Failure::NotWell(format!("cannot write the result: {error}"));
    match format {
        Format::Yaml => serde_yaml_ng::to_string(value).map(|text| text.trim_end().to_owned()).map_err(|error| cannot(&error)),
        _ => serde_json::to_string_pretty(value).map_err(|error| cannot(&error)),
    }
}

/// The name with its kind.
#[must_use]
pub fn kind_name(object: &SyncExecution) -> String {
    format!("{KIND}/{}", object.name_any())
}

/// A v1 List, as kubectl writes it.
#[must_use]
pub fn list(objects: &[SyncExecution]) -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": objects})
}

/// One object.
///
/// # Errors
/// That it cannot be written.
pub fn one(object: &SyncExecution, args: OutputArgs, now: DateTime<Utc>) -> Result<String, Failure> {
    match args.output {
        Some(format @ (Format::Json | Format::Yaml)) => document(object, format),
        _ => many(std::slice::from_ref(object), args, false, now),
    }
}

/// Many objects; `namespaces` adds their namespace to the table.
///
/// # Errors
/// That they cannot be written.
pub fn many(objects: &[SyncExecution], args: OutputArgs, namespaces: bool, now: DateTime<Utc>) -> Result<String, Failure> {
    match args.output {
        Some(format @ (Format::Json | Format::Yaml)) => document(&list(objects), format),
        Some(Format::Name) => Ok(objects.iter().map(kind_name).collect::<Vec<_>>().join("\n")),
        _ => Ok(as_table(objects, args, namespaces, now)),
    }
}

fn as_table(objects: &[SyncExecution], args: OutputArgs, namespaces: bool, now: DateTime<Utc>) -> String {
    let wide = args.output == Some(Format::Wide);
    let mut headers = vec!["NAME", "MODE", "PHASE", "RECORDS", "DURATION", "AGE"];
    if wide {
        headers.extend(["EXECUTION", "WINDOW-START", "WINDOW-END", "ERROR"]);
    }
    if namespaces {
        headers.insert(0, "NAMESPACE");
    }
    let rows: Vec<Vec<String>> = objects
        .iter()
        .map(|object| {
            let mut row = row(object, wide, now);
            if namespaces {
                row.insert(0, object.namespace().unwrap_or_default());
            }
            row
        })
        .collect();
    table::lines(if args.no_headers { &[] } else { &headers }, &rows)
}

fn row(object: &SyncExecution, wide: bool, now: DateTime<Utc>) -> Vec<String> {
    let status = object.status.clone().unwrap_or_default();
    let mut row = vec![
        object.name_any(),
        object.spec.mode.as_str().to_owned(),
        status.phase.map(|phase| phase.as_str().to_owned()).unwrap_or_default(),
        status.records_processed.map(|records| records.to_string()).unwrap_or_default(),
        status.duration.unwrap_or_default(),
        age(object.metadata.creation_timestamp.as_ref(), now),
    ];
    if wide {
        let window = status.window.as_ref();
        row.extend([
            status.execution_id.unwrap_or_default(),
            window.map(|window| rfc3339(window.start)).unwrap_or_default(),
            window.map(|window| rfc3339(window.end)).unwrap_or_default(),
            plain(&status.error.unwrap_or_default()),
        ]);
    }
    row
}

/// The text on one line and without control characters: a worker's words must not steer the terminal.
#[must_use]
pub fn plain(text: &str) -> String {
    text.split(['\n', '\r', '\t'])
        .filter(|part| !part.is_empty())
        .map(|part| part.chars().filter(|character| !character.is_control()).collect::<String>())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
pub mod tests {
    use serde_json::Value;

    use super::*;

    /// An object as the API server gives it.
    pub fn object(name: &str, status: Value) -> SyncExecution {
        serde_json::from_value(json!({
            "apiVersion": "sync.pncp.io/v1alpha1", "kind": "SyncExecution",
            "metadata": {"name": name, "namespace": "ns", "uid": name, "creationTimestamp": "2025-07-10T12:00:00Z"},
            "spec": {"mode": "update"}, "status": status,
        }))
        .unwrap()
    }

    fn args(output: Option<Format>) -> OutputArgs {
        OutputArgs { output, no_headers: false }
    }

    fn now() -> DateTime<Utc> {
        "2025-07-10T12:01:00Z".parse().unwrap()
    }

    #[test]
    fn the_table_has_the_columns_of_kubectl_get() {
        let done = object("a", json!({"phase": "Succeeded", "recordsProcessed": 59, "duration": "6.2s"}));
        let table = many(&[done, object("b", Value::Null)], args(None), true, now()).unwrap();
        assert_eq!(
            table,
            "NAMESPACE   NAME   MODE     PHASE       RECORDS   DURATION   AGE\n\
             ns          a      update   Succeeded   59        6.2s       60s\n\
             ns          b      update                                    60s"
        );
    }

    #[test]
    fn lists_for_programs_are_v1_lists_and_one_object_is_itself() {
        let objects = [object("a", Value::Null)];
        let list: Value = serde_json::from_str(&many(&objects, args(Some(Format::Json)), false, now()).unwrap()).unwrap();
        assert_eq!(
            (&list["kind"], &list["apiVersion"], &list["items"][0]["kind"]),
            (&json!("List"), &json!("v1"), &json!("SyncExecution"))
        );
        let one: Value = serde_yaml_ng::from_str(&one(&objects[0], args(Some(Format::Yaml)), now()).unwrap()).unwrap();
        assert_eq!(one["metadata"]["name"], "a");
        assert_eq!(many(&objects, args(Some(Format::Name)), false, now()).unwrap(), "syncexecution.sync.pncp.io/a");
    }

    #[test]
    fn a_workers_words_do_not_steer_the_terminal() {
        assert_eq!(plain("bad\u{1b}[2Jrow\nline two\u{7}"), "bad[2Jrow line two");
    }
}
