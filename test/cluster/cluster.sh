#!/usr/bin/env bash
# A real Kubernetes cluster of one node, for tests on a machine that reaches no image registry: the programs come from
# their Go modules, containerd and the network plugins from Debian. Root only, and one per machine.
#
#   test/cluster/cluster.sh build               installs and builds what is missing
#   test/cluster/cluster.sh up [gateway-crds]   starts it, waits until it is ready, prints what to
#                                               put in the environment; with the Gateway API's
#                                               resource types, when asked
#   test/cluster/cluster.sh load IMAGE...       puts images of the Docker engine, or archives of images, into it
#   test/cluster/cluster.sh status | down       what runs; stop it and forget everything in it
#
# Pods run, reach each other by Service names, get volumes from the classes "standard" (the default)
# and "immediate", and LoadBalancer Services get an address that this machine reaches. NetworkPolicies
# are enforced, by kube-router's controller. Nothing in it reaches another machine, unless a policy
# says so or a pod has none. Autoscalers never see a figure: no module provides these here.
#
# CODEXCONTINUE_TEST_CACHE names the cache (default: ${XDG_CACHE_HOME:-~/.cache}/codexcontinue-test):
# programs, logs and, while it runs, the state lie in its folder "cluster".
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
home=${CODEXCONTINUE_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/codexcontinue-test}/cluster
bin=$home/bin log=$home/log run=$home/run pki=$run/pki etc=$run/etc pids=$run/pids
kubeconfig=$home/kubeconfig
socket=$run/containerd.sock

node=test
bridge=cctest0
node_ip=10.88.0.1
dns_ip=169.254.20.10 # where policies let name servers be that are no pods: NodeLocal DNSCache's
pod_cidr=10.88.0.0/16
service_cidr=10.96.0.0/16
api_service_ip=10.96.0.1    # the first of service_cidr
balancer_cidr=10.97.0.0/24  # control/balancers.go gives these away
etcd_port=23790 etcd_peer_port=23800
pause=localhost/codexcontinue-test/pause:1

export LC_ALL=C PATH=$PATH:/usr/local/go/bin:/usr/sbin:/sbin

say() { printf '%s\n' "cluster: $*" >&2; }
fail() { say "$*"; exit 1; }
root_only() { [[ $(id -u) == 0 ]] || fail "$1 needs root: it changes this machine's networks"; }

# alone makes a second run of this script wait: there is one cluster per machine.
alone() {
	mkdir -p "$home"
	exec 9>"$home/lock"
	flock -w 300 9 || fail "another run of this script has held $home/lock for five minutes"
}

source "$here/packages.sh"
source "$here/process.sh"
source "$here/certificate.sh"
source "$here/network.sh"
source "$here/node.sh"

build() {
	root_only build
	packages
	"$here/../peers/build.sh" kubernetes-cluster
	pause_image
}

up() {
	root_only up
	case ${1:-} in '' | gateway-crds) ;; *) fail "up $1: unknown; known is gateway-crds" ;; esac
	local program start=$SECONDS
	for program in kube etcd dns control policies; do
		[[ -x $bin/$program ]] || fail "$bin/$program is not there: run $0 build"
	done
	if ! alive kube-apiserver || ! alive kubelet || ! alive policies; then
		if [[ -d $run ]]; then
			say "an earlier one was not stopped: cleaning up after it"
			down
		fi
		if iptables -w -t nat -S 2>/dev/null | grep -q '^-N KUBE-SERVICES'; then
			fail "another Kubernetes runs on this machine: its chain KUBE-SERVICES is there"
		fi
		[[ ${#socket} -lt 90 ]] || fail "$socket is too long for a socket's name: choose another CODEXCONTINUE_TEST_CACHE"
		[[ -e /dev/kmsg ]] || fail "/dev/kmsg is not there, which the kubelet needs"
		start_node
		say "ready after $((SECONDS - start)) s"
	fi
	[[ ${1:-} != gateway-crds ]] || gateway_crds
	printf 'export KUBECONFIG=%q CODEXCONTINUE_KUBECONFIG=%q CODEXCONTINUE_CONTAINERD=%q\n' \
		"$kubeconfig" "$kubeconfig" "$socket"
}

# gateway_crds installs the standard channel of the Gateway API, from its Go module.
gateway_crds() {
	local folder
	(cd "$here" && go mod download sigs.k8s.io/gateway-api)
	folder=$(cd "$here" && go list -mod=readonly -m -f '{{.Dir}}' sigs.k8s.io/gateway-api)/config/crd/standard
	[[ -d $folder ]] || fail "the module sigs.k8s.io/gateway-api has no folder config/crd/standard"
	"$bin/control" apply "$kubeconfig" "$folder"/gateway.networking.k8s.io_*.yaml
}

load() {
	root_only load
	alive containerd || fail "it does not run: $0 up"
	[[ $# -gt 0 ]] || fail "load needs the names of images, or archives"
	local image archive
	for image; do
		if [[ -f $image ]]; then
			ctr -a "$socket" -n k8s.io images import "$image" >/dev/null
			continue
		fi
		archive=$(mktemp "$run/load.XXXXXX")
		docker save -o "$archive" "$image" || { rm -f "$archive"; fail "docker save $image failed"; }
		ctr -a "$socket" -n k8s.io images import "$archive" >/dev/null
		rm -f "$archive"
	done
}

status() {
	local name pid memory total=0
	for name in "${programs[@]}"; do
		if ! alive "$name"; then
			printf '%-24s does not run\n' "$name"
			continue
		fi
		read -r pid _ <"$pids/$name"
		memory=$(awk '/^VmRSS/ { print int($2 / 1024) }' "/proc/$pid/status")
		total=$((total + memory))
		printf '%-24s pid %-7s %5s MiB\n' "$name" "$pid" "$memory"
	done
	printf '%-24s %17s MiB\n' total "$total"
	! alive kube-apiserver || "$bin/control" status "$kubeconfig"
}

down() {
	root_only down
	[[ -d $run ]] || { say "nothing to stop"; return; }
	stop_node
	say "stopped"
}

{ # bash has read all of this before it runs: the file may change meanwhile
	case ${1:-} in
	up | down) alone; "$@" ;;
	build | load | status) "$@" ;;
	*) sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; exit 2 ;;
	esac
	exit
}
