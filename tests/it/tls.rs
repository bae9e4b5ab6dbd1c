//! TLS to the database and the broker: with a CA file only the server that it vouches for, under its own name, is talked to.

use std::{os::unix::fs::MetadataExt, path::Path};

use sqlx::Executor;

use crate::common::{certificates::Authority, eventually, mount::Mount, objects::update, private::Private, world::World};

/// The same URL with another host; certificates are for `localhost`.
fn at(url: &str, host: &str) -> String {
    let mut url = url::Url::parse(url).unwrap();
    url.set_host(Some(host)).unwrap();
    url.into()
}

/// Makes that server speak TLS with a certificate of `authority`, from the next connection on.
async fn certify_postgres(world: &World, authority: &Authority) {
    let data: String = sqlx::query_scalar("SHOW data_directory").fetch_one(&world.database).await.unwrap();
    authority.certify(Path::new(&data));
    let owner = std::fs::metadata(&data).unwrap();
    for file in ["server.crt", "server.key"] {
        std::os::unix::fs::chown(format!("{data}/{file}"), Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    world.database.execute("ALTER SYSTEM SET ssl = on").await.unwrap();
    let loaded = "SELECT pg_reload_conf()";
    world.database.execute(loaded).await.unwrap();
    // The reload is done by another process; a new connection asks for the setting that it got.
    eventually("TLS to be on", async || {
        let mut connection = world.database.acquire().await.unwrap().detach();
        let on: String = sqlx::query_scalar("SHOW ssl").fetch_one(&mut connection).await.unwrap();
        (on == "on").then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_database_is_talked_to_only_if_the_ca_vouches_for_its_name() {
    let private = Private::start("postgres");
    let world = World::with(&private, "tls-postgres").await;
    let (authority, other) = (Authority::new(), Authority::new());
    let settings = world.settings().with("DATABASE_URL", at(&world.database_url, "localhost"));
    let plain = settings.clone().with("DATABASE_CA_FILE", authority.file()).run(&["migrate", "status"]).await;
    assert!(plain.code == Some(1) && plain.err.contains("does not support TLS"), "{plain:?}");

    certify_postgres(&world, &authority).await;
    settings.clone().with("DATABASE_CA_FILE", authority.file()).succeed(&["migrate", "status"]).await;
    let stranger = settings.clone().with("DATABASE_CA_FILE", other.file()).run(&["migrate", "status"]).await;
    assert!(stranger.code == Some(1) && stranger.err.contains("not signed by a CA that is trusted here"), "{stranger:?}");
    let misnamed = settings.clone().with("DATABASE_URL", at(&world.database_url, "127.0.0.1")).with("DATABASE_CA_FILE", authority.file());
    let misnamed = misnamed.run(&["migrate", "status"]).await;
    assert!(misnamed.code == Some(1) && misnamed.err.contains("not for the host in the URL"), "{misnamed:?}");

    // A new CA, then a certificate of it: both are taken up while the program runs.
    let mount = Mount::new(&[("ca.crt", &authority.pem())]);
    let api = settings.with("DATABASE_CA_FILE", mount.file("ca.crt")).start("api");
    api.ready().await;
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'sync-operator' AND ssl";
    assert!(world.number(encrypted).await > 0);
    mount.swap(&[("ca.crt", &format!("{}{}", authority.pem(), other.pem()))]);
    api.logged("a setting changed in its file").await;
    certify_postgres(&world, &other).await;
    world.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sync-operator'").await;
    api.ready().await;
    assert!(world.number(encrypted).await > 0);
}

#[tokio::test]
async fn the_broker_is_talked_to_only_if_the_ca_vouches_for_its_name() {
    let private = Private::start("rabbitmq");
    let world = World::with(&private, "tls-rabbitmq").await;
    let (authority, other) = (Authority::new(), Authority::new());
    let port = private.rabbitmq_with_tls(|folder| authority.certify(folder));
    let mut url = url::Url::parse(&world.rabbitmq_url.replace("amqp://", "amqps://")).unwrap();
    url.set_port(Some(port)).unwrap();
    let settings = world.settings().with("RABBITMQ_URL", at(url.as_str(), "localhost")).with("RABBITMQ_CA_FILE", authority.file());

    let stranger = settings.clone().with("RABBITMQ_CA_FILE", other.file()).start("controller");
    stranger.logged("not signed by a CA that is trusted here").await;
    drop(stranger);
    let misnamed = settings.clone().with("RABBITMQ_URL", at(url.as_str(), "127.0.0.1")).start("controller");
    misnamed.logged("not for the host in the URL").await;
    drop(misnamed);
    let controller = settings.start("controller");
    controller.ready().await;
    world.create("x", update()).await;
    world.phase("x", "Queued").await;
}
