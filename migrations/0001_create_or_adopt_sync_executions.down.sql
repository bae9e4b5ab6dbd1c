-- An adopted table goes back to the columns it came with, rows kept; a created one is dropped.
DO $$
DECLARE
    worker_zone text := COALESCE(NULLIF(current_setting('sync_operator.worker_timezone', true), ''), 'America/Cuiaba');
    remembered text := obj_description('sync_executions'::regclass, 'pg_class');
    was record;
BEGIN
    IF remembered = 'sync-operator: created' THEN
        DROP TABLE sync_executions;
        RETURN;
    END IF;
    ALTER TABLE sync_executions
        DROP CONSTRAINT sync_executions_mode_known,
        DROP CONSTRAINT sync_executions_status_known,
        DROP CONSTRAINT sync_executions_records_not_negative,
        DROP CONSTRAINT sync_executions_duration_not_negative;
    FOR was IN
        SELECT attname AS name, format_type(atttypid, atttypmod) AS type_now, origin ->> 'type' AS type,
               (origin ->> 'not_null')::boolean AS not_null, origin ->> 'default' AS standard
        FROM pg_attribute JOIN jsonb_each(substring(remembered FROM '^sync-operator: adopted (.*)$')::jsonb) AS column_was (name, origin)
             ON name = attname
        WHERE attrelid = 'sync_executions'::regclass AND attnum > 0 AND NOT attisdropped AND attidentity = ''
    LOOP
        -- A default of the new type has no cast to the old one.
        EXECUTE format('ALTER TABLE sync_executions ALTER COLUMN %I DROP DEFAULT', was.name);
        IF was.type <> was.type_now THEN
            EXECUTE format(
                CASE was.type WHEN 'timestamp without time zone'
                    THEN 'ALTER TABLE sync_executions ALTER COLUMN %1$I TYPE timestamp USING %1$I AT TIME ZONE %3$L'
                    ELSE 'ALTER TABLE sync_executions ALTER COLUMN %1$I TYPE %2$s' END,
                was.name, was.type, CASE WHEN was.name LIKE 'window\_%' THEN worker_zone ELSE 'UTC' END);
        END IF;
        IF was.standard IS NOT NULL THEN
            EXECUTE format('ALTER TABLE sync_executions ALTER COLUMN %I SET DEFAULT %s', was.name, was.standard);
        END IF;
        IF NOT was.not_null THEN
            EXECUTE format('ALTER TABLE sync_executions ALTER COLUMN %I DROP NOT NULL', was.name);
        END IF;
        IF was.name = 'id' AND pg_get_serial_sequence('sync_executions', 'id') IS NOT NULL THEN
            EXECUTE format('ALTER SEQUENCE %s AS %s', pg_get_serial_sequence('sync_executions', 'id'), was.type);
        END IF;
    END LOOP;
    COMMENT ON TABLE sync_executions IS NULL;
END $$;
