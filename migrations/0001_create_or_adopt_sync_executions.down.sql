-- An adopted table goes back to the types it came with, rows kept; a created one is dropped.
DO $$
DECLARE
    worker_zone text := COALESCE(NULLIF(current_setting('sync_operator.worker_timezone', true), ''), 'America/Cuiaba');
BEGIN
    IF obj_description('sync_executions'::regclass, 'pg_class') = 'sync-operator: created' THEN
        DROP TABLE sync_executions;
        RETURN;
    END IF;
    ALTER TABLE sync_executions
        DROP CONSTRAINT sync_executions_mode_known,
        DROP CONSTRAINT sync_executions_status_known,
        DROP CONSTRAINT sync_executions_records_not_negative,
        DROP CONSTRAINT sync_executions_duration_not_negative,
        ALTER COLUMN created_at DROP DEFAULT,
        ALTER COLUMN created_at TYPE timestamp USING created_at AT TIME ZONE 'UTC',
        ALTER COLUMN created_at SET DEFAULT (now() AT TIME ZONE 'UTC'),
        ALTER COLUMN updated_at DROP DEFAULT,
        ALTER COLUMN updated_at TYPE timestamp USING updated_at AT TIME ZONE 'UTC',
        ALTER COLUMN updated_at SET DEFAULT (now() AT TIME ZONE 'UTC');
    EXECUTE format(
        'ALTER TABLE sync_executions
             ALTER COLUMN window_start TYPE timestamp USING window_start AT TIME ZONE %L,
             ALTER COLUMN window_end   TYPE timestamp USING window_end   AT TIME ZONE %L',
        worker_zone, worker_zone);
    ALTER TABLE sync_executions ALTER COLUMN id TYPE integer;
    IF pg_get_serial_sequence('sync_executions', 'id') IS NOT NULL THEN
        EXECUTE format('ALTER SEQUENCE %s AS integer', pg_get_serial_sequence('sync_executions', 'id'));
    END IF;
    COMMENT ON TABLE sync_executions IS NULL;
END $$;
