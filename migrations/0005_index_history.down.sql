ALTER INDEX idx_sync_executions_created_at RENAME TO sync_executions_newest;
CREATE INDEX idx_sync_executions_created_at ON sync_executions (created_at);
DROP INDEX idx_sync_executions_status;
CREATE INDEX idx_sync_executions_status ON sync_executions (status);
DROP INDEX sync_executions_error_words;
DROP INDEX sync_executions_errors;
