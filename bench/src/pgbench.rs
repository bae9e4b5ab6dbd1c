//! The ceiling of REST: the statements that the product sent for a request, taken from the server's log with their values, and
//! run by pgbench as they were sent: prepared, with parameters, planned with their values.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use tokio::{process::Command, time::sleep};

use crate::http_load::CONNECTIONS;

/// A pgbench script and the values in it.
#[derive(Clone, Debug)]
pub struct Script {
    file: PathBuf,
    values: Vec<String>,
}

/// A mark in the server's log.
pub struct Mark {
    log: PathBuf,
    length: usize,
}

impl Mark {
    /// The end of the log now.
    pub fn now(log: PathBuf) -> Result<Self> {
        let length = fs::read(&log).with_context(|| log.display().to_string())?.len();
        Ok(Self { log, length })
    }

    /// The script of what was executed since then.
    pub async fn script(self, file: PathBuf) -> Result<Script> {
        // The log is written before the answer is sent, but not by the same process.
        sleep(Duration::from_millis(500)).await;
        let bytes = fs::read(&self.log)?;
        let text = String::from_utf8_lossy(bytes.get(self.length..).unwrap_or_default()).into_owned();
        let (script, values) = script(&text);
        ensure!(!script.is_empty(), "the database server logged no statement since the mark");
        fs::write(&file, script)?;
        Ok(Script { file, values })
    }
}

impl Script {
    /// How often a second the statements of one request can be answered to as many connections as the product has.
    pub async fn run(&self, database_url: &str, seconds: u32) -> Result<f64> {
        let mut command = Command::new("pgbench");
        command.args(["-n", "-M", "prepared", "-j1", &format!("-c{CONNECTIONS}"), &format!("-T{seconds}"), "-f"]).arg(&self.file);
        for (number, value) in self.values.iter().enumerate() {
            command.arg("-D").arg(format!("p{number}={value}"));
        }
        let output =
            command.arg(database_url).env("PGOPTIONS", "-c plan_cache_mode=force_custom_plan").output().await.context("pgbench")?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "pgbench: {text}{}", String::from_utf8_lossy(&output.stderr));
        let rate = text.lines().find_map(|line| line.strip_prefix("tps = ")).context("pgbench told no rate")?;
        rate.split(' ').next().unwrap_or_default().parse().context("pgbench's rate")
    }
}

/// Statements about executions, one after the other, with `:pN` for each parameter that is not null.
fn script(log: &str) -> (String, Vec<String>) {
    let (mut script, mut values) = (String::new(), Vec::new());
    let mut entries = entries(log).into_iter().peekable();
    while let Some(entry) = entries.next() {
        let Some(statement) = entry.split_once(" LOG:  execute ").and_then(|(_, rest)| rest.split_once(": ")).map(|(_, sql)| sql) else {
            continue;
        };
        if !statement.contains("sync_execution") {
            continue;
        }
        let parameters = entries.next_if(|next| next.contains("DETAIL:  ")).map(|detail| parameters(&detail)).unwrap_or_default();
        script += &with_values(statement, parameters, &mut values);
        script += ";\n";
    }
    (script, values)
}

/// Log lines, those that go on joined to those before.
fn entries(log: &str) -> Vec<String> {
    let mut entries: Vec<String> = Vec::new();
    for line in log.lines() {
        match (line.strip_prefix('\t'), entries.last_mut()) {
            (Some(more), Some(last)) => {
                last.push('\n');
                last.push_str(more);
            }
            _ => entries.push(line.to_owned()),
        }
    }
    entries
}

/// The values of `$1 = 'a', $2 = NULL`, in order.
fn parameters(detail: &str) -> Vec<Option<String>> {
    let mut values = Vec::new();
    let mut rest = detail;
    while let Some((_, after)) = rest.split_once(" = ") {
        if let Some(quoted) = after.strip_prefix('\'') {
            let mut value = String::new();
            let mut characters = quoted.char_indices().peekable();
            let mut end = quoted.len();
            while let Some((at, character)) = characters.next() {
                match character {
                    '\'' if characters.next_if(|(_, next)| *next == '\'').is_some() => value.push('\''),
                    '\'' => {
                        end = at;
                        break;
                    }
                    other => value.push(other),
                }
            }
            values.push(Some(value));
            rest = quoted.get(end..).unwrap_or_default();
        } else {
            values.push(None);
            rest = after;
        }
    }
    values
}

/// The highest first, since `$1` is also how `$10` begins.
fn with_values(statement: &str, parameters: Vec<Option<String>>, values: &mut Vec<String>) -> String {
    let mut statement = statement.to_owned();
    for (number, parameter) in parameters.into_iter().enumerate().rev() {
        let replaced = parameter.map_or("NULL".to_owned(), |value| {
            values.push(value);
            format!(":p{}", values.len() - 1)
        });
        statement = statement.replace(&format!("${}", number + 1), &replaced);
    }
    statement
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_taken_from_the_log_with_their_values() {
        let log = "2026-11-24 12:00:00.1 UTC [7] LOG:  execute sqlx_s_1: SELECT id FROM sync_executions\n\
                   \t WHERE ($1::text IS NULL OR status = $1) AND reason = $2 LIMIT $10\n\
                   2026-11-24 12:00:00.1 UTC [7] DETAIL:  parameters: $1 = NULL, $2 = 'it''s, $1 = ''x''', $3 = '3', $4 = '4', $5 = '5', $6 = '6', $7 = '7', $8 = '8', $9 = '9', $10 = '51'\n\
                   2026-11-24 12:00:00.2 UTC [7] LOG:  execute sqlx_s_2: SELECT 1\n";
        let (script, values) = script(log);
        assert_eq!(script, "SELECT id FROM sync_executions\n WHERE (NULL::text IS NULL OR status = NULL) AND reason = :p8 LIMIT :p0;\n");
        assert_eq!(values.first().map(String::as_str), Some("51"));
        assert_eq!(values.get(8).map(String::as_str), Some("it's, $1 = 'x'"));
    }
}
