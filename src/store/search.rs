//! Looking for words in error messages, at a cost that has a bound: no order of an index fits words, so a search either takes all
//! that has them, if that is little, or looks at a piece of the history.

use chrono::{DateTime, Utc};

use super::{Error, Filter, Page, Position, Store, history::readable, row::select_executions};

/// Most error messages that one page of a search reads. With words that more executions have, a page shows what is among so many.
const LOOK_MAX: usize = 1000;

/// What is known of an execution before it is read.
#[derive(Clone, Debug)]
struct Found {
    id: i64,
    created_at: DateTime<Utc>,
    status: String,
    mode: String,
    /// Whether its message has the words.
    has_words: bool,
}

/// Which of them a page shows, and where the next one begins.
#[derive(Debug, PartialEq)]
struct Chosen {
    ids: Vec<i64>,
    next: Option<Position>,
}

impl Store {
    /// A page of the executions with all of those words in their error message, newest first. Other than without words, it can
    /// show less than `limit` although more follow.
    pub(super) async fn search(&self, words: &str, filter: &Filter, after: Option<Position>, limit: u16) -> Result<Page, Error> {
        let all = self.with_words(words).await?;
        let chosen = if all.len() <= LOOK_MAX {
            choose(all, false, filter, after, limit)
        } else {
            let looked = self.newest_errors(words, filter, after).await?;
            let more = looked.len() >= LOOK_MAX;
            choose(looked, more, filter, after, limit)
        };
        let rows = self
            .call(
                "read what was found",
                select_executions!("SELECT", "FROM sync_executions WHERE id = ANY($1) ORDER BY created_at DESC, id DESC", &chosen.ids)
                    .fetch_all(&self.pool),
            )
            .await?;
        Ok(Page { executions: readable(rows), next: chosen.next })
    }

    /// What has those words, in no order; one more than [`LOOK_MAX`] if it is more. By the index of words: MATERIALIZED keeps
    /// the limit from making another way look cheaper, which it is not if nothing has them.
    async fn with_words(&self, words: &str) -> Result<Vec<Found>, Error> {
        let found = sqlx::query_as!(
            Found,
            r#"WITH found AS MATERIALIZED (
                   SELECT id, created_at, status, mode FROM sync_executions
                   WHERE error_message IS NOT NULL
                     AND to_tsvector('simple', translate(left(error_message, 4096), '/:.-_@~&<>+=', '            '))
                         @@ plainto_tsquery('simple', translate($1, '/:.-_@~&<>+=', '            ')))
               SELECT id, created_at, status, mode, true AS "has_words!" FROM found LIMIT $2"#,
            words,
            i64::try_from(LOOK_MAX + 1).unwrap_or(i64::MAX),
        );
        self.call("look for words in error messages", found.fetch_all(&self.pool)).await
    }

    /// The newest with an error message within the filter's time and after the position; no more than [`LOOK_MAX`].
    async fn newest_errors(&self, words: &str, filter: &Filter, after: Option<Position>) -> Result<Vec<Found>, Error> {
        let looked = sqlx::query_as!(
            Found,
            r#"SELECT id, created_at, status, mode,
                      to_tsvector('simple', translate(left(error_message, 4096), '/:.-_@~&<>+=', '            '))
                      @@ plainto_tsquery('simple', translate($1, '/:.-_@~&<>+=', '            ')) AS "has_words!"
               FROM (SELECT * FROM sync_executions
                     WHERE error_message IS NOT NULL
                       AND ($2::timestamptz IS NULL OR created_at >= $2)
                       AND ($3::timestamptz IS NULL OR created_at < $3)
                       AND ($4::timestamptz IS NULL OR (created_at, id) < ($4, $5))
                     ORDER BY created_at DESC, id DESC LIMIT $6) AS newest"#,
            words,
            filter.from,
            filter.to,
            after.and_then(Position::created_at),
            after.map_or(0, |position| position.id),
            i64::try_from(LOOK_MAX).unwrap_or(i64::MAX),
        );
        self.call("look through error messages", looked.fetch_all(&self.pool)).await
    }
}

/// The page of those that were looked at; `more` says whether the record goes on after the oldest of them.
fn choose(mut looked: Vec<Found>, more: bool, filter: &Filter, after: Option<Position>, limit: u16) -> Chosen {
    let key = |found: &Found| (found.created_at, found.id);
    looked.sort_unstable_by_key(|found| std::cmp::Reverse(key(found)));
    let oldest = looked.last().map(|found| Position::of(found.created_at, found.id));
    let after = after.and_then(|position| Some((position.created_at()?, position.id)));
    let shown = |found: &Found| {
        found.has_words
            && after.is_none_or(|after| key(found) < after)
            && filter.from.is_none_or(|from| found.created_at >= from)
            && filter.to.is_none_or(|to| found.created_at < to)
            && filter.status.is_none_or(|status| found.status == status.as_str())
            && filter.mode.is_none_or(|mode| found.mode == mode.as_str())
    };
    looked.retain(shown);
    let full = looked.len() > usize::from(limit);
    looked.truncate(limit.into());
    let last = looked.last().map(|found| Position::of(found.created_at, found.id));
    Chosen { ids: looked.iter().map(|found| found.id).collect(), next: if full { last } else { oldest.filter(|_| more) } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Status;

    /// Executions 1 to `count`, a second apart; those that `has_words` says have the words.
    fn looked(count: i64, has_words: impl Fn(i64) -> bool) -> Vec<Found> {
        let found = |id| Found {
            id,
            created_at: DateTime::from_timestamp_micros(id * 1_000_000).unwrap(),
            status: if id % 2 == 0 { "error" } else { "cancelled" }.to_owned(),
            mode: "update".to_owned(),
            has_words: has_words(id),
        };
        (1..=count).map(found).collect()
    }

    fn at(id: i64) -> Position {
        Position { created_at_micros: id * 1_000_000, id }
    }

    #[test]
    fn a_full_page_goes_on_after_its_last() {
        let chosen = choose(looked(9, |_| true), false, &Filter::default(), Some(at(9)), 3);
        assert_eq!(chosen, Chosen { ids: vec![8, 7, 6], next: Some(at(6)) });
    }

    #[test]
    fn the_last_page_says_so() {
        assert_eq!(choose(looked(9, |id| id < 4), false, &Filter::default(), None, 3), Chosen { ids: vec![3, 2, 1], next: None });
    }

    #[test]
    fn what_was_looked_through_in_vain_is_not_looked_at_again() {
        assert_eq!(choose(looked(9, |id| id == 7), true, &Filter::default(), None, 3), Chosen { ids: vec![7], next: Some(at(1)) });
        assert_eq!(choose(looked(9, |_| false), true, &Filter::default(), None, 3), Chosen { ids: vec![], next: Some(at(1)) });
    }

    #[test]
    fn every_filter_counts() {
        let filter = Filter {
            status: Some(Status::Error),
            from: DateTime::from_timestamp(3, 0),
            to: DateTime::from_timestamp(8, 0),
            ..Filter::default()
        };
        assert_eq!(choose(looked(9, |_| true), false, &filter, None, 9).ids, [6, 4]);
    }
}
