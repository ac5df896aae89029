package kubernetes

import corev1 "k8s.io/api/core/v1"

// addAccount makes the identity of a service's pods. No service talks to the API server, so none
// gets a token: neither from here nor from its pods, which say so again.
func (r *renderer) addAccount(name string) *Object {
	return r.add(&Object{Resource: name, Component: name, API: &corev1.ServiceAccount{
		ObjectMeta: r.meta(name, r.labelsOf(name)), AutomountServiceAccountToken: new(false),
	}})
}
