-- Counters kept in the statement that changes the rows, so that no reader ever counts the table.
-- Writers only insert differences: a worker's open transaction can never hold up another writer here.
-- The controller folds the differences into one row per status from time to time.
CREATE TABLE sync_execution_counters (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    status           varchar(10) NOT NULL,
    executions       bigint NOT NULL,
    durations        bigint NOT NULL,
    duration_seconds numeric NOT NULL
);
COMMENT ON TABLE sync_execution_counters IS 'per status, the sum over its rows: executions, how many have a duration, and those durations in seconds';

INSERT INTO sync_execution_counters (status, executions, durations, duration_seconds)
SELECT status, count(*), count(duration_seconds), COALESCE(sum(duration_seconds), 0)
FROM sync_executions GROUP BY status;

-- SECURITY DEFINER: a worker's role needs no right on the counters.
CREATE FUNCTION sync_executions_count() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        TRUNCATE sync_execution_counters;
    ELSIF TG_OP = 'INSERT' THEN
        INSERT INTO sync_execution_counters (status, executions, durations, duration_seconds)
        SELECT status, count(*), count(duration_seconds), COALESCE(sum(duration_seconds), 0)
        FROM after GROUP BY status;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO sync_execution_counters (status, executions, durations, duration_seconds)
        SELECT status, -count(*), -count(duration_seconds), -COALESCE(sum(duration_seconds), 0)
        FROM before GROUP BY status;
    ELSE
        INSERT INTO sync_execution_counters (status, executions, durations, duration_seconds)
        SELECT status, sum(sign), COALESCE(sum(sign) FILTER (WHERE seconds IS NOT NULL), 0), COALESCE(sum(sign * seconds), 0)
        FROM (SELECT status, 1 AS sign, duration_seconds AS seconds FROM after
              UNION ALL
              SELECT status, -1, duration_seconds FROM before) AS change
        GROUP BY status
        HAVING sum(sign) <> 0
            OR COALESCE(sum(sign) FILTER (WHERE seconds IS NOT NULL), 0) <> 0
            OR COALESCE(sum(sign * seconds), 0) <> 0;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER sync_executions_count_insert AFTER INSERT ON sync_executions
    REFERENCING NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION sync_executions_count();
CREATE TRIGGER sync_executions_count_update AFTER UPDATE ON sync_executions
    REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION sync_executions_count();
CREATE TRIGGER sync_executions_count_delete AFTER DELETE ON sync_executions
    REFERENCING OLD TABLE AS before FOR EACH STATEMENT EXECUTE FUNCTION sync_executions_count();
CREATE TRIGGER sync_executions_count_truncate AFTER TRUNCATE ON sync_executions
    FOR EACH STATEMENT EXECUTE FUNCTION sync_executions_count();
