-- History by status, mode and text of the error at the same cost at any size, newest first (store/history.rs).
-- On a table with rows `migrate up` builds these indexes before, without locking out writers: they are there already then.
CREATE INDEX IF NOT EXISTS sync_executions_by_words ON sync_executions (status, mode, created_at DESC, id DESC);
CREATE INDEX IF NOT EXISTS sync_executions_errors ON sync_executions (created_at DESC, id DESC) WHERE error_message IS NOT NULL;
-- Words are runs of letters and digits: what would make paths, hosts, numbers with signs or tags of them is a space. Of a long text
-- its beginning: a vector of more than a megabyte would be refused. No list of pending entries: readers go through it.
CREATE INDEX IF NOT EXISTS sync_executions_error_words ON sync_executions
    USING gin (to_tsvector('simple', translate(left(error_message, 4096), '/:.-_@~&<>+=', '            ')))
    WITH (fastupdate = off) WHERE error_message IS NOT NULL;

-- What the words are like is known before the first search.
ANALYZE sync_executions;

-- The indexes of existing deployments keep their names; they only have more columns now, so that none is there twice.
DROP INDEX idx_sync_executions_status;
ALTER INDEX sync_executions_by_words RENAME TO idx_sync_executions_status;
DROP INDEX idx_sync_executions_created_at;
ALTER INDEX sync_executions_newest RENAME TO idx_sync_executions_created_at;
