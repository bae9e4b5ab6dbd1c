//! A setting that is given as a value, or in a file that may change while the program runs: a mounted Secret or ConfigMap.
//! What a file says is taken only when it can be used; until then what worked goes on. Who asks decides how often.

use std::{
    fmt, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
use tracing::{info, warn};

/// A file that was written less than this ago may be half of what it will be.
const SETTLED: Duration = Duration::from_secs(1);

/// Where a setting is.
#[derive(Clone, Debug)]
pub enum Source {
    /// Here.
    Value(SecretString),
    /// In this file; a newline at its end does not count.
    File(PathBuf),
}

/// Why a setting cannot be used. Never with what it says.
#[derive(Debug, Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file says nothing.
    #[error("{} is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// What it says makes no sense.
    #[error("{0}")]
    Wrong(String),
}

/// Which setting of a server is wrong, and why.
#[derive(Debug, Error)]
pub enum Wrong {
    /// Its URL.
    #[error("URL: {0}")]
    Url(#[source] Error),
    /// The file of its CA.
    #[error("CA: {0}")]
    Ca(#[source] Error),
}

type Parse<T> = Box<dyn Fn(&str) -> Result<T, String> + Send + Sync>;

/// A setting, understood. From a file it is read again whenever it is asked for.
pub struct Setting<T> {
    source: Source,
    parse: Parse<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    /// What the source said when `value` was made of it.
    text: SecretString,
    value: Arc<T>,
    /// Why the file cannot be used at the moment: told once.
    trouble: Option<String>,
}

impl Source {
    fn read(&self) -> Result<SecretString, Error> {
        match self {
            Self::Value(text) => Ok(text.clone()),
            Self::File(path) => {
                let text = std::fs::read_to_string(path).map_err(|source| Error::Unreadable { path: path.clone(), source })?;
                let text = SecretString::from(text);
                match text.expose_secret().trim_end_matches(['\r', '\n']) {
                    "" => Err(Error::Empty { path: path.clone() }),
                    line => Ok(line.into()),
                }
            }
        }
    }

    /// Whether its file is being written right now, as far as its time tells.
    fn is_fresh(&self) -> bool {
        let Self::File(path) = self else { return false };
        let written = std::fs::metadata(path).and_then(|file| file.modified());
        written.is_ok_and(|written| SystemTime::now().duration_since(written).is_ok_and(|age| age < SETTLED))
    }
}

impl<T> Setting<T> {
    /// Reads it for the first time.
    ///
    /// # Errors
    /// [`Error`].
    pub fn new(source: Source, parse: impl Fn(&str) -> Result<T, String> + Send + Sync + 'static) -> Result<Self, Error> {
        let text = source.read()?;
        let value = Arc::new(parse(text.expose_secret()).map_err(Error::Wrong)?);
        Ok(Self { source, parse: Box::new(parse), state: Mutex::new(State { text, value, trouble: None }) })
    }

    /// What was read last, without looking again.
    pub fn last(&self) -> Arc<T> {
        Arc::clone(&self.state.lock().unwrap_or_else(PoisonError::into_inner).value)
    }

    /// What it is now: the same `Arc` as before unless it changed. A file that cannot be used leaves what worked, and a line in
    /// the log.
    pub fn current(&self) -> Arc<T> {
        let Source::File(path) = &self.source else { return self.last() };
        let read = self.source.read();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let trouble = match read {
            Ok(text) if text.expose_secret() == state.text.expose_secret() => None,
            Ok(_) if self.source.is_fresh() => return Arc::clone(&state.value),
            Ok(text) => match (self.parse)(text.expose_secret()) {
                Ok(value) => {
                    info!(file = %path.display(), "a setting changed in its file");
                    (state.text, state.value) = (text, Arc::new(value));
                    None
                }
                Err(why) => Some(why),
            },
            Err(error) => Some(error.to_string()),
        };
        if let Some(why) = trouble.as_deref().filter(|_| trouble != state.trouble) {
            warn!(file = %path.display(), error = why, "a setting cannot be read from its file; what worked before stays");
        }
        state.trouble = trouble;
        Arc::clone(&state.value)
    }
}

impl<T> fmt::Debug for Setting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setting").field("source", &self.source).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that was written long enough ago.
    fn write(path: &std::path::Path, text: &str) {
        std::fs::write(path, text).unwrap();
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - SETTLED).unwrap();
    }

    fn number(text: &str) -> Result<u32, String> {
        text.parse().map_err(|_| "not a number".to_owned())
    }

    #[test]
    fn a_file_counts_once_it_can_be_used_and_until_then_what_worked_stays() {
        let path = std::env::temp_dir().join(format!("sync-operator-source-{}", uuid::Uuid::new_v4()));
        let source = Source::File(path.clone());
        assert!(matches!(Setting::new(source.clone(), number), Err(Error::Unreadable { .. })));
        write(&path, "\n");
        assert!(matches!(Setting::new(source.clone(), number), Err(Error::Empty { .. })));
        write(&path, "x");
        assert!(matches!(Setting::new(source.clone(), number), Err(Error::Wrong(_))));
        write(&path, "1\n");
        let setting = Setting::new(source, number).unwrap();
        let before = setting.current();
        assert!(*before == 1 && Arc::ptr_eq(&before, &setting.current()));
        for bad in ["", "x"] {
            write(&path, bad);
            assert_eq!(*setting.current(), 1, "`{bad}` is not taken");
        }
        std::fs::write(&path, "2").unwrap();
        assert_eq!(*setting.current(), 1, "it may be half of 23");
        write(&path, "23\r\n");
        assert_eq!((*setting.last(), *setting.current(), *setting.last()), (1, 23, 23));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(*setting.current(), 23);
    }

    #[test]
    fn a_value_is_taken_as_it_is() {
        assert_eq!(*Setting::new(Source::Value("7".into()), number).unwrap().current(), 7);
    }
}
