// Package controller watches SyncExecutions, records them, and shows their rows in their status.
package controller

import (
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sync.pncp.io/sync-operator/bench/peers/go/api"
	"sync.pncp.io/sync-operator/bench/peers/go/store"
)

const (
	errorMax = 1024
	notAgain = "it is not run again by itself"
)

// statusOf is the status that a SyncExecution should show. All times come from the row, so equal rows give equal statuses.
func statusOf(row *store.Execution, generation int64) api.SyncExecutionStatus {
	status := api.SyncExecutionStatus{
		ObservedGeneration: generation,
		Phase:              phaseOf(row),
		ExecutionID:        strconv.FormatInt(row.ID, 10),
		Revision:           row.Revision,
		QueuedTime:         seconds(&row.CreatedAt),
		PublishTime:        seconds(row.PublishedAt),
		StartTime:          seconds(row.StartedAt),
		CompletionTime:     seconds(row.FinishedAt),
		Error:              short(value(row.ErrorMessage)),
		Conditions:         conditionsOf(row, generation),
	}
	if row.WindowStart != nil && row.WindowEnd != nil {
		status.Window = &api.Window{Start: *seconds(row.WindowStart), End: *seconds(row.WindowEnd)}
	}
	if row.DurationSeconds != nil {
		status.Duration = fmt.Sprintf("%.1fs", *row.DurationSeconds)
	}
	if row.StartedAt != nil || row.Status != "running" {
		status.RecordsProcessed = &row.RecordsProcessed
	}
	return status
}

func phaseOf(row *store.Execution) api.Phase {
	switch {
	case row.Status == "success":
		return api.PhaseSucceeded
	case row.Status == "error":
		return api.PhaseFailed
	case row.Status == "cancelled":
		return api.PhaseCancelled
	case row.StartedAt != nil:
		return api.PhaseRunning
	case row.PublishedAt != nil:
		return api.PhaseQueued
	default:
		return api.PhasePending
	}
}

func conditionsOf(row *store.Execution, generation int64) []metav1.Condition {
	var conditions []metav1.Condition
	add := func(kind string, status metav1.ConditionStatus, reason, message string, at time.Time) {
		conditions = append(conditions, metav1.Condition{
			Type: kind, Status: status, Reason: reason, Message: message, ObservedGeneration: generation, LastTransitionTime: *seconds(&at),
		})
	}
	ended := first(row.FinishedAt, &row.UpdatedAt)
	add("Recorded", metav1.ConditionTrue, "RowWritten", fmt.Sprintf("recorded as execution %d", row.ID), row.CreatedAt)
	switch {
	case row.PublishedAt != nil:
		add("Published", metav1.ConditionTrue, "Confirmed", "the broker confirmed the message", *row.PublishedAt)
	case row.Status != "running":
		add("Published", metav1.ConditionFalse, "NeverPublished", "it ended before its message was published", ended)
	case row.PublishProblem != nil:
		message := short(value(row.PublishMessage)) + "; tried again until it works"
		add("Published", metav1.ConditionFalse, *row.PublishProblem, message, first(row.PublishFailedAt, &row.UpdatedAt))
	default:
		add("Published", metav1.ConditionFalse, "AwaitingConfirm", "to be published", row.CreatedAt)
	}
	reason := reasonOf(row)
	switch row.Status {
	case "success":
		message := fmt.Sprintf("%d records processed", row.RecordsProcessed)
		add("Finished", metav1.ConditionTrue, reason, message, ended)
		add("Complete", metav1.ConditionTrue, reason, message, ended)
	case "error":
		message := "no error text was reported"
		if row.ErrorMessage != nil {
			message = short(*row.ErrorMessage)
		}
		add("Finished", metav1.ConditionTrue, reason, message, ended)
		add("Failed", metav1.ConditionTrue, reason, message, ended)
		add("Stalled", metav1.ConditionTrue, reason, message+"; "+notAgain, ended)
	case "cancelled":
		message := "the worker reported that it was cancelled"
		if reason == "ObjectDeleted" {
			message = "the object was deleted before its message was published"
		}
		add("Finished", metav1.ConditionTrue, reason, message, ended)
		add("Stalled", metav1.ConditionTrue, reason, message+"; "+notAgain, ended)
	default:
		message := map[string]string{
			"Pending": "waiting for the broker to confirm the message",
			"Queued":  "waiting for a worker to start",
			"Running": "a worker is on it",
		}[reason]
		add("Finished", metav1.ConditionFalse, reason, message, row.CreatedAt)
		add("Reconciling", metav1.ConditionTrue, reason, message, first(row.StartedAt, row.PublishedAt, &row.CreatedAt))
	}
	return conditions
}

func reasonOf(row *store.Execution) string {
	switch {
	case row.Status == "running":
		return string(phaseOf(row))
	case row.FinishReason != nil:
		return *row.FinishReason
	case row.Status == "error":
		return "WorkerError"
	default:
		return string(phaseOf(row))
	}
}

// seconds are whole, as Kubernetes times are.
func seconds(at *time.Time) *metav1.Time {
	if at == nil {
		return nil
	}
	return &metav1.Time{Time: at.UTC().Truncate(time.Second)}
}

func first(times ...*time.Time) time.Time {
	for _, at := range times {
		if at != nil {
			return *at
		}
	}
	return time.Time{}
}

func value(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}

func short(text string) string {
	if utf8.RuneCountInString(text) <= errorMax {
		return text
	}
	return string([]rune(text)[:errorMax-1]) + "…"
}
