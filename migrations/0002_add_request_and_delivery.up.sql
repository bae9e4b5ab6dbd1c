-- Who asked (the SyncExecution), how far delivery got, and the marks that both need.
ALTER TABLE sync_executions
    ADD COLUMN request_uid       uuid,
    ADD COLUMN namespace         text,
    ADD COLUMN name              text,
    ADD COLUMN requested_by      text,
    ADD COLUMN reason            text,
    ADD COLUMN revision          bigint NOT NULL DEFAULT 1,
    ADD COLUMN attempt           integer NOT NULL DEFAULT 1,
    ADD COLUMN deadline_at       timestamptz,
    ADD COLUMN deleted_at        timestamptz,
    ADD COLUMN held_at           timestamptz,
    ADD COLUMN claimed_until     timestamptz,
    ADD COLUMN publish_problem   text,
    ADD COLUMN publish_message   text,
    ADD COLUMN publish_failed_at timestamptz,
    ADD COLUMN published_at      timestamptz,
    ADD COLUMN started_at        timestamptz,
    ADD COLUMN heartbeat_at      timestamptz,
    ADD COLUMN finished_at       timestamptz,
    ADD COLUMN finish_reason     text,
    ADD CONSTRAINT sync_executions_request_uid_key UNIQUE (request_uid),
    ADD CONSTRAINT sync_executions_request_named CHECK (request_uid IS NULL OR (namespace IS NOT NULL AND name IS NOT NULL));

COMMENT ON COLUMN sync_executions.request_uid IS 'metadata.uid of the SyncExecution; null when the worker started this by itself';
COMMENT ON COLUMN sync_executions.revision IS 'grows by one with every change that a reader can see';
COMMENT ON COLUMN sync_executions.claimed_until IS 'a relay is publishing the message until then; in the past: it may have been sent';
COMMENT ON COLUMN sync_executions.held_at IS 'not published by itself since then: its SyncExecution shows more than this row, as after a restore';
COMMENT ON COLUMN sync_executions.deleted_at IS 'the SyncExecution was deleted before its message was published';
COMMENT ON COLUMN sync_executions.publish_problem IS 'why the last try to publish failed: a reason of the condition Published';
COMMENT ON COLUMN sync_executions.finish_reason IS 'why it ended, when not by a report of the worker';

-- The best that is known of adopted rows: their last write was their end.
UPDATE sync_executions SET finished_at = updated_at WHERE status <> 'running';

-- Room for heap-only updates: a row is updated a handful of times in its first minutes, then never.
ALTER TABLE sync_executions SET (fillfactor = 80);

CREATE INDEX sync_executions_newest ON sync_executions (created_at DESC, id DESC);
CREATE INDEX sync_executions_object ON sync_executions (namespace, name);
CREATE INDEX sync_executions_unpublished ON sync_executions (id)
    WHERE published_at IS NULL AND status = 'running' AND request_uid IS NOT NULL;
CREATE INDEX sync_executions_unstarted ON sync_executions (mode, id)
    WHERE started_at IS NULL AND status = 'running' AND request_uid IS NOT NULL;
CREATE INDEX sync_executions_deadline ON sync_executions (deadline_at)
    WHERE status = 'running' AND deadline_at IS NOT NULL;
