//! HTTP requests: as many as possible (wrk), or at a steady rate with the time of each counted from when it was to be sent.

use std::{
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

/// Requests a second that all [`CONNECTIONS`] get answered, each sending the next as soon as it has the answer.
pub async fn closed(url: &str, seconds: u32) -> Result<f64> {
    let output = Command::new("wrk")
        .args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s"), "--timeout", "20s", "-H"])
        .arg(format!("Authorization: Basic {}", STANDARD.encode(format!("{USERNAME}:{PASSWORD}"))))
        .arg(url)
        .output()
        .await
        .context("wrk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && !text.contains("Non-2xx"), "wrk {url}: {text}{}", String::from_utf8_lossy(&output.stderr));
    let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:")).context("wrk told no rate")?;
    rate.trim().parse().context("wrk's rate")
}

/// Times of requests sent at a steady rate, in microseconds.
pub async fn open(url: &str, a_second: u32, seconds: u32) -> Result<Histogram<u64>> {
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
    while let Some(request) = requests.join_next().await {
        request??;
    }
    Ok(times.lock().unwrap_or_else(PoisonError::into_inner).clone())
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
