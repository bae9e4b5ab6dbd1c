-- How many executions were recorded in each minute of the last day, so that "the last 24 hours" is no count of a day's rows.
-- Kept as the counters of 0004 are: in the statement that changes the rows, by inserting differences, folded by the controller.
CREATE TABLE sync_execution_minutes (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    minute     timestamptz NOT NULL,
    executions bigint NOT NULL
);
COMMENT ON TABLE sync_execution_minutes IS 'per minute of created_at, the sum over its rows: executions; minutes older than 25 hours are removed';

-- SECURITY DEFINER: a worker's role needs no right on the counters.
CREATE FUNCTION sync_executions_count_minutes() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        TRUNCATE sync_execution_minutes;
    ELSE
        INSERT INTO sync_execution_minutes (minute, executions)
        SELECT date_trunc('minute', created_at, 'UTC'), CASE TG_OP WHEN 'INSERT' THEN count(*) ELSE -count(*) END
        FROM changed WHERE created_at >= now() - interval '25 hours' GROUP BY 1;
    END IF;
    RETURN NULL;
END $$;

-- created_at never changes, so an update counts nothing.
CREATE TRIGGER sync_executions_count_minutes_insert AFTER INSERT ON sync_executions
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION sync_executions_count_minutes();
CREATE TRIGGER sync_executions_count_minutes_delete AFTER DELETE ON sync_executions
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION sync_executions_count_minutes();
CREATE TRIGGER sync_executions_count_minutes_truncate AFTER TRUNCATE ON sync_executions
    FOR EACH STATEMENT EXECUTE FUNCTION sync_executions_count_minutes();

-- Making the triggers locked out other writers: nothing is counted twice or missed.
INSERT INTO sync_execution_minutes (minute, executions)
SELECT date_trunc('minute', created_at, 'UTC'), count(*)
FROM sync_executions WHERE created_at >= now() - interval '25 hours' GROUP BY 1;
