DROP TRIGGER sync_executions_count_truncate ON sync_executions;
DROP TRIGGER sync_executions_count_delete ON sync_executions;
DROP TRIGGER sync_executions_count_update ON sync_executions;
DROP TRIGGER sync_executions_count_insert ON sync_executions;
DROP FUNCTION sync_executions_count();
DROP TABLE sync_execution_counters;
