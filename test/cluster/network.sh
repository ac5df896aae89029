# The bridge that pods are on, its way through the machine's packet filter, and the machine's settings that the kubelet
# and kube-proxy change: they are put back.

settings="net.ipv4.ip_forward net.bridge.bridge-nf-call-iptables
	net.bridge.bridge-nf-call-ip6tables net.ipv4.conf.all.route_localnet
	vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops
	kernel.keys.root_maxkeys kernel.keys.root_maxbytes"

settings_save() {
	local key
	for key in $settings; do sysctl "$key" 2>/dev/null || true; done >"$run/settings"
}

settings_restore() { # [PATTERN]: writes back what differs
	local key value
	[[ -e $run/settings ]] || return 0
	while read -r key _ value; do
		[[ $key =~ ${1:-.} ]] || continue
		[[ $(sysctl -n "$key" 2>/dev/null) == "$value" ]] || sysctl -qw "$key=$value" || true
	done <"$run/settings"
}

network_up() {
	local other
	ip link show "$bridge" >/dev/null 2>&1 || ip link add "$bridge" type bridge
	# An address of its own, else it takes its pods' and changes as they come and go.
	ip link set "$bridge" address 0a:58:0a:58:00:01 up
	ip addr replace "$node_ip/16" dev "$bridge"
	ip addr replace "$dns_ip/32" dev "$bridge"
	# What kube-proxy has no rule for must not leave by the default route.
	ip route replace "$service_cidr" dev "$bridge"
	ip route replace "$balancer_cidr" dev "$bridge"
	[[ -e /proc/sys/net/bridge ]] || modprobe br_netfilter 2>/dev/null || true
	sysctl -qw net.ipv4.ip_forward=1
	sysctl -qw net.bridge.bridge-nf-call-iptables=1 || say "no br_netfilter: what a Service answers to a pod may be lost"
	iptables -w -N CODEXTEST 2>/dev/null || iptables -w -F CODEXTEST
	iptables -w -A CODEXTEST -i "$bridge" -o "$bridge" -j ACCEPT
	for other in docker0 br-+; do iptables -w -A CODEXTEST -i "$bridge" -o "$other" -j ACCEPT; done
	iptables -w -A CODEXTEST -i "$bridge" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
	iptables -w -A CODEXTEST -i "$bridge" -j REJECT
	iptables -w -A CODEXTEST -o "$bridge" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
	# Who answers a pod knows this machine, and not the pod's address.
	iptables -w -t nat -N CODEXTEST 2>/dev/null || iptables -w -t nat -F CODEXTEST
	iptables -w -t nat -A CODEXTEST -s "$pod_cidr" ! -d "$pod_cidr" -j MASQUERADE
	iptables -w -t nat -C POSTROUTING -j CODEXTEST 2>/dev/null || iptables -w -t nat -A POSTROUTING -j CODEXTEST
	# First, as Docker sets the chain's policy to DROP.
	iptables -w -C FORWARD -j CODEXTEST 2>/dev/null || iptables -w -I FORWARD -j CODEXTEST
}

network_down() {
	local filter table rule action chain
	for filter in iptables ip6tables; do
		command -v "$filter" >/dev/null || continue
		for table in filter nat mangle; do
			"$filter" -w -t "$table" -S >/dev/null 2>&1 || continue
			# The jumps into our chains from anyone else's go first, then the chains.
			while IFS= read -r rule; do
				printf '%s\n' "$rule" | xargs "$filter" -w -t "$table" 2>/dev/null || true
			done < <("$filter" -w -t "$table" -S | grep -E '^-A ' |
				grep -E -- '-j (KUBE-[A-Z0-9-]+|CODEXTEST)( |$)' | sed 's/^-A/-D/')
			for action in -F -X; do
				for chain in $("$filter" -w -t "$table" -S | sed -nE 's/^-N ((KUBE-|CODEXTEST).*)/\1/p'); do
					"$filter" -w -t "$table" "$action" "$chain" || true
				done
			done
		done
	done
	if command -v ipset >/dev/null; then
		for chain in $(ipset list -n | grep -E '^(inet6:)?(KUBE-(SRC|DST)-|kube-router-)'); do
			ipset destroy "$chain" || true
		done
	fi
	ip link del "$bridge" 2>/dev/null || true
	# The network plugins' notes of pods, which a crash leaves behind.
	grep -lF "$run/" /var/lib/cni/results/* 2>/dev/null | xargs -r rm -f || true
	rmdir /var/lib/cni/results /var/lib/cni 2>/dev/null || true
}
