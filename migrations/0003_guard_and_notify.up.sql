-- The rules every writer is held to, and the call that wakes the controller.

-- BEFORE UPDATE of each row. An update that leaves delivery alone is a worker's report, whatever it sets
-- (`UPDATE … SET status = 'running'` means: started). A report on a finished row changes nothing (UPDATE 0).
CREATE FUNCTION sync_executions_guard() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    at timestamptz := clock_timestamp();
BEGIN
    IF (NEW.id, NEW.mode, NEW.created_at, NEW.request_uid, NEW.namespace, NEW.name)
       IS DISTINCT FROM (OLD.id, OLD.mode, OLD.created_at, OLD.request_uid, OLD.namespace, OLD.name) THEN
        RAISE EXCEPTION 'execution %: id, mode, created_at, request_uid, namespace and name never change', OLD.id
            USING ERRCODE = 'integrity_constraint_violation', HINT = 'Create a new execution instead.';
    END IF;

    IF OLD.status <> 'running' THEN
        NEW.status := OLD.status;
        NEW.records_processed := OLD.records_processed;
        NEW.duration_seconds := OLD.duration_seconds;
        NEW.error_message := OLD.error_message;
        NEW.window_start := OLD.window_start;
        NEW.window_end := OLD.window_end;
        NEW.started_at := OLD.started_at;
        NEW.heartbeat_at := OLD.heartbeat_at;
        NEW.finished_at := OLD.finished_at;
        NEW.finish_reason := OLD.finish_reason;
        NEW.deadline_at := OLD.deadline_at;
    ELSE
        IF (NEW.published_at, NEW.claimed_until, NEW.publish_problem, NEW.publish_message, NEW.publish_failed_at,
            NEW.attempt, NEW.deleted_at, NEW.held_at, NEW.finish_reason)
           IS NOT DISTINCT FROM
           (OLD.published_at, OLD.claimed_until, OLD.publish_problem, OLD.publish_message, OLD.publish_failed_at,
            OLD.attempt, OLD.deleted_at, OLD.held_at, OLD.finish_reason) THEN
            NEW.heartbeat_at := at;
            -- A worker that only reports the end tells the start by the duration.
            NEW.started_at := COALESCE(NEW.started_at, GREATEST(
                at - make_interval(secs => COALESCE(NEW.duration_seconds, 0)::double precision), OLD.created_at));
            -- Whoever reports has the message: it is out, even if the relay died before it could mark that.
            IF OLD.request_uid IS NOT NULL THEN
                NEW.published_at := COALESCE(OLD.published_at, at);
                NEW.claimed_until := NULL;
                NEW.publish_problem := NULL;
                NEW.publish_message := NULL;
                NEW.publish_failed_at := NULL;
            END IF;
        END IF;
        IF NEW.status <> 'running' THEN
            NEW.finished_at := at;
            NEW.duration_seconds := COALESCE(NEW.duration_seconds, EXTRACT(EPOCH FROM at - NEW.started_at));
        END IF;
    END IF;

    NEW.revision := OLD.revision;
    NEW.updated_at := OLD.updated_at;
    IF NEW IS NOT DISTINCT FROM OLD THEN
        RETURN NULL;
    END IF;
    -- Claims and heartbeats are not seen by readers: they neither count nor wake anybody.
    IF (NEW.status, NEW.records_processed, NEW.duration_seconds, NEW.error_message, NEW.window_start, NEW.window_end,
        NEW.attempt, NEW.publish_problem, NEW.publish_message, NEW.published_at, NEW.started_at, NEW.finished_at,
        NEW.finish_reason, NEW.requested_by, NEW.reason, NEW.deadline_at)
       IS DISTINCT FROM
       (OLD.status, OLD.records_processed, OLD.duration_seconds, OLD.error_message, OLD.window_start, OLD.window_end,
        OLD.attempt, OLD.publish_problem, OLD.publish_message, OLD.published_at, OLD.started_at, OLD.finished_at,
        OLD.finish_reason, OLD.requested_by, OLD.reason, OLD.deadline_at) THEN
        NEW.revision := OLD.revision + 1;
        NEW.updated_at := GREATEST(at, OLD.updated_at);
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER sync_executions_guard BEFORE UPDATE ON sync_executions
    FOR EACH ROW EXECUTE FUNCTION sync_executions_guard();

-- BEFORE INSERT: a run that a worker records by itself has started, and may have ended.
CREATE FUNCTION sync_executions_guard_insert() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status <> 'running' THEN
        NEW.finished_at := COALESCE(NEW.finished_at, clock_timestamp());
    END IF;
    IF NEW.request_uid IS NULL THEN
        NEW.started_at := COALESCE(NEW.started_at, COALESCE(NEW.finished_at, clock_timestamp())
            - make_interval(secs => COALESCE(NEW.duration_seconds, 0)::double precision));
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER sync_executions_guard_insert BEFORE INSERT ON sync_executions
    FOR EACH ROW EXECUTE FUNCTION sync_executions_guard_insert();

-- One notification per changed object, naming it; Postgres sends them with the commit, repeats folded.
CREATE FUNCTION sync_executions_notify() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('sync_executions', after.namespace || '/' || after.name)
    FROM after JOIN before USING (id)
    WHERE after.request_uid IS NOT NULL AND after.revision > before.revision;
    RETURN NULL;
END $$;

CREATE TRIGGER sync_executions_notify AFTER UPDATE ON sync_executions
    REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION sync_executions_notify();
