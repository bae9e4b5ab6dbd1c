DROP TRIGGER sync_executions_notify ON sync_executions;
DROP TRIGGER sync_executions_guard_insert ON sync_executions;
DROP TRIGGER sync_executions_guard ON sync_executions;
DROP FUNCTION sync_executions_notify();
DROP FUNCTION sync_executions_guard_insert();
DROP FUNCTION sync_executions_guard();
