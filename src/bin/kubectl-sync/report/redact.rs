//! Takes secrets out of what goes into a report. Rather too much than too little: what is taken out can be asked for.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

/// What stands in the place of a secret.
pub const MARK: &str = "(redacted)";

/// Names whose values are secrets.
const SECRET_NAMES: &str = "password|passwd|passphrase|secret|token|api[_-]?key|authorization|credential|private[_-]?key";

/// Patterns and what they become, in this order.
static PATTERNS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let value = r#"(?:(?:bearer|basic)\s+)?(?:"(?:[^"\\]|\\.)*"|'[^']*'|[^\s"',;&}\]\\]+)"#;
    [
        (r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)".to_owned(), "(redacted)"),
        (r#"://[^\s"'<>`]*@"#.to_owned(), "://(redacted)@"),
        (format!(r#"(?i)([\w.-]*(?:{SECRET_NAMES})[\w.-]*\\?["']?\s*(?:[=:]|=>)\s*(?:\\")?){value}"#), "${1}(redacted)"),
        (r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}".to_owned(), "${1} (redacted)"),
        (r"\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?".to_owned(), "(redacted)"),
    ]
    .into_iter()
    .map(|(pattern, becomes)| (compiled(&pattern), becomes))
    .collect()
});

/// A flag that carries a secret, or an address that may contain one.
static FLAG: LazyLock<Regex> = LazyLock::new(|| compiled(&format!(r"(?i)^--?[\w-]*(?:{SECRET_NAMES}|url|uri|dsn|user)[\w-]*(=.*)?$")));

#[expect(clippy::expect_used, reason = "the patterns are written above and compiled by the tests")]
fn compiled(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a pattern of this file")
}

/// The text without passwords in addresses, tokens, keys, and values of names that say what they are.
#[must_use]
pub fn text(text: &str) -> String {
    PATTERNS.iter().fold(text.to_owned(), |text, (pattern, becomes)| pattern.replace_all(&text, *becomes).into_owned())
}

/// An object of the cluster without what may be secret in it: values of variables, arguments, what was applied, all texts.
pub fn object(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("managedFields");
            if let Some(Value::Object(annotations)) = fields.get_mut("annotations") {
                annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
            }
            for (name, field) in fields.iter_mut() {
                match (name.as_str(), &mut *field) {
                    ("env", Value::Array(variables)) => variables.iter_mut().for_each(variable),
                    ("args" | "command", Value::Array(words)) => arguments(words),
                    _ => {}
                }
                object(field);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(object),
        Value::String(word) => *word = text(word),
        _ => {}
    }
}

fn variable(variable: &mut Value) {
    if let Some(value) = variable.get_mut("value") {
        *value = MARK.into();
    }
}

fn arguments(words: &mut [Value]) {
    let mut secret_follows = false;
    for word in words {
        let Some(argument) = word.as_str().map(str::to_owned) else { continue };
        if secret_follows && !argument.starts_with('-') {
            *word = MARK.into();
            secret_follows = false;
        } else if FLAG.is_match(&argument) {
            secret_follows = !argument.contains('=');
            if let Some((flag, _)) = argument.split_once('=') {
                *word = format!("{flag}={MARK}").into();
            }
        } else {
            secret_follows = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const SECRET: &str = "hunter2hunter2";

    #[track_caller]
    fn hidden(before: &str) {
        let after = text(before);
        assert!(!after.contains(SECRET) && after.contains(MARK), "{before} became {after}");
    }

    #[test]
    fn secrets_in_texts_are_taken_out() {
        hidden(&format!("cannot connect to postgres://ana:{SECRET}@db:5432/sync"));
        hidden(&format!("amqp://ana:a@b/{SECRET}@mq/%2f refused"));
        hidden(&format!(r#"{{"level":"info","password":"{SECRET}","x":1}}"#));
        hidden(&format!(r#"{{"message":"{{\"password\":\"{SECRET}\"}}"}}"#));
        hidden(&format!("ADMIN_PASSWORD={SECRET}"));
        hidden(&format!("db_password = 'a {SECRET}'"));
        hidden(&format!("api-key: {SECRET}"));
        hidden(&format!("Authorization: Basic {SECRET}"));
        hidden(&format!("sent Bearer {SECRET}"));
        hidden(&format!("eyJhbGciOiJSUzI1NiJ9.{SECRET}.sig"));
        hidden(&format!("-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----"));
    }

    #[test]
    fn what_is_no_secret_stays() {
        for harmless in ["record 2025-0310: value 'R$ 12.x' is not a number", "postgres://db:5432/sync", "listening on 127.0.0.1:8080"] {
            assert_eq!(text(harmless), harmless);
        }
    }

    #[test]
    fn objects_lose_values_of_variables_arguments_and_what_was_applied() {
        let mut pod = json!({
            "metadata": {"managedFields": [{}], "annotations": {"kubectl.kubernetes.io/last-applied-configuration": SECRET, "kept": "yes"}},
            "spec": {"containers": [{
                "env": [{"name": "PLAIN", "value": SECRET}, {"name": "REF", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                "args": ["controller", format!("--admin-password={SECRET}"), "--database-url", SECRET, "--log-level", "info"],
                "image": format!("registry/ana:{SECRET}@x://a:{SECRET}@b"),
            }]},
        });
        pod["spec"]["containers"][0].as_object_mut().unwrap().remove("image");
        object(&mut pod);
        let told = pod.to_string();
        assert!(!told.contains(SECRET) && !told.contains("managedFields"), "{told}");
        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["args"], json!(["controller", "--admin-password=(redacted)", "--database-url", MARK, "--log-level", "info"]));
        assert_eq!(container["env"][1]["valueFrom"]["secretKeyRef"]["name"], "s");
        assert_eq!(pod["metadata"]["annotations"]["kept"], "yes");
    }

    proptest! {
        #[test]
        fn a_password_in_an_address_never_stays(password in "[a-zA-Z0-9%!$/:.-]{6,20}", around in "[ a-z=]{0,9}") {
            let told = text(&format!("{around} amqps://user:{password}@host/v"));
            prop_assert!(!told.contains(&format!(":{password}@")), "{}", told);
        }

        #[test]
        fn no_text_makes_it_panic(any in "(?s).{0,80}") {
            let _ = text(&any);
        }
    }
}
