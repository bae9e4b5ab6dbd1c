//! TLS to real servers: whom a CA file makes the program trust, and what it says of those whom it does not.

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use crate::common::{
    certificates::Certificates,
    objects::update,
    private::Private,
    program::{Program, Settings},
    world::World,
};

fn folder(world: &World, name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("tls").join(&world.name).join(name)
}

/// The server takes certificates only from files that are its own user's, and nobody else's to read.
fn install(certificates: &Certificates, into: &Path) {
    let owner = std::fs::metadata(into).unwrap();
    for (from, name) in [(&certificates.certificate, "tls.crt"), (&certificates.key, "tls.key")] {
        let to = into.join(name);
        std::fs::copy(from, &to).unwrap();
        chown(&to, Some(owner.uid()), Some(owner.gid())).unwrap();
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

async fn refused(settings: &Settings, says: &str) {
    let ended = settings.run(&["migrate", "status"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains(says), "`{says}` is not in {}", ended.err);
}

#[tokio::test]
async fn a_database_must_be_signed_by_the_ca_and_be_the_host_of_the_url() {
    let postgres = Private::start("postgres");
    let world = World::with(&postgres, "tls-postgres").await;
    let (trusted, other) = (folder(&world, "trusted"), folder(&world, "other"));
    let (trusted, other) = (Certificates::make(&trusted, "IP:127.0.0.1"), Certificates::make(&other, "IP:127.0.0.1"));
    let settings = world.settings().with("DATABASE_CA_FILE", trusted.ca.display());
    refused(&settings, "TLS").await;

    let data: String = sqlx::query_scalar("SHOW data_directory").fetch_one(&world.database).await.unwrap();
    install(&trusted, Path::new(&data));
    for sql in [
        "ALTER SYSTEM SET ssl_cert_file = 'tls.crt'",
        "ALTER SYSTEM SET ssl_key_file = 'tls.key'",
        "ALTER SYSTEM SET ssl = on",
        "SELECT pg_reload_conf()",
    ] {
        world.sql(sql).await;
    }
    settings.succeed(&["migrate", "status"]).await;
    refused(&settings.clone().with("DATABASE_CA_FILE", other.ca.display()), "not signed by a CA that is trusted here").await;
    let by_name = world.database_url.replace("127.0.0.1", "localhost");
    refused(&settings.clone().with("DATABASE_URL", &by_name), "is not for the host in the URL").await;

    let controller = settings.start("controller");
    controller.ready().await;
    world.create("encrypted", update()).await;
    world.phase("encrypted", "Queued").await;
    let plain = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'sync-operator' AND NOT ssl";
    assert_eq!(world.number(plain).await, 0, "every connection is encrypted");
    assert!(world.number("SELECT count(*) FROM pg_stat_ssl WHERE ssl").await > 0);
}

/// What `/readyz` says is missing.
async fn missing(controller: &Program, says: &str) {
    let url = format!("http://{}/readyz", controller.address().await);
    crate::common::eventually(&format!("`{says}` in {url}"), async || {
        reqwest::get(&url).await.ok()?.text().await.ok()?.contains(says).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_broker_must_be_signed_by_the_ca_and_be_the_host_of_the_url() {
    let rabbitmq = Private::start("rabbitmq");
    let world = World::with(&rabbitmq, "tls-rabbitmq").await;
    let (trusted, other) = (folder(&world, "trusted"), folder(&world, "other"));
    let (trusted, other) = (Certificates::make(&trusted, "IP:127.0.0.1"), Certificates::make(&other, "IP:127.0.0.1"));
    let port = rabbitmq.listen_by_tls(&trusted);

    let mut url = url::Url::parse(&world.rabbitmq_url).unwrap();
    url.set_port(Some(port)).unwrap();
    let url = url.as_str().replacen("amqp://", "amqps://", 1);
    let settings = world.settings().with("RABBITMQ_URL", &url).with("RABBITMQ_CA_FILE", trusted.ca.display());
    let controller = settings.start("controller");
    controller.ready().await;
    let mut worker = world.worker().await;
    world.create("encrypted", update()).await;
    worker.take().await;
    world.phase("encrypted", "Queued").await;
    controller.terminate().await;

    let untrusted = settings.clone().with("RABBITMQ_CA_FILE", other.ca.display()).start("controller");
    missing(&untrusted, "not signed by a CA that is trusted here").await;
    let misnamed = settings.with("RABBITMQ_URL", url.replace("127.0.0.1", "localhost")).start("controller");
    missing(&misnamed, "is not for the host in the URL").await;
}
