//! Which part may know which: the direction of dependencies, checked on the sources themselves.

use std::path::{Path, PathBuf};

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// Fails when code under `src/part` (tests aside) names one of `forbidden`.
fn part_does_not_name(part: &str, forbidden: &[&str]) {
    let files = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(part));
    assert!(!files.is_empty(), "src/{part} is gone: correct this test");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for name in forbidden {
                assert!(!line.contains(name), "{} names {name}: {line}", file.display());
            }
        }
    }
}

#[test]
fn the_words_know_no_io() {
    let io = [
        "kube::Client",
        "kube::Api",
        "kube::api",
        "kube::client",
        "kube::runtime",
        "runtime::",
        "Client",
        "sqlx",
        "lapin",
        "axum",
        "tokio",
    ];
    part_does_not_name("crd", &io);
    part_does_not_name("domain", &[&io[..], &["kube::", "crate::crd"]].concat());
}

#[test]
fn the_record_knows_no_door() {
    part_does_not_name(
        "store",
        &["crate::controller", "crate::broker", "crate::http", "controller::", "broker::", "http::", "lapin", "kube", "axum"],
    );
}

#[test]
fn no_door_knows_how_another_one_works() {
    part_does_not_name("http", &["controller::", "broker::", "lapin", "sqlx"]);
    part_does_not_name("broker", &["controller::", "http::", "kube", "axum", "sqlx"]);
    part_does_not_name("controller", &["http::", "lapin", "sqlx", "axum"]);
}

#[test]
fn the_plugin_knows_the_words_and_the_api_server_only() {
    part_does_not_name(
        "bin/kubectl-sync",
        &[
            "sync_operator::store",
            "store::",
            "broker::",
            "controller::",
            "sync_operator::http",
            "relay",
            "sqlx",
            "lapin",
            "axum",
            "reqwest",
        ],
    );
}
