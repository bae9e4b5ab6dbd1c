//! Connections to the database, each lent for one statement. One that is given back after its statement ran to its end is lent
//! again as it is, without a question to the server; any other is given up. Knows no statement.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use deadpool::managed::{self, Object, PoolError, QueueMode, RecycleError, RecycleResult};
use futures::{
    TryFutureExt, TryStreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use sqlx::{
    ConnectOptions, Connection, Describe, Either, Error, Execute, Executor, Postgres, SqlStr,
    postgres::{PgConnectOptions, PgConnection, PgDatabaseError, PgQueryResult, PgRow, PgSeverity, PgStatement, PgTypeInfo},
};
use tokio::{sync::watch, time::timeout};

use super::ACQUIRE_TIMEOUT;
use crate::backoff::Backoff;

/// How long a connection is believed to be alive after it was last used: a busy pool asks nothing before it lends one.
const FRESH: Duration = Duration::from_millis(500);
/// How long one may take to answer before it is lent: there must be time left to open another.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// How long one is used at most, so that what the server keeps for it does not grow for ever.
const OLDEST: Duration = Duration::from_mins(30);
/// How long one stays open that nobody uses.
const IDLE: Duration = Duration::from_mins(10);

/// The pool. Cheap to clone: all clones are one. Opens nothing before it is used.
#[derive(Clone, Debug)]
pub(super) struct Pool(managed::Pool<Opener>);

impl Pool {
    /// A pool of at most so many connections.
    pub(super) fn new(options: PgConnectOptions, most: u32) -> Self {
        let opener = Opener { target: RwLock::new(Arc::new(options)), moves: watch::Sender::new(0) };
        let pool = managed::Pool::builder(opener).max_size(usize::try_from(most).unwrap_or(usize::MAX)).queue_mode(QueueMode::Lifo).build();
        #[expect(clippy::expect_used, reason = "only deadlines without a runtime are refused, and it has none")]
        Self(pool.expect("a pool"))
    }

    /// How new connections are opened.
    pub(super) fn options(&self) -> Arc<PgConnectOptions> {
        self.0.manager().options()
    }

    /// Opens new ones like this; those that are open stay.
    pub(super) fn set_options(&self, options: PgConnectOptions) {
        *self.0.manager().target.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(options);
    }

    /// Gives up all that are open, each as soon as it is not in use.
    pub(super) async fn give_up_all(&self) {
        self.0.manager().moves.send_modify(|moves| *moves += 1);
        self.tidy().await;
    }

    /// Told each time that all are given up.
    pub(super) fn moves(&self) -> watch::Receiver<u64> {
        self.0.manager().moves.subscribe()
    }

    /// Closes what is not in use and not worth to be kept.
    pub(super) async fn tidy(&self) {
        let opener = self.0.manager();
        say_goodbye(self.0.retain(|lent, _| opener.may_keep(lent) && lent.used.elapsed() < IDLE).removed).await;
    }

    /// Lends nothing any more, and closes what is not in use.
    pub(super) async fn close(&self) {
        let idle = self.0.retain(|_, _| false).removed;
        self.0.close();
        say_goodbye(idle).await;
    }

    async fn lend(&self) -> Result<Loan, Error> {
        match timeout(ACQUIRE_TIMEOUT, self.0.get()).await {
            Ok(Ok(lent)) => Ok(Loan(Some(lent))),
            Ok(Err(PoolError::Backend(error))) => Err(error),
            Ok(Err(PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_))) => Err(Error::PoolClosed),
            Err(_) | Ok(Err(PoolError::Timeout(_))) => Err(Error::PoolTimedOut),
        }
    }
}

async fn say_goodbye(all: Vec<Lent>) {
    for lent in all {
        let _ = timeout(ANSWERS_WITHIN, lent.connection.close()).await;
    }
}

/// What is in the pool.
#[derive(Debug)]
struct Lent {
    connection: PgConnection,
    opened: Instant,
    /// How often all had been given up when it was opened.
    moves: u64,
    /// When it was last given back.
    used: Instant,
}

/// Opens connections, and looks at them before they are lent again.
#[derive(Debug)]
struct Opener {
    target: RwLock<Arc<PgConnectOptions>>,
    moves: watch::Sender<u64>,
}

impl Opener {
    fn options(&self) -> Arc<PgConnectOptions> {
        Arc::clone(&self.target.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn may_keep(&self, lent: &Lent) -> bool {
        lent.moves == *self.moves.borrow() && lent.opened.elapsed() < OLDEST
    }
}

impl managed::Manager for Opener {
    type Type = Lent;
    type Error = Error;

    /// A server that starts, or starts again, is waited for, as long as who asks waits.
    async fn create(&self) -> Result<Lent, Error> {
        let mut backoff = Backoff::new(Duration::from_millis(10), ACQUIRE_TIMEOUT / 5);
        loop {
            // In this order: one that was opened with the options of before must not count as opened after the move.
            let moves = *self.moves.borrow();
            match self.options().connect().await {
                Ok(connection) => return Ok(Lent { connection, opened: Instant::now(), moves, used: Instant::now() }),
                Err(error) if is_starting(&error) => backoff.wait().await,
                Err(error) => return Err(error),
            }
        }
    }

    async fn recycle(&self, lent: &mut Lent, _: &managed::Metrics) -> RecycleResult<Error> {
        if !self.may_keep(lent) {
            return Err(RecycleError::message("too old"));
        }
        if lent.used.elapsed() > FRESH {
            timeout(ANSWERS_WITHIN, lent.connection.ping()).await.map_err(|_| RecycleError::message("silent"))??;
        }
        Ok(())
    }
}

/// Nobody listens yet, or the server says that it starts, stops or has no place left
/// ([error codes](https://www.postgresql.org/docs/current/errcodes-appendix.html)).
fn is_starting(error: &Error) -> bool {
    match error {
        Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        Error::Database(error) => error.code().is_some_and(|code| ["53300", "57P03"].contains(&code.as_ref())),
        _ => false,
    }
}

/// A connection on loan. Unless it is given back, it is closed: a statement that was broken off may still be under way on it.
struct Loan(Option<Object<Opener>>);

impl Loan {
    fn connection(&mut self) -> Result<&mut PgConnection, Error> {
        self.0.as_mut().map(|lent| &mut lent.connection).ok_or(Error::PoolClosed)
    }

    /// Gives it back, if after that answer it is as good as before.
    fn give_back<T>(mut self, answer: Result<T, Error>) -> Result<T, Error> {
        if answer.as_ref().err().is_none_or(leaves_connection_usable)
            && let Some(mut lent) = self.0.take()
        {
            lent.used = Instant::now();
        }
        answer
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if let Some(lent) = self.0.take() {
            drop(Object::take(lent));
        }
    }
}

/// The server refused the statement and goes on with the connection.
fn leaves_connection_usable(error: &Error) -> bool {
    let refused = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    refused.is_some_and(|error| error.severity() == PgSeverity::Error)
}

/// Each statement on a connection of its own; its answer is read to the end before it is given on.
impl<'p> Executor<'p> for &'p Pool {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        let all = async move {
            let mut loan = pool.lend().await?;
            let answer: Result<Vec<_>, Error> = loan.connection()?.fetch_many(query).try_collect().await;
            loan.give_back(answer)
        };
        Box::pin(all.map_ok(|all| stream::iter(all.into_iter().map(Ok))).try_flatten_stream())
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        Box::pin(async move {
            let mut loan = pool.lend().await?;
            let answer = loan.connection()?.fetch_optional(query).await;
            loan.give_back(answer)
        })
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [PgTypeInfo]) -> BoxFuture<'e, Result<PgStatement, Error>>
    where
        'p: 'e,
    {
        let pool = self.clone();
        Box::pin(async move {
            let mut loan = pool.lend().await?;
            let answer = loan.connection()?.prepare_with(sql, parameters).await;
            loan.give_back(answer)
        })
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, Error>>
    where
        'p: 'e,
    {
        let pool = self.clone();
        Box::pin(async move {
            let mut loan = pool.lend().await?;
            let answer = loan.connection()?.describe(sql).await;
            loan.give_back(answer)
        })
    }
}
