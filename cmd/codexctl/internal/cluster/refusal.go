package cluster

import (
	"cmp"
	"fmt"
	"regexp"
)

// The sentences in which the API server refuses an object. They have no codes.
var (
	rbac = regexp.MustCompile(`User "([^"]+)" cannot (\S+) resource "([^"]+)" ` +
		`in API group "([^"]*)"(?: in the namespace "([^"]+)")?`)

	overQuota = regexp.MustCompile(`exceeded quota: (\S+), requested: (\S+), used: (\S+), ` +
		`limited: ([^\s"]+)`)

	podSecurity = regexp.MustCompile(`violates PodSecurity "([^"]+)": ([^\n]+)`)

	webhook = regexp.MustCompile(`admission webhook "([^"]+)" denied the request: ([^\n]+)`)
)

// Refusal returns why the API server refuses an object of the service, and what to do, or "" if the
// message is no such refusal.
func Refusal(message, stack, service string) (what, todo string) {
	if rbac.MatchString(message) {
		return "forbidden by RBAC: " + denial(message), "ask the cluster's administrator for a role " +
			"that allows it; `codexctl doctor " + stack + "` lists all that is missing"
	}

	if m := overQuota.FindStringSubmatch(message); m != nil {
		return fmt.Sprintf("the namespace's quota %s is exceeded: it asks for %s, %s is used of %s",
				m[1], m[2], m[3], m[4]),
			"raise the quota, or ask for less: codexcontinue:services: {" +
				cmp.Or(service, "SERVICE") +
				": {cpu: ..., memory: ..., replicas: ...}}"
	}

	if m := podSecurity.FindStringSubmatch(message); m != nil {
		return fmt.Sprintf("the namespace's Pod Security level %s refuses it: %s", m[1], m[2]),
			"correct the service's security, or the namespace's level"
	}

	if m := webhook.FindStringSubmatch(message); m != nil {
		return fmt.Sprintf("the cluster's policy %s refuses it: %s", m[1], m[2]),
			"ask the cluster's administrator, or correct what it refuses"
	}

	return "", ""
}

// denial returns the API server's long sentence about RBAC in short.
func denial(text string) string {
	m := rbac.FindStringSubmatch(text)
	if m == nil {
		return text
	}

	out := m[1] + " may not " + Access{Verb: m[2], Group: m[4], Resource: m[3]}.String()
	if m[5] != "" {
		out += " in the namespace " + m[5]
	}

	return out
}
