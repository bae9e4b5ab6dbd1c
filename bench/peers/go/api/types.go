// Package api holds the Go types of sync.pncp.io/v1alpha1. The schema is in crds/; nothing here validates.
package api

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the group and version of SyncExecution.
var GroupVersion = schema.GroupVersion{Group: "sync.pncp.io", Version: "v1alpha1"}

// AddToScheme registers the types.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion, &SyncExecution{}, &SyncExecutionList{})
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}

// Phase is how far an execution got, for people.
type Phase string

// The phases.
const (
	PhasePending   Phase = "Pending"
	PhaseQueued    Phase = "Queued"
	PhaseRunning   Phase = "Running"
	PhaseSucceeded Phase = "Succeeded"
	PhaseFailed    Phase = "Failed"
	PhaseCancelled Phase = "Cancelled"
)

// Final tells whether nothing may change it any more.
func (phase Phase) Final() bool {
	return phase == PhaseSucceeded || phase == PhaseFailed || phase == PhaseCancelled
}

// Window is from when to when.
type Window struct {
	Start metav1.Time `json:"start"`
	End   metav1.Time `json:"end"`
}

// SyncExecutionSpec is what is asked.
type SyncExecutionSpec struct {
	Mode                    string  `json:"mode"`
	Window                  *Window `json:"window,omitempty"`
	RequestedBy             *string `json:"requestedBy,omitempty"`
	Reason                  *string `json:"reason,omitempty"`
	ActiveDeadlineSeconds   *int64  `json:"activeDeadlineSeconds,omitempty"`
	TTLSecondsAfterFinished *int64  `json:"ttlSecondsAfterFinished,omitempty"`
}

// SyncExecutionStatus is how it stands.
type SyncExecutionStatus struct {
	ObservedGeneration int64              `json:"observedGeneration,omitempty"`
	Phase              Phase              `json:"phase,omitempty"`
	ExecutionID        string             `json:"executionID,omitempty"`
	Revision           int64              `json:"revision,omitempty"`
	Window             *Window            `json:"window,omitempty"`
	QueuedTime         *metav1.Time       `json:"queuedTime,omitempty"`
	PublishTime        *metav1.Time       `json:"publishTime,omitempty"`
	StartTime          *metav1.Time       `json:"startTime,omitempty"`
	CompletionTime     *metav1.Time       `json:"completionTime,omitempty"`
	Duration           string             `json:"duration,omitempty"`
	RecordsProcessed   *int64             `json:"recordsProcessed,omitempty"`
	Error              string             `json:"error,omitempty"`
	Conditions         []metav1.Condition `json:"conditions,omitempty"`
}

// SyncExecution asks the ingestion worker for one sync.
type SyncExecution struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   SyncExecutionSpec   `json:"spec"`
	Status SyncExecutionStatus `json:"status,omitempty"`
}

// SyncExecutionList is a list of them.
type SyncExecutionList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []SyncExecution `json:"items"`
}
