//! What the chart makes of its values: which objects, which Secrets where, and how little the Pods and their account may do.

use std::{collections::BTreeSet, process::Command};

use serde_json::{Value, json};

use crate::common::helm::{CHART, Rendered, documents, render};

/// Nearly everything that can be switched on.
const FULL: &str = include_str!("chart/full.yaml");

/// Renders that differ as much as they can.
fn variants() -> [Rendered; 3] {
    [render(""), render(FULL), render("{api: {enabled: false}, migrate: {enabled: false}, replicas: 1}")]
}

#[test]
fn by_default_it_makes_one_deployment_and_what_that_needs() {
    assert_eq!(
        render("").names(),
        [
            "ClusterRole/sync-operator",
            "ClusterRole/sync-operator:edit",
            "ClusterRole/sync-operator:view",
            "ClusterRoleBinding/sync-operator",
            "CustomResourceDefinition/syncexecutions.sync.pncp.io",
            "Deployment/sync-operator",
            "FlowSchema/sync-operator-leases",
            "FlowSchema/sync-operator-status",
            "PodDisruptionBudget/sync-operator",
            "Role/sync-operator-force",
            "Role/sync-operator-leader-election",
            "RoleBinding/sync-operator-force",
            "RoleBinding/sync-operator-leader-election",
            "Service/sync-operator",
            "ServiceAccount/sync-operator",
        ]
    );
}

#[test]
fn each_switch_adds_or_takes_away_its_object_and_nothing_else() {
    let before: BTreeSet<String> = render("").names().into_iter().collect();
    for (values, added, removed) in [
        ("{ingress: {enabled: true, hosts: [sync.example]}}", vec!["Ingress/sync-operator"], vec![]),
        ("{httpRoute: {enabled: true, parentRefs: [{name: public}]}}", vec!["HTTPRoute/sync-operator"], vec![]),
        ("{metrics: {serviceMonitor: {enabled: true}}}", vec!["ServiceMonitor/sync-operator"], vec![]),
        ("{metrics: {podMonitor: {enabled: true}}}", vec!["PodMonitor/sync-operator"], vec![]),
        ("{metrics: {prometheusRule: {enabled: true}}}", vec!["PrometheusRule/sync-operator"], vec![]),
        ("{metrics: {dashboard: {enabled: true}}}", vec!["ConfigMap/sync-operator-dashboard"], vec![]),
        ("{networkPolicy: {enabled: true}}", vec!["NetworkPolicy/sync-operator"], vec![]),
        ("{flowSchemas: {enabled: false}}", vec![], vec!["FlowSchema/sync-operator-leases", "FlowSchema/sync-operator-status"]),
        ("{podDisruptionBudget: {enabled: false}}", vec![], vec!["PodDisruptionBudget/sync-operator"]),
        ("{replicas: 1}", vec![], vec!["PodDisruptionBudget/sync-operator"]),
        ("{crds: {enabled: false}}", vec![], vec!["CustomResourceDefinition/syncexecutions.sync.pncp.io"]),
        ("{rbac: {aggregate: false}}", vec![], vec!["ClusterRole/sync-operator:edit", "ClusterRole/sync-operator:view"]),
        ("{serviceAccount: {create: false, name: mine}}", vec![], vec!["ServiceAccount/sync-operator"]),
        ("{api: {enabled: false}}", vec![], vec!["Role/sync-operator-force", "RoleBinding/sync-operator-force"]),
    ] {
        let after: BTreeSet<String> = render(values).names().into_iter().collect();
        assert_eq!(after.difference(&before).collect::<Vec<_>>(), added, "added by {values}");
        assert_eq!(before.difference(&after).collect::<Vec<_>>(), removed, "taken away by {values}");
    }
}

#[test]
fn the_crd_is_the_generated_one_and_is_kept_unless_said_otherwise() {
    let generated = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/crds/sync.pncp.io_syncexecutions.yaml")).unwrap();
    let copy = std::fs::read_to_string(format!("{CHART}/files/crds/sync.pncp.io_syncexecutions.yaml")).unwrap();
    assert_eq!(copy, generated, "type: make generate");
    for (values, kept) in [("", json!("keep")), ("{crds: {keep: false}}", Value::Null)] {
        let rendered = render(values);
        let mut crd = rendered.get("CustomResourceDefinition", "syncexecutions.sync.pncp.io").clone();
        assert_eq!(crd["metadata"]["annotations"]["helm.sh/resource-policy"], kept);
        let metadata = crd["metadata"].as_object_mut().unwrap();
        metadata.retain(|key, _| key == "name");
        assert_eq!(crd, documents(&generated)[0]);
    }
}

#[test]
fn every_variable_of_a_container_is_a_setting_of_its_subcommand() {
    for rendered in variants() {
        for container in rendered.containers() {
            let subcommand = container["args"][0].as_str().unwrap();
            let output = Command::new(env!("CARGO_BIN_EXE_sync-operator")).args([subcommand, "--help"]).env_clear().output().unwrap();
            let help = String::from_utf8(output.stdout).unwrap();
            for variable in container["env"].as_array().unwrap() {
                let name = variable["name"].as_str().unwrap();
                let known = ["=", "]"].iter().any(|end| help.contains(&format!("[env: {name}{end}")));
                assert!(known, "{subcommand} knows no {name}:\n{help}");
            }
        }
    }
}

#[test]
fn every_container_fulfils_the_restricted_profile_and_writes_to_no_disk() {
    for rendered in variants() {
        let pod = &rendered.pod()["securityContext"];
        assert_eq!((&pod["runAsNonRoot"], &pod["seccompProfile"]), (&json!(true), &json!({"type": "RuntimeDefault"})));
        for name in ["hostNetwork", "hostPID", "hostIPC"] {
            assert_eq!(rendered.pod()[name], Value::Null);
        }
        for container in rendered.containers() {
            assert_eq!(
                container["securityContext"],
                json!({
                    "allowPrivilegeEscalation": false, "privileged": false, "readOnlyRootFilesystem": true, "runAsNonRoot": true,
                    "capabilities": {"drop": ["ALL"]},
                }),
                "{}",
                container["name"]
            );
            let resources = &container["resources"];
            assert!(resources["requests"]["memory"].is_string() && resources["limits"]["memory"].is_string());
            assert_eq!(resources["limits"]["cpu"], Value::Null, "a throttled leader loses its lease");
        }
    }
}

#[test]
fn users_can_be_left_to_the_cluster() {
    let rendered = render("{securityContext: {runAsUser: null, runAsGroup: null, fsGroup: null}}");
    assert_eq!(rendered.pod()["securityContext"], json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}));
}

#[test]
fn the_token_is_short_lived_and_only_where_it_is_needed() {
    for rendered in variants() {
        assert_eq!(rendered.pod()["automountServiceAccountToken"], false);
        for account in rendered.all("ServiceAccount") {
            assert_eq!(account["automountServiceAccountToken"], false);
        }
        for container in rendered.containers() {
            let name = container["name"].as_str().unwrap();
            assert_eq!(rendered.mounts(name).contains(&"token"), name != "migrate", "{name}");
        }
        let sources = &rendered.volume("token")["projected"]["sources"];
        assert_eq!(sources[0], json!({"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}));
        assert_eq!(sources[1]["configMap"]["name"], "kube-root-ca.crt");
        assert_eq!(sources[2]["downwardAPI"]["items"][0]["path"], "namespace");
    }
}

#[test]
fn secrets_are_files_of_whole_folders_that_only_the_group_may_read() {
    for rendered in variants() {
        for container in rendered.containers() {
            for variable in container["env"].as_array().unwrap() {
                assert!(variable["value"].is_string(), "a Secret as a variable would need a restart: {variable}");
            }
            for mount in container["volumeMounts"].as_array().unwrap() {
                assert_eq!((&mount["subPath"], &mount["readOnly"]), (&Value::Null, &json!(true)), "{mount}");
            }
        }
        for volume in rendered.pod()["volumes"].as_array().unwrap() {
            let source = ["secret", "configMap", "projected"].map(|kind| &volume[kind]).into_iter().find(|source| source.is_object());
            assert_eq!(source.unwrap()["defaultMode"], 0o440, "{volume}");
        }
    }
}

#[test]
fn a_database_can_be_named_in_three_ways() {
    let rendered = render("{database: {existingSecret: {name: mine, key: dsn}}}");
    let volume = rendered.volume("database");
    assert_eq!((&volume["secret"]["secretName"], &volume["secret"]["items"]), (&json!("mine"), &json!([{"key": "dsn", "path": "url"}])));
    assert_eq!(rendered.variable("controller", "DATABASE_URL_FILE"), "/etc/sync-operator/database/url");
    assert_eq!(rendered.variable("controller", "DATABASE_CA_FILE"), Value::Null);

    let rendered = render("{database: {existingSecret: {name: ''}, url: 'postgres://ana:pw@db/sync'}}");
    assert_eq!(rendered.volume("database")["secret"]["secretName"], "sync-operator-database");
    assert_eq!(rendered.get("Secret", "sync-operator-database")["data"]["url"], "cG9zdGdyZXM6Ly9hbmE6cHdAZGIvc3luYw==");

    let rendered = render("{database: {existingSecret: {name: ''}, cloudNativePG: {cluster: pg}}}");
    let (url, ca) = (&rendered.volume("database")["secret"], &rendered.volume("database-ca")["secret"]);
    assert_eq!((&url["secretName"], &url["items"]), (&json!("pg-app"), &json!([{"key": "uri", "path": "url"}])));
    assert_eq!((&ca["secretName"], &ca["items"]), (&json!("pg-ca"), &json!([{"key": "ca.crt", "path": "ca.crt"}])));
    for container in ["migrate", "controller", "api"] {
        assert_eq!(rendered.variable(container, "DATABASE_CA_FILE"), "/etc/sync-operator/database-ca/ca.crt");
        assert!(rendered.mounts(container).contains(&"database-ca"));
    }
}

#[test]
fn a_broker_can_be_named_in_three_ways() {
    let rendered = render("{rabbitmq: {existingSecret: {name: mine, key: amqp}}}");
    let volume = &rendered.volume("rabbitmq")["secret"];
    assert_eq!((&volume["secretName"], &volume["items"]), (&json!("mine"), &json!([{"key": "amqp", "path": "url"}])));

    let rendered = render("{rabbitmq: {existingSecret: {name: ''}, url: 'amqp://ana:pw@mq/'}}");
    assert_eq!(rendered.get("Secret", "sync-operator-rabbitmq")["data"]["url"], "YW1xcDovL2FuYTpwd0BtcS8=");

    let values =
        "{rabbitmq: {existingSecret: {name: ''}, clusterOperator: {cluster: mq}, ca: {existingConfigMap: {name: bundle, key: root.pem}}}}";
    let rendered = render(values);
    let (url, ca) = (&rendered.volume("rabbitmq")["secret"], &rendered.volume("rabbitmq-ca")["configMap"]);
    assert_eq!((&url["secretName"], &url["items"]), (&json!("mq-default-user"), &json!([{"key": "connection_string", "path": "url"}])));
    assert_eq!((&ca["name"], &ca["items"]), (&json!("bundle"), &json!([{"key": "root.pem", "path": "ca.crt"}])));
    assert_eq!(rendered.variable("controller", "RABBITMQ_CA_FILE"), "/etc/sync-operator/rabbitmq-ca/ca.crt");
    for container in ["migrate", "api"] {
        assert!(!rendered.mounts(container).iter().any(|mount| mount.starts_with("rabbitmq")), "{container} needs no broker");
    }
}

#[test]
fn the_owner_of_the_tables_is_known_to_migrate_alone() {
    let rendered = render("{migrate: {database: {existingSecret: {name: owner}}}}");
    assert_eq!(rendered.volume("owner")["secret"]["secretName"], "owner");
    assert_eq!(rendered.variable("migrate", "DATABASE_URL_FILE"), "/etc/sync-operator/owner/url");
    assert_eq!(rendered.mounts("migrate"), ["owner"]);
    for container in ["controller", "api"] {
        assert_eq!(rendered.variable(container, "DATABASE_URL_FILE"), "/etc/sync-operator/database/url");
        assert!(!rendered.mounts(container).contains(&"owner"));
    }
}

#[test]
fn old_executions_are_kept_unless_their_status_has_a_number_of_days() {
    assert!(render("").variable("controller", "RETENTION_DAYS").is_null());
    let rendered = render("{controller: {retentionDays: {success: 90, cancelled: 36500}}}");
    assert_eq!(rendered.variable("controller", "RETENTION_DAYS"), "cancelled=36500,success=90");
    assert!(rendered.variable("api", "RETENTION_DAYS").is_null());
}

#[test]
fn the_api_serves_whom_it_is_told_to() {
    let rendered = render("{api: {auth: {existingSecret: {name: mine, usernameKey: user, passwordKey: pass}}}}");
    let items = &rendered.volume("admin")["secret"]["items"];
    assert_eq!(*items, json!([{"key": "user", "path": "username"}, {"key": "pass", "path": "password"}]));
    assert_eq!(rendered.variable("api", "ALLOW_ANONYMOUS"), Value::Null);

    let rendered = render("{api: {auth: {existingSecret: {name: ''}, username: admin, password: s3cret}}}");
    assert_eq!(rendered.get("Secret", "sync-operator-admin")["data"], json!({"username": "YWRtaW4=", "password": "czNjcmV0"}));

    let rendered = render("{api: {auth: {existingSecret: {name: ''}, allowAnonymous: true}}}");
    assert_eq!(rendered.variable("api", "ALLOW_ANONYMOUS"), "true");
    assert!(rendered.variable("api", "ADMIN_PASSWORD_FILE").is_null() && rendered.volume("admin").is_null());
}

#[test]
fn rights_are_named_one_by_one() {
    for rendered in variants() {
        for role in rendered.all("Role").chain(rendered.all("ClusterRole")) {
            let rules = role["rules"].to_string();
            assert!(!rules.contains('*') && !rules.contains("secrets"), "{rules}");
        }
    }
    let rendered = render("{fullnameOverride: other}");
    let lease = &rendered.get("Role", "other-leader-election")["rules"];
    assert_eq!((&lease[0]["verbs"], &lease[0]["resourceNames"]), (&json!(["create"]), &Value::Null));
    assert_eq!((&lease[1]["verbs"], &lease[1]["resourceNames"]), (&json!(["get", "update"]), &json!(["other"])));
    assert_eq!(rendered.variable("controller", "LEASE_NAME"), "other");
}

#[test]
fn with_a_list_of_namespaces_the_account_has_rights_in_those_only() {
    let rendered = render("{watchNamespaces: [team-a, team-b], api: {force: {namespace: team-b}}, rbac: {aggregate: false}}");
    let roles: Vec<String> = rendered.names().into_iter().filter(|name| name.contains("Role/")).collect();
    assert_eq!(
        roles,
        ["Role/sync-operator-leader-election", "Role/team-a/sync-operator", "Role/team-b/sync-operator", "Role/team-b/sync-operator-force"]
    );
    assert_eq!(rendered.variable("controller", "WATCH_NAMESPACE"), "team-a,team-b");
    assert_eq!(rendered.variable("api", "FORCE_NAMESPACE"), "team-b");
}

#[test]
fn liveness_and_readiness_ask_nobody_and_an_upgrade_waits_for_all_that_is_needed() {
    let rendered = render("");
    for name in ["controller", "api"] {
        let container = rendered.container(name);
        let path = |probe: &str| container[probe]["httpGet"]["path"].clone();
        assert_eq!([path("startupProbe"), path("readinessProbe"), path("livenessProbe")], ["/readyz", "/healthz", "/healthz"]);
        let patience = |what: &str| container["startupProbe"][what].as_u64().unwrap();
        assert!(patience("periodSeconds") * patience("failureThreshold") >= 86_400, "a restart brings no database back");
    }
    let strategy = &rendered.get("Deployment", "sync-operator")["spec"]["strategy"]["rollingUpdate"];
    assert_eq!(*strategy, json!({"maxUnavailable": 0, "maxSurge": 1}));
}

#[test]
fn the_network_policy_names_both_directions_and_opens_the_api_to_its_peers_only() {
    let rendered = render("{networkPolicy: {enabled: true, databasePort: 6432, httpPeers: [{podSelector: {}}]}}");
    let spec = &rendered.get("NetworkPolicy", "sync-operator")["spec"];
    assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
    for rule in spec["ingress"].as_array().unwrap() {
        let opens_api = rule["ports"].as_array().unwrap().iter().any(|port| port["port"] == "http");
        assert_eq!(opens_api, rule["from"].is_array(), "{rule}");
    }
    let ports: Vec<&Value> =
        spec["egress"].as_array().unwrap().iter().flat_map(|rule| rule["ports"].as_array().unwrap()).map(|port| &port["port"]).collect();
    assert_eq!(json!(ports), json!([53, 53, 6432, 5672, 5671, 443, 6443]));
}

#[test]
fn what_is_reached_from_outside_leaves_the_metrics_out() {
    let rendered = render(FULL);
    let ingress = rendered.get("Ingress", "sync-operator")["spec"]["rules"].to_string();
    let route = rendered.get("HTTPRoute", "sync-operator")["spec"]["rules"].to_string();
    for rules in [ingress, route] {
        assert!(rules.contains("/sync") && !rules.contains("metrics") && !rules.contains(r#""path":"/""#), "{rules}");
    }
}
