//! HTTP requests: as many as possible (wrk), or at a steady rate with the time of each counted from when it was to be sent.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use hdrhistogram::Histogram;
use tokio::{process::Command, task::JoinSet, time};

/// The administrator of both APIs.
pub const USERNAME: &str = "admin";
/// And the password.
pub const PASSWORD: &str = "bench-only";
/// Connections of closed-loop load; the operator's pool has as many to the database.
pub const CONNECTIONS: u32 = 10;

/// Requests a second that all [`CONNECTIONS`] get answered, each sending the next as soon as it has the answer; what was answered
/// with an error is not counted. With a script each request is another one.
pub async fn closed(url: &str, seconds: u32, script: Option<&Path>) -> Result<f64> {
    let mut wrk = Command::new("wrk");
    wrk.args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s"), "--timeout", "20s", "-H"])
        .arg(format!("Authorization: Basic {}", STANDARD.encode(format!("{USERNAME}:{PASSWORD}"))));
    if let Some(script) = script {
        wrk.arg("-s").arg(script);
    }
    let output = wrk.arg(url).output().await.context("wrk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "wrk {url}: {text}{}", String::from_utf8_lossy(&output.stderr));
    answered(&text).with_context(|| format!("wrk told no rate: {text}"))
}

/// A script for wrk by which no two requests are the same, though all have the same answer: a page from the beginning of 1970 on,
/// or a parameter that nobody reads.
pub async fn each_another(folder: &Path, url: &str) -> Result<PathBuf> {
    let more = if url.contains('?') { "&from=1970-01-01T00:00:00.%06dZ" } else { "?n=%d" };
    let text = format!(
        "local n = 0\nrequest = function()\n  n = n + 1\n  return wrk.format(nil, wrk.path .. string.format(\"{more}\", n % 1000000))\nend\n"
    );
    let script = folder.join(if url.contains('?') { "another-page.lua" } else { "another.lua" });
    tokio::fs::write(&script, text).await?;
    Ok(script)
}

/// What wrk tells: the rate, without the part of the requests that were answered with an error.
fn answered(text: &str) -> Option<f64> {
    let after = |word: &str| text.lines().find_map(|line| line.trim().strip_prefix(word)?.trim().parse::<f64>().ok());
    let all = text.lines().find_map(|line| line.split_once(" requests in ")?.0.trim().parse::<f64>().ok())?;
    let failed = after("Non-2xx or 3xx responses:").unwrap_or_default();
    Some(after("Requests/sec:")? * (1.0 - failed / all.max(1.0)))
}

/// What came of requests sent at a steady rate.
pub struct Times {
    /// Of those that were answered well, in microseconds.
    pub good: Histogram<u64>,
    /// How many were not.
    pub failed: u32,
}

/// Sends requests at a steady rate.
pub async fn open(url: &str, a_second: u32, seconds: u32) -> Result<Times> {
    let client = reqwest::Client::builder().pool_max_idle_per_host(256).timeout(Duration::from_secs(20)).build()?;
    get(&client, url).await?;
    let times = Arc::new(Mutex::new(Histogram::new(3)?));
    let begun = time::Instant::now();
    let mut requests = JoinSet::new();
    for number in 0..a_second * seconds {
        let at = begun + Duration::from_secs(number.into()) / a_second;
        time::sleep_until(at).await;
        let (client, url, times) = (client.clone(), url.to_owned(), Arc::clone(&times));
        requests.spawn(async move {
            get(&client, &url).await?;
            let micros = u64::try_from(at.elapsed().as_micros())?;
            times.lock().unwrap_or_else(PoisonError::into_inner).record(micros)?;
            anyhow::Ok(())
        });
    }
    let mut failed = 0;
    while let Some(request) = requests.join_next().await {
        if let Err(error) = request? {
            failed += 1;
            eprintln!("bench: {error:#}");
        }
    }
    Ok(Times { good: times.lock().unwrap_or_else(PoisonError::into_inner).clone(), failed })
}

/// The body of one answer.
pub async fn get(client: &reqwest::Client, url: &str) -> Result<String> {
    let response = client.get(url).basic_auth(USERNAME, Some(PASSWORD)).send().await?;
    let status = response.status();
    let text = response.text().await?;
    ensure!(status.is_success(), "{url}: {status} {text}");
    Ok(text)
}

/// One answer as JSON.
pub async fn json(url: &str) -> Result<serde_json::Value> {
    serde_json::from_str(&get(&reqwest::Client::new(), url).await?).with_context(|| url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_answered_with_an_error_is_not_counted() {
        let text = "  1000 requests in 2.00s, 1.00MB read\n  Non-2xx or 3xx responses: 250\nRequests/sec:    500.00\n";
        assert_eq!(answered(text), Some(375.0));
        assert_eq!(answered(&text.replace("  Non-2xx or 3xx responses: 250\n", "")), Some(500.0));
    }
}
