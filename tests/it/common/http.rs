//! Plain HTTP against the program: whole answers, and what an error must look like.

use reqwest::{Method, RequestBuilder, header::HeaderMap};
use serde_json::Value;

use super::{PATIENCE, program::Program};

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub code: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub text: String,
}

impl Answer {
    /// Sends the request.
    pub async fn to(request: RequestBuilder) -> Self {
        let response = request.timeout(PATIENCE).send().await.unwrap();
        let (code, headers) = (response.status().as_u16(), response.headers().clone());
        Self { code, headers, text: response.text().await.unwrap() }
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A header; empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// Panics unless it is the one envelope of errors with this code, and its `detail` contains `says`.
    #[track_caller]
    pub fn is_problem(&self, code: u16, says: &str) {
        assert_eq!((self.code, self.header("content-type")), (code, "application/problem+json"), "{self:?}");
        let body = self.json();
        assert_eq!(shape(&body), [("detail", "string"), ("status", "number"), ("title", "string")], "{body}");
        assert!(body["status"] == code && body["detail"].as_str().unwrap().contains(says), "`{says}` is not in {body}");
    }
}

impl Program {
    /// A request with the administrator's credentials.
    pub async fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.anonymous(method, path).await.basic_auth("admin", Some("s3cret"))
    }

    /// A request without credentials.
    pub async fn anonymous(&self, method: Method, path: &str) -> RequestBuilder {
        reqwest::Client::new().request(method, format!("http://{}{path}", self.address().await))
    }

    /// GETs with the administrator's credentials.
    pub async fn read(&self, path: &str) -> Answer {
        Answer::to(self.request(Method::GET, path).await).await
    }
}

/// The fields of an object with their JSON types, sorted by name.
pub fn shape(object: &Value) -> Vec<(&str, &'static str)> {
    let kind = |value: &Value| match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let mut fields: Vec<_> = object.as_object().unwrap().iter().map(|(name, value)| (name.as_str(), kind(value))).collect();
    fields.sort_unstable();
    fields
}

/// `name: type` per word pair, as [`shape`] gives it.
pub fn fields(list: &'static str) -> Vec<(&'static str, &'static str)> {
    let mut fields: Vec<_> = list.split_whitespace().map(|field| field.split_once(':').unwrap()).collect();
    fields.sort_unstable();
    fields
}
