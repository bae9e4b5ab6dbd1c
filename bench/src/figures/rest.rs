//! REST: requests a second and their time, by number of rows, idle and under ingest; against pgbench with the same statements,
//! and against the service as it was built before.

use std::{net::TcpListener, time::Duration};

use anyhow::{Context, Result};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, postgres::PgPoolOptions};
use tokio::{process::Command, time::sleep};

use super::{Bench, rotated};
use crate::{
    http_load::{self, PASSWORD, USERNAME},
    pgbench::{Mark, Script},
    process::Process,
    rest_requests::Request,
    results::{Record, short},
    rows,
    subject::PATIENCE,
};

/// Rows.
const SIZES: [u32; 3] = [1_000, 1_000_000, 10_000_000];
/// Seconds of each measurement.
const SECONDS: u32 = 3;
/// Requests a second when their time is measured: the same for all numbers of rows, and far below what any of them can do; where
/// it is not, [`KNEE`] of what can be done.
const A_SECOND: f64 = 300.0;
/// The part of the closed-loop rate up to which times are those of requests, not of a queue.
const KNEE: f64 = 0.6;

/// One database, with the API of each on it.
struct Served {
    rows: String,
    database: String,
    database_url: String,
    pool: PgPool,
    operator: Process,
    base: String,
    peer: Option<(Process, String)>,
    requests: Vec<(Request, String, Script)>,
}

/// Measures.
pub async fn run(bench: &Bench<'_>) -> Result<()> {
    let mut all = Vec::new();
    let mut sizes = SIZES.map(|size| bench.options.scaled(size, SIZES[0])).to_vec();
    sizes.dedup();
    for size in sizes {
        all.push(serve(bench, size, all.len()).await.with_context(|| format!("{size} rows"))?);
    }
    for round in 1..=bench.options.rounds {
        for served in &all {
            for (request, path, script) in &served.requests {
                idle(bench, served, *request, path, script, round).await?;
            }
        }
        for served in &all {
            ingested(bench, served, round).await?;
        }
    }
    for served in all {
        served.operator.end().await?;
        if let Some((peer, _)) = served.peer {
            peer.end().await?;
        }
        served.pool.close().await;
        rows::drop_database(&bench.stack, &served.database).await?;
    }
    Ok(())
}

async fn serve(bench: &Bench<'_>, size: usize, number: usize) -> Result<Served> {
    let database = rows::database(bench.options, &bench.stack, size).await?;
    let database_url = bench.stack.database(&database)?;
    let pool = PgPoolOptions::new().max_connections(2).connect(&database_url).await?;
    let requests = requests(bench, &database, &database_url, &pool).await?;
    let (operator, base) = operator(bench, &database_url, &format!("rest-{number}")).await?;
    let peer = peer(bench, &database_url, &format!("rest-peer-{number}")).await?;
    Ok(Served { rows: format!("{size:>8} rows"), database, database_url, pool, operator, base, peer, requests })
}

/// The checked requests, each with the statements that the product sends for it.
async fn requests(bench: &Bench<'_>, database: &str, url: &str, pool: &PgPool) -> Result<Vec<(Request, String, Script)>> {
    let mut server = PgConnection::connect(&bench.stack.database_url).await?;
    let set = |what: &str| sqlx::query(AssertSqlSafe(format!("ALTER DATABASE \"{database}\" {what}")));
    set("SET log_statement = 'all'").execute(&mut server).await?;
    let (logged, base) = operator(bench, url, &format!("logged-{database}")).await?;
    let mut requests = Vec::new();
    for request in Request::ALL {
        let path = match request.path(&base, pool).await {
            Ok(path) => path,
            Err(error) if request == Request::ErrorText && error.to_string().contains(" 400 ") => {
                println!("rest: this release cannot search the text of errors: left out");
                continue;
            }
            Err(error) => return Err(error),
        };
        let mark = Mark::now(bench.stack.log("postgres"))?;
        http_load::json(&format!("{base}{path}")).await?;
        let file = bench.options.work.join(format!("{database}-{}.sql", request.name().replace(' ', "-")));
        requests.push((request, path, mark.script(file).await?));
    }
    logged.end().await?;
    set("RESET log_statement").execute(&mut server).await?;
    Ok(requests)
}

async fn operator(bench: &Bench<'_>, database_url: &str, name: &str) -> Result<(Process, String)> {
    let mut command = Command::new(&bench.options.operator);
    command.arg("api");
    let variables = [
        ("KUBECONFIG", bench.stack.kubeconfig.display().to_string()),
        ("DATABASE_URL", database_url.to_owned()),
        ("API_LISTEN", "127.0.0.1:0".to_owned()),
        ("ADMIN_USERNAME", USERNAME.to_owned()),
        ("ADMIN_PASSWORD", PASSWORD.to_owned()),
        ("LOG_FORMAT", "json".to_owned()),
    ];
    let process = Process::start(command, &variables, &bench.options.work.join(format!("{name}.log")))?;
    let address = until("the API to listen", async || {
        process.words().lines().find_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            Some(line.get("listen")?.as_str()?.to_owned())
        })
    })
    .await?;
    let base = format!("http://{address}");
    until("the API to answer", async || http_load::json(&format!("{base}/sync/status")).await.ok()).await?;
    Ok((process, base))
}

/// The peer is not given more memory than a service would get: one that reads all rows must fail, not the machine.
async fn peer(bench: &Bench<'_>, database_url: &str, name: &str) -> Result<Option<(Process, String)>> {
    let python = bench.options.home.join("target/fastapi-venv/bin/python");
    if !python.exists() {
        eprintln!("bench: the REST peer is not built ({}): left out", python.display());
        return Ok(None);
    }
    let mut command = Command::new(python);
    command.args(["-m", "peer"]).current_dir(bench.options.home.join("peers/fastapi"));
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let variables = [
        ("DATABASE_URL", database_url.to_owned()),
        ("LISTEN", address.clone()),
        ("ADMIN_USERNAME", USERNAME.to_owned()),
        ("ADMIN_PASSWORD", PASSWORD.to_owned()),
    ];
    let process = Process::start(command, &variables, &bench.options.work.join(format!("{name}.log")))?;
    let base = format!("http://{address}");
    until("the REST peer to answer", async || http_load::json(&format!("{base}/sync/status")).await.ok()).await?;
    Ok(Some((process, base)))
}

async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut probe: impl FnMut() -> F) -> Result<T> {
    let begun = std::time::Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Some(found) = probe().await {
            return Ok(found);
        }
        sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("gave up waiting for {what}")
}

/// Nothing but this request is going on.
async fn idle(bench: &Bench<'_>, served: &Served, request: Request, path: &str, script: &Script, round: u32) -> Result<()> {
    let case = format!("{} {}", served.rows, request.name());
    let seconds = seconds(bench);
    for subject in rotated(&["operator", "pgbench", "fastapi"], round) {
        let record = Record::new("rest", &case, subject, round);
        let record = match (subject, &served.peer) {
            ("operator", _) => {
                let url = format!("{}{path}", served.base);
                let record = timed(record, &url, seconds).await?;
                let script = http_load::each_another(&bench.options.work, &url).await?;
                record.with("unshared_requests_per_s", http_load::closed(&url, seconds, Some(&script)).await?)
            }
            ("pgbench", _) => record.with("requests_per_s", script.run(&served.database_url, seconds).await?),
            (_, Some((_, base))) if request.has_peer() => timed(record, &format!("{base}{path}"), seconds).await?,
            _ => continue,
        };
        bench.results.add(&record)?;
    }
    Ok(())
}

/// The same while rows are written to the table; the operator alone.
async fn ingested(bench: &Bench<'_>, served: &Served, round: u32) -> Result<()> {
    let writer = rows::ingest(served.pool.clone());
    for (request, path, _) in &served.requests {
        let record = Record::new("rest under ingest", &format!("{} {}", served.rows, request.name()), "operator", round);
        bench.results.add(&timed(record, &format!("{}{path}", served.base), seconds(bench)).await?)?;
    }
    writer.abort();
    rows::forget_ingested(&served.pool).await
}

/// Rate in a closed loop; then times at a steady rate.
async fn timed(record: Record, url: &str, seconds: u32) -> Result<Record> {
    let rate = http_load::closed(url, seconds, None).await?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 300")]
    let a_second = (rate * KNEE).clamp(1.0, A_SECOND) as u32;
    let times = http_load::open(url, a_second, seconds).await.with_context(|| format!("{url} at {} requests/s", short(rate)))?;
    let milliseconds = |micros: u64| Duration::from_micros(micros).as_secs_f64() * 1e3;
    Ok(record
        .with("requests_per_s", rate)
        .with("open_requests_per_s", f64::from(a_second))
        .with("failed", f64::from(times.failed))
        .with("p50_ms", milliseconds(times.good.value_at_quantile(0.5)))
        .with("p99_ms", milliseconds(times.good.value_at_quantile(0.99))))
}

fn seconds(bench: &Bench<'_>) -> u32 {
    u32::try_from(bench.options.scaled(SECONDS, 1)).unwrap_or(SECONDS)
}
