-- Health of a SyncExecution for Argo CD: Progressing until it ended, Healthy if it succeeded, else Degraded. Cancelled is Degraded, too:
-- the data did not come, and a sync would wait for something Suspended for ever.
-- docs/argocd-cm.yaml has the same text for Argo CD's settings.
local status = obj.status or {}
local hs = { status = "Progressing", message = "waiting for the sync-operator" }
-- What is shown may speak of an older spec.
if status.observedGeneration ~= obj.metadata.generation then
  return hs
end

local is = {}
for _, condition in ipairs(status.conditions or {}) do
  if condition.status == "True" then
    is[condition.type] = condition
  end
end
local function tell(health, condition)
  hs.status = health
  hs.message = condition.reason .. ": " .. condition.message
  return hs
end

-- First Stalled: an object whose record was lost still shows how far it had come, and that may be Complete.
if is.Stalled then
  return tell("Degraded", is.Stalled)
elseif is.Complete then
  return tell("Healthy", is.Complete)
elseif is.Reconciling then
  return tell("Progressing", is.Reconciling)
end
return hs
