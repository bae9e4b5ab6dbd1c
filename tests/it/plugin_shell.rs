//! What `kubectl sync` is in a shell: found by kubectl, completed by TAB, explained by man.

use std::{path::PathBuf, process::Command};

use crate::common::{
    command::Ended,
    objects::update,
    plugin::{PLUGIN, ended, kubectl},
    world::World,
};

async fn complete(world: &World, words: &[&str]) -> Ended {
    ended(kubectl(&world.path, &world.kubeconfig, &[&["__complete", "sync"], words].concat()).spawn().unwrap()).await
}

#[tokio::test]
async fn kubectl_finds_it_and_its_help_names_it_as_people_type_it() {
    let world = World::new("plugin-found").await;
    let listed = ended(kubectl(&world.path, &world.kubeconfig, &["plugin", "list"]).spawn().unwrap()).await;
    assert!(listed.out.contains("/kubectl-sync"), "{listed:?}");
    let help = ended(kubectl(&world.path, &world.kubeconfig, &["sync", "--help"]).spawn().unwrap()).await;
    assert!(help.succeeded().contains("Usage: kubectl sync "), "{}", help.out);
    assert!(help.out.contains("--request-timeout") && help.out.contains("Exit codes:"), "{}", help.out);
    assert!(!help.out.contains('\u{1b}'), "no terminal, no color");
}

#[tokio::test]
async fn kubectl_completes_subcommands_flags_words_and_names_of_objects() {
    let world = World::new("plugin-complete").await;
    world.create("july", update()).await;
    world.create("june", update()).await;
    world.create("other", update()).await;
    let told = complete(&world, &[""]).await;
    assert!(told.succeeded().lines().any(|line| line.starts_with("force\tAsk for a sync now")), "{}", told.out);
    assert!(told.out.trim_end().ends_with(":4") && !told.out.contains("\nman"), "{}", told.out);
    assert!(complete(&world, &["history", "--ph"]).await.succeeded().starts_with("--phase"));
    let words = complete(&world, &["history", "--phase", ""]).await;
    assert!(words.succeeded().lines().any(|line| line == "Succeeded" || line.starts_with("Succeeded\t")), "{}", words.out);
    for subcommand in ["wait", "status", "watch", "describe"] {
        let names = complete(&world, &["-n", &world.name, subcommand, "ju"]).await;
        let names: Vec<&str> = names.succeeded().lines().filter(|line| line.starts_with('j')).collect();
        assert_eq!(names, ["july", "june"], "{subcommand}");
    }
}

#[tokio::test]
async fn the_scripts_of_all_shells_are_accepted_by_them() {
    for (shell, check) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        let script = Command::new(PLUGIN).args(["completion", shell]).output().unwrap();
        let text = String::from_utf8(script.stdout).unwrap();
        assert!(script.status.success() && text.contains("KUBECTL_SYNC_COMPLETE") && text.contains("kubectl-sync"), "{shell}: {text}");
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("completion.{shell}"));
        std::fs::write(&path, text).unwrap();
        match Command::new(shell).arg(check).arg(&path).output() {
            Ok(checked) => assert!(checked.status.success(), "{shell}: {}", String::from_utf8_lossy(&checked.stderr)),
            // Only bash is sure to be there.
            Err(error) => assert!(shell != "bash" && error.kind() == std::io::ErrorKind::NotFound, "{shell}: {error}"),
        }
    }
}

#[tokio::test]
async fn the_manual_has_a_page_for_each_command_and_renders() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("man");
    assert!(Command::new(PLUGIN).arg("man").arg(&folder).status().unwrap().success());
    for page in ["kubectl-sync", "kubectl-sync-force-backfill", "kubectl-sync-report"] {
        let file = folder.join(format!("{page}.1"));
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(".TH ") && text.contains(".SH NAME"), "{page} is no manual page: {text}");
        if let Ok(rendered) = Command::new("man").arg("-l").arg(&file).env("MANPAGER", "cat").output() {
            let told = String::from_utf8_lossy(&rendered.stdout);
            assert!(rendered.status.success() && told.contains("SYNOPSIS"), "{page}: {}", String::from_utf8_lossy(&rendered.stderr));
        }
    }
}
