package api

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func copied[T any](value *T) *T {
	if value == nil {
		return nil
	}
	out := *value
	return &out
}

// DeepCopyInto copies the spec.
func (in *SyncExecutionSpec) DeepCopyInto(out *SyncExecutionSpec) {
	*out = *in
	out.Window = copied(in.Window)
	out.RequestedBy = copied(in.RequestedBy)
	out.Reason = copied(in.Reason)
	out.ActiveDeadlineSeconds = copied(in.ActiveDeadlineSeconds)
	out.TTLSecondsAfterFinished = copied(in.TTLSecondsAfterFinished)
}

// DeepCopyInto copies the status.
func (in *SyncExecutionStatus) DeepCopyInto(out *SyncExecutionStatus) {
	*out = *in
	out.Window = copied(in.Window)
	out.QueuedTime = copied(in.QueuedTime)
	out.PublishTime = copied(in.PublishTime)
	out.StartTime = copied(in.StartTime)
	out.CompletionTime = copied(in.CompletionTime)
	out.RecordsProcessed = copied(in.RecordsProcessed)
	if in.Conditions != nil {
		out.Conditions = make([]metav1.Condition, len(in.Conditions))
		copy(out.Conditions, in.Conditions)
	}
}

// DeepCopyInto copies the object.
func (in *SyncExecution) DeepCopyInto(out *SyncExecution) {
	out.TypeMeta = in.TypeMeta
	in.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	in.Spec.DeepCopyInto(&out.Spec)
	in.Status.DeepCopyInto(&out.Status)
}

// DeepCopy copies the object.
func (in *SyncExecution) DeepCopy() *SyncExecution {
	out := new(SyncExecution)
	in.DeepCopyInto(out)
	return out
}

// DeepCopyObject makes it a runtime.Object.
func (in *SyncExecution) DeepCopyObject() runtime.Object {
	return in.DeepCopy()
}

// DeepCopyObject makes it a runtime.Object.
func (in *SyncExecutionList) DeepCopyObject() runtime.Object {
	out := new(SyncExecutionList)
	out.TypeMeta = in.TypeMeta
	in.ListMeta.DeepCopyInto(&out.ListMeta)
	if in.Items != nil {
		out.Items = make([]SyncExecution, len(in.Items))
		for i := range in.Items {
			in.Items[i].DeepCopyInto(&out.Items[i])
		}
	}
	return out
}
