package diff

import (
	"regexp"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/infra/plan"
)

// names are the keys that name an element of a list, by the providers' package, the best first.
var names = map[string][]string{
	"docker":     {"name", "label", "file", "target", "containerPath", "internal"},
	"kubernetes": {"name", "mountPath", "containerPort", "key", "ip"},
}

// rule is which inputs of a type replace the resource when they change. One of
// the two lists is set.
type rule struct {
	// only are the inputs that replace; all others change in place.
	only []string
	// allBut are the inputs that change in place; all others replace.
	allBut []string
}

// rules are what the providers do, by type: pulumi-docker 4.10.0 and pulumi-kubernetes 4.x.
// TestPreview holds what is derived from them against previews by the real providers. Replacement
// that a resource asks for itself (replaceOnChanges) is in its options.
var rules = map[string]rule{
	"docker:index/container:Container": {allBut: []string{
		"attach", "containerReadRefreshTimeoutMilliseconds", "cpuPeriod", "cpuQuota", "cpuSet",
		"cpuShares", "destroyGraceSeconds", "healthcheck", "init", "logs", "maxRetryCount",
		"memory",
		"memoryReservation", "memorySwap", "mustRun", "removeVolumes", "restart", "rm", "start",
		"tmpfs", "wait", "waitTimeout"}},
	"docker:index/image:Image":             {only: []string{}},
	"docker:index/remoteImage:RemoteImage": {allBut: []string{"forceRemove", "keepLocally"}},
	"docker:index/network:Network":         {allBut: []string{}},
	"docker:index/volume:Volume":           {allBut: []string{"cluster"}},

	"kubernetes:apps/v1:Deployment": {only: []string{"spec.selector"}},
	"kubernetes:apps/v1:DaemonSet":  {only: []string{"spec.selector"}},
	"kubernetes:apps/v1:StatefulSet": {only: []string{
		"spec.podManagementPolicy", "spec.revisionHistoryLimit", "spec.selector",
		"spec.serviceName",
		"spec.volumeClaimTemplates"}},
	"kubernetes:batch/v1:Job": {only: []string{
		"spec.completions", "spec.parallelism", "spec.selector", "spec.template"}},
	"kubernetes:core/v1:ConfigMap": {only: []string{"binaryData", "data", "immutable"}},
	"kubernetes:core/v1:Secret": {only: []string{
		"data", "immutable", "stringData", "type"}},
	"kubernetes:core/v1:Service":                {only: []string{"spec.clusterIP"}},
	"kubernetes:core/v1:ResourceQuota":          {only: []string{"spec.scopes"}},
	"kubernetes:storage.k8s.io/v1:StorageClass": {only: []string{"parameters", "provisioner"}},
	"kubernetes:core/v1:PersistentVolumeClaim": {only: []string{
		"spec.accessModes", "spec.selector", "spec.storageClassName", "spec.volumeName"}},
	"kubernetes:rbac.authorization.k8s.io/v1:RoleBinding":        {only: []string{"roleRef"}},
	"kubernetes:rbac.authorization.k8s.io/v1:ClusterRoleBinding": {only: []string{"roleRef"}},
}

// packageRules hold for every other type of a package.
var packageRules = map[string]rule{
	"kubernetes": {only: []string{}},
}

// alsoReplacing are inputs that replace every resource of a package.
var alsoReplacing = map[string][]string{
	"kubernetes": {"metadata.name", "metadata.namespace", "apiVersion", "kind"},
}

// replaces reports whether a change of the property replaces the resource, and
// whether that is known.
func replaces(r plan.Resource, path string) (yes, known bool) {
	if r.Options != nil && matches(r.Options.ReplaceOnChanges, path) {
		return true, true
	}

	pkg, _, _ := strings.Cut(r.Type, ":")
	if matches(alsoReplacing[pkg], path) {
		return true, true
	}

	rule, ok := rules[r.Type]
	if !ok {
		rule, ok = packageRules[pkg]
	}

	switch {
	case !ok:
		return false, r.Component
	case rule.allBut != nil:
		return !matches(rule.allBut, path), true
	}

	return matches(rule.only, path), true
}

var indexes = regexp.MustCompile(`\[[^\]]*\]`)

// matches reports whether the property is one of those listed, lies in one, or holds one.
func matches(listed []string, path string) bool {
	path = indexes.ReplaceAllString(path, "")
	return slices.ContainsFunc(listed, func(l string) bool {
		l = indexes.ReplaceAllString(l, "")
		return l == "*" || l == path || strings.HasPrefix(path, l+".") ||
			strings.HasPrefix(l, path+".")
	})
}
